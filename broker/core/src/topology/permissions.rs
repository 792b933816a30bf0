//! What one user may do in one virtual host: three patterns, and two more per topic exchange.

use alloc::sync::Arc;

use super::pattern::Pattern;

/// The kinds of right that RabbitMQ knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// To make, change and delete.
    Configure,
    /// To put messages in.
    Write,
    /// To take messages out.
    Read,
}

impl Permission {
    /// As error texts call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// The names of queues and exchanges that a user may use in a virtual host. Having one is also the right to open the
/// virtual host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermissionsRecord {
    /// The user.
    pub user: Arc<str>,
    /// The virtual host.
    pub vhost: Arc<str>,
    /// What it may make, change and delete.
    pub configure: Pattern,
    /// Where it may put messages in.
    pub write: Pattern,
    /// Where it may take messages out.
    pub read: Pattern,
}

impl PermissionsRecord {
    pub(super) fn pattern(&self, permission: Permission) -> &Pattern {
        match permission {
            Permission::Configure => &self.configure,
            Permission::Write => &self.write,
            Permission::Read => &self.read,
        }
    }
}

/// The routing keys that a user may use with one topic exchange. Without one, all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPermissionsRecord {
    /// The user.
    pub user: Arc<str>,
    /// The virtual host.
    pub vhost: Arc<str>,
    /// The exchange.
    pub exchange: Arc<str>,
    /// The routing keys that it may publish with.
    pub write: Pattern,
    /// The binding keys that it may bind with.
    pub read: Pattern,
}

impl TopicPermissionsRecord {
    pub(super) fn allows(&self, permission: Permission, key: &str) -> bool {
        match permission {
            Permission::Configure => false,
            Permission::Write => self.write.matches(key),
            Permission::Read => self.read.matches(key),
        }
    }
}
