//! `spec.consumers`: workloads that take messages from a queue, scaled by what the queue has to do.

#![expect(
    unreachable_pub,
    reason = "the derive KubeSchema copies each struct into a function, where pub reaches nobody"
)]

use std::fmt;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::seconds;
use crate::consumers::plan::{Goal, Rule};

/// A workload that consumes a queue, and how many pods it should have.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.depthPerReplica) != has(self.drainWithin)").message(
        "consumers: give either depthPerReplica or drainWithin"
    ),
    validation = Rule::new("self.minReplicas <= self.maxReplicas").message(
        "consumers: minReplicas must not be above maxReplicas"
    )
)]
pub struct Consumer {
    /// Name of this entry, unique among the consumers of the MessageQueue.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,

    /// Virtual host of the queue. Default: /
    #[serde(default = "default_vhost")]
    #[schemars(length(min = 1, max = 255))]
    pub vhost: String,

    /// The queue that the workload's pods consume.
    #[schemars(length(min = 1, max = 255))]
    pub queue: String,

    /// What is scaled: anything of this namespace with a scale subresource. Without it nothing is, and no pod is drained: how many
    /// pods there should be is only said, in the status and as a metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,

    /// There are never fewer pods. Default: 0, so that none runs while there is nothing to do.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10_000))]
    pub min_replicas: i32,

    /// There are never more pods.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_replicas: i32,

    /// The simple rule: one pod for so many messages, ready or not yet acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub depth_per_replica: Option<i64>,

    /// The service level: what waits is done after this time, for example 30s. How many pods that takes follows from how fast
    /// messages come and how many a pod is measured to acknowledge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+(h|m|s))+$') && duration(self) >= duration('1s') && duration(self) <= duration('24h')").message(
        "consumers: drainWithin must be a time from 1s to 24h, for example 30s"
    ))]
    pub drain_within: Option<String>,

    /// For how long the queue has been empty and quiet when the last pods go. Default: 60s.
    #[serde(default = "default_cooldown")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]+(h|m|s))+$') && duration(self) <= duration('24h')").message(
        "consumers: cooldown must be a time of at most 24h, for example 60s"
    ))]
    pub cooldown: String,
}

/// An object with a scale subresource.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Its API version. Default: apps/v1.
    #[serde(default = "default_api_version")]
    #[schemars(length(min = 1, max = 317))]
    #[x_kube(validation = Rule::new("self.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?v[0-9][a-z0-9]*$')").message(
        "consumers: target.apiVersion must be a version, or a group and a version, for example apps/v1"
    ))]
    pub api_version: String,

    /// Its kind, such as Deployment or StatefulSet.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z][A-Za-z0-9]*$')").message(
        "consumers: target.kind must be the name of a kind, for example Deployment"
    ))]
    pub kind: String,

    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')").message(
        "consumers: target.name must be the name of an object: lower case letters, digits, - and ."
    ))]
    pub name: String,
}

impl Target {
    /// Whether nothing but an object of its own namespace can be meant. An older definition let anything through.
    pub fn is_plain(&self) -> bool {
        let is_made_of = |text: &str, others: &str| {
            let is_of = |letter: char| letter.is_ascii_alphanumeric() || others.contains(letter);
            !text.is_empty() && !text.contains("..") && text.chars().all(is_of)
        };
        let (group, version) = self.api_version.split_once('/').unwrap_or(("v", &self.api_version));
        is_made_of(group, "-.") && is_made_of(version, "") && is_made_of(&self.kind, "") && is_made_of(&self.name, "-.")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// What is known of a consumer.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerStatus {
    /// Name of the entry of `spec.consumers`.
    pub name: String,

    /// Pods that the target asks for; without a target, those that should be.
    pub current_replicas: i32,

    /// Pods that there should be.
    pub wanted_replicas: i32,

    /// Why, in a word: Idle, Depth, Backlog, Load, Tail, Unacked, Measuring, MinReplicas, MaxReplicas, DownstreamSaturated,
    /// SingleActiveConsumer, Gathering, Stabilizing, Draining, CoolingDown, or one of those for which there is a message:
    /// FiguresMissing, QueueMissing, TargetMissing, TargetTaken, ScaleRefused.
    pub reason: String,

    /// What is wrong and what to do, if something is: the broker says nothing or has no such queue, the target is not there,
    /// another entry of this MessageQueue or of another scales it, or the API server refuses to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,

    /// Messages that waited for a consumer when the number or its reason changed, or up to a minute later while there was work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_ready: Option<i64>,

    /// Messages that consumers had and did not settle, at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_unacked: Option<i64>,

    /// Messages that came in a second, about that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrivals_per_second: Option<String>,

    /// Messages that were acknowledged in a second, about that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completions_per_second: Option<String>,

    /// Messages that a pod was measured to acknowledge in a second. It outlives the operator's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_per_second_and_pod: Option<String>,
}

impl Consumer {
    /// The rule for the number of pods. What an older definition let through counts as the nearest that there is.
    pub fn rule(&self) -> Rule {
        let count = |number: i32| u32::try_from(number).unwrap_or(0);
        let ms = |text: &str| seconds(text).unwrap_or(60).saturating_mul(1_000);
        let goal = match (&self.drain_within, self.depth_per_replica) {
            (Some(within), _) => Goal::DrainWithin(ms(within)),
            (None, depth) => Goal::DepthPerReplica(depth.and_then(|depth| u64::try_from(depth).ok()).unwrap_or(1)),
        };
        Rule {
            min_replicas: count(self.min_replicas),
            max_replicas: count(self.max_replicas).max(count(self.min_replicas)),
            goal,
            cooldown_ms: ms(&self.cooldown),
        }
    }
}

fn default_vhost() -> String {
    "/".into()
}

fn default_cooldown() -> String {
    "60s".into()
}

fn default_api_version() -> String {
    "apps/v1".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_object_of_its_own_namespace() {
        let target = |api_version: &str, kind: &str, name: &str| Target {
            api_version: api_version.into(),
            kind: kind.into(),
            name: name.into(),
        };
        assert!(target("apps/v1", "Deployment", "web").is_plain());
        assert!(target("v1", "ReplicationController", "web.2").is_plain());
        assert!(target("argoproj.io/v1alpha1", "Rollout", "web").is_plain());
        let elsewhere = "apps/v1/namespaces/other/deployments/web/scale?x=";
        assert!(!target(elsewhere, "Deployment", "web").is_plain());
        assert!(!target("apps/v1", "Deployment", "../../other/deployments/web").is_plain());
        assert!(!target("apps/v1", "Deployment", "..").is_plain());
        assert!(!target("apps/v1", "Deployment/..", "web").is_plain());
        assert!(!target("apps/v1", "Deployment", "web?x=").is_plain());
        assert!(!target("..", "Deployment", "").is_plain());
    }
}
