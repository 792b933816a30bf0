//! Kind `MessageQueue`: one AMQP 0-9-1 broker, declared.
//!
//! Doc comments of fields are what `kubectl explain` prints, so they speak to the person who writes a manifest.
//! A field exists here only when the operator acts on it.

#![expect(
    unreachable_pub,
    reason = "the derive KubeSchema copies each struct into a function, where pub reaches nobody"
)]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, LocalObjectReference, Toleration, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::Auth;
use super::consumers::{Consumer, ConsumerStatus};
use super::monitoring::Monitoring;
use super::network_policy::NetworkAccess;
use super::tls::Tls;
use super::topology::{Flaw, Topology};

/// What a MessageQueue should be.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "warrenmq.dev",
    version = "v1alpha1",
    kind = "MessageQueue",
    plural = "messagequeues",
    singular = "messagequeue",
    shortname = "mq",
    category = "all",
    category = "warren",
    namespaced,
    status = "MessageQueueStatus",
    scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.replicas"),
    derive = "PartialEq",
    doc = "A message queue: a durable AMQP 0-9-1 broker (protocol of RabbitMQ) with its volume, Services and first user.",
    annotation("helm.sh/resource-policy", "keep"),
    printcolumn(
        name = "Replicas",
        type_ = "integer",
        json_path = ".spec.replicas",
        description = "Broker nodes asked for"
    ),
    printcolumn(
        name = "Ready",
        type_ = "integer",
        json_path = ".status.readyReplicas",
        description = "Broker nodes that serve clients"
    ),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why the queue is ready or not"
    ),
    printcolumn(
        name = "Address",
        type_ = "string",
        json_path = ".status.address",
        description = "Where clients in the cluster connect"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 52").message(
        "metadata.name must have at most 52 characters: it becomes part of pod labels, which hold 63"
    ),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message(
        "metadata.name must start with a letter, end with a letter or digit and contain only lower-case letters, digits and '-': it becomes the name of a Service"
    ),
    validation = Rule::new(
        "string(self.spec.storage.size) == string(oldSelf.spec.storage.size) || !isQuantity(string(self.spec.storage.size)) || !has(self.status) || !has(self.status.volumeSize) || !isQuantity(self.status.volumeSize) || quantity(string(self.spec.storage.size)).compareTo(quantity(self.status.volumeSize)) >= 0"
    ).message("spec.storage.size cannot be less than what the volume has (status.volumeSize): a volume never shrinks")
)]
#[serde(rename_all = "camelCase")]
pub struct MessageQueueSpec {
    /// Number of broker nodes. 1 (the default) runs the broker; 0 stops it and keeps its volume.
    #[serde(default = "default_replicas")]
    #[x_kube(validation = Rule::new("self in [0, 1]").message(
        "replicas must be 0 or 1: replication is not available in this version"
    ))]
    pub replicas: i32,

    /// Image of the broker. Default: the broker of the operator's own release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,

    /// When the kubelet pulls the image. Default: Always for the tag `latest`, otherwise IfNotPresent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,

    /// Secrets of this namespace with credentials for the image's registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub image_pull_secrets: Vec<LocalObjectReference>,

    /// When the broker is made anew for another release of the operator. OnChange (the default): when a change of this
    /// specification restarts it anyway, or the annotation warrenmq.dev/restart gets another value. Automatic: at once.
    #[serde(default)]
    pub upgrade_policy: UpgradePolicy,

    /// The volume on which durable queues and their messages live.
    #[serde(default)]
    pub storage: Storage,

    /// How clients reach the broker.
    #[serde(default)]
    pub service: Service,

    /// How connections are encrypted.
    #[serde(default)]
    pub tls: Tls,

    /// Who may do what in the broker.
    #[serde(default)]
    pub auth: Auth,

    /// What should be there in the broker: virtual hosts, exchanges, queues, bindings and policies.
    #[serde(default)]
    pub topology: Topology,

    /// Workloads that take messages from queues, and how many pods each of them should have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub consumers: Vec<Consumer>,

    /// Who may connect to the broker, as far as the cluster's network enforces NetworkPolicies. Default: everybody who can
    /// reach its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkAccess>,

    /// What the Prometheus operator is told about the broker, in a cluster that has it.
    #[serde(default)]
    pub monitoring: Monitoring,

    /// Processor and memory of the broker's container. Default: neither reserved nor limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// Labels that a node must have to run the broker.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,

    /// Node taints that the broker tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self.all(toleration, !has(toleration.operator) || toleration.operator in ['Exists', 'Equal'])").message(
        "tolerations: operator must be Exists or Equal"
    ))]
    pub tolerations: Vec<Toleration>,

    /// Rules that attract the broker to nodes or other pods, or keep it away from them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,

    /// How broker nodes are spread over zones or hosts. A constraint without a labelSelector counts the nodes of this queue.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
}

