//! Every knob of `warren-operator run`, as a flag and as an environment variable.

use std::net::{Ipv4Addr, SocketAddr};

use clap::{Args, ValueEnum};

/// Port of health checks and metrics.
const DEFAULT_PORT: u16 = 8080;

/// The broker of the operator's own release.
pub const DEFAULT_BROKER_IMAGE: &str = concat!("warrenmq/broker:", env!("CARGO_PKG_VERSION"));

/// How the operator runs.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Namespaces whose MessageQueues are reconciled, separated by commas. Default: all namespaces.
    #[arg(long, env = "WARREN_WATCH_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACE")]
    pub watch_namespaces: Vec<String>,

    /// Image of the broker for MessageQueues that name none.
    #[arg(long, env = "WARREN_BROKER_IMAGE", value_name = "IMAGE", default_value = DEFAULT_BROKER_IMAGE)]
    pub broker_image: String,

    /// Domain of the cluster's Services; certificates carry it.
    #[arg(long, env = "WARREN_CLUSTER_DOMAIN", value_name = "DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,

    /// Address on which /livez, /readyz and /metrics are served by HTTP.
    #[arg(long, env = "WARREN_LISTEN", value_name = "ADDRESS", default_value_t = default_listen())]
    pub listen: SocketAddr,

    /// How log lines are written.
    #[arg(long, env = "WARREN_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug or trace, also per module (`info,warren_operator=debug`).
    #[arg(long, env = "WARREN_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line, for machines.
    Json,
}

fn default_listen() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT))
}
