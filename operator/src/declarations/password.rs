//! Hashes of passwords by Argon2id, with the parameters of the broker: it keeps such a hash as it is, and a password need not
//! leave the operator. The form is the broker's: the salt of 16 octets and the digest of 32, in Base64.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::{constant_time, rand};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// What the broker calls this kind of hash.
pub const ALGORITHM: &str = "warren_password_hashing_argon2id";

const SALT_LENGTH: usize = 16;
const DIGEST_LENGTH: usize = 32;

/// One hash at a time: each takes 19 MiB while it is computed.
static TURN: Mutex<()> = Mutex::new(());

/// Octets of memory are asked for beyond those that are touched, so that there are this many: from 32 MiB on glibc gives memory
/// back to the system at once.
const RESERVED_BLOCKS: usize = 33 << 10;

/// A password, which is never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub Vec<u8>);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// Why there is no hash.
#[derive(Debug, thiserror::Error)]
#[error("the password cannot be hashed")]
pub struct HashError;

/// A new hash each time. It takes tens of milliseconds.
///
/// # Errors
/// The operating system gives no randomness, or the password is longer than 4 GiB.
pub fn hash(password: &Password) -> Result<String, HashError> {
    let mut salt = [0; SALT_LENGTH];
    rand::fill(&mut salt).map_err(|_| HashError)?;
    let digest = digest(&salt, password)?;
    Ok(BASE64_STANDARD.encode([&salt[..], &digest].concat()))
}

/// Whether the hash is that of the password. It takes as long as [`hash`].
pub fn is_hash_of(hash: &str, password: &Password) -> bool {
    let Ok(octets) = BASE64_STANDARD.decode(hash) else { return false };
    if octets.len() != SALT_LENGTH + DIGEST_LENGTH {
        return false;
    }
    let (salt, expected) = octets.split_at(SALT_LENGTH);
    digest(salt, password).is_ok_and(|digest| constant_time::verify_slices_are_equal(&digest, expected).is_ok())
}

fn digest(salt: &[u8], password: &Password) -> Result<[u8; DIGEST_LENGTH], HashError> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let params = Params::new(19 << 10, 2, 1, None).map_err(|_| HashError)?;
    let mut memory = Vec::with_capacity(RESERVED_BLOCKS);
    memory.resize(params.block_count(), Block::new());
    let mut digest = [0; DIGEST_LENGTH];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password_into_with_memory(&password.0, salt, &mut digest, &mut memory).map_err(|_| HashError)?;
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_that_of_its_password_only() {
        let secret = Password(b"secret".to_vec());
        let made = hash(&secret).unwrap();
        assert_ne!(made, hash(&secret).unwrap());
        assert!(is_hash_of(&made, &secret));
        assert!(!is_hash_of(&made, &Password(b"Secret".to_vec())));
        assert!(!is_hash_of("?", &secret) && !is_hash_of("", &secret));
    }

    #[test]
    fn hashes_are_those_of_the_reference_implementation() {
        let known = "kI3GCgECAwQFBgcICQoLDF/77AdGCP8sV+N5/tWMabxdkR4JzyRN+tlVf521x2aZ";
        assert!(is_hash_of(known, &Password(b"secret".to_vec())));
    }

    #[test]
    fn a_password_is_absent_from_debug_output() {
        assert_eq!(format!("{:?}", Password(b"opensesame".to_vec())), "Password");
    }
}
