//! User and password: those of the node's own user, and those of the topology's users.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256, Sha512};
use subtle::{Choice, ConstantTimeEq};
use warren_core::session::Login;
use warren_core::topology::{HashingAlgorithm, Identity, PasswordHash, Topology, UserRecord};

use super::LoginError;
use crate::config::DefaultUser;
use crate::random::random;

/// The user that is there while the configuration names none, and that may log in from this host only.
const GUEST: &str = "guest";

/// Checks credentials against the node's own user, which the configuration names, and against those of the topology.
///
/// The node's own user is `guest` if the configuration names none; a `guest` of the topology takes its place.
#[derive(Debug)]
pub(super) struct Passwords {
    default_user: Option<DefaultUser>,
}

/// The node's own user as it is at this moment.
struct NodeUser {
    name: Vec<u8>,
    password: Vec<u8>,
}

impl Passwords {
    pub(super) fn new(default_user: Option<DefaultUser>) -> Self {
        Self { default_user }
    }

    /// Who it is if the credentials are right. The files are read at every login, so that a password changed on
    /// disk (a Kubernetes Secret, say) counts from the next login on.
    ///
    /// Whatever the name, the same comparisons are made, so that the time tells nothing about who exists.
    pub(super) fn check(&self, topology: &Topology, login: &Login, peer: IpAddr) -> Result<Identity, LoginError> {
        let (node, unreadable) = match self.node_user(topology) {
            Ok(node) => (node, None),
            Err(error) => (None, Some(error)),
        };
        let node = node.as_ref().map_or((&b""[..], &b""[..]), |user| (&user.name, &user.password));
        let is_node_user = equal(node.0, login.user.as_bytes()) & Choice::from(u8::from(!node.0.is_empty()));
        // A password file that is still empty lets nobody in.
        let is_node =
            is_node_user & equal(node.1, login.password.expose()) & Choice::from(u8::from(!node.1.is_empty()));
        let record = topology.user(&login.user);
        let is_user = record_matches(record.map(Arc::as_ref), login.password.expose()) & !is_node_user;
        let from_afar = login.user == GUEST && self.default_user.is_none() && !peer.to_canonical().is_loopback();
        match record {
            _ if !bool::from(is_node | is_user) => Err(unreadable.unwrap_or(LoginError::Credentials)),
            _ if from_afar => Err(LoginError::GuestFromAfar),
            Some(record) if bool::from(is_user) => Ok(Identity::User(Arc::clone(&record.name))),
            _ => Ok(Identity::Node(Arc::from(login.user.as_str()))),
        }
    }

    fn node_user(&self, topology: &Topology) -> Result<Option<NodeUser>, LoginError> {
        match &self.default_user {
            Some(user) => {
                let (name, password) = (read_secret(&user.name_file)?, read_secret(&user.password_file)?);
                Ok(Some(NodeUser { name, password }))
            }
            None if topology.user(GUEST).is_some() => Ok(None),
            None => Ok(Some(NodeUser { name: GUEST.into(), password: GUEST.into() })),
        }
    }
}

/// Whether the password is the user's. An empty one never is, as in RabbitMQ.
fn record_matches(user: Option<&UserRecord>, password: &[u8]) -> Choice {
    let hash = user.and_then(|user| user.password.as_ref());
    let empty = Choice::from(u8::from(password.is_empty()));
    hash_matches(hash, password) & !empty
}

/// Stands in for the hash of a user who is not there: a salt and a digest like any others.
const NOBODY: [u8; HashingAlgorithm::SALT_BYTES + HashingAlgorithm::Sha256.digest_bytes()] = [0; _];

/// Compares with RabbitMQ's salted hash. All algorithms are gone through, whichever it is and also without any.
fn hash_matches(hash: Option<&PasswordHash>, password: &[u8]) -> Choice {
    let octets = hash.map_or(&NOBODY[..], |hash| &hash.octets);
    let (salt, expected) = octets.split_at(octets.len().min(HashingAlgorithm::SALT_BYTES));
    let mut right = Choice::from(0);
    for algorithm in HashingAlgorithm::ALL {
        let is_it = Choice::from(u8::from(hash.is_some_and(|hash| hash.algorithm == algorithm)));
        right |= digest(algorithm, &[salt, password]).ct_eq(expected) & is_it;
    }
    right
}

/// All hashes here are computed by this.
fn digest(algorithm: HashingAlgorithm, parts: &[&[u8]]) -> Vec<u8> {
    #[cfg(test)]
    tests::COMPUTED.with_borrow_mut(|computed| computed.push((algorithm, parts.iter().map(|part| part.len()).sum())));
    match algorithm {
        HashingAlgorithm::Sha256 => parts.iter().fold(Sha256::new(), Digest::chain_update).finalize().to_vec(),
        HashingAlgorithm::Sha512 => parts.iter().fold(Sha512::new(), Digest::chain_update).finalize().to_vec(),
    }
}

