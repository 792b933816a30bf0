//! Kubernetes quantities (`500m`, `10Gi`, `1e3`), compared by value.
//!
//! The format is `<sign><digits>[.<digits>]<suffix>` with a binary suffix (`Ki` … `Ei`), a decimal one (`n` `u` `m` none `k` `M`
//! … `E`), or a decimal exponent (`e3`), as the API reference of `resource.Quantity` defines it.

/// Whether two texts mean the same amount. Texts that are no quantities are equal when they are the same.
pub fn equal(a: &str, b: &str) -> bool {
    a == b || matches!((parse(a), parse(b)), (Some(a), Some(b)) if a == b)
}

/// Whether `a` is less than `b`. A text that is no quantity is neither less nor more.
pub fn less(a: &str, b: &str) -> bool {
    matches!((parse(a), parse(b)), (Some(a), Some(b)) if a < b)
}

/// Decimal digits after the point that are kept: a quantity has none below nano.
const SCALE_DIGITS: u32 = 9;

/// The amount in units of 10⁻⁹, or `None` if the text is no quantity or is beyond what Kubernetes can hold.
fn parse(text: &str) -> Option<i128> {
    let number_end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(number_end);
    let nanos = parse_number(number)?;
    let (multiplier, divisor) = parse_suffix(suffix)?;
    Some(nanos.checked_mul(multiplier)? / divisor)
}

fn parse_number(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |part: &str| part.bytes().all(|octet| octet.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || whole.len() + fraction.len() == 0 {
        return None;
    }
    let scale = usize::try_from(SCALE_DIGITS).ok()?;
    let kept = &fraction[..fraction.len().min(scale)];
    format!("{whole}{kept:0<scale$}").parse::<i128>().ok().map(|nanos| sign * nanos)
}

/// What a suffix multiplies and divides by.
fn parse_suffix(suffix: &str) -> Option<(i128, i128)> {
    const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    const DECIMAL: [&str; 6] = ["k", "M", "G", "T", "P", "E"];
    const SMALL: [&str; 3] = ["m", "u", "n"];
    let position =
        |names: &[&str]| names.iter().position(|name| *name == suffix).and_then(|at| u32::try_from(at + 1).ok());
    if suffix.is_empty() {
        Some((1, 1))
    } else if let Some(power) = position(&BINARY) {
        Some((1024_i128.pow(power), 1))
    } else if let Some(power) = position(&DECIMAL) {
        Some((1000_i128.pow(power), 1))
    } else if let Some(power) = position(&SMALL) {
        Some((1, 1000_i128.pow(power)))
    } else {
        parse_exponent(suffix)
    }
}

fn parse_exponent(suffix: &str) -> Option<(i128, i128)> {
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
    Some(if exponent < 0 { (1, power) } else { (power, 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_amount_in_other_words_is_equal() {
        for (a, b) in [
            ("0.5", "500m"),
            ("1", "1000m"),
            ("1Gi", "1024Mi"),
            ("1.5Gi", "1536Mi"),
            ("1e3", "1k"),
            ("1E", "1000P"),
            ("100n", "0.1u"),
            ("+2", "2"),
            ("5e-1", "500m"),
        ] {
            assert!(equal(a, b), "{a} and {b}");
        }
    }

    #[test]
    fn amounts_are_ordered_by_value() {
        for (a, b) in [("999m", "1"), ("1G", "1Gi"), ("9Mi", "10Mi"), ("-1", "0")] {
            assert!(less(a, b) && !less(b, a), "{a} and {b}");
        }
        assert!(!less("1Gi", "1024Mi") && !less("x", "1") && !less("1", "x"));
    }

    #[test]
    fn other_amounts_and_other_texts_are_not_equal() {
        for (a, b) in [("1", "1001m"), ("1G", "1Gi"), ("-1", "1"), ("x", "y"), ("", "0"), ("1Q", "1"), ("1e99", "2e99")]
        {
            assert!(!equal(a, b), "{a} and {b}");
        }
        assert!(equal("not a quantity", "not a quantity"));
    }
}
