//! What is wrong with the settings.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::Origin;

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
    /// The file is not TOML. The message names line and column.
    #[error("the configuration file {path} is not valid TOML")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// Some settings cannot be used.
    #[error("{0}")]
    Invalid(Mistakes),
}

/// Settings that cannot be used, each with the reason. A section's `check` adds to it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Mistakes(Vec<Mistake>);

/// A setting that cannot be used.
#[derive(Debug, PartialEq, Eq)]
struct Mistake {
    /// Where its value comes from.
    origin: Origin,
    /// The key with its section, such as `log.segment_bytes`.
    key: String,
    /// What is wrong with it and what would be right, as a sentence about it.
    text: String,
}

impl Mistakes {
    /// Adds what is wrong with the setting `key` (with its section), and what would be right.
    pub(super) fn add(&mut self, key: &'static str, text: impl Into<String>) {
        self.add_at(Origin::Default, key, text);
    }

    /// Adds what is wrong with what stands there.
    pub(super) fn add_at(&mut self, origin: Origin, key: impl Into<String>, text: impl Into<String>) {
        self.0.push(Mistake { origin, key: key.into(), text: text.into() });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names the places of those settings that have been given somewhere.
    pub(super) fn locate(&mut self, origins: &BTreeMap<String, Origin>) {
        for mistake in &mut self.0 {
            if mistake.origin == Origin::Default
                && let Some(origin) = origins.get(&mistake.key)
            {
                mistake.origin = origin.clone();
            }
        }
    }

    /// Nothing, if there are none.
    pub(super) fn into_result(self) -> Result<(), ConfigError> {
        if self.is_empty() { Ok(()) } else { Err(ConfigError::Invalid(self)) }
    }
}

impl Mistakes {
    /// A line for each: `warren.toml:12: log.segment_bytes: it is 1: …`.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|Mistake { origin, key, text }| match origin {
            Origin::Default => format!("{key}: {text}"),
            // A variable that is no setting has no other name.
            Origin::Variable(name) if name == key => format!("{key}: {text}"),
            origin => format!("{origin}: {key}: {text}"),
        })
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.lines().collect::<Vec<_>>().join("\n"))
    }
}
