//! Every setting of the broker: one TOML file, and flags over it. No file is needed.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use warren_core::limits::{MESSAGE_BYTES, MESSAGE_BYTES_MAX};
use warren_storage::Options;

/// The settings. What the file leaves out has the default written here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the log is kept. Made if it does not exist. Default: `warren-data` in the working folder.
    pub data_dir: PathBuf,
    /// Where to listen.
    pub listeners: Listeners,
    /// Certificate and key for `listeners.amqps`. Default: none, and no TLS.
    pub tls: Option<TlsConfig>,
    /// Octets of one message's body; a larger one closes its channel with 406. 1 to 134217728 (128 MiB), default 16777216
    /// (16 MiB), as in RabbitMQ.
    pub max_message_bytes: u64,
    /// How the log is laid out.
    pub log: LogConfig,
    /// A file in RabbitMQ's export format: virtual hosts, users, rights, policies, exchanges, queues and bindings that are
    /// made at each start if they are not there. What is there and not in the file stays. Default: none.
    pub definitions: Option<PathBuf>,
    /// The node's own user, who may do everything. Default: none, then `guest` with password `guest` is, from this host only.
    pub default_user: Option<DefaultUser>,
}

/// Addresses to listen on. Port 0 takes a free port, which the log names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listeners {
    /// AMQP 0-9-1. Default: port 5672 on both loopback addresses.
    pub amqp: Vec<SocketAddr>,
    /// AMQP 0-9-1 over TLS. Default: port 5671 on both loopback addresses if there is a section `[tls]`, otherwise none.
    pub amqps: Option<Vec<SocketAddr>>,
    /// HTTP with `/livez`, `/readyz` and `/metrics`. Default: 127.0.0.1:15692.
    pub metrics: SocketAddr,
}

/// Files for TLS, all PEM. They are read at the start; a file that has changed counts from the next start on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The server's certificate, and behind it those between it and its authority.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// The authorities whose certificates clients may show. Needed if `client_certificates` is not `none`.
    pub ca: Option<PathBuf>,
    /// Whether clients have to show a certificate. Default: `none`.
    #[serde(default)]
    pub client_certificates: ClientCertificates,
}

/// Whether clients have to show a certificate. Whoever shows one still logs in with a password.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// Nobody is asked for one.
    #[default]
    None,
    /// Who shows one must have it from an authority in `tls.ca`.
    Optional,
    /// Everybody must show one from an authority in `tls.ca`.
    Required,
}

/// How the log is laid out. By default all of it follows from the size of the volume that it is on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Octets of a segment, a multiple of 4096 from 8 KiB to 1 GiB; a larger record gets a segment of its own. Default: 1/64 of
    /// the volume, from 1 MiB to 64 MiB. Segments that are there keep the length they have.
    pub segment_bytes: Option<u32>,
    /// Octets of log after which a checkpoint is made, or four times the size of the last checkpoint if that is more.
    /// From 4 KiB on. Default: 1/16 of the volume, at most 64 MiB.
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
    /// There are addresses for TLS and no certificate.
    #[error("listeners.amqps needs a section [tls] with certificate and key")]
    NoCertificate,
    /// Clients' certificates cannot be checked.
    #[error("tls.client_certificates needs tls.ca: the file with the authorities that sign clients' certificates")]
    NoAuthorities,
    /// Not a length that a message may have.
    #[error("max_message_bytes is {0}: it may be from 1 to {MESSAGE_BYTES_MAX}")]
    MaxMessageBytes(u64),
    /// There is no folder for the data.
    #[error("data_dir is empty: name a folder")]
    NoDataDir,
    /// Not a length that a segment may have.
    #[error("log.segment_bytes is {0}: it has to be a multiple of 4096 from 8192 to 1073741824")]
    SegmentBytes(u32),
    /// Not an interval that checkpoints may have.
    #[error("log.checkpoint_bytes is {0}: it has to be at least 4096")]
    CheckpointBytes(u64),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("warren-data"),
            listeners: Listeners::default(),
            tls: None,
            max_message_bytes: MESSAGE_BYTES,
            log: LogConfig::default(),
            definitions: None,
            default_user: None,
        }
    }
}

