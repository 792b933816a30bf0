//! Hashes of passwords: ours, which are dear, and RabbitMQ's, which are not.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256, Sha512};
use subtle::{Choice, ConstantTimeEq};
use warren_core::topology::{HashingAlgorithm, PasswordHash};

use crate::random::random;

/// Octets of memory are asked for beyond those that Argon2id touches, so that there are this many: from 32 MiB on glibc takes
/// memory from the system and gives it back at once, whatever it has seen before. Below, the process would keep it.
const RESERVED_BLOCKS: usize = 33 << 10;

/// What the password of a login is compared with.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// The passwords themselves, of the node's own user: any of them will do. An empty one is nobody's.
    pub(super) plain: [Vec<u8>; PLAIN_PASSWORDS],
    /// The hash, of a user of the topology.
    pub(super) hash: Option<PasswordHash>,
    /// The hash of the password before, if that still counts.
    pub(super) previous: Option<PasswordHash>,
}

/// Passwords that the node's own user may have at once: the one it has, the one that comes next, and the one before.
pub(super) const PLAIN_PASSWORDS: usize = 3;

/// What a comparison came to.
pub(super) struct Compared {
    /// The password is the node's own user's.
    pub(super) is_plain: bool,
    /// The password is that of the hash.
    pub(super) is_hashed: bool,
    /// The password is the one before.
    pub(super) is_previous: bool,
    /// A hash of the password by Argon2id; a new one, unless the expected one is of that kind.
    pub(super) argon2id: PasswordHash,
}

impl Compared {
    /// Whether the password lets in.
    pub(super) fn is_right(&self) -> bool {
        self.is_plain || self.is_hashed || self.is_previous
    }
}

/// Stands in for the hash of a user who is not there: octets like any others.
const NOBODY: [u8; 80] = [0; _];

impl Expected {
    /// Compares. Whatever there is to compare with, a refusal computes the same hashes, so that its time tells nothing about who
    /// exists, nor whose password was changed lately. It takes twice tens of milliseconds, what is right mostly once, and 19 MiB.
    pub(super) fn compare(&self, password: &[u8]) -> Compared {
        let (is_hashed, argon2id) = compare_hash(self.hash.as_ref(), password);
        let is_plain = self.plain.iter().fold(Choice::from(0), |is_plain, expected| {
            // An empty password never is anybody's, as in RabbitMQ.
            is_plain | (equal(expected, password) & Choice::from(u8::from(!expected.is_empty())))
        });
        let (is_plain, is_hashed) = (bool::from(is_plain), bool::from(is_hashed));
        let is_previous = !is_plain && !is_hashed && compare_hash(self.previous.as_ref(), password).0.into();
        let argon2id = PasswordHash { algorithm: HashingAlgorithm::Argon2id, octets: argon2id.into() };
        Compared { is_plain, is_hashed, is_previous, argon2id }
    }
}

/// Whether the password is that of the hash, and its own hash by Argon2id. All algorithms are computed, whichever it is.
fn compare_hash(hash: Option<&PasswordHash>, password: &[u8]) -> (Choice, Vec<u8>) {
    let algorithm = hash.map(|hash| hash.algorithm);
    let octets = hash.map_or(&NOBODY[..], |hash| &hash.octets);
    let mut is_hashed = Choice::from(0);
    let mut argon2id = Vec::new();
    for candidate in HashingAlgorithm::ALL {
        let is_it = Choice::from(u8::from(algorithm == Some(candidate)));
        let (salt, expected) = octets.split_at(octets.len().min(candidate.salt_bytes()));
        let fresh = fresh_salt();
        let salt = match candidate {
            HashingAlgorithm::Argon2id if algorithm != Some(candidate) => &fresh[..],
            _ => salt,
        };
        let digest = digest(candidate, salt, password);
        // A hash that is not of the right length is nobody's; nor is one that cannot be computed.
        let is_whole = Choice::from(u8::from(digest.len() == candidate.digest_bytes()));
        is_hashed |= digest.ct_eq(expected) & is_it & is_whole;
        if candidate == HashingAlgorithm::Argon2id {
            argon2id = [salt, &digest].concat();
        }
    }
    // An empty password never is anybody's, as in RabbitMQ.
    (is_hashed & Choice::from(u8::from(!password.is_empty())), argon2id)
}