/// Annotation of a MessageQueue: `true` keeps the operator from writing anything for it but its status.
pub const PAUSED_ANNOTATION: &str = "warrenmq.dev/paused";

impl MessageQueue {
    /// Whether a person has asked for everything to stay as it is.
    pub fn is_paused(&self) -> bool {
        self.metadata.annotations.iter().flatten().any(|(key, value)| key == PAUSED_ANNOTATION && value == "true")
    }
}

impl Default for MessageQueueSpec {
    /// What the API server makes of `spec: {}`.
    fn default() -> Self {
        Self {
            replicas: default_replicas(),
            image: None,
            image_pull_policy: None,
            image_pull_secrets: Vec::new(),
            upgrade_policy: UpgradePolicy::default(),
            storage: Storage::default(),
            service: Service::default(),
            tls: Tls::default(),
            auth: Auth::default(),
            topology: Topology::default(),
            consumers: Vec::new(),
            network_policy: None,
            monitoring: Monitoring::default(),
            resources: None,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            affinity: None,
            topology_spread_constraints: Vec::new(),
        }
    }
}

/// When a broker is made anew for another release of the operator.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpgradePolicy {
    /// When it restarts anyway.
    #[default]
    OnChange,
    /// At once.
    Automatic,
}

/// The volume of each broker node.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)"
).message("storage.storageClassName cannot be changed: a volume stays in the class in which it was made"))]
pub struct Storage {
    /// Size of the volume, for example 20Gi, and at least 64Mi. Default: 10Gi. It may be enlarged later, where the
    /// StorageClass allows that, while the broker runs; it cannot be made smaller than the volume is.
    #[serde(default = "default_storage_size")]
    #[schemars(extend("nullable" = false))]
    #[x_kube(
        validation = Rule::new("isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('64Mi')) >= 0").message(
            "storage.size must be a number of bytes and at least 64Mi, for example 10Gi: the broker's log grows in segments of 64Mi"
        ),
    )]
    pub size: Quantity,

    /// StorageClass of the volume. Default: the cluster's default class. It cannot be changed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,

    /// What happens to the volume when the MessageQueue is deleted. Retain (the default) keeps it, and a
    /// MessageQueue of the same name finds its messages again; Delete removes it with all messages.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

impl Default for Storage {
    fn default() -> Self {
        Self { size: default_storage_size(), storage_class_name: None, deletion_policy: DeletionPolicy::default() }
    }
}

/// What happens to the volumes of a deleted MessageQueue.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// The volumes and their messages stay.
    #[default]
    Retain,
    /// The volumes go, with every message on them.
    Delete,
}

/// When the kubelet pulls an image.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImagePullPolicy {
    /// Before each start.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Not at all: the image must be on the node.
    Never,
}

impl ImagePullPolicy {
    /// The name that a pod's specification uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// The Service that clients connect to.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// ClusterIP (the default) serves clients inside the cluster; NodePort and LoadBalancer also serve clients outside.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,

