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
    /// Looks at the wall clock; one that is before the Unix epoch counts as being there.
    pub(crate) fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX) }
    }

    /// Milliseconds since the Unix epoch; never less than before.
    pub(crate) fn unix_millis(&self) -> u64 {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.started_ms.saturating_add(elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
