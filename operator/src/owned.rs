//! What the watches know about objects that carry our label: enough to find those that no MessageQueue needs any longer.
//!
//! Only metadata is kept. Secrets are absent: watching them would need the right to read every Secret.

use std::fmt;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::DynamicObject;
use kube::core::{ApiResource, PartialObjectMeta};
use kube::runtime::reflector::Store;
use kube::{Api, Client, Resource, ResourceExt};

use crate::names::Names;
use crate::validate::belongs_to;

/// Metadata of every watched object that the operator made.
#[derive(Clone)]
#[expect(missing_docs, reason = "each field is the kind that its name says")]
pub struct Owned {
    pub stateful_sets: Store<PartialObjectMeta<StatefulSet>>,
    pub services: Store<PartialObjectMeta<Service>>,
    pub config_maps: Store<PartialObjectMeta<ConfigMap>>,
    pub disruption_budgets: Store<PartialObjectMeta<PodDisruptionBudget>>,
}

impl Owned {
    /// Objects that belong to the MessageQueue with this uid, and whose names are not among the wanted ones.
    /// `has_authorities`: the ConfigMap with those is wanted too.
    pub fn leftovers(&self, owner_uid: &str, wanted: &Names, has_authorities: bool) -> Vec<Leftover> {
        let mut found = Vec::new();
        collect(&self.stateful_sets, owner_uid, &wanted.namespace, &[&wanted.stateful_set], &mut found);
        let services: &[&str] = &[&wanted.nodes_service, &wanted.client_service];
        collect(&self.services, owner_uid, &wanted.namespace, services, &mut found);
        let authorities = has_authorities.then_some(wanted.authorities.as_str());
        let config_maps: Vec<&str> = std::iter::once(wanted.config.as_str()).chain(authorities).collect();
        collect(&self.config_maps, owner_uid, &wanted.namespace, &config_maps, &mut found);
        collect(&self.disruption_budgets, owner_uid, &wanted.namespace, &[&wanted.disruption_budget], &mut found);
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
    owner_uid: &str,
    namespace: &str,
    wanted: &[&str],
    found: &mut Vec<Leftover>,
) where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let unwanted = |object: &PartialObjectMeta<K>| {
        object.metadata.deletion_timestamp.is_none()
            && object.namespace().as_deref() == Some(namespace)
            && belongs_to(object, owner_uid)
            && !wanted.contains(&object.name_any().as_str())
    };
    found.extend(store.state().iter().filter(|object| unwanted(object)).filter_map(|object| {
        Some(Leftover { resource: ApiResource::erase::<K>(&()), name: object.name_any(), uid: object.uid()? })
    }));
}