    /// Annotations of the Service, for example for a cloud's load balancer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// How far a Service reaches.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceType {
    /// Inside the cluster.
    #[default]
    ClusterIP,
    /// A port on every node.
    NodePort,
    /// An address from the cluster's load balancer.
    LoadBalancer,
}

impl ServiceType {
    /// The name that a Service's specification uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// What the broker's container may use.
///
/// An amount that is no quantity has a rule and a sentence of its own, so the rules here let it pass.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!has(self.requests) || !has(self.limits) || !has(self.requests.cpu) || !has(self.limits.cpu) || !isQuantity(string(self.requests.cpu)) || !isQuantity(string(self.limits.cpu)) || quantity(string(self.requests.cpu)).compareTo(quantity(string(self.limits.cpu))) <= 0"
).message("resources.requests.cpu must not be above resources.limits.cpu"))]
#[x_kube(validation = Rule::new(
    "!has(self.requests) || !has(self.limits) || !has(self.requests.memory) || !has(self.limits.memory) || !isQuantity(string(self.requests.memory)) || !isQuantity(string(self.limits.memory)) || quantity(string(self.requests.memory)).compareTo(quantity(string(self.limits.memory))) <= 0"
).message("resources.requests.memory must not be above resources.limits.memory"))]
pub struct Resources {
    /// What a node must have free to run the broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<ResourceAmounts>,

    /// What the broker may use at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ResourceAmounts>,
}

/// Amounts of processor, memory and scratch space.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ResourceAmounts {
    /// Processors, for example 2 or 500m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("type(self) == int ? self > 0 : isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))").message(
        "cpu must be a positive number of processors, for example 2 or 500m"
    ))]
    pub cpu: Option<Quantity>,

    /// Memory in bytes, for example 512Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("type(self) == int ? self > 0 : isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))").message(
        "memory must be a positive number of bytes, for example 512Mi"
    ))]
    pub memory: Option<Quantity>,
}

/// What a MessageQueue is at the moment.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MessageQueueStatus {
    /// `metadata.generation` of the specification that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Broker nodes that exist.
    #[serde(default)]
    pub replicas: i32,

    /// Broker nodes that serve clients.
    #[serde(default)]
    pub ready_replicas: i32,

    /// Host and port at which clients inside the cluster reach the broker by AMQP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,

    /// Size of the volume that the broker has or is being given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_size: Option<String>,

    /// The Secret with everything a client needs to connect, as the Service Binding specification names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<Binding>,

    /// The ConfigMap with the authorities that clients are to trust, in `ca.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_authority: Option<CertificateAuthority>,

    /// What is known of each of `spec.consumers`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub consumers: Vec<ConsumerStatus>,

    /// What of `spec.topology` is not in the broker as it was declared; at most 32 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topology: Vec<Flaw>,

    /// Ready: clients can connect and the broker is as specified. Available: at least one broker node serves clients.
    /// Progressing: a change is on its way. Degraded: something needs a person. TLSReady: connections are encrypted.
    /// UsersReady, TopologyReady: the broker has what spec.auth and spec.topology declare. ConsumersReady: the queues of
    /// spec.consumers are heard of, and their targets can be scaled. Paused: the annotation
    /// warrenmq.dev/paused keeps the operator from changing anything. UpgradePending: the broker was made by
    /// another release of the operator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A reference to the Secret of a provisioned service (Service Binding 1.1, "Provisioned Service").
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Name of the Secret in the namespace of the MessageQueue.
    pub name: String,
}

/// A reference to the ConfigMap with the authorities of the brokers' certificates.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct CertificateAuthority {
    /// Name of the ConfigMap in the namespace of the MessageQueue.
    pub name: String,
}

fn default_replicas() -> i32 {
    1
}

fn default_storage_size() -> Quantity {
    Quantity("10Gi".into())
}
