//! SASL responses: PLAIN (RFC 4616), RabbitMQ's AMQPLAIN, and EXTERNAL (RFC 4422) for who is known by a certificate.

use alloc::string::{String, ToString};
use alloc::sync::Arc;

use warren_amqp::{Table, Value, limits};

use super::{Claim, Login};
use crate::Secret;

/// The mechanisms offered in `connection.start`, to who is known by a certificate and to others.
pub(super) fn mechanisms(is_certified: bool) -> &'static [u8] {
    if is_certified { b"PLAIN AMQPLAIN EXTERNAL" } else { b"PLAIN AMQPLAIN" }
}

/// Reads a response; `None` if the mechanism is not offered, `Some(None)` if the response is malformed. `certified`: the user
/// as whom the client's certificate lets it in, if there is one.
pub(super) fn read_response(mechanism: &str, response: &[u8], certified: Option<&Arc<str>>) -> Option<Option<Claim>> {
    match (mechanism, certified) {
        ("PLAIN", _) => Some(plain(response).map(Claim::Password)),
        ("AMQPLAIN", _) => Some(amqplain(response).map(Claim::Password)),
        ("EXTERNAL", Some(user)) => Some(external(response, user)),
        _ => None,
    }
}

/// Nothing, or the name that the certificate says too: nobody acts for somebody else.
fn external(response: &[u8], user: &Arc<str>) -> Option<Claim> {
    let is_own = response.is_empty() || response == user.as_bytes();
    is_own.then(|| Claim::Certificate(Arc::clone(user)))
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
        match read_response(mechanism, response, None).expect("the mechanism is offered")? {
            Claim::Password(login) => Some((login.user, login.password.expose().to_vec())),
            Claim::Certificate(_) => None,
        }
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
    }

    #[test]
    fn external_is_for_who_is_known_by_a_certificate_and_nobody_acts_for_somebody_else() {
        let alice = Arc::from("alice");
        for response in [&b""[..], b"alice"] {
            let claim = read_response("EXTERNAL", response, Some(&alice));
            assert!(matches!(claim, Some(Some(Claim::Certificate(user))) if *user == *"alice"), "{response:?}");
            assert!(read_response("EXTERNAL", response, None).is_none(), "{response:?}");
        }
        for response in [&b"bob"[..], b"alice\0", b"alic"] {
            assert!(matches!(read_response("EXTERNAL", response, Some(&alice)), Some(None)), "{response:?}");
        }
    }
}
