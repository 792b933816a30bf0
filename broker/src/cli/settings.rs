//! The flags that give settings, for every command that reads them.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use warren_broker::config::{ConfigError, FILE_VARIABLE, Flag, Settings, Sources, socket_address};

/// Where the settings come from. Each is one of docs/configuration.md.
#[derive(Debug, Args)]
pub(super) struct SettingsFlags {
    /// TOML file with settings; variables and flags override it. Default: no file.
    #[arg(long, value_name = "FILE", env = FILE_VARIABLE)]
    config: Option<PathBuf>,
    /// Folder for the data; made if it is not there. Default: ./warren-data.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<String>,
    /// JSON file as RabbitMQ exports it: virtual hosts, users, rights, policies, queues. Default: none.
    #[arg(long, value_name = "FILE")]
    definitions: Option<String>,
    /// Address for AMQP; may be given more than once. Port 0 takes a free port. Default: 127.0.0.1:5672 and [::1]:5672.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = socket_address)]
    amqp: Vec<SocketAddr>,
    /// Address for AMQP over TLS; may be given more than once.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = socket_address)]
    amqps: Vec<SocketAddr>,
    /// Address for probes and metrics. Default: 127.0.0.1:15692.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = socket_address)]
    metrics: Option<SocketAddr>,
    /// Address for the management API. Default: 127.0.0.1:15672.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = socket_address)]
    management: Option<SocketAddr>,
    /// How log lines look: text (default) or json.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// What to log: a level, or directives such as `warn,warren_broker=debug`. Default: info.
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Any setting by its key; may be given more than once. A list's elements are separated by commas.
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
}

impl SettingsFlags {
    /// The settings of all layers.
    pub(super) fn load(&self) -> Result<Settings, ConfigError> {
        let variables = std::env::vars_os().collect();
        Settings::load(&Sources { file: self.config.clone(), variables, flags: self.flags() })
    }

    fn flags(&self) -> Vec<Flag> {
        let Self { config: _, data_dir, definitions, amqp, amqps, metrics, management, log_format, log, set } = self;
        let named = [
            ("--data-dir", "data_dir", data_dir.clone()),
            ("--definitions", "definitions", definitions.clone()),
            ("--amqp", "listeners.amqp", list(amqp)),
            ("--amqps", "listeners.amqps", list(amqps)),
            ("--metrics", "listeners.metrics", metrics.map(|address| address.to_string())),
            ("--management", "listeners.management", management.map(|address| address.to_string())),
            ("--log-format", "logging.format", log_format.clone()),
            ("--log", "logging.filter", log.clone()),
        ];
        let named =
            named.into_iter().filter_map(|(name, key, value)| Some(Flag { name, key: key.to_owned(), value: value? }));
        let set = set.iter().map(|(key, value)| Flag { name: "--set", key: key.clone(), value: value.clone() });
        named.chain(set).collect()
    }
}

fn list(addresses: &[SocketAddr]) -> Option<String> {
    let texts: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
    (!texts.is_empty()).then(|| texts.join(","))
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("give a key and a value, such as log.segment_bytes=4194304")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}
