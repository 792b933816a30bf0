//! User and password: those of the node's own user, and those of the topology's users.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};
use warren_core::Secret;
use warren_core::session::Login;
use warren_core::topology::{HashingAlgorithm, Identity, PasswordHash, Topology};

use super::LoginError;
use super::hashing::{self, Expected, PLAIN_PASSWORDS, equal};
use super::recent::Recent;
use super::secret_files::{SecretFile, SecretFiles, read_secret};
use super::throttle::Throttle;
use crate::clock::wall_clock_ms;
use crate::config::DefaultUser;
use crate::limits::{HASHES_AT_ONCE, VERIFIED_PASSWORDS};
use crate::random::random;

/// The user that is there while the configuration names none and nobody has made one, and that may log in from this host
/// only; so may a user of that name.
const GUEST: &str = "guest";

/// Checks passwords against the node's own user, which the configuration names, and against those of the topology.
///
/// The node's own user is `guest` if the configuration names none, until the topology has a user: it is never there again.
pub(super) struct Passwords {
    configured: Option<Configured>,
    /// A hash takes 19 MiB and a core's time: so many are computed at once.
    hashing: Semaphore,
    verified: Mutex<Verified>,
}

/// The node's own user, whom the configuration names by files.
struct Configured {
    files: SecretFiles,
    /// The name that was read last. It is nobody else's while the files cannot be read.
    name: Mutex<Vec<u8>>,
}

/// Passwords that were right a while ago, so that a client that comes again does not cost a hash again. What is kept of one
/// is a digest of user, password and of what the password was compared with, so that it is worth nothing once that is
/// another one, or to somebody who reads the memory of this process.
struct Verified {
    key: [u8; 32],
    digests: Recent<[u8; 32], ()>,
}

/// Who logged in with a password.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) identity: Identity,
    /// The quick hash that the password was compared with, and the one to put in its place.
    pub(super) rehashed: Option<(PasswordHash, PasswordHash)>,
}

/// The node's own user as it is at this moment.
#[derive(Default)]
struct NodeUser {
    name: Vec<u8>,
    passwords: [Vec<u8>; PLAIN_PASSWORDS],
}

/// What a login is compared with.
struct Candidate {
    expected: Expected,
    /// The name is that of the node's own user.
    is_node: bool,
    /// Why nobody can be the node's own user at the moment.
    unreadable: Option<LoginError>,
}

impl Passwords {
    pub(super) fn new(default_user: Option<DefaultUser>) -> Self {
        let mut key = [0; 32];
        key.as_chunks_mut::<16>().0.iter_mut().for_each(|half| *half = random().to_ne_bytes());
        let verified = Mutex::new(Verified { key, digests: Recent::new(VERIFIED_PASSWORDS) });
        // The node starts, and nobody waits for it yet.
        let configured = default_user.map(Configured::new);
        Self { configured, hashing: Semaphore::new(HASHES_AT_ONCE), verified }
    }

    /// Who it is if the password is right. The node's own user's files are read at every login, so that a password changed
    /// on disk (a Kubernetes Secret, say) counts from the next login on.
    pub(super) async fn check(
        &self,
        topology: &Topology,
        login: &Login,
        peer: IpAddr,
        throttle: &Throttle,
    ) -> Result<Found, LoginError> {
        let Candidate { expected, is_node, unreadable } = self.candidate(topology, login).await;
        let digest = self.verified(|verified| verified.digest(login, &expected));
        let mut rehashed = None;
        if !self.is_verified(&digest) {
            let permit = self.turn(login, peer, throttle).await?;
            // Many who come at once with one password wait for the first of them.
            if !self.is_verified(&digest) {
                let Some(compared) = compare(expected, login).await? else {
                    throttle.failed(&login.user, peer, Instant::now());
                    return Err(unreadable.unwrap_or(LoginError::Credentials));
                };
                rehashed = compared;
                self.verified(|verified| verified.digests.insert(digest, ()));
            }
            drop(permit);
        }
        self.check_origin(&login.user, is_node, peer)?;
        let name = Arc::from(login.user.as_str());
        Ok(Found { identity: if is_node { Identity::Node(name) } else { Identity::User(name) }, rehashed })
    }

