//! `spec.tls`: how connections are encrypted.

#![expect(
    unreachable_pub,
    reason = "the derive KubeSchema copies each struct into a function, where pub reaches nobody"
)]

use std::time::Duration;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::seconds;
use crate::certificates::Terms;

/// How connections to the broker are encrypted.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.secretName) == (self.mode == 'Secret')").message(
        "tls.secretName names the Secret of mode Secret: give it with that mode, and only with that"
    ),
    validation = Rule::new("duration(self.caDuration).getSeconds() >= 4 * duration(self.caOverlap).getSeconds()").message(
        "tls.caDuration must be at least four times tls.caOverlap: an authority is announced so long before it signs, and trusted so long after"
    ),
    validation = Rule::new("duration(self.caDuration) >= duration(self.certificateDuration)").message(
        "tls.caDuration must not be less than tls.certificateDuration: no certificate outlives its authority"
    )
)]
pub struct Tls {
    /// Managed (the default): the operator has an authority of its own for this MessageQueue, and renews its certificates.
    /// Secret: certificate and key are in the Secret `secretName`. Disabled: connections are not encrypted, and passwords
    /// can be read on their way.
    #[serde(default)]
    pub mode: TlsMode,

    /// Secret of this namespace with `tls.crt` and `tls.key`, and in `ca.crt` the authority that clients are to trust, as
    /// cert-manager makes them. The broker takes a new certificate without restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')").message(
        "tls.secretName must be the name of a Secret: lower case letters, digits, - and ."
    ))]
    pub secret_name: Option<String>,

    /// Mode Managed: more names under which clients reach the broker, such as that of a load balancer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 253)))]
    #[x_kube(validation = Rule::new("self.all(name, name.matches('^([*][.])?[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'))").message(
        "tls.dnsNames must be DNS names in lower case, such as mq.example.com"
    ))]
    pub dns_names: Vec<String>,

    /// Mode Managed: IP addresses at which clients reach the broker, such as those of nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 45)))]
    #[x_kube(validation = Rule::new("self.all(address, isIP(address))").message(
        "tls.ipAddresses must be IP addresses, such as 192.0.2.7"
    ))]
    pub ip_addresses: Vec<String>,

    /// Mode Managed: for how long a certificate is valid. It is renewed when two thirds of that have passed. Default: 2160h
    /// (90 days).
    #[serde(default = "default_certificate_duration")]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+(h|m|s))+$') && self.size() <= 32 && duration(self) >= duration('10m')").message(
        "tls.certificateDuration must be a time of at least 10m, for example 2160h"
    ))]
    pub certificate_duration: String,

    /// Mode Managed: for how long an authority is valid. The next one is announced when two thirds of that have passed.
    /// Default: 26280h (three years).
    #[serde(default = "default_ca_duration")]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+(h|m|s))+$') && self.size() <= 32 && duration(self) >= duration('10m')").message(
        "tls.caDuration must be a time of at least 10m, for example 26280h"
    ))]
    pub ca_duration: String,

    /// Mode Managed: for how long clients trust the next authority before it signs, and the one before after it did. In this
    /// time they have to have read the ConfigMap with the authorities again. Default: 168h (a week).
    #[serde(default = "default_ca_overlap")]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+(h|m|s))+$') && self.size() <= 32 && duration(self) >= duration('1m')").message(
        "tls.caOverlap must be a time of at least 1m, for example 168h"
    ))]
    pub ca_overlap: String,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            mode: TlsMode::default(),
            secret_name: None,
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            certificate_duration: default_certificate_duration(),
            ca_duration: default_ca_duration(),
            ca_overlap: default_ca_overlap(),
        }
    }
}

impl Tls {
    /// How long managed certificates are valid. A time that an older definition let through counts as its default.
    pub fn terms(&self) -> Terms {
        let or = |text: &str, default: &str| {
            seconds(text).or_else(|| seconds(default)).map_or(Duration::ZERO, Duration::from_secs)
        };
        Terms {
            certificate: or(&self.certificate_duration, &default_certificate_duration()),
            authority: or(&self.ca_duration, &default_ca_duration()),
            overlap: or(&self.ca_overlap, &default_ca_overlap()),
        }
    }
}

/// Where certificates come from.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// From an authority of the operator.
    #[default]
    Managed,
    /// From a Secret that somebody else fills.
    Secret,
    /// From nowhere: connections are not encrypted.
    Disabled,
}

fn default_certificate_duration() -> String {
    "2160h".into()
}

fn default_ca_duration() -> String {
    "26280h".into()
}

fn default_ca_overlap() -> String {
    "168h".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_what_the_documentation_says() {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        assert_eq!(Tls::default().terms(), Terms { certificate: days(90), authority: days(1_095), overlap: days(7) });
    }
}
