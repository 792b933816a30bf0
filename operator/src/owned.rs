//! What the watches know about objects that carry our label: enough to find those that no MessageQueue needs any longer.
//!
//! Only metadata is kept. Secrets are absent: watching them would need the right to read every Secret.

use std::fmt;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::DynamicObject;
use kube::core::{ApiResource, PartialObjectMeta};
use kube::runtime::reflector::Store;
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::watch;

use crate::build::Objects;
use crate::prometheus_operator::{Kinds, PrometheusRule, ServiceMonitor};
use crate::validate::belongs_to;

/// Metadata of every watched object that the operator made.
#[derive(Clone)]
#[expect(missing_docs, reason = "each field is the kind that its name says")]
pub struct Owned {
    pub stateful_sets: Store<PartialObjectMeta<StatefulSet>>,
    pub services: Store<PartialObjectMeta<Service>>,
    pub config_maps: Store<PartialObjectMeta<ConfigMap>>,
    pub disruption_budgets: Store<PartialObjectMeta<PodDisruptionBudget>>,
    pub network_policies: Store<PartialObjectMeta<NetworkPolicy>>,
    pub service_monitors: Store<PartialObjectMeta<ServiceMonitor>>,
    pub prometheus_rules: Store<PartialObjectMeta<PrometheusRule>>,
    pub service_accounts: Store<PartialObjectMeta<ServiceAccount>>,
    /// Kinds of the Prometheus operator that the cluster has.
    pub kinds: watch::Receiver<Kinds>,
}

impl Owned {
    /// Objects in `namespace` that belong to the MessageQueue with this uid, and are not among the wanted ones.
    pub fn leftovers(&self, owner_uid: &str, namespace: &str, wanted: &Objects) -> Vec<Leftover> {
        let Objects { config, authorities, nodes_service, client_service, disruption_budget, stateful_set, .. } =
            wanted;
        let Objects { network_policy, service_monitor, prometheus_rule, service_account, .. } = wanted;
        let owner = (owner_uid, namespace);
        let mut found = Vec::new();
        collect(&self.stateful_sets, owner, &[Some(stateful_set)], &mut found);
        collect(&self.services, owner, &[Some(nodes_service), Some(client_service)], &mut found);
        collect(&self.config_maps, owner, &[Some(config), authorities.as_ref()], &mut found);
        collect(&self.disruption_budgets, owner, &[Some(disruption_budget)], &mut found);
        collect(&self.network_policies, owner, &[network_policy.as_ref()], &mut found);
        collect(&self.service_accounts, owner, &[service_account.as_ref()], &mut found);
        let kinds = *self.kinds.borrow();
        if kinds.service_monitors {
            collect(&self.service_monitors, owner, &[service_monitor.as_ref()], &mut found);
        }
        if kinds.prometheus_rules {
            collect(&self.prometheus_rules, owner, &[prometheus_rule.as_ref()], &mut found);
        }
        found
    }
}

/// An object that is to be deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct Leftover {
    resource: ApiResource,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Leftover {
    /// The kind of the object.
    pub fn kind(&self) -> &str {
        &self.resource.kind
    }

    /// The API that can delete it.
    pub fn api(&self, client: &Client, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(client.clone(), namespace, &self.resource)
    }
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name)
    }
}

fn collect<K>(
    store: &Store<PartialObjectMeta<K>>,
    (owner_uid, namespace): (&str, &str),
    wanted: &[Option<&K>],
    found: &mut Vec<Leftover>,
) where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let wanted: Vec<String> = wanted.iter().flatten().map(|object| object.name_any()).collect();
    let unwanted = |object: &PartialObjectMeta<K>| {
        object.metadata.deletion_timestamp.is_none()
            && object.namespace().as_deref() == Some(namespace)
            && belongs_to(object, owner_uid)
            && !wanted.contains(&object.name_any())
    };
    found.extend(store.state().iter().filter(|object| unwanted(object)).filter_map(|object| {
        Some(Leftover { resource: ApiResource::erase::<K>(&()), name: object.name_any(), uid: object.uid()? })
    }));
}
