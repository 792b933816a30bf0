//! `spec.monitoring`: what the Prometheus operator is told about the broker.

#![expect(
    unreachable_pub,
    reason = "the derive KubeSchema copies each struct into a function, where pub reaches nobody"
)]

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What the Prometheus operator is told about the broker, in a cluster that has it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Monitoring {
    /// Make a ServiceMonitor and a PrometheusRule where these kinds exist. Default: true.
    #[serde(default = "yes")]
    pub enabled: bool,

    /// Labels of both, by which a Prometheus chooses what it reads, for example release: prometheus.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,

    /// How often Prometheus asks, for example 15s. Default: 30s.
    #[serde(default = "default_interval")]
    #[schemars(length(max = 8))]
    #[x_kube(validation = Rule::new("self.matches('^[1-9][0-9]*(s|m)$')").message(
        "monitoring.interval must be a number of seconds or minutes, for example 30s"
    ))]
    pub interval: String,

    /// Let Prometheus ask for each queue too, and not only for their sums. Dashboards and alerts of single queues need it.
    /// Default: true.
    #[serde(default = "yes")]
    pub queues: bool,

    /// Make the alerts. Default: true.
    #[serde(default = "yes")]
    pub alerts: bool,
}

impl Default for Monitoring {
    fn default() -> Self {
        Self { enabled: true, labels: BTreeMap::new(), interval: default_interval(), queues: true, alerts: true }
    }
}

fn yes() -> bool {
    true
}

fn default_interval() -> String {
    "30s".into()
}
