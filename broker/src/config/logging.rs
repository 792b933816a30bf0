//! `[logging]`: what the node says on standard error, and how.

use serde::{Deserialize, Serialize};

use super::Mistakes;
use crate::telemetry;

/// What the node says on standard error. Its log of messages is `[log]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Logging {
    /// What to say: a level (off, error, warn, info, debug or trace), or directives such as `warn,warren_broker=debug`.
    /// Default: `info`.
    pub filter: String,
    /// How lines look. Default: `text`.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Logging {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::default() }
    }
}

impl Logging {
    pub(super) fn check(&self, mistakes: &mut Mistakes) {
        if let Err(error) = telemetry::filter(&self.filter) {
            mistakes.add("logging.filter", format!("it is {error}"));
        }
    }
}