    /// Waits until a password may be compared. Whose turn it is is asked by those alone who could go on, so that of many who
    /// come at once each sees what became of those before it.
    async fn turn(&self, login: &Login, peer: IpAddr, throttle: &Throttle) -> Result<SemaphorePermit<'_>, LoginError> {
        let permit = self.permit().await?;
        let now = Instant::now();
        match throttle.turn(&login.user, peer, now) {
            None => Err(LoginError::TooManyFailures),
            Some(turn) if turn <= now => Ok(permit),
            Some(turn) => {
                drop(permit);
                sleep_until(turn).await;
                self.permit().await
            }
        }
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>, LoginError> {
        // Nobody closes the semaphore.
        self.hashing.acquire().await.map_err(|_| LoginError::Credentials)
    }

    /// A new hash of a password.
    pub(super) async fn hash(&self, password: Secret) -> Result<PasswordHash, LoginError> {
        let _permit = self.permit().await?;
        let hash = tokio::task::spawn_blocking(move || hashing::hash(password.expose())).await;
        hash.map_err(|_| LoginError::Credentials)
    }

    fn is_verified(&self, digest: &[u8; 32]) -> bool {
        self.verified(|verified| verified.digests.get(digest).is_some())
    }

    /// Whether the user may log in from there: `guest` may from this host only, whoever else there is, unless the files of the
    /// node's own user name just that one.
    pub(super) fn check_origin(&self, user: &str, is_node: bool, peer: IpAddr) -> Result<(), LoginError> {
        let is_configured = is_node && self.configured.is_some();
        let is_from_afar = user == GUEST && !is_configured && !peer.to_canonical().is_loopback();
        if is_from_afar { Err(LoginError::GuestFromAfar) } else { Ok(()) }
    }

    /// The name of the node's own user, as it was read last; none if it never was, or is no text.
    pub(super) fn node_user_name(&self, topology: &Topology) -> Option<String> {
        match &self.configured {
            Some(configured) => String::from_utf8(configured.name()).ok().filter(|name| !name.is_empty()),
            None if topology.has_had_users() => None,
            None => Some(GUEST.to_owned()),
        }
    }

    /// Whether the configuration names that user.
    pub(super) fn configures_node_user(&self) -> bool {
        self.configured.is_some()
    }

