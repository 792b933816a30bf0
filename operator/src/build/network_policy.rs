//! The NetworkPolicy of the brokers: who may connect to which port.
//!
//! There is one only where the MessageQueue asks for it. Which clients there are, and by what address those from outside the
//! cluster seem to come, cannot be known here; a policy by default would lock some of them out, or let everybody in and be none.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{metadata, service};
use crate::validate::Plan;

/// `None`: everybody may connect.
pub(super) fn network_policy(plan: &Plan) -> Option<NetworkPolicy> {
    let access = plan.spec.network_policy.as_ref()?;
    let management = access.management.iter().cloned().chain(operator(plan)).collect();
    let ports = [
        (service::amqp(plan).name, access.clients.clone()),
        (service::management(plan).name, management),
        (Some("metrics".to_owned()), access.metrics.clone()),
    ];
    Some(NetworkPolicy {
        metadata: metadata(plan, &plan.names.network_policy),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector { match_labels: Some(plan.names.selector()), ..LabelSelector::default() }),
            policy_types: Some(vec!["Ingress".into()]),
            ingress: Some(ports.into_iter().filter_map(|(port, from)| rule(port?, from)).collect()),
            egress: None,
        }),
    })
}

/// `None`: a rule without peers would let everybody in.
fn rule(port: String, from: Vec<NetworkPolicyPeer>) -> Option<NetworkPolicyIngressRule> {
    let port = NetworkPolicyPort {
        port: Some(IntOrString::String(port)),
        protocol: Some("TCP".into()),
        ..NetworkPolicyPort::default()
    };
    (!from.is_empty()).then(|| NetworkPolicyIngressRule { from: Some(from), ports: Some(vec![port]) })
}

/// The operators' pods, if they run in this cluster.
fn operator(plan: &Plan) -> Option<NetworkPolicyPeer> {
    let labels = |key: &str, value: &str| LabelSelector {
        match_labels: Some(BTreeMap::from([(key.to_owned(), value.to_owned())])),
        ..LabelSelector::default()
    };
    Some(NetworkPolicyPeer {
        namespace_selector: Some(labels("kubernetes.io/metadata.name", plan.operator_namespace.as_deref()?)),
        pod_selector: Some(labels("app.kubernetes.io/component", "operator")),
        ip_block: None,
    })
}
