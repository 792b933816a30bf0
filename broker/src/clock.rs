//! The time of day as the shards see it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Looks at the wall clock once, when the node starts, and counts from there. So no time of a queue is stretched or missed
/// because somebody sets the clock while the node runs: messages expire, delays end and consumers time out after as long as
/// they should.
///
/// What the log holds are times of day: when a message's time is over, when a delayed one is due. After a restart the node
/// reads the wall clock anew. If that was set back meanwhile, these messages wait longer by as much, and if it was set
/// forward, they are over sooner. A clock that was wrong when the node started stays wrong until the next start, also in
/// what messages tell of it (the times in `x-death` and in streams).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
    /// The wall clock then, in milliseconds since the Unix epoch.
    started_ms: u64,
}

impl Clock {
    /// When the process started: wall-clock milliseconds since the Unix epoch.
    pub(crate) fn started_ms(&self) -> u64 {
        self.started_ms
    }

    /// Looks at the wall clock; one that is before the Unix epoch counts as being there.
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), started_ms: wall_clock_ms() }
    }

    /// Milliseconds since the Unix epoch; never less than before.
    pub(crate) fn unix_millis(&self) -> u64 {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.started_ms.saturating_add(elapsed)
    }
}

/// The wall clock now, in milliseconds since the Unix epoch: what credentials end by, which others have set by their clocks.
pub(crate) fn wall_clock_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A time of day, given in milliseconds since the Unix epoch, in the form of RFC 3339, in UTC: `2026-11-23T14:14:08.067Z`.
pub(crate) fn rfc3339(unix_ms: u64) -> String {
    format!("{}Z", date_time(unix_ms))
}

/// The same without a word on the time zone, for what writes UTC in another way.
pub(crate) fn date_time(unix_ms: u64) -> String {
    let (days, of_day) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // Days are counted from 1 March of year 0, in eras of 400 years, so that a leap day is the last of its year.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, year) = (if month < 10 { month + 3 } else { month - 9 }, year + era * 400);
    let year = year + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}", of_day % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected texts are what `date --utc` makes of the numbers.
    #[test]
    fn times_of_day_are_written_as_rfc_3339_says() {
        for (unix_ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (1_735_689_599_000, "2024-12-31T23:59:59.000Z"),
            (1_735_689_600_000, "2025-01-01T00:00:00.000Z"),
            (1_798_761_600_001, "2027-01-01T00:00:00.001Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(unix_ms), expected);
        }
    }

    #[test]
    fn it_goes_on_from_where_it_began_whatever_the_wall_clock_says() {
        // As if the wall clock had been set forward by decades since.
        let clock = Clock { started: Instant::now(), started_ms: 5_000 };
        let first = clock.unix_millis();
        assert!((5_000..65_000).contains(&first), "{first}");
        assert!(clock.unix_millis() >= first);
        let clock = Clock::start();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        assert!(clock.unix_millis().abs_diff(now) < 60_000, "it begins with the wall clock");
    }
}
