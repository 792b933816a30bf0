//! Pure: a [`Plan`] becomes the Kubernetes objects that carry it out, a file per kind.
//!
//! Nothing here reads the cluster, the clock or chance: the same plan always gives the same objects, which is what lets a
//! reconcile without changes write nothing.

mod config_map;
mod pod_disruption_budget;
mod secret;
mod service;
mod stateful_set;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::validate::Plan;

/// Port of AMQP 0-9-1 without TLS (IANA `amqp`).
pub const AMQP_PORT: i32 = 5672;

/// Port of the broker's health checks and Prometheus metrics.
pub const METRICS_PORT: i32 = 15692;

/// Name of the broker's container.
pub const BROKER_CONTAINER: &str = "broker";

/// Where the broker's container finds its files. The broker's configuration repeats these paths.
mod paths {
    pub(super) const DATA: &str = "/var/lib/warren";
    pub(super) const CONFIG_FOLDER: &str = "/etc/warren";
    pub(super) const CONFIG_FILE: &str = "warren.toml";
    /// Below [`CONFIG_FOLDER`].
    pub(super) const DEFAULT_USER_FOLDER: &str = "default-user";
}

/// Every object of one MessageQueue, in the order in which they are applied: what a pod mounts comes before the pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Objects {
    /// The default user, and how to connect, in the shape of the Service Binding specification.
    pub default_user: Secret,
    /// The broker's configuration file.
    pub config: ConfigMap,
    /// Headless Service that gives each broker node a stable host name.
    pub nodes_service: Service,
    /// The Service that clients connect to.
    pub client_service: Service,
    /// Limits how many broker nodes a drain may take at once.
    pub disruption_budget: PodDisruptionBudget,
    /// The broker nodes and their volumes.
    pub stateful_set: StatefulSet,
}

/// Builds all objects of `plan`.
pub fn build(plan: &Plan) -> Objects {
    let config = config_map::config_map(plan);
    Objects {
        default_user: secret::default_user(plan),
        nodes_service: service::nodes_service(plan),
        client_service: service::client_service(plan),
        disruption_budget: pod_disruption_budget::pod_disruption_budget(plan),
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
mod tests;