    fn verified<T>(&self, with: impl FnOnce(&mut Verified) -> T) -> T {
        with(&mut self.verified.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn candidate(&self, topology: &Topology, login: &Login) -> Candidate {
        let (NodeUser { name, passwords }, unreadable) = match &self.configured {
            Some(configured) => configured.read().await,
            None if topology.has_had_users() => (NodeUser::default(), None),
            None => (NodeUser { name: GUEST.into(), passwords: [GUEST.into(), Vec::new(), Vec::new()] }, None),
        };
        let is_node = !name.is_empty() & bool::from(equal(&name, login.user.as_bytes()));
        // Whoever has the name of the node's own user is that one, and no other.
        let expected = match topology.user(&login.user) {
            _ if is_node => Expected { plain: passwords, ..Expected::default() },
            None => Expected::default(),
            Some(user) => Expected {
                hash: user.password.clone(),
                previous: user.previous_at(wall_clock_ms()).map(|previous| previous.hash.clone()),
                ..Expected::default()
            },
        };
        Candidate { expected, is_node, unreadable }
    }
}

impl Configured {
    /// In this order no password is missed when the volume changes while its files are read: the next one becomes the one that
    /// counts, that one the one before, and the end is not taken from one that has none for another.
    fn new(user: DefaultUser) -> Self {
        let name = Mutex::new(read_secret(&user.name_file).unwrap_or_default());
        let files = SecretFiles::new([
            SecretFile::Needed(user.name_file),
            SecretFile::Optional(user.next_password_file),
            SecretFile::Needed(user.password_file),
            SecretFile::Optional(user.previous_password_until_file),
            SecretFile::Optional(user.previous_password_file),
        ]);
        Self { files, name }
    }

    /// What the files say. If they cannot be read, the name is the one that was read last, and nobody has the password.
    async fn read(&self) -> (NodeUser, Option<LoginError>) {
        let mut secrets = match self.files.read().await {
            Ok(secrets) => secrets.into_iter(),
            Err(error) => return (NodeUser { name: self.name(), ..NodeUser::default() }, Some(error)),
        };
        let [name, next, password, until, previous] = [(); 5].map(|()| secrets.next().unwrap_or_default());
        self.last_name().clone_from(&name);
        let previous = if counts(&until, wall_clock_ms()) { previous } else { Vec::new() };
        (NodeUser { name, passwords: [password, next, previous] }, None)
    }

    fn name(&self) -> Vec<u8> {
        self.last_name().clone()
    }

    fn last_name(&self) -> MutexGuard<'_, Vec<u8>> {
        self.name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a password with this end, in seconds since the Unix epoch, counts still. Without one it does; one that cannot be read
/// has passed.
fn counts(until: &[u8], now_ms: u64) -> bool {
    let seconds = || std::str::from_utf8(until).ok()?.parse::<u64>().ok();
    until.is_empty() || seconds().is_some_and(|seconds| now_ms < seconds.saturating_mul(1_000))
}

impl Verified {
    fn digest(&self, login: &Login, expected: &Expected) -> [u8; 32] {
        let octets = |hash: &Option<PasswordHash>| hash.as_ref().map(|hash| hash.octets.clone()).unwrap_or_default();
        let (hash, previous) = (octets(&expected.hash), octets(&expected.previous));
        let shown = [login.user.as_bytes(), login.password.expose(), &hash, &previous];
        let mut digest = Sha256::new().chain_update(self.key);
        for part in shown.into_iter().chain(expected.plain.iter().map(Vec::as_slice)) {
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

/// Compares on a thread that may take its time. `None`: the password is wrong. Otherwise the hash, if it was a quick one,
/// and the one to put in its place.
async fn compare(
    expected: Expected,
    login: &Login,
) -> Result<Option<Option<(PasswordHash, PasswordHash)>>, LoginError> {
    let password = login.password.clone();
    let compare = move || (expected.compare(password.expose()), expected.hash);
    let (compared, hash) = tokio::task::spawn_blocking(compare).await.map_err(|_| LoginError::NotCompared)?;
    let quick = hash.filter(|hash| hash.algorithm != HashingAlgorithm::Argon2id && compared.is_hashed);
    Ok(compared.is_right().then(|| quick.map(|old| (old, compared.argon2id))))
}

/// Whether the files of a user can be read.
pub(crate) fn readable(user: &DefaultUser) -> Result<(), LoginError> {
    check_secret(&user.name_file).and_then(|()| check_secret(&user.password_file))
}

/// Whether a file with a secret can be read.
pub(crate) fn check_secret(path: &Path) -> Result<(), LoginError> {
    read_secret(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::num::NonZeroU16;
    use std::time::Duration;

    use warren_core::limits::TopologyLimits;
    use warren_core::topology::{AdministrationChange, Change, PreviousPassword, UserLimits, UserRecord};

    use crate::authentication::hashing::tests::hash;

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn login(user: &str, password: &str) -> Login {
        Login { user: user.into(), password: password.as_bytes().into() }
    }

    fn put(topology: &mut Topology, name: &str, password: Option<PasswordHash>) {
        put_with(topology, name, password, None);
    }

    fn put_with(
        topology: &mut Topology,
        name: &str,
        password: Option<PasswordHash>,
        previous: Option<PreviousPassword>,
    ) {
        let limits = UserLimits::default();
        let record = UserRecord { name: name.into(), password, previous, tags: Vec::new(), limits };
        topology.apply(&Change::Administration(AdministrationChange::PutUser(Arc::new(record))));
    }

    /// A topology with these users.
    fn topology<const N: usize>(users: [(&str, Option<PasswordHash>); N]) -> Topology {
        let mut topology = Topology::new(NonZeroU16::MIN, TopologyLimits::default());
        users.into_iter().for_each(|(name, password)| put(&mut topology, name, password));
        topology
    }

    async fn identity(passwords: &Passwords, topology: &Topology, login: Login) -> Result<Identity, LoginError> {
        passwords.check(topology, &login, FAR, &Throttle::new()).await.map(|found| found.identity)
    }

    /// A user whose files are beside that with its name.
    fn files(name_file: &Path) -> DefaultUser {
        let beside = |name: &str| name_file.with_file_name(name);
        DefaultUser {
            name_file: name_file.to_path_buf(),
            password_file: beside("password"),
            next_password_file: Some(beside("next-password")),
            previous_password_file: Some(beside("previous-password")),
            previous_password_until_file: Some(beside("previous-password-until")),
        }
    }

    #[tokio::test]
    async fn guest_logs_in_from_this_host_only() {
        let (users, topology) = (Passwords::new(None), topology([]));
        let check =
            async |user, password, peer| users.check(&topology, &login(user, password), peer, &Throttle::new()).await;
        let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        for peer in [LOCAL, IpAddr::V6(Ipv6Addr::LOCALHOST), mapped] {
            let found = check("guest", "guest", peer).await.expect("right");
            assert_eq!(found.identity, Identity::Node("guest".into()), "{peer}");
        }
        assert!(matches!(check("guest", "guest", FAR).await, Err(LoginError::GuestFromAfar)));
        for (user, password) in [("guest", "wrong"), ("guest", ""), ("", ""), ("other", "guest")] {
            assert!(matches!(check(user, password, LOCAL).await, Err(LoginError::Credentials)), "{user}");
        }
    }

    #[tokio::test]
    async fn a_configured_user_replaces_guest_and_its_password_may_change() {
        let folder = tempfile::tempdir().expect("a folder for the secrets");
        let (name_file, password_file) = (folder.path().join("username"), folder.path().join("password"));
        std::fs::write(&name_file, "app\n").expect("written");
        std::fs::write(&password_file, "first").expect("written");
        let users = Passwords::new(Some(DefaultUser { password_file: password_file.clone(), ..files(&name_file) }));
        let topology =
            topology([("bob", Some(hash(HashingAlgorithm::Sha256))), ("app", Some(hash(HashingAlgorithm::Sha512)))]);
        let check = async |user, password| identity(&users, &topology, login(user, password)).await;
        assert_eq!(check("app", "first").await.expect("right"), Identity::Node("app".into()));
        assert!(matches!(check("guest", "guest").await, Err(LoginError::Credentials)));
        assert!(check("app", "secret").await.is_err(), "the name is the node's own user's");
        std::fs::write(&password_file, "\n").expect("written");
        assert!(check("app", "").await.is_err(), "an empty file lets nobody in");
        std::fs::write(&password_file, "second\n").expect("written");
        assert!(check("app", "first").await.is_err());
        assert!(check("app", "second").await.is_ok());
        std::fs::remove_file(&password_file).expect("removed");
        assert!(matches!(check("app", "").await, Err(LoginError::Secret { .. })));
        let other = check("app", "secret").await;
        assert!(matches!(other, Err(LoginError::Secret { .. })), "the name is the node's own user's still: {other:?}");
        assert_eq!(users.node_user_name(&topology).as_deref(), Some("app"));
        assert_eq!(check("bob", "secret").await.expect("others go on"), Identity::User("bob".into()));
    }

    #[tokio::test]
    async fn the_configured_user_has_the_next_password_too_and_the_one_before_until_its_end() {
        let folder = tempfile::tempdir().expect("a folder for the secrets");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
        write("username", "app");
        write("password", "now");
        let (users, topology) = (Passwords::new(Some(files(&folder.path().join("username")))), topology([]));
        let check = async |password| identity(&users, &topology, login("app", password)).await.is_ok();
        assert!(check("now").await && !check("next").await && !check("before").await && !check("").await);
        write("next-password", "next\n");
        write("previous-password", "before\n");
        assert!(check("now").await && check("next").await && check("before").await && !check("other").await);
        let seconds = wall_clock_ms() / 1_000;
        for (until, is_in) in [(seconds + 60, true), (seconds, false)] {
            write("previous-password-until", &format!("{until}\n"));
            assert_eq!(check("before").await, is_in, "{until}");
        }
        write("previous-password-until", "tomorrow");
        assert!(!check("before").await && check("now").await, "what cannot be read has passed");
    }

    #[tokio::test]
    async fn the_password_before_counts_until_its_end_and_the_new_one_at_once() {
        let (users, mut topology) = (Passwords::new(None), topology([]));
        let [old, new] = ["old", "new"].map(|password| hashing::hash(password.as_bytes()));
        let now = wall_clock_ms();
        for (until_ms, is_in) in [(now + 60_000, true), (now, false), (now + 60_000, true)] {
            let previous = Some(PreviousPassword { hash: old.clone(), until_ms });
            put_with(&mut topology, "bob", Some(new.clone()), previous);
            for _ in 0..2 {
                assert_eq!(identity(&users, &topology, login("bob", "old")).await.is_ok(), is_in, "{until_ms}");
                assert!(identity(&users, &topology, login("bob", "new")).await.is_ok());
            }
        }
    }

    #[tokio::test]
    async fn a_quick_hash_is_to_be_replaced_and_one_of_ours_is_not() {
        let users = Passwords::new(None);
        for algorithm in HashingAlgorithm::ALL {
            let mut topology = topology([("bob", Some(hash(algorithm)))]);
            let found = users.check(&topology, &login("bob", "secret"), FAR, &Throttle::new()).await.expect("right");
            assert_eq!(found.identity, Identity::User("bob".into()), "{algorithm:?}");
            let Some((old, new)) = found.rehashed else {
                assert_eq!(algorithm, HashingAlgorithm::Argon2id);
                continue;
            };
            assert_eq!((old, new.algorithm), (hash(algorithm), HashingAlgorithm::Argon2id));
            put(&mut topology, "bob", Some(new));
            let again = users
                .check(&topology, &login("bob", "secret"), FAR, &Throttle::new())
                .await
                .expect("the new one is of it too");
            assert!(again.rehashed.is_none());
        }
    }

    #[tokio::test]
    async fn who_comes_again_costs_no_hash_and_a_changed_or_removed_password_counts_at_once() {
        let users = Passwords::new(None);
        let mut topology = topology([("bob", Some(hash(HashingAlgorithm::Argon2id)))]);
        assert!(identity(&users, &topology, login("bob", "secret")).await.is_ok());
        let all = users.hashing.acquire_many(2).await.expect("nobody computes one");
        for _ in 0..100 {
            assert!(identity(&users, &topology, login("bob", "secret")).await.is_ok(), "no hash can be computed now");
        }
        drop(all);
        for (user, password) in [("bob", "secre"), ("bobs", "ecret"), ("carol", "secret")] {
            assert!(identity(&users, &topology, login(user, password)).await.is_err(), "{user}");
        }
        put(
            &mut topology,
            "bob",
            Some(PasswordHash { octets: vec![1; 48].into(), ..hash(HashingAlgorithm::Argon2id) }),
        );
        assert!(identity(&users, &topology, login("bob", "secret")).await.is_err(), "it is another one");
        put(&mut topology, "bob", None);
        assert!(identity(&users, &topology, login("bob", "secret")).await.is_err(), "it has none");
    }

    #[tokio::test]
    async fn many_who_come_at_once_with_one_password_cost_few_hashes() {
        let (users, topology) = (Passwords::new(None), topology([("bob", Some(hash(HashingAlgorithm::Sha512)))]));
        let logins = (0..1_000).map(|_| identity(&users, &topology, login("bob", "secret")));
        let begin = std::time::Instant::now();
        assert!(futures::future::join_all(logins).await.iter().all(Result::is_ok));
        let one = begin.elapsed() / 100;
        let begin = std::time::Instant::now();
        assert!(identity(&users, &topology, login("bob", "wrong")).await.is_err());
        assert!(begin.elapsed() > one, "a thousand took as long as a hundred hashes");
    }

    #[tokio::test]
    async fn guest_stays_on_this_host_whoever_is_configured_unless_that_is_guest() {
        let folder = tempfile::tempdir().expect("a folder for the secrets");
        let (name_file, password_file) = (folder.path().join("username"), folder.path().join("password"));
        std::fs::write(&password_file, "first").expect("written");
        let topology = topology([("guest", Some(hash(HashingAlgorithm::Sha256)))]);
        for (name, password, is_right) in [("app", "secret", false), ("guest", "first", true)] {
            std::fs::write(&name_file, name).expect("written");
            let files = DefaultUser { password_file: password_file.clone(), ..files(&name_file) };
            let result = identity(&Passwords::new(Some(files)), &topology, login("guest", password)).await;
            assert_eq!(result.is_ok(), is_right, "{name}: {result:?}");
            assert!(is_right || matches!(result, Err(LoginError::GuestFromAfar)));
        }
    }

    #[tokio::test]
    async fn the_built_in_guest_is_gone_for_good_once_there_was_a_user() {
        let (users, mut topology) = (Passwords::new(None), topology([("bob", None)]));
        let check = async |topology: &Topology| {
            users.check(topology, &login("guest", "guest"), LOCAL, &Throttle::new()).await.map(|found| found.identity)
        };
        assert!(matches!(check(&topology).await, Err(LoginError::Credentials)));
        let delete = AdministrationChange::DeleteUser { name: "bob".into() };
        topology.apply(&Change::Administration(delete));
        assert!(matches!(check(&topology).await, Err(LoginError::Credentials)));
        assert!(check(&self::topology([])).await.is_ok());
    }

    #[tokio::test]
    async fn a_guest_of_the_topology_takes_the_place_of_the_built_in_one() {
        let (users, topology) = (Passwords::new(None), topology([("guest", Some(hash(HashingAlgorithm::Sha256)))]));
        let check =
            async |password, peer| users.check(&topology, &login("guest", password), peer, &Throttle::new()).await;
        assert!(matches!(check("guest", LOCAL).await, Err(LoginError::Credentials)));
        assert_eq!(check("secret", LOCAL).await.expect("right").identity, Identity::User("guest".into()));
        assert!(matches!(check("secret", FAR).await, Err(LoginError::GuestFromAfar)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_guesses_waits_and_who_was_right_before_does_not() {
        let users = Passwords::new(None);
        let topology = topology([("bob", Some(hash(HashingAlgorithm::Argon2id)))]);
        let throttle = Throttle::new();
        let check = async |password| users.check(&topology, &login("bob", password), FAR, &throttle).await;
        assert!(check("secret").await.is_ok());
        let begin = Instant::now();
        let guesses = (0..500).map(|_| check("guess"));
        let refused = futures::future::join_all(guesses).await;
        let compared = refused.iter().filter(|result| matches!(result, Err(LoginError::Credentials))).count();
        let unasked = refused.iter().filter(|result| matches!(result, Err(LoginError::TooManyFailures))).count();
        assert_eq!(compared + unasked, 500);
        assert!((8..=20).contains(&compared), "{compared} were compared");
        assert!(begin.elapsed() <= Duration::from_secs(6), "nobody waits longer: {:?}", begin.elapsed());
        assert!(check("secret").await.is_ok(), "it is known");
    }
}
