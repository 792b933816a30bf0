//! `[management]`: the HTTP API.

use serde::{Deserialize, Serialize};

/// How the management API serves. Where it listens is `listeners.management`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Management {
    /// Requests that one user may make in a second; more are answered with 429. 0 is no limit. Default:
    /// 1,000, which is more than tools such as Terraform make at a time.
    pub requests_per_second: u32,
}

impl Default for Management {
    fn default() -> Self {
        Self { requests_per_second: 1_000 }
    }
}
