//! `[shutdown]`: how long the node may take to stop.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Mistakes;

/// How the node stops.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shutdown {
    /// Seconds in which the node says goodbye to its clients and lets the log finish; then the process ends in any case. 1 to
    /// 3600, default 20: less than the 30 that Kubernetes gives a pod.
    pub grace_seconds: u64,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { grace_seconds: 20 }
    }
}

impl Shutdown {
    /// See [`Self::grace_seconds`].
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_seconds)
    }

    pub(super) fn check(&self, mistakes: &mut Mistakes) {
        if !(1..=3_600).contains(&self.grace_seconds) {
            let text = format!("it is {}: it may be from 1 to 3600", self.grace_seconds);
            mistakes.add("shutdown.grace_seconds", text);
        }
    }
}
