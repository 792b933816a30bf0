//! The Kubernetes API that the operator serves: group `warrenmq.dev`, a file per kind.
//!
//! The types here are the only definition. `crds/` and the chart's copy are printed from them, and a test compares.

mod auth;
mod consumers;
mod duration;
mod message_queue;
mod monitoring;
mod network_policy;
mod tls;
mod topology;

pub use auth::{Auth, Permission, Rights, SecretKey, ServiceAccount, TopicPermission, User};
pub use consumers::{Consumer, ConsumerStatus, Target};
pub use message_queue::{
    Binding, CertificateAuthority, DeletionPolicy, ImagePullPolicy, MessageQueue, MessageQueueSpec, MessageQueueStatus,
    PAUSED_ANNOTATION, ResourceAmounts, Resources, Service, ServiceType, Storage, UpgradePolicy,
};

pub use monitoring::Monitoring;
pub use network_policy::NetworkAccess;
pub use tls::{Tls, TlsMode};
pub use topology::{
    Arguments, Binding as QueueBinding, DestinationType, Exchange, Flaw, Policy, Queue, Topology, Vhost,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The API group of every kind of ours.
pub const GROUP: &str = "warrenmq.dev";

/// The definitions of all kinds, in the order in which they are printed.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![MessageQueue::crd()]
}

/// All definitions as YAML documents, the text of `crds/messagequeues.yaml`.
///
/// # Errors
/// When the YAML writer refuses a value, which the tests rule out for the definitions of this release.
pub fn crds_yaml() -> Result<String, serde_saphyr::ser::Error> {
    let mut text = String::from("# Printed by `warren-operator crds` from the Rust types; do not edit.\n");
    for crd in crds() {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&crd)?);
    }
    Ok(text)
}