/// The hash of a password, as a file of definitions has it: base64 of salt and digest
/// ([`HashingAlgorithm::Sha256`]), a new one each time.
pub fn password_hash(password: &[u8]) -> String {
    let random = random().to_ne_bytes();
    let salt = &random[..HashingAlgorithm::SALT_BYTES];
    BASE64_STANDARD.encode([salt, &digest(HashingAlgorithm::Sha256, &[salt, password])].concat())
}

/// Whether the files of a user can be read.
pub(crate) fn readable(user: &DefaultUser) -> Result<(), LoginError> {
    read_secret(&user.name_file).and_then(|_| read_secret(&user.password_file)).map(drop)
}

/// Compares by digest, in a time that tells nothing about either side, not even a length.
fn equal(expected: &[u8], given: &[u8]) -> Choice {
    let digest_of = |octets| digest(HashingAlgorithm::Sha256, &[octets]);
    digest_of(expected).ct_eq(&digest_of(given))
}

/// A secret's file without the line end that editors put behind it.
fn read_secret(path: &Path) -> Result<Vec<u8>, LoginError> {
    let mut secret =
        std::fs::read(path).map_err(|source| LoginError::Secret { path: path.display().to_string(), source })?;
    while matches!(secret.last(), Some(b'\n' | b'\r')) {
        secret.pop();
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::num::NonZeroU16;

    use warren_core::limits::TopologyLimits;
    use warren_core::topology::{AdministrationChange, Change, UserLimits};

    thread_local! {
        /// The hashes that this thread has computed: with what, and of how many octets.
        pub(super) static COMPUTED: RefCell<Vec<(HashingAlgorithm, usize)>> = const { RefCell::new(Vec::new()) };
    }

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn login(user: &str, password: &str) -> Login {
        Login { user: user.into(), password: password.as_bytes().into() }
    }

    /// Hashes that RabbitMQ 4.3.6 takes `secret` for: salt and digest.
    const HASHES: [(HashingAlgorithm, &str); 2] = [
        (HashingAlgorithm::Sha256, "908dc60aa1be72aeb9ac143db6251409113280a8668a52ab64458a4b3f87d052757e4e3f"),
        (
            HashingAlgorithm::Sha512,
            "908dc60ac42e993c422552d37a390855f459b99977c9f0e4aa6b3425bd3e8da1691499531074dbfcd3e831aed164779ad4f18b4aefa45a7ad6aedc71cb41d283657f75a6",
        ),
    ];

    fn octets(hexadecimal: &str) -> Vec<u8> {
        let digits = hexadecimal.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("digits"));
        digits.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect()
    }

    fn hash(algorithm: HashingAlgorithm) -> PasswordHash {
        let (_, hash) = HASHES.iter().find(|(of, _)| *of == algorithm).expect("there is one of each");
        PasswordHash { algorithm, octets: octets(hash).into() }
    }

    /// A topology with these users.
    fn topology<const N: usize>(users: [(&str, Option<PasswordHash>); N]) -> Topology {
        let mut topology = Topology::new(NonZeroU16::MIN, TopologyLimits::default());
        for (name, password) in users {
            let limits = UserLimits::default();
            let record = UserRecord { name: name.into(), password, tags: Vec::new(), limits };
            topology.apply(&Change::Administration(AdministrationChange::PutUser(Arc::new(record))));
        }
        topology
    }

    #[test]
    fn guest_logs_in_from_this_host_only() {
        let (users, topology) = (Passwords::new(None), topology([]));
        let check = |user, password, peer| users.check(&topology, &login(user, password), peer);
        let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        for peer in [LOCAL, IpAddr::V6(Ipv6Addr::LOCALHOST), mapped] {
            assert_eq!(check("guest", "guest", peer).expect("right"), Identity::Node("guest".into()), "{peer}");
        }
        assert!(matches!(check("guest", "guest", FAR), Err(LoginError::GuestFromAfar)));
        for (user, password) in [("guest", "wrong"), ("guest", ""), ("", ""), ("other", "guest")] {
            assert!(matches!(check(user, password, LOCAL), Err(LoginError::Credentials)), "{user}");
        }
    }

    #[test]
    fn a_configured_user_replaces_guest_and_its_password_may_change() {
        let folder = tempfile::tempdir().expect("a folder for the secrets");
        let (name_file, password_file) = (folder.path().join("username"), folder.path().join("password"));
        std::fs::write(&name_file, "app\n").expect("written");
        std::fs::write(&password_file, "first").expect("written");
        let users = Passwords::new(Some(DefaultUser { name_file, password_file: password_file.clone() }));
        let topology =
            topology([("bob", Some(hash(HashingAlgorithm::Sha256))), ("app", Some(hash(HashingAlgorithm::Sha512)))]);
        let check = |user, password| users.check(&topology, &login(user, password), FAR);
        assert_eq!(check("app", "first").expect("right"), Identity::Node("app".into()));
        assert!(matches!(check("guest", "guest"), Err(LoginError::Credentials)));
        assert!(check("app", "secret").is_err(), "the name is the node's own user's");
        std::fs::write(&password_file, "\n").expect("written");
        assert!(users.check(&topology, &login("app", ""), FAR).is_err(), "an empty file lets nobody in");
        std::fs::write(&password_file, "second\n").expect("written");
        assert!(check("app", "first").is_err());
        assert!(check("app", "second").is_ok());
        std::fs::remove_file(&password_file).expect("removed");
        assert!(matches!(check("app", ""), Err(LoginError::Secret { .. })));
        assert_eq!(check("bob", "secret").expect("others go on"), Identity::User("bob".into()));
    }

    #[test]
    fn passwords_are_those_that_rabbitmq_hashed() {
        let users = Passwords::new(None);
        for algorithm in HashingAlgorithm::ALL {
            let topology = topology([("bob", Some(hash(algorithm)))]);
            let check = |password| users.check(&topology, &login("bob", password), FAR);
            assert_eq!(check("secret").expect("right"), Identity::User("bob".into()), "{algorithm:?}");
            for wrong in ["Secret", "secret ", "secre", ""] {
                assert!(matches!(check(wrong), Err(LoginError::Credentials)), "{algorithm:?} {wrong}");
            }
        }
    }

    #[test]
    fn a_user_without_password_or_with_an_empty_one_does_not_log_in() {
        let users = Passwords::new(None);
        let empty = PasswordHash {
            algorithm: HashingAlgorithm::Sha256,
            octets: [b"salt".to_vec(), digest(HashingAlgorithm::Sha256, &[b"salt"])].concat().into(),
        };
        let broken = PasswordHash { algorithm: HashingAlgorithm::Sha256, octets: vec![1].into() };
        let topology = topology([("none", None), ("empty", Some(empty)), ("broken", Some(broken))]);
        for user in ["none", "empty", "broken", "unknown"] {
            assert!(matches!(users.check(&topology, &login(user, ""), LOCAL), Err(LoginError::Credentials)), "{user}");
        }
    }

    #[test]
    fn a_hash_that_we_make_is_one_that_we_take_and_no_two_are_equal() {
        let hash = password_hash(b"a secret");
        let octets = BASE64_STANDARD.decode(&hash).expect("base64").into();
        let topology = topology([("bob", Some(PasswordHash { algorithm: HashingAlgorithm::Sha256, octets }))]);
        let users = Passwords::new(None);
        assert!(users.check(&topology, &login("bob", "a secret"), FAR).is_ok());
        assert!(users.check(&topology, &login("bob", "a secre"), FAR).is_err());
        assert_ne!(password_hash(b"a secret"), hash);
    }

    #[test]
    fn a_refusal_costs_the_same_hashes_whether_the_user_is_there_or_not() {
        let folder = tempfile::tempdir().expect("a folder for the secrets");
        let (name_file, password_file) = (folder.path().join("username"), folder.path().join("password"));
        std::fs::write(&name_file, "appl").expect("written");
        std::fs::write(&password_file, "password").expect("written");
        let configured = Passwords::new(Some(DefaultUser { name_file, password_file }));
        let topology = topology([
            ("bobb", Some(hash(HashingAlgorithm::Sha256))),
            ("carl", Some(hash(HashingAlgorithm::Sha512))),
            ("none", None),
        ]);
        let cost = |users: &Passwords, user| {
            COMPUTED.take();
            assert!(users.check(&topology, &login(user, "not it"), LOCAL).is_err(), "{user}");
            COMPUTED.take()
        };
        for users in [configured, Passwords::new(None)] {
            let expected = cost(&users, "nobd");
            assert!(expected.contains(&(HashingAlgorithm::Sha256, 4 + 6)), "a password is hashed with its salt");
            assert!(expected.contains(&(HashingAlgorithm::Sha512, 4 + 6)), "with either algorithm");
            for user in ["bobb", "carl", "none", "appl"] {
                assert_eq!(cost(&users, user), expected, "{user}");
            }
        }
    }

    #[test]
    fn a_guest_of_the_topology_takes_the_place_of_the_built_in_one() {
        let (users, topology) = (Passwords::new(None), topology([("guest", Some(hash(HashingAlgorithm::Sha256)))]));
        let check = |password, peer| users.check(&topology, &login("guest", password), peer);
        assert!(matches!(check("guest", LOCAL), Err(LoginError::Credentials)));
        assert_eq!(check("secret", LOCAL).expect("right"), Identity::User("guest".into()));
        assert!(matches!(check("secret", FAR), Err(LoginError::GuestFromAfar)));
    }
}
