//! Every knob of `warren-operator run`, as a flag and as an environment variable.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

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

    /// Namespace of the operators' pods, which NetworkPolicies let in. Default: they run outside the cluster.
    #[arg(long, env = "WARREN_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: Option<String>,

    /// ClusterRoleBinding that lets brokers ask the API server about tokens; this operator keeps its subjects. Default: none, and
    /// pods cannot log in with their ServiceAccount.
    #[arg(long, env = "WARREN_TOKEN_REVIEW_BINDING", value_name = "NAME")]
    pub token_review_binding: Option<String>,

    /// Lease that one of several operators holds while it works. Default: none, and this operator works at once.
    #[arg(long, env = "WARREN_LEASE", value_name = "NAMESPACE/NAME")]
    pub lease: Option<LeaseName>,

    /// Name of this operator in the Lease, such as its pod's. Default: drawn at random.
    #[arg(long, env = "WARREN_IDENTITY", value_name = "NAME")]
    pub identity: Option<String>,

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

/// Where a Lease is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl FromStr for LeaseName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self { namespace: namespace.into(), name: name.into() })
            }
            _ => Err("give its namespace and name, such as warren/warren"),
        }
    }
}

impl fmt::Display for LeaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
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

#[cfg(test)]
mod tests {
    use super::LeaseName;

    #[test]
    fn a_lease_has_a_namespace_and_a_name() {
        let lease = LeaseName { namespace: "a".into(), name: "b".into() };
        assert_eq!("a/b".parse(), Ok(lease.clone()));
        assert_eq!(lease.to_string(), "a/b");
        for text in ["", "a", "a/", "/b", "a/b/c"] {
            assert!(text.parse::<LeaseName>().is_err(), "{text}");
        }
    }
}
