//! Every setting of the broker, in four layers: default < file (TOML) < environment < flags. None of them is needed.
//!
//! A section is a struct in a file of its own, and its place in [`Config`] a line here. It derives `Deserialize` with
//! `deny_unknown_fields` and `Serialize`, and that is its only definition: which keys, variables and flags there are follows
//! from it (`schema`). What its settings may be together is checked in its `check`. No setting is a secret: what is secret
//! is in a file that a setting names.

mod accept;
mod authentication;
mod default_user;
mod error;
mod files;
mod layers;
mod limits;
mod listeners;
mod log;
mod logging;
mod management;
mod memory;
mod origin;
mod schema;
mod shutdown;
#[cfg(test)]
mod tests;
mod tls;
mod traces;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use warren_core::limits::{MESSAGE_BYTES, MESSAGE_BYTES_MAX};

pub use accept::{AcceptConfig, Network};
pub use authentication::{AuthenticationConfig, IssuerConfig, KubernetesConfig, RightsFrom, SignatureAlgorithm};
pub use default_user::DefaultUser;
pub use error::{ConfigError, Mistakes};
pub use layers::{FILE_VARIABLE, Flag, Settings, Sources};
pub use limits::LimitsConfig;
pub use listeners::{Listeners, socket_address};
pub use log::LogConfig;
pub use logging::{LogFormat, Logging};
pub use management::Management;
pub use memory::{Memory, Watermark};
pub use origin::Origin;
pub use shutdown::Shutdown;
pub use tls::{CertificateLogin, ClientCertificates, TlsConfig, TlsVersion};
pub use traces::{Telemetry, TracesConfig};

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
    /// How often clients may connect.
    pub accept: AcceptConfig,
    /// Certificate and key for the listeners that speak TLS. Default: none, and no TLS.
    pub tls: Option<TlsConfig>,
    /// How the log is laid out.
    pub log: LogConfig,
    /// How the management API serves.
    pub management: Management,
    /// What the node says on standard error.
    pub logging: Logging,
    /// When publishers wait for memory.
    pub memory: Memory,
    /// How the node stops.
    pub shutdown: Shutdown,
    /// The node's own user, who may do everything. Default: none, then `guest` with password `guest` is, from this host only.
    pub default_user: Option<DefaultUser>,
    /// Who says who somebody is, beside users and their passwords.
    pub authentication: AuthenticationConfig,
    /// How much one user or virtual host may use.
    pub limits: LimitsConfig,
    /// What the node tells others about what it does.
    pub telemetry: Telemetry,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("warren-data"),
            max_message_bytes: MESSAGE_BYTES,
            definitions: None,
            listeners: Listeners::default(),
            accept: AcceptConfig::default(),
            tls: None,
            log: LogConfig::default(),
            management: Management::default(),
            logging: Logging::default(),
            memory: Memory::default(),
            shutdown: Shutdown::default(),
            default_user: None,
            authentication: AuthenticationConfig::default(),
            limits: LimitsConfig::default(),
            telemetry: Telemetry::default(),
        }
    }
}

impl Config {
    /// What is wrong with the settings together.
    fn check(&self, mistakes: &mut Mistakes) {
        let Self {
            data_dir,
            max_message_bytes,
            definitions: _,
            listeners: _,
            accept,
            tls,
            log,
            management: _,
            logging,
            memory: _,
            shutdown,
            default_user: _,
            authentication,
            limits,
            telemetry,
        } = self;
        if data_dir.as_os_str().is_empty() {
            mistakes.add("data_dir", "it is empty: name a folder");
        }
        if !(1..=MESSAGE_BYTES_MAX).contains(max_message_bytes) {
            let text = format!("it is {max_message_bytes}: it may be from 1 to {MESSAGE_BYTES_MAX}");
            mistakes.add("max_message_bytes", text);
        }
        self.check_listeners(mistakes);
        accept.check(mistakes);
        if let Some(tls) = tls {
            tls.check(mistakes);
        }
        log.check(mistakes);
        logging.check(mistakes);
        shutdown.check(mistakes);
        authentication.check(mistakes);
        limits.check(mistakes);
        telemetry.check(mistakes);
    }
}

/// Every setting in a line, with its variable and its default if it has one.
pub fn overview() -> String {
    let defaults = toml::Table::try_from(Config::default()).unwrap_or_default();
    let line = |setting: schema::Setting| {
        let default = layers::find(&defaults, &setting.key).map(|value| format!("  [default: {value}]"));
        format!("  {}  {}{}", setting.key, setting.variable(), default.unwrap_or_default())
    };
    schema::settings::<Config>().into_iter().map(line).collect::<Vec<_>>().join("\n")
}
