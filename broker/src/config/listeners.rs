//! `[listeners]`: where the node listens.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Config, Mistakes};

/// Addresses to listen on. Port 0 takes a free port, which the log names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listeners {
    /// AMQP 0-9-1. Default: port 5672 on both loopback addresses.
    #[serde(deserialize_with = "addresses")]
    pub amqp: Vec<SocketAddr>,
    /// AMQP 0-9-1 over TLS. Default: port 5671 on both loopback addresses if there is a section `[tls]`, otherwise none.
    #[serde(deserialize_with = "some_addresses")]
    pub amqps: Option<Vec<SocketAddr>>,
    /// HTTP with `/livez`, `/readyz` and `/metrics`. Default: 127.0.0.1:15692.
    #[serde(deserialize_with = "address")]
    pub metrics: SocketAddr,
    /// The same over HTTPS. Default: none.
    #[serde(deserialize_with = "addresses")]
    pub metrics_https: Vec<SocketAddr>,
    /// HTTP with the management API under `/api`. Default: 127.0.0.1:15672.
    #[serde(deserialize_with = "address")]
    pub management: SocketAddr,
    /// The same over HTTPS. Default: none.
    #[serde(deserialize_with = "addresses")]
    pub management_https: Vec<SocketAddr>,
}

impl Default for Listeners {
    fn default() -> Self {
        Self {
            amqp: loopbacks(5672),
            amqps: None,
            metrics: (Ipv4Addr::LOCALHOST, 15692).into(),
            metrics_https: Vec::new(),
            management: (Ipv4Addr::LOCALHOST, 15672).into(),
            management_https: Vec::new(),
        }
    }
}

impl Config {
    /// The addresses for AMQP over TLS.
    pub fn amqps(&self) -> Vec<SocketAddr> {
        let default = || if self.tls.is_some() { loopbacks(5671) } else { Vec::new() };
        self.listeners.amqps.clone().unwrap_or_else(default)
    }

    pub(super) fn check_listeners(&self, mistakes: &mut Mistakes) {
        if self.listeners.amqp.is_empty() && self.amqps().is_empty() {
            mistakes.add("listeners.amqp", "it is empty: name at least one address, such as \"127.0.0.1:5672\"");
        }
        let over_tls = [
            ("listeners.amqps", !self.amqps().is_empty()),
            ("listeners.metrics_https", !self.listeners.metrics_https.is_empty()),
            ("listeners.management_https", !self.listeners.management_https.is_empty()),
        ];
        for (setting, _) in over_tls.into_iter().filter(|(_, listens)| *listens && self.tls.is_none()) {
            mistakes.add(setting, "it needs a section [tls] with certificate and key");
        }
    }
}

fn loopbacks(port: u16) -> Vec<SocketAddr> {
    vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
}

/// An address as a setting, a variable or a flag has it.
///
/// # Errors
/// What it is and what it should be.
pub fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an IP address and a port, such as 127.0.0.1:5672 or [::1]:5672"))
}

/// An address that is read with words that help.
struct Address(SocketAddr);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        socket_address(&String::deserialize(deserializer)?).map(Self).map_err(D::Error::custom)
    }
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    Address::deserialize(deserializer).map(|Address(address)| address)
}

fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    let addresses = Vec::<Address>::deserialize(deserializer)?;
    Ok(addresses.into_iter().map(|Address(address)| address).collect())
}

fn some_addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<SocketAddr>>, D::Error> {
    addresses(deserializer).map(Some)
}
