//! What a queue keeps for its rules. Queues without rules have nothing of this.

use super::QueueSettings;

/// When a queue was used last, for those that are deleted when nobody uses them (argument `x-expires`).
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// Milliseconds since the Unix epoch.
    used_at: u64,
    /// It was named as unused since.
    expired: bool,
}

impl Rules {
    /// What `settings` need, if they need anything.
    pub(super) fn of(settings: &QueueSettings) -> bool {
        settings.expires.is_some()
    }

    /// Somebody consumes, gets or declares.
    pub(super) fn used(&mut self, now_ms: u64) {
        (self.used_at, self.expired) = (now_ms, false);
    }

    /// True if nobody has used the queue since it was named as unused.
    pub(super) fn has_expired(&self) -> bool {
        self.expired
    }

    /// When the queue will have been unused for too long.
    pub(super) fn expires_at(&self, settings: &QueueSettings) -> Option<u64> {
        let expires = settings.expires.filter(|_| !self.expired)?;
        Some(self.used_at.saturating_add(expires))
    }

    /// Notes that the queue is named as unused.
    pub(super) fn expire(&mut self) {
        self.expired = true;
    }
}