impl Default for Listeners {
    fn default() -> Self {
        Self { amqp: loopbacks(Some(5672)), amqps: None, metrics: (Ipv4Addr::LOCALHOST, 15692).into() }
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
    /// There is no address to listen on, or something is asked for that needs another setting.
    pub fn checked(self) -> Result<Self, ConfigError> {
        if self.listeners.amqp.is_empty() && self.amqps().is_empty() {
            return Err(ConfigError::NoListener);
        }
        match &self.tls {
            None if !self.amqps().is_empty() => return Err(ConfigError::NoCertificate),
            Some(tls) if tls.client_certificates != ClientCertificates::None && tls.ca.is_none() => {
                return Err(ConfigError::NoAuthorities);
            }
            _ => {}
        }
        if !(1..=MESSAGE_BYTES_MAX).contains(&self.max_message_bytes) {
            return Err(ConfigError::MaxMessageBytes(self.max_message_bytes));
        }
        if self.data_dir.as_os_str().is_empty() {
            return Err(ConfigError::NoDataDir);
        }
        self.log.check()?;
        Ok(self)
    }

    /// The addresses for AMQP over TLS.
    pub fn amqps(&self) -> Vec<SocketAddr> {
        let default = || loopbacks(if self.tls.is_some() { Some(5671) } else { None });
        self.listeners.amqps.clone().unwrap_or_else(default)
    }
}

impl LogConfig {
    fn check(&self) -> Result<(), ConfigError> {
        match (self.segment_bytes, self.checkpoint_bytes) {
            (Some(len), _) if !Options::is_segment_len(len) => Err(ConfigError::SegmentBytes(len)),
            (_, Some(len)) if len < 4_096 => Err(ConfigError::CheckpointBytes(len)),
            _ => Ok(()),
        }
    }
}

fn loopbacks(port: Option<u16>) -> Vec<SocketAddr> {
    port.into_iter().flat_map(|port| [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]).collect()
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
            definitions = "/etc/warren/definitions.json"
            max_message_bytes = 134217728
            [listeners]
            amqp = ["0.0.0.0:5672"]
            amqps = ["0.0.0.0:5671"]
            metrics = "0.0.0.0:15692"
            [tls]
            certificate = "/etc/tls/tls.crt"
            key = "/etc/tls/tls.key"
            ca = "/etc/tls/ca.crt"
            client_certificates = "optional"
            [log]
            segment_bytes = 4194304
            checkpoint_bytes = 16777216
            [default_user]
            name_file = "/run/user"
            password_file = "/run/password"
        "#;
        let config = Config::parse(text).expect("valid");
        assert_eq!(config.data_dir, Path::new("/var/lib/warren"));
        assert_eq!(config.definitions.as_deref(), Some(Path::new("/etc/warren/definitions.json")));
        assert_eq!(config.listeners.amqp, ["0.0.0.0:5672".parse().expect("an address")]);
        assert_eq!(config.amqps(), ["0.0.0.0:5671".parse().expect("an address")]);
        let tls = config.tls.clone().expect("given");
        assert_eq!(
            (tls.key.as_path(), tls.client_certificates),
            (Path::new("/etc/tls/tls.key"), ClientCertificates::Optional)
        );
        assert_eq!(config.max_message_bytes, 128 << 20);
        let log = LogConfig { segment_bytes: Some(4 << 20), checkpoint_bytes: Some(16 << 20) };
        assert_eq!(config.log, log);
        assert_eq!(config.default_user.expect("given").password_file, Path::new("/run/password"));
    }

    #[test]
    fn the_documented_example_is_valid_and_names_the_defaults() {
        let text = include_str!("../../docs/configuration.md");
        let example = text.split("```").nth(1).and_then(|block| block.strip_prefix("toml")).expect("an example");
        let config = Config::parse(example).expect("valid").checked().expect("sensible");
        let default = Config::default();
        assert_eq!((&config.data_dir, config.max_message_bytes), (&default.data_dir, default.max_message_bytes));
        assert_eq!(config.listeners, Listeners { amqps: config.listeners.amqps.clone(), ..default.listeners });
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
    }

    #[test]
    fn settings_that_do_not_go_together_are_refused() {
        let check = |text: &str| Config::parse(text).expect("well-formed").checked();
        assert!(matches!(check("[listeners]\namqp = []"), Err(ConfigError::NoListener)));
        assert!(matches!(check("[listeners]\namqps = [\"[::1]:5671\"]"), Err(ConfigError::NoCertificate)));
        let tls = "[tls]\ncertificate = \"c\"\nkey = \"k\"\n";
        for wanted in ["optional", "required"] {
            let text = format!("{tls}client_certificates = \"{wanted}\"");
            assert!(matches!(check(&text), Err(ConfigError::NoAuthorities)), "{wanted}");
        }
        let only_tls = check(&format!("{tls}[listeners]\namqp = []")).expect("TLS alone is enough");
        assert_eq!(only_tls.amqps().len(), 2);
    }

    #[test]
    fn the_folder_and_the_logs_lengths_are_checked_at_their_bounds() {
        let check = |text: &str| Config::parse(text).expect("settings").checked().map_err(|error| error.to_string());
        for good in ["log.segment_bytes = 8192", "log.segment_bytes = 1073741824", "log.checkpoint_bytes = 4096"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for (bad, key) in [
            ("data_dir = ''", "data_dir"),
            ("log.segment_bytes = 4096", "log.segment_bytes"),
            ("log.segment_bytes = 12287", "log.segment_bytes"),
            ("log.segment_bytes = 1073745920", "log.segment_bytes"),
            ("log.checkpoint_bytes = 4095", "log.checkpoint_bytes"),
        ] {
            assert!(check(bad).is_err_and(|error| error.starts_with(key)), "{bad}");
        }
    }

    #[test]
    fn the_largest_message_may_have_128_mib_and_not_an_octet_more() {
        for (bytes, taken) in [(0, false), (1, true), (128 << 20, true), ((128 << 20) + 1, false)] {
            let config = Config { max_message_bytes: bytes, ..Config::default() };
            assert_eq!(config.checked().is_ok(), taken, "{bytes}");
        }
    }
}
