//! The property `expiration`: how long a message may wait, in milliseconds, as a decimal number.

use alloc::format;
use alloc::string::String;

use warren_amqp::ReplyCode;

use crate::error::Exception;
use crate::limits::EXPIRATION_MILLIS;

/// Reads it as RabbitMQ does: a sign is taken, blanks are not, and -0 is 0.
pub(crate) fn parse_expiration(octets: &[u8]) -> Result<u64, Exception> {
    let (negative, unsigned) = match octets {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    let (digits, leftover) = unsigned.split_at(unsigned.iter().take_while(|octet| octet.is_ascii_digit()).count());
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    let significant = String::from_utf8_lossy(&digits[zeros..]);
    let millis = if significant.is_empty() { Ok(0) } else { significant.parse::<u64>() };
    match millis {
        _ if digits.is_empty() => Err(invalid(octets, "no_integer")),
        _ if !leftover.is_empty() => Err(invalid(octets, &leftover_string(leftover))),
        Ok(0) => Ok(0),
        _ if negative => Err(invalid(octets, &format!("{{value_negative,-{significant}}}"))),
        Ok(millis) if millis <= EXPIRATION_MILLIS => Ok(millis),
        _ => Err(invalid(octets, &format!("{{value_too_large,{significant}}}"))),
    }
}

fn leftover_string(leftover: &[u8]) -> String {
    format!("{{leftover_string,{:?}}}", String::from_utf8_lossy(leftover))
}

#[cold]
fn invalid(octets: &[u8], reason: &str) -> Exception {
    let text = format!("invalid expiration '{}': {reason}", String::from_utf8_lossy(octets));
    Exception::channel(ReplyCode::PreconditionFailed, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rabbitmq_takes_is_taken() {
        let taken = [("0", 0), ("1000", 1_000), ("007", 7), ("+5", 5), ("-0", 0), ("00000000000000000000001", 1)];
        for (text, millis) in taken {
            assert_eq!(parse_expiration(text.as_bytes()), Ok(millis), "{text}");
        }
    }

    #[test]
    fn what_rabbitmq_refuses_is_refused_in_its_words() {
        let refused = [
            ("", "no_integer"),
            ("abc", "no_integer"),
            (" 5", "no_integer"),
            ("-", "no_integer"),
            ("+-5", "no_integer"),
            ("1.5", "{leftover_string,\".5\"}"),
            ("5 ", "{leftover_string,\" \"}"),
            ("-5x", "{leftover_string,\"x\"}"),
            ("-1", "{value_negative,-1}"),
            ("-007", "{value_negative,-7}"),
            ("99999999999999999999999", "{value_too_large,99999999999999999999999}"),
        ];
        for (text, reason) in refused {
            let expected = format!("invalid expiration '{text}': {reason}");
            let exception = Exception::channel(ReplyCode::PreconditionFailed, expected);
            assert_eq!(parse_expiration(text.as_bytes()), Err(exception));
        }
    }

    #[test]
    fn ten_years_are_taken_and_a_millisecond_more_is_not() {
        assert_eq!(parse_expiration(b"315360000000"), Ok(EXPIRATION_MILLIS));
        let text = "invalid expiration '315360000001': {value_too_large,315360000001}";
        let exception = Exception::channel(ReplyCode::PreconditionFailed, text);
        assert_eq!(parse_expiration(b"315360000001"), Err(exception));
    }
}
