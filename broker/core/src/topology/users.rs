//! Users and what they may do where.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use rpds::RedBlackTreeMapSync;

use super::permissions::{PermissionsRecord, TopicPermissionsRecord};

/// A user as an administrator made it. What it may do is written down beside it, per virtual host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// The user's name.
    pub name: Arc<str>,
    /// What its password is compared with; without, it cannot log in by password.
    pub password: Option<PasswordHash>,
    /// The password before that one, which counts beside it for a while.
    pub previous: Option<PreviousPassword>,
    /// RabbitMQ's tags: `administrator`, `policymaker` and `impersonator` have a meaning here; others are kept.
    pub tags: Vec<Arc<str>>,
    /// How much of the node it may use.
    pub limits: UserLimits,
}

impl UserRecord {
    /// Whether the user has that tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| **own == *tag)
    }

    /// The password before, if it counts at `now_ms`: milliseconds since the Unix epoch.
    pub fn previous_at(&self, now_ms: u64) -> Option<&PreviousPassword> {
        self.previous.as_ref().filter(|previous| now_ms < previous.until_ms)
    }
}

/// A password that was replaced and still counts, so that who has not heard of the new one comes in meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviousPassword {
    /// What it is compared with.
    pub hash: PasswordHash,
    /// When it ends: milliseconds since the Unix epoch.
    pub until_ms: u64,
}

/// A password as it is stored: the salt, then the digest of salt and password. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    /// What the digest was made with.
    pub algorithm: HashingAlgorithm,
    /// Salt and digest.
    pub octets: Bytes,
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordHash").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// The algorithms that passwords are hashed with: RabbitMQ's, which are quick, and ours, which is not. Of users older than RabbitMQ
/// 3.6 it may have MD5 hashes; who gets hold of one finds the password, so they are not among these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashingAlgorithm {
    /// `rabbit_password_hashing_sha256`, the default since RabbitMQ 3.6.
    Sha256,
    /// `rabbit_password_hashing_sha512`
    Sha512,
    /// Argon2id (RFC 9106) with 19 MiB of memory, two passes and one lane: what we hash with. RabbitMQ does not know it.
    Argon2id,
}

impl HashingAlgorithm {
    /// All of them, in the order of their stored numbers.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha512, Self::Argon2id];

    /// Octets of salt in front of the digest.
    pub const fn salt_bytes(self) -> usize {
        match self {
            Self::Sha256 | Self::Sha512 => 4,
            Self::Argon2id => 16,
        }
    }

    /// The name in definitions.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "rabbit_password_hashing_sha256",
            Self::Sha512 => "rabbit_password_hashing_sha512",
            Self::Argon2id => "warren_password_hashing_argon2id",
        }
    }

    /// The algorithm of that name; `None` if there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Octets of its digests.
    pub const fn digest_bytes(self) -> usize {
        match self {
            Self::Sha256 | Self::Argon2id => 32,
            Self::Sha512 => 64,
        }
    }
}

/// How much of the node one user may use; `None` is as much as it likes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UserLimits {
    /// Connections at once; at it, one more is refused with 530.
    pub max_connections: Option<u32>,
    /// Channels at once over all its connections; at it, one more closes the connection with 530.
    pub max_channels: Option<u32>,
}

/// A user with its rights.
#[derive(Debug, Clone)]
pub(super) struct User {
    pub(super) record: Arc<UserRecord>,
    /// By virtual host.
    pub(super) permissions: RedBlackTreeMapSync<Arc<str>, Arc<PermissionsRecord>>,
    /// By virtual host and exchange.
    pub(super) topics: RedBlackTreeMapSync<(Arc<str>, Arc<str>), Arc<TopicPermissionsRecord>>,
}

/// All users, by name. Every change is total: what is not there is not removed.
#[derive(Debug, Clone)]
pub(super) struct Users {
    by_name: RedBlackTreeMapSync<Arc<str>, User>,
    /// There has been one, if only for a while.
    pub(super) ever: bool,
    /// Permissions and topic permissions of all users.
    pub(super) permission_count: usize,
}

impl Users {
    pub(super) fn new() -> Self {
        Self { by_name: RedBlackTreeMapSync::new_sync(), ever: false, permission_count: 0 }
    }

    pub(super) fn get(&self, name: &str) -> Option<&User> {
        self.by_name.get(name)
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.size()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &User> {
        self.by_name.values()
    }

    pub(super) fn put(&mut self, record: &Arc<UserRecord>) {
        self.ever = true;
        match self.by_name.get_mut(&record.name) {
            Some(user) => user.record = Arc::clone(record),
            None => {
                let (permissions, topics) = (RedBlackTreeMapSync::new_sync(), RedBlackTreeMapSync::new_sync());
                let user = User { record: Arc::clone(record), permissions, topics };
                self.by_name.insert_mut(Arc::clone(&record.name), user);
            }
        }
    }

    pub(super) fn delete(&mut self, name: &str) {
        self.ever = true;
        if let Some(user) = self.by_name.get(name) {
            self.permission_count -= user.permissions.size() + user.topics.size();
            self.by_name.remove_mut(name);
        }
    }

    pub(super) fn put_permissions(&mut self, record: &Arc<PermissionsRecord>) {
        if let Some(user) = self.by_name.get_mut(&record.user) {
            let added = !user.permissions.contains_key(&record.vhost);
            user.permissions.insert_mut(Arc::clone(&record.vhost), Arc::clone(record));
            self.permission_count += usize::from(added);
        }
    }

    pub(super) fn delete_permissions(&mut self, user: &str, vhost: &Arc<str>) {
        if let Some(user) = self.by_name.get_mut(user) {
            self.permission_count -= usize::from(user.permissions.remove_mut(vhost));
        }
    }

    pub(super) fn put_topic_permissions(&mut self, record: &Arc<TopicPermissionsRecord>) {
        if let Some(user) = self.by_name.get_mut(&record.user) {
            let key = (Arc::clone(&record.vhost), Arc::clone(&record.exchange));
            let added = !user.topics.contains_key(&key);
            user.topics.insert_mut(key, Arc::clone(record));
            self.permission_count += usize::from(added);
        }
    }

    pub(super) fn delete_topic_permissions(&mut self, user: &str, vhost: &Arc<str>, exchange: &Arc<str>) {
        if let Some(user) = self.by_name.get_mut(user) {
            let key = (Arc::clone(vhost), Arc::clone(exchange));
            self.permission_count -= usize::from(user.topics.remove_mut(&key));
        }
    }

    /// The virtual host is gone, and all rights in it.
    pub(super) fn forget_vhost(&mut self, vhost: &Arc<str>) {
        let concerned = |user: &&User| {
            user.permissions.contains_key(vhost) || user.topics.keys().any(|(topic_vhost, _)| topic_vhost == vhost)
        };
        let names: Vec<_> = self.iter().filter(concerned).map(|user| Arc::clone(&user.record.name)).collect();
        for name in names {
            self.delete_permissions(&name, vhost);
            let Some(user) = self.by_name.get(&name) else { continue };
            let exchanges: Vec<_> =
                user.topics.keys().filter(|(topic_vhost, _)| topic_vhost == vhost).cloned().collect();
            exchanges.iter().for_each(|(vhost, exchange)| self.delete_topic_permissions(&name, vhost, exchange));
        }
    }
}
