//! `spec.topology`: what should be there in the broker.

#![expect(
    unreachable_pub,
    reason = "the derive KubeSchema copies each struct into a function, where pub reaches nobody"
)]

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::auth::default_vhost;
use super::message_queue::DeletionPolicy;

/// Arguments of RabbitMQ, such as `x-message-ttl`: names and values of any kind.
pub type Arguments = BTreeMap<String, Value>;

/// What should be there in the broker. What is missing is made within ten seconds, also when somebody has deleted it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Topology {
    /// What happens to something that is taken from these lists. Retain (the default) leaves it in the broker; Delete removes
    /// it, but never a queue that has messages, nor a virtual host that has queues.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// Virtual hosts. There always is one with the name /.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub vhosts: Vec<Vhost>,

    /// Exchanges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["vhost".into(), "name".into()]))]
    pub exchanges: Vec<Exchange>,

    /// Queues.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["vhost".into(), "name".into()]))]
    pub queues: Vec<Queue>,

    /// Bindings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub bindings: Vec<Binding>,

    /// Policies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["vhost".into(), "name".into()]))]
    pub policies: Vec<Policy>,
}

/// A virtual host.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Vhost {
    /// Its name.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,

    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub description: String,
}

/// An exchange.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Exchange {
    /// The virtual host. Default: /
    #[serde(default = "default_vhost")]
    #[schemars(length(min = 1, max = 128))]
    pub vhost: String,

    /// Its name.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("!self.startsWith('amq.')").message(
        "topology.exchanges: names that begin with amq. are the broker's own"
    ))]
    pub name: String,

    /// direct (the default), fanout, topic, headers, x-consistent-hash, x-modulus-hash, x-random, x-local-random or x-delayed-message. It cannot
    /// be changed in the broker.
    #[serde(default = "default_exchange_type", rename = "type")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new("self in ['direct', 'fanout', 'topic', 'headers', 'x-consistent-hash', 'x-modulus-hash', 'x-random', 'x-local-random', 'x-delayed-message']").message(
        "topology.exchanges: type must be direct, fanout, topic, headers, x-consistent-hash, x-modulus-hash, x-random, x-local-random or x-delayed-message"
    ))]
    pub type_: String,

    /// Whether it outlives the broker's process. Default: true.
    #[serde(default = "yes")]
    pub durable: bool,

    /// Whether it goes when its last binding goes. Default: false.
    #[serde(default)]
    pub auto_delete: bool,

    /// Whether nobody may publish to it, but other exchanges. Default: false.
    #[serde(default)]
    pub internal: bool,

    /// Arguments of RabbitMQ, such as alternate-exchange.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "arguments")]
    pub arguments: Arguments,
}

/// A queue.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// The virtual host. Default: /
    #[serde(default = "default_vhost")]
    #[schemars(length(min = 1, max = 128))]
    pub vhost: String,

    /// Its name.
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("!self.startsWith('amq.')").message(
        "topology.queues: names that begin with amq. are the broker's own"
    ))]
    pub name: String,

    /// Whether it and its persistent messages outlive the broker's process. Default: true.
    #[serde(default = "yes")]
    pub durable: bool,

    /// Whether it goes when its last consumer goes. Default: false.
    #[serde(default)]
    pub auto_delete: bool,

    /// Arguments of RabbitMQ, such as x-message-ttl. They cannot be changed in the broker; those that a policy can set can be
    /// changed there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "arguments")]
    pub arguments: Arguments,
}

/// A binding.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// The virtual host. Default: /
    #[serde(default = "default_vhost")]
    #[schemars(length(min = 1, max = 128))]
    pub vhost: String,

    /// The exchange that it leads from. The default exchange leads to every queue and has no other bindings.
    #[schemars(length(min = 1, max = 255))]
    pub source: String,

    /// The queue or exchange that it leads to.
    #[schemars(length(min = 1, max = 255))]
    pub destination: String,

    /// What the destination is. Default: queue
    #[serde(default)]
    pub destination_type: DestinationType,

    /// The routing key. Default: the empty one.
    #[serde(default)]
    #[schemars(length(max = 255))]
    pub routing_key: String,

    /// Arguments of RabbitMQ, such as x-match for an exchange of type headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "arguments")]
    pub arguments: Arguments,
}

/// What a binding leads to.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "camelCase")]
pub enum DestinationType {
    /// A queue.
    #[default]
    Queue,
    /// Another exchange.
    Exchange,
}

/// A policy: arguments for all queues or exchanges whose names match.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// The virtual host. Default: /
    #[serde(default = "default_vhost")]
    #[schemars(length(min = 1, max = 128))]
    pub vhost: String,

    /// Its name.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,

    /// A regular expression for names.
    #[schemars(length(min = 1, max = 1024))]
    pub pattern: String,

    /// all (the default), queues, exchanges, classic_queues, quorum_queues or streams.
    #[serde(default = "default_apply_to")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self in ['all', 'queues', 'exchanges', 'classic_queues', 'quorum_queues', 'streams']").message(
        "topology.policies: applyTo must be all, queues, exchanges, classic_queues, quorum_queues or streams"
    ))]
    pub apply_to: String,

    /// Of several policies for one name, that of the highest priority counts. Default: 0
    #[serde(default)]
    pub priority: i32,

    /// What it sets, such as max-length.
    #[schemars(schema_with = "definition")]
    pub definition: Arguments,
}

/// Something that is not in the broker as it was declared.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Flaw {
    /// What it is about, such as queue orders in /.
    pub object: String,

    /// Why, in a word: Refused, NotEmpty or VirtualHostMissing.
    pub reason: String,

    /// Why, in a sentence, and what to do.
    pub message: String,
}

fn arguments(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "maxProperties": 64, "x-kubernetes-preserve-unknown-fields": true})
}

fn definition(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "minProperties": 1, "maxProperties": 64, "x-kubernetes-preserve-unknown-fields": true})
}

fn default_exchange_type() -> String {
    "direct".into()
}

fn default_apply_to() -> String {
    "all".into()
}

fn yes() -> bool {
    true
}
