//! `[telemetry.traces]`: where spans of messages that belong to traces go.

use std::num::NonZeroU32;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Mistakes;
use crate::authentication::check_endpoint;

/// What the node tells others about what it does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Spans of messages that belong to traces. Default: none, and nobody looks for traces.
    pub traces: Option<TracesConfig>,
}

/// Where spans go.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TracesConfig {
    /// The collector's address for traces in OTLP over HTTP, with its path, such as `https://collector:4318/v1/traces`.
    pub endpoint: String,
    /// The authorities that may sign the collector's certificate, PEM. Default: those of the system.
    pub ca: Option<PathBuf>,
    /// Take an address that begins with `http://`: names of exchanges and queues and routing keys are then readable on the way.
    /// Default: false.
    #[serde(default)]
    pub allow_http: bool,
    /// Of the traces that publishers sample, one in so many is followed, the same ones on every node. Default: 1, all of them.
    #[serde(default = "all")]
    pub one_in: NonZeroU32,
}

const fn all() -> NonZeroU32 {
    NonZeroU32::MIN
}

impl Telemetry {
    pub(super) fn check(&self, mistakes: &mut Mistakes) {
        let Some(traces) = &self.traces else { return };
        if let Err(error) = check_endpoint(&traces.endpoint, traces.allow_http) {
            mistakes.add("telemetry.traces.endpoint", error.to_string());
        }
    }
}