/// The hash of a password as a user in a file of definitions has it, a new one each time: an object of JSON with
/// `password_hash` and `hashing_algorithm`.
pub fn password_hash(password: &[u8]) -> String {
    let PasswordHash { algorithm, octets } = hash(password);
    let hash = BASE64_STANDARD.encode(octets);
    format!(r#"{{"password_hash": "{hash}", "hashing_algorithm": "{}"}}"#, algorithm.name())
}

/// A hash of the password by Argon2id, a new one each time.
pub(super) fn hash(password: &[u8]) -> PasswordHash {
    let (algorithm, salt) = (HashingAlgorithm::Argon2id, fresh_salt());
    PasswordHash { algorithm, octets: [&salt[..], &digest(algorithm, &salt, password)].concat().into() }
}

/// Compares by digest, in a time that tells nothing about either side, not even a length.
pub(super) fn equal(expected: &[u8], given: &[u8]) -> Choice {
    let digest_of = |octets| digest(HashingAlgorithm::Sha256, &[], octets);
    digest_of(expected).ct_eq(&digest_of(given))
}

fn fresh_salt() -> [u8; HashingAlgorithm::Argon2id.salt_bytes()] {
    random().to_ne_bytes()
}

/// All hashes of passwords are computed by this.
fn digest(algorithm: HashingAlgorithm, salt: &[u8], password: &[u8]) -> Vec<u8> {
    #[cfg(test)]
    tests::COMPUTED.with_borrow_mut(|computed| computed.push((algorithm, salt.len() + password.len())));
    match algorithm {
        HashingAlgorithm::Sha256 => Sha256::new().chain_update(salt).chain_update(password).finalize().to_vec(),
        HashingAlgorithm::Sha512 => Sha512::new().chain_update(salt).chain_update(password).finalize().to_vec(),
        HashingAlgorithm::Argon2id => argon2id(salt, password),
    }
}

/// With the parameters that [`HashingAlgorithm::Argon2id`] names. A salt or password that it cannot take has no hash.
fn argon2id(salt: &[u8], password: &[u8]) -> Vec<u8> {
    let mut digest = vec![0; HashingAlgorithm::Argon2id.digest_bytes()];
    let params = Params::new(19 << 10, 2, 1, None).expect("they are within their bounds");
    let mut memory = Vec::with_capacity(RESERVED_BLOCKS);
    memory.resize(params.block_count(), Block::new());
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    match argon2.hash_password_into_with_memory(password, salt, &mut digest, &mut memory) {
        Ok(()) => digest,
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::cell::RefCell;

    thread_local! {
        /// The hashes that this thread has computed: with what, and of how many octets.
        pub(super) static COMPUTED: RefCell<Vec<(HashingAlgorithm, usize)>> = const { RefCell::new(Vec::new()) };
    }

    /// Hashes of `secret`, salt and digest: RabbitMQ 4.3.6 takes `secret` for the first two, and the reference
    /// implementation of Argon2 has made the third.
    const HASHES: [(HashingAlgorithm, &str); 3] = [
        (HashingAlgorithm::Sha256, "908dc60aa1be72aeb9ac143db6251409113280a8668a52ab64458a4b3f87d052757e4e3f"),
        (
            HashingAlgorithm::Sha512,
            "908dc60ac42e993c422552d37a390855f459b99977c9f0e4aa6b3425bd3e8da1691499531074dbfcd3e831aed164779ad4f18b4aefa45a7ad6aedc71cb41d283657f75a6",
        ),
        (
            HashingAlgorithm::Argon2id,
            "908dc60a0102030405060708090a0b0c5ffbec074608ff2c57e379fed58c69bc5d911e09cf244dfad9557f9db5c76699",
        ),
    ];

    fn octets(hexadecimal: &str) -> Vec<u8> {
        let digits = hexadecimal.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("digits"));
        digits.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect()
    }

    /// The hash of `secret`.
    pub(in crate::authentication) fn hash(algorithm: HashingAlgorithm) -> PasswordHash {
        let (_, hash) = HASHES.iter().find(|(of, _)| *of == algorithm).expect("there is one of each");
        PasswordHash { algorithm, octets: octets(hash).into() }
    }

    fn expecting(hash: Option<PasswordHash>) -> Expected {
        Expected { hash, ..Expected::default() }
    }

    #[test]
    fn a_password_is_the_one_that_was_hashed_and_no_other() {
        for algorithm in HashingAlgorithm::ALL {
            let expected = expecting(Some(hash(algorithm)));
            assert!(expected.compare(b"secret").is_hashed, "{algorithm:?}");
            for wrong in ["Secret", "secret ", "secre", ""] {
                let compared = expected.compare(wrong.as_bytes());
                assert!(!compared.is_hashed && !compared.is_plain, "{algorithm:?} {wrong}");
            }
        }
    }

    #[test]
    fn the_password_before_and_each_of_the_nodes_own_user_let_in_too() {
        let made = |password: &str| super::hash(password.as_bytes());
        let expected = Expected { hash: Some(made("new")), previous: Some(made("old")), ..Expected::default() };
        let of = |password: &str| expected.compare(password.as_bytes());
        assert!(of("new").is_hashed && !of("new").is_previous);
        assert!(of("old").is_previous && !of("old").is_hashed && !of("older").is_right());
        let expected =
            Expected { plain: ["new", "next", ""].map(|text| text.as_bytes().to_vec()), ..Expected::default() };
        let is_plain = |password: &str| expected.compare(password.as_bytes()).is_plain;
        assert!(is_plain("new") && is_plain("next") && !is_plain("") && !is_plain("old"));
    }

    #[test]
    fn no_hash_an_empty_password_or_a_broken_hash_lets_nobody_in() {
        let of = |algorithm, octets: Vec<u8>| Some(PasswordHash { algorithm, octets: octets.into() });
        let empty = [b"salt".to_vec(), digest(HashingAlgorithm::Sha256, b"salt", b"")].concat();
        for hash in [None, of(HashingAlgorithm::Sha256, empty), of(HashingAlgorithm::Argon2id, vec![1])] {
            for password in [&b""[..], b"x"] {
                assert!(!expecting(hash.clone()).compare(password).is_hashed, "{hash:?}");
            }
        }
        assert!(!Expected::default().compare(b"").is_plain);
    }

    #[test]
    fn a_hash_that_we_make_is_one_that_we_take_and_no_two_are_equal() {
        let made = password_hash(b"a secret");
        let entry: serde_json::Value = serde_json::from_str(&made).expect("an object");
        let algorithm = HashingAlgorithm::from_name(entry["hashing_algorithm"].as_str().expect("a name"));
        let octets = BASE64_STANDARD.decode(entry["password_hash"].as_str().expect("text")).expect("base64");
        let expected = expecting(Some(PasswordHash { algorithm: algorithm.expect("known"), octets: octets.into() }));
        assert!(expected.compare(b"a secret").is_hashed && !expected.compare(b"a secre").is_hashed);
        assert_ne!(password_hash(b"a secret"), made);
    }

    #[test]
    fn the_hash_that_takes_the_place_of_a_quick_one_is_of_the_same_password() {
        let made = expecting(Some(hash(HashingAlgorithm::Sha256))).compare(b"secret").argon2id;
        assert_eq!(made.algorithm, HashingAlgorithm::Argon2id);
        assert!(expecting(Some(made)).compare(b"secret").is_hashed);
    }

    #[test]
    fn a_refusal_costs_the_same_hashes_whatever_there_is_to_compare_with() {
        let cost = |expected: &Expected| {
            COMPUTED.take();
            assert!(!expected.compare(b"not it").is_right());
            let computed = COMPUTED.take();
            computed.into_iter().map(|(algorithm, _)| algorithm).collect::<Vec<_>>()
        };
        let nobody = cost(&expecting(None));
        for round in [&nobody[..3], &nobody[nobody.len() - 3..]] {
            assert_eq!(round, HashingAlgorithm::ALL, "each algorithm, for the password and for the one before");
        }
        for algorithm in HashingAlgorithm::ALL {
            assert_eq!(cost(&expecting(Some(hash(algorithm)))), nobody, "{algorithm:?}");
            let previous = Some(hash(algorithm));
            assert_eq!(cost(&Expected { previous, ..Expected::default() }), nobody, "before: {algorithm:?}");
        }
        let plain = ["one", "", "two"].map(|text| text.as_bytes().to_vec());
        assert_eq!(cost(&Expected { plain, ..Expected::default() }), nobody);
    }
}
