//! `[accept]`: how often clients may connect.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Mistakes;

/// How often clients may connect, to each port but `listeners.metrics`, where Kubernetes' probes come.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AcceptConfig {
    /// Connections that a port takes in a second, after 2,000 at once; more wait for their turn. 1 to 1000000. Default: 200.
    pub per_second: u32,
    /// Those of one source, after 1,000 at once; more are closed. A source is an address of IPv4, or a network of 64 bits of IPv6.
    /// 1 to 1000000. Default: 20.
    pub per_second_and_source: u32,
    /// Networks whose sources are not limited one by one, such as those of proxies. Default: this host's own addresses.
    pub unlimited_sources: Vec<Network>,
}

impl Default for AcceptConfig {
    fn default() -> Self {
        let this_host = [
            Network { address: IpAddr::from([127, 0, 0, 0]), bits: 8 },
            Network::of_one(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])),
        ];
        Self { per_second: 200, per_second_and_source: 20, unlimited_sources: this_host.to_vec() }
    }
}

impl AcceptConfig {
    pub(super) fn check(&self, mistakes: &mut Mistakes) {
        let rates =
            [("accept.per_second", self.per_second), ("accept.per_second_and_source", self.per_second_and_source)];
        for (setting, rate) in rates.into_iter().filter(|(_, rate)| !(1..=1_000_000).contains(rate)) {
            mistakes.add(setting, format!("it is {rate}: it may be from 1 to 1000000"));
        }
    }
}

/// A network, written as an address with the number of bits that count: `10.0.0.0/8`. Without a number it is one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    /// At most 32 or 128.
    bits: u8,
}

impl Network {
    fn of_one(address: IpAddr) -> Self {
        Self { address, bits: longest(address) }
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                (network.to_bits() ^ address.to_bits()).checked_shr(32 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                (network.to_bits() ^ address.to_bits()).checked_shr(128 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

fn longest(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || format!("\"{text}\" is not a network: write it as 10.0.0.0/8, 2001:db8::/32 or 192.0.2.1");
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address = address.parse().map_err(|_| malformed())?;
        let Some(bits) = bits else { return Ok(Self::of_one(address)) };
        let bits = bits.parse().ok().filter(|bits| *bits <= longest(address)).ok_or_else(malformed)?;
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_addresses_that_begin_alike() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.1.2", "11.0.0.0"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.0"),
            ("192.0.2.0/31", "192.0.2.1", "192.0.2.2"),
            ("0.0.0.0/0", "203.0.113.9", "::1"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
            ("::1/128", "::1", "::2"),
        ] {
            let contains = |address: &str| {
                network.parse::<Network>().expect("a network").contains(address.parse().expect("an address"))
            };
            assert!(contains(inside) && !contains(outside), "{network}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "10.0.0.0/-1", "localhost"] {
            assert!(text.parse::<Network>().is_err_and(|error| error.contains("10.0.0.0/8")), "{text}");
        }
    }
}
