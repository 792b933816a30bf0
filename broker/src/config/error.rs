//! What is wrong with the settings.

use std::fmt;
use std::path::PathBuf;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be. The message names line, key and what is possible there.
    #[error("the configuration file {path} is not valid")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// The settings are well-formed and make no sense.
    #[error("{0}")]
    Invalid(Mistakes),
}

/// Settings that cannot be used, each with the reason. A section's `check` adds to it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Mistakes(Vec<Mistake>);

/// A setting that cannot be used.
#[derive(Debug, PartialEq, Eq)]
struct Mistake {
    /// The key with its section, such as `log.segment_bytes`.
    key: &'static str,
    /// What is wrong with it and what would be right, as a sentence about it.
    text: String,
}

impl Mistakes {
    /// Adds what is wrong with the setting `key` (with its section), and what would be right.
    pub(super) fn add(&mut self, key: &'static str, text: impl Into<String>) {
        self.0.push(Mistake { key, text: text.into() });
    }

    /// Nothing, if there are none.
    pub(super) fn into_result(self) -> Result<(), ConfigError> {
        if self.0.is_empty() { Ok(()) } else { Err(ConfigError::Invalid(self)) }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Mistake { key, text }) in self.0.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(formatter, "{line_end}{key}: {text}")?;
        }
        Ok(())
    }
}
