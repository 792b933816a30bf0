//! Every setting of the broker: one TOML file, and flags over it. No file is needed.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The settings. What the file leaves out has the default written here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the log is kept. Made if it does not exist. Default: `warren-data` in the working folder.
    pub data_dir: PathBuf,
    /// Where to listen.
    pub listeners: Listeners,
    /// How the log is laid out.
    pub log: LogConfig,
    /// The one user that may log in. Default: none, then `guest` with password `guest` may, from this host only.
    pub default_user: Option<DefaultUser>,
}

/// Addresses to listen on. Port 0 takes a free port, which the log names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listeners {
    /// AMQP 0-9-1. Default: port 5672 on both loopback addresses.
    pub amqp: Vec<SocketAddr>,
    /// HTTP with `/livez`, `/readyz` and `/metrics`. Default: 127.0.0.1:15692.
    pub metrics: SocketAddr,
}

/// How the log is laid out. By default all of it follows from the size of the volume that it is on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Octets of a segment, a multiple of 4096 from 8 KiB to 1 GiB; a larger record gets a segment of its own. Default: 1/64 of
    /// the volume, from 1 MiB to 64 MiB. Segments that are there keep the length they have.
    pub segment_bytes: Option<u32>,
    /// Octets of log after which a checkpoint is made, or four times the size of the last checkpoint if that is more.
    /// Default: 1/16 of the volume, at most 64 MiB.
    pub checkpoint_bytes: Option<u64>,
}

/// A user whose name and password are in files, such as a mounted Kubernetes Secret. They are read at each login.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DefaultUser {
    /// The file with the user's name.
    pub name_file: PathBuf,
    /// The file with the password.
    pub password_file: PathBuf,
}

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
    /// There is nothing to listen on.
    #[error("listeners.amqp is empty: name at least one address, such as \"127.0.0.1:5672\"")]
    NoListener,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("warren-data"),
            listeners: Listeners::default(),
            log: LogConfig::default(),
            default_user: None,
        }
    }
}

impl Default for Listeners {
    fn default() -> Self {
        Self {
            amqp: vec![(Ipv4Addr::LOCALHOST, 5672).into(), (Ipv6Addr::LOCALHOST, 5672).into()],
            metrics: (Ipv4Addr::LOCALHOST, 15692).into(),
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
    /// There is no address to listen on.
    pub fn checked(self) -> Result<Self, ConfigError> {
        if self.listeners.amqp.is_empty() { Err(ConfigError::NoListener) } else { Ok(self) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(Config::parse("").expect("valid"), Config::default());
    }

    #[test]
    fn every_setting_can_be_given() {
        let text = r#"
            data_dir = "/var/lib/warren"
            [listeners]
            amqp = ["0.0.0.0:5672"]
            metrics = "0.0.0.0:15692"
            [log]
            segment_bytes = 4194304
            checkpoint_bytes = 16777216
            [default_user]
            name_file = "/run/user"
            password_file = "/run/password"
        "#;
        let config = Config::parse(text).expect("valid");
        assert_eq!(config.data_dir, Path::new("/var/lib/warren"));
        assert_eq!(config.listeners.amqp, ["0.0.0.0:5672".parse().expect("an address")]);
        let log = LogConfig { segment_bytes: Some(4 << 20), checkpoint_bytes: Some(16 << 20) };
        assert_eq!(config.log, log);
        assert_eq!(config.default_user.expect("given").password_file, Path::new("/run/password"));
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, expected) in [
            ("data_dri = \"x\"", "data_dri"),
            ("[listeners]\namqp = [\"here\"]", "line 2"),
            ("[default_user]\nname_file = \"x\"", "password_file"),
        ] {
            let error = Config::parse(text).expect_err("invalid").to_string();
            assert!(error.contains(expected), "{error}");
        }
        let nothing = Config { listeners: Listeners { amqp: vec![], ..Listeners::default() }, ..Config::default() };
        assert!(matches!(nothing.checked(), Err(ConfigError::NoListener)));
    }
}
