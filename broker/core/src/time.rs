//! Time as the machines know it: a number that the shell hands in.

/// A point in time: milliseconds since an origin that only the shell knows. Never goes backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(pub u64);

impl Instant {
    /// The instant `millis` milliseconds later; stays at the end of time instead of wrapping.
    pub fn after_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to `self`, 0 if `earlier` is later.
    pub fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Milliseconds of an interval as RabbitMQ writes them for streams: a whole number and a unit, one of `Y` (365 days), `M`
/// (30 days), `D`, `h`, `m` and `s`. `None`: it is none. More than fits is as much as fits.
pub(crate) fn interval_millis(text: &[u8]) -> Option<u64> {
    let (unit, digits) = text.split_last()?;
    let seconds = match unit {
        b'Y' => 365 * 86_400,
        b'M' => 30 * 86_400,
        b'D' => 86_400,
        b'h' => 3_600,
        b'm' => 60,
        b's' => 1,
        _ => return None,
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |count: u64, digit: &u8| count.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(digits.iter().fold(0, add).saturating_mul(seconds * 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_a_number_and_a_unit() {
        let day = 86_400_000;
        for (text, millis) in [
            ("1s", 1_000),
            ("90m", 5_400_000),
            ("1h", 3_600_000),
            ("7D", 7 * day),
            ("2M", 60 * day),
            ("1Y", 365 * day),
            ("0s", 0),
            ("99999999999999999999Y", u64::MAX),
        ] {
            assert_eq!(interval_millis(text.as_bytes()), Some(millis), "{text}");
        }
        for text in ["", "h", "1", "1s1", "-1s", "1.5h", "1d", " 1s"] {
            assert_eq!(interval_millis(text.as_bytes()), None, "{text}");
        }
    }
}
