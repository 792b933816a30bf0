//! Where a setting's value comes from.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Where a value comes from, later ones before earlier ones: default < file < environment < flag.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody has given it.
    #[default]
    Default,
    /// The configuration file.
    File {
        /// The file.
        path: Arc<PathBuf>,
        /// The line of the key, from 1 on.
        line: usize,
    },
    /// The environment variable of this name.
    Variable(String),
    /// The flag of this name, such as `--data-dir` or `--set`.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    /// As a person looks for it: `warren.toml:12`, `WARREN_DATA_DIR`, `--data-dir` or `default`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File { path, line } => write!(formatter, "{}:{line}", path.display()),
            Self::Variable(name) => formatter.write_str(name),
            Self::Flag(name) => formatter.write_str(name),
        }
    }
}
