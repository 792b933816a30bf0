//! `spec.networkPolicy`: who may connect to the broker.

#![expect(
    unreachable_pub,
    reason = "the derive KubeSchema copies each struct into a function, where pub reaches nobody"
)]

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Who may connect to the broker. Each list holds peers as those of a NetworkPolicy; an empty list is nobody.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NetworkAccess {
    /// Who may connect by AMQP. Default: the pods of this namespace.
    #[serde(default = "pods_of_this_namespace")]
    #[schemars(length(max = 32))]
    pub clients: Vec<NetworkPolicyPeer>,

    /// Who may use the management API. The operator may in any case. Default: nobody else.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub management: Vec<NetworkPolicyPeer>,

    /// Who may scrape metrics. Default: all pods of the cluster.
    #[serde(default = "pods_of_all_namespaces")]
    #[schemars(length(max = 32))]
    pub metrics: Vec<NetworkPolicyPeer>,
}

fn pods_of_this_namespace() -> Vec<NetworkPolicyPeer> {
    vec![NetworkPolicyPeer { pod_selector: Some(LabelSelector::default()), ..NetworkPolicyPeer::default() }]
}

fn pods_of_all_namespaces() -> Vec<NetworkPolicyPeer> {
    vec![NetworkPolicyPeer { namespace_selector: Some(LabelSelector::default()), ..NetworkPolicyPeer::default() }]
}
