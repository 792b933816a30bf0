//! SASL responses: PLAIN (RFC 4616) and RabbitMQ's AMQPLAIN.

use alloc::string::{String, ToString};

use warren_amqp::{Table, Value, limits};

use super::Login;
use crate::Secret;

/// The mechanisms offered in `connection.start`, in order of preference.
pub(super) const MECHANISMS: &[u8] = b"PLAIN AMQPLAIN";

/// Reads a response; `None` if the mechanism is not offered, `Some(None)` if the response is malformed.
pub(super) fn read_response(mechanism: &str, response: &[u8]) -> Option<Option<Login>> {
    match mechanism {
        "PLAIN" => Some(plain(response)),
        "AMQPLAIN" => Some(amqplain(response)),
        _ => None,
    }
}

/// `NUL authcid NUL passwd`. Nobody acts for somebody else: an authorization identity in front is malformed, as in
/// RabbitMQ.
fn plain(response: &[u8]) -> Option<Login> {
    let mut parts = response.strip_prefix(&[0])?.splitn(2, |octet| *octet == 0);
    login(parts.next()?, parts.next()?)
}

/// A field table's entries, without its length, with `LOGIN` and `PASSWORD`.
fn amqplain(response: &[u8]) -> Option<Login> {
    let table = Table::new(response);
    table.validate(&limits::TABLE_BEFORE_LOGIN).ok()?;
    match (table.get("LOGIN").ok()??, table.get("PASSWORD").ok()??) {
        (Value::LongString(user), Value::LongString(password)) => login(user, password),
        _ => None,
    }
}

fn login(user: &[u8], password: &[u8]) -> Option<Login> {
    let user: String = core::str::from_utf8(user).ok()?.to_string();
    Some(Login { user, password: Secret::from(password) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use warren_amqp::TableBuilder;

    /// User and password of a response; `None`: it is malformed.
    fn read(mechanism: &str, response: &[u8]) -> Option<(String, alloc::vec::Vec<u8>)> {
        let login = read_response(mechanism, response).expect("the mechanism is offered")?;
        Some((login.user, login.password.expose().to_vec()))
    }

    fn expected() -> Option<(String, alloc::vec::Vec<u8>)> {
        Some(("guest".into(), b"se\0cret".to_vec()))
    }

    #[test]
    fn plain_takes_user_and_password() {
        assert_eq!(read("PLAIN", b"\0guest\0se\0cret"), expected());
    }

    #[test]
    fn amqplain_takes_login_and_password() {
        let table = TableBuilder::build(|table| {
            table.put("LOGIN", Value::LongString(b"guest")).put("PASSWORD", Value::LongString(b"se\0cret"));
        });
        assert_eq!(read("AMQPLAIN", &table), expected());
    }

    #[test]
    fn malformed_responses_are_no_login() {
        for response in [&b""[..], b"guest", b"\0guest", b"\0\xff\0x", b"other\0guest\0secret"] {
            assert_eq!(read("PLAIN", response), None, "{response:?}");
        }
        assert_eq!(read("AMQPLAIN", b"\x05LOGINS\xff\xff\xff\xff"), None);
        assert!(read_response("EXTERNAL", b"").is_none());
    }
}
