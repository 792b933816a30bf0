//! `[limits]`: how much one user or virtual host may use.

use serde::{Deserialize, Serialize};
use warren_core::limits::TopologyLimits;

use super::Mistakes;
use crate::limits::PUBLISH_RATE_MIN;

/// How much one user or one virtual host may use of which nothing else is said, by RabbitMQ's limits of users and virtual hosts.
/// The node's own user has the last two only.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Connections of one user at once; one more is refused with 530. Default: 10000.
    pub user_connections: u32,
    /// Channels of one user at once; one more closes its connection with 530. Default: 100000.
    pub user_channels: u32,
    /// Connections in one virtual host at once; one more is refused with 530. Default: 50000.
    pub vhost_connections: u32,
    /// Octets that all connections of one user together may send in a second, from 65536 on; beyond, they are read no faster.
    /// Default: as many as they like.
    pub user_bytes_per_second: Option<u64>,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let TopologyLimits { user_connections, user_channels, vhost_connections, .. } = TopologyLimits::default();
        Self { user_connections, user_channels, vhost_connections, user_bytes_per_second: None }
    }
}

impl LimitsConfig {
    pub(super) fn check(&self, mistakes: &mut Mistakes) {
        if let Some(rate) = self.user_bytes_per_second.filter(|rate| *rate < PUBLISH_RATE_MIN) {
            let text = format!("it is {rate}: it has to be at least {PUBLISH_RATE_MIN}");
            mistakes.add("limits.user_bytes_per_second", text);
        }
    }

    /// The topology's part of them.
    pub(crate) fn topology(&self) -> TopologyLimits {
        let Self { user_connections, user_channels, vhost_connections, user_bytes_per_second: _ } = *self;
        TopologyLimits { user_connections, user_channels, vhost_connections, ..TopologyLimits::default() }
    }
}
