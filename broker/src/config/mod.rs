//! Every setting of the broker: one TOML file, and flags over it. No file is needed.
//!
//! A section is a struct in a file of its own, and its place in [`Config`] a line here. It derives `Deserialize` with
//! `deny_unknown_fields` and `Serialize`; what its settings may be together is checked in its `check`. No setting is a
//! secret: what is secret is in a file that a setting names.

mod default_user;
mod error;
mod listeners;
mod log;
#[cfg(test)]
mod tests;
mod tls;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use warren_core::limits::{MESSAGE_BYTES, MESSAGE_BYTES_MAX};

pub use default_user::DefaultUser;
pub use error::{ConfigError, Mistakes};
pub use listeners::Listeners;
pub use log::LogConfig;
pub use tls::{ClientCertificates, TlsConfig};

/// The settings. What the file leaves out has the default written here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the log is kept. Made if it does not exist. Default: `warren-data` in the working folder.
    pub data_dir: PathBuf,
    /// Octets of one message's body; a larger one closes its channel with 406. 1 to 134217728 (128 MiB), default 16777216
    /// (16 MiB), as in RabbitMQ.
    pub max_message_bytes: u64,
    /// A file in RabbitMQ's export format: virtual hosts, users, rights, policies, exchanges, queues and bindings that are
    /// made at each start if they are not there. What is there and not in the file stays. Default: none.
    pub definitions: Option<PathBuf>,
    /// Where to listen.
    pub listeners: Listeners,
    /// Certificate and key for `listeners.amqps`. Default: none, and no TLS.
    pub tls: Option<TlsConfig>,
    /// How the log is laid out.
    pub log: LogConfig,
    /// The node's own user, who may do everything. Default: none, then `guest` with password `guest` is, from this host only.
    pub default_user: Option<DefaultUser>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("warren-data"),
            max_message_bytes: MESSAGE_BYTES,
            definitions: None,
            listeners: Listeners::default(),
            tls: None,
            log: LogConfig::default(),
            default_user: None,
        }
    }
}

impl Config {
    /// Reads the file, or takes the defaults if there is none to read.
    ///
    /// # Errors
    /// The file cannot be read, or says something that is not a setting.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
        Self::parse(&text)
            .map_err(|source| ConfigError::Parse { path: path.to_path_buf(), source: Box::new(source) })?
            .checked()
    }

    fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The settings, if they make sense together.
    ///
    /// # Errors
    /// There is no address to listen on, or something is asked for that needs another setting: all of it is named.
    pub fn checked(self) -> Result<Self, ConfigError> {
        let mut mistakes = Mistakes::default();
        let Self { data_dir, max_message_bytes, definitions: _, listeners: _, tls, log, default_user: _ } = &self;
        if data_dir.as_os_str().is_empty() {
            mistakes.add("data_dir", "it is empty: name a folder");
        }
        if !(1..=MESSAGE_BYTES_MAX).contains(max_message_bytes) {
            let text = format!("it is {max_message_bytes}: it may be from 1 to {MESSAGE_BYTES_MAX}");
            mistakes.add("max_message_bytes", text);
        }
        self.check_listeners(&mut mistakes);
        if let Some(tls) = tls {
            tls.check(&mut mistakes);
        }
        log.check(&mut mistakes);
        mistakes.into_result()?;
        Ok(self)
    }
}
