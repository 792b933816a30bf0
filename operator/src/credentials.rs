//! The name and password of a queue's default user, drawn from the operating system's randomness.

use std::fmt;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;

/// Characters of generated names and passwords: safe in URIs, shells and configuration files without quoting.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Random characters in a user name. They tell a restored user from the one before.
const NAME_SUFFIX_LENGTH: usize = 12;

/// Random characters in a password, 6 bits each: 192 bits.
const PASSWORD_LENGTH: usize = 32;

/// A user of the broker.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name, not secret.
    pub username: String,
    /// The user's password, never logged.
    pub password: String,
}

impl Credentials {
    /// A new user with a name and password that nobody can guess.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate() -> Result<Self, Unspecified> {
        Ok(Self {
            username: format!("default_user_{}", random_text(NAME_SUFFIX_LENGTH)?),
            password: random_text(PASSWORD_LENGTH)?,
        })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

fn random_text(length: usize) -> Result<String, Unspecified> {
    let mut octets = vec![0; length];
    rand::fill(&mut octets)?;
    // 256 is a multiple of 64, so every character is equally likely.
    Ok(octets.into_iter().map(|octet| char::from(ALPHABET[usize::from(octet % 64)])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_users_share_neither_name_nor_password() {
        let (first, second) = (Credentials::generate().unwrap(), Credentials::generate().unwrap());
        assert_ne!(first.username, second.username);
        assert_ne!(first.password, second.password);
        assert_eq!(first.password.len(), PASSWORD_LENGTH);
    }

    #[test]
    fn the_password_is_absent_from_debug_output() {
        let user = Credentials { username: "app".into(), password: "opensesame".into() };
        assert_eq!(format!("{user:?}"), "Credentials { username: \"app\", .. }");
    }
}
