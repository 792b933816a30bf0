//! Times as Kubernetes writes them.

/// The seconds of a time such as `1h30m`: digits and one of `h`, `m` and `s`, once or more. `None`: it is none, or too long.
pub(super) fn seconds(text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let factor = match rest.as_bytes().get(end)? {
            b'h' => 3_600,
            b'm' => 60,
            b's' => 1,
            _ => return None,
        };
        total = total.checked_add(rest[..end].parse::<u64>().ok()?.checked_mul(factor)?)?;
        rest = &rest[end + 1..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_kubernetes_writes_them() {
        for (text, expected) in [("2160h", Some(7_776_000)), ("1h30m5s", Some(5_405)), ("0s", Some(0))] {
            assert_eq!(seconds(text), expected, "{text}");
        }
        for text in ["", "h", "5", "5d", "-5m", "5 m", "5ü", "99999999999999999999h", "18446744073709551615h"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
