//! The names of everything that belongs to one MessageQueue, and the labels by which it is found.

use std::collections::BTreeMap;

/// Our one field manager in server-side apply, and the value of `app.kubernetes.io/managed-by`.
pub const FIELD_MANAGER: &str = "warren-operator";

/// Label that says who made an object. Watches are filtered by it.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// Label with the name of the MessageQueue that an object belongs to.
pub const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";

/// The volume claim template of the StatefulSet, and the volume of that name in its pods.
pub const DATA_VOLUME: &str = "data";

/// Label with the name of the program.
pub const NAME_LABEL: &str = "app.kubernetes.io/name";
const COMPONENT_LABEL: &str = "app.kubernetes.io/component";

/// Names of the objects of one MessageQueue. They never change, because volumes, DNS and clients hold on to them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the object that its name says")]
pub struct Names {
    pub namespace: String,
    pub queue: String,
    pub stateful_set: String,
    pub client_service: String,
    pub nodes_service: String,
    pub config: String,
    pub default_user: String,
    pub disruption_budget: String,
    pub authority_secret: String,
    pub certificate_secret: String,
    pub authorities: String,
    pub network_policy: String,
    pub service_monitor: String,
    pub prometheus_rule: String,
    pub service_account: String,
}

impl Names {
    /// The names for MessageQueue `queue` in `namespace`.
    pub fn of(namespace: &str, queue: &str) -> Self {
        Self {
            namespace: namespace.into(),
            queue: queue.into(),
            stateful_set: queue.into(),
            client_service: queue.into(),
            nodes_service: format!("{queue}-nodes"),
            config: format!("{queue}-config"),
            default_user: format!("{queue}-default-user"),
            disruption_budget: queue.into(),
            authority_secret: format!("{queue}-ca"),
            certificate_secret: format!("{queue}-tls"),
            authorities: format!("{queue}-ca"),
            network_policy: queue.into(),
            service_monitor: queue.into(),
            prometheus_rule: queue.into(),
            service_account: format!("{queue}-broker"),
        }
    }

    /// Name of the pod with `ordinal`, as the StatefulSet controller forms it.
    pub fn pod(&self, ordinal: i32) -> String {
        format!("{}-{ordinal}", self.stateful_set)
    }

    /// Name of the PersistentVolumeClaim of the pod with `ordinal`, as the StatefulSet controller forms it.
    pub fn volume_claim(&self, ordinal: i32) -> String {
        format!("{DATA_VOLUME}-{}", self.pod(ordinal))
    }

    /// Host name of the Service that clients connect to, valid in every namespace of the cluster.
    pub fn client_host(&self) -> String {
        format!("{}.{}.svc", self.client_service, self.namespace)
    }

    /// Every name by which clients and the operator reach the brokers, if the cluster's domain is `domain`.
    pub fn broker_names(&self, domain: &str) -> Vec<String> {
        let Self { namespace, client_service, nodes_service, .. } = self;
        vec![
            self.client_host(),
            client_service.clone(),
            format!("{client_service}.{namespace}"),
            format!("{client_service}.{namespace}.svc.{domain}"),
            format!("*.{nodes_service}.{namespace}.svc"),
            format!("*.{nodes_service}.{namespace}.svc.{domain}"),
            // For who forwards a port.
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
        ]
    }

    /// Host name of the pod with `ordinal`, ready or not.
    pub fn node_host(&self, ordinal: i32) -> String {
        format!("{}.{}.{}.svc", self.pod(ordinal), self.nodes_service, self.namespace)
    }

    /// Labels that select the pods of this queue. They never change: a StatefulSet's selector is immutable.
    pub fn selector(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(NAME_LABEL.into(), "warren-broker".into()), (INSTANCE_LABEL.into(), self.queue.clone())])
    }

    /// Labels of every object of this queue.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.selector();
        labels.insert(COMPONENT_LABEL.into(), "broker".into());
        labels.insert(MANAGED_BY_LABEL.into(), FIELD_MANAGER.into());
        labels
    }
}
