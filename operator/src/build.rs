//! Pure: a [`Plan`] becomes the Kubernetes objects that carry it out, a file per kind.
//!
//! Nothing here reads the cluster, the clock or chance: the same plan always gives the same objects, which is what lets a
//! reconcile without changes write nothing.

mod certificates;
mod config_map;
mod network_policy;
mod pod_disruption_budget;
mod prometheus_rule;
mod secret;
mod service;
mod service_account;
mod service_monitor;
mod stateful_set;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::prometheus_operator::{PrometheusRule, ServiceMonitor};
use crate::validate::Plan;

/// Port of AMQP 0-9-1 without TLS (IANA `amqp`).
pub const AMQP_PORT: i32 = 5672;

/// Port of AMQP 0-9-1 over TLS (IANA `amqps`).
pub const AMQPS_PORT: i32 = 5671;

/// Port of the broker's management API over TLS.
pub const MANAGEMENT_TLS_PORT: i32 = 15671;

/// Port of the broker's management API without TLS.
pub const MANAGEMENT_PORT: i32 = 15672;

/// Port of the broker's health checks and Prometheus metrics.
pub const METRICS_PORT: i32 = 15692;

/// Name of the broker's container.
pub const BROKER_CONTAINER: &str = "broker";

/// Where the broker's container finds its files. The broker's configuration repeats these paths.
mod paths {
    pub(super) const DATA: &str = "/var/lib/warren";
    pub(super) const CONFIG_FOLDER: &str = "/etc/warren";
    pub(super) const CONFIG_FILE: &str = "warren.toml";
    pub(super) const TLS_FOLDER: &str = "/etc/warren-tls";
    /// Below [`CONFIG_FOLDER`].
    pub(super) const DEFAULT_USER_FOLDER: &str = "default-user";
    /// Where programs look for the token of their pod.
    pub(super) const ACCOUNT_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
}

pub use stateful_set::{CONFIG_HASH_ANNOTATION, config_hash};

/// Every object of one MessageQueue, in the order in which they are applied: what a pod mounts comes before the pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Objects {
    /// The default user, and how to connect, in the shape of the Service Binding specification.
    pub default_user: Secret,
    /// The broker's configuration file.
    pub config: ConfigMap,
    /// The authorities of our own certificates, if it has such.
    pub authority_secret: Option<Secret>,
    /// The brokers' certificate, if it is ours.
    pub certificate_secret: Option<Secret>,
    /// Whom clients are to trust, if that is known.
    pub authorities: Option<ConfigMap>,
    /// Headless Service that gives each broker node a stable host name.
    pub nodes_service: Service,
    /// The Service that clients connect to.
    pub client_service: Service,
    /// Limits how many broker nodes a drain may take at once.
    pub disruption_budget: PodDisruptionBudget,
    /// Who may connect, if that is limited.
    pub network_policy: Option<NetworkPolicy>,
    /// How Prometheus scrapes the brokers, if it is told by such an object.
    pub service_monitor: Option<ServiceMonitor>,
    /// Alerts, if Prometheus is told by such an object.
    pub prometheus_rule: Option<PrometheusRule>,
    /// By which brokers ask about tokens, if they do.
    pub service_account: Option<ServiceAccount>,
    /// The broker nodes and their volumes.
    pub stateful_set: StatefulSet,
}

/// Builds all objects of `plan`.
pub fn build(plan: &Plan) -> Objects {
    let config = config_map::config_map(plan);
    Objects {
        default_user: secret::default_user(plan),
        authority_secret: certificates::authority_secret(plan),
        certificate_secret: certificates::certificate_secret(plan),
        authorities: certificates::authorities(plan),
        nodes_service: service::nodes_service(plan),
        client_service: service::client_service(plan),
        disruption_budget: pod_disruption_budget::pod_disruption_budget(plan),
        network_policy: network_policy::network_policy(plan),
        service_monitor: service_monitor::service_monitor(plan),
        prometheus_rule: prometheus_rule::prometheus_rule(plan),
        service_account: service_account::service_account(plan),
        stateful_set: stateful_set::stateful_set(plan, &config),
        config,
    }
}

/// Metadata of an owned object: its name, our labels, and the MessageQueue as its owner, so that it goes with it.
fn metadata(plan: &Plan, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace: Some(plan.names.namespace.clone()),
        labels: Some(plan.names.labels()),
        owner_references: Some(vec![plan.owner.clone()]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
pub(crate) mod tests;
