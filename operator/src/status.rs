//! Pure: what was observed becomes the status of the MessageQueue.
//!
//! Conditions follow `metav1.Condition`: `lastTransitionTime` moves only when `status` flips, and each condition carries
//! the generation that it describes. Nothing that changes without meaning (times, counters of attempts) goes into a
//! message, so that a state that stays writes nothing.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::api::{Binding, CertificateAuthority, ConsumerStatus, MessageQueue, MessageQueueStatus, PAUSED_ANNOTATION};
use crate::build::BROKER_CONTAINER;
use crate::declarations::keeper::State;
use crate::growth::{Growth, requested};
use crate::names::Names;
use crate::release::RESTART_ANNOTATION;
use crate::validate::PlannedTls;

mod consumers;
mod declarations;
mod volume;

/// Condition type: clients can connect, and the broker is as specified.
pub const READY: &str = "Ready";
/// Condition type: at least one broker node serves clients.
pub const AVAILABLE: &str = "Available";
/// Condition type: a change is on its way.
pub const PROGRESSING: &str = "Progressing";
/// Condition type: something needs a person.
pub const DEGRADED: &str = "Degraded";

/// Condition type: the broker has the users of `spec.auth`, with their rights.
pub const USERS_READY: &str = "UsersReady";
/// Condition type: the broker has what `spec.topology` declares.
pub const TOPOLOGY_READY: &str = "TopologyReady";

/// Condition type, there only if there are consumers: their queues are heard of, and their targets can be scaled.
pub const CONSUMERS_READY: &str = "ConsumersReady";

/// Condition type: connections are encrypted.
pub const TLS_READY: &str = "TLSReady";

/// Condition type, there only while it holds: a person has asked for everything to stay as it is.
pub const PAUSED: &str = "Paused";

/// Condition type, there only while it holds: the broker was made by another release of the operator.
pub const UPGRADE_PENDING: &str = "UpgradePending";

/// How long a pod may wait for a node before it counts as trouble. A new volume makes every first pod wait a moment.
const UNSCHEDULABLE_GRACE: SignedDuration = SignedDuration::from_secs(15);

/// How long the kubelet may prepare a pod's volumes and network before it counts as trouble.
const SANDBOX_GRACE: SignedDuration = SignedDuration::from_secs(60);

/// Something that keeps a queue from being what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Reason in conditions and Events, in CamelCase.
    pub reason: &'static str,
    /// A sentence for a person.
    pub message: String,
}

/// Everything that a status is made from.
pub struct Situation<'a> {
    /// The MessageQueue, with its previous status.
    pub queue: &'a MessageQueue,
    /// Its StatefulSet, if it has one.
    pub stateful_set: Option<&'a StatefulSet>,
    /// The pods of the StatefulSet.
    pub pods: &'a [Pod],
    /// What became of the first broker's volume.
    pub growth: &'a Growth,
    /// The release of the operator that has made the broker, if that is another one.
    pub held: Option<&'a str>,
    /// What keeps the operator from doing what the MessageQueue asks for.
    pub problem: Option<Problem>,
    /// What encrypts connections; `None` if that could not be found out.
    pub tls: Option<&'a PlannedTls>,
    /// What of its declarations is not so in the broker; `None` if that is not known.
    pub declared: Option<&'a State>,
    /// Whether its broker may ask about tokens if it has to, or why not; `None` if that is not known.
    pub token_reviews: Option<Result<(), String>>,
    /// What is known of its consumers.
    pub consumers: Vec<ConsumerStatus>,
    /// Whether the Services and the Secret exist.
    pub provisioned: bool,
    /// The time of a condition that flips now.
    pub now: Timestamp,
}

/// How far the StatefulSet is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rollout {
    Stopped,
    Stopping,
    Starting,
    /// The controller has not seen the newest specification yet, and need not restart anything for it.
    Applying,
    Updating,
    /// A broker of the present specification takes the place of one that went.
    Restarting,
    Complete,
}

/// The status that `situation` deserves.
pub fn assess(situation: &Situation<'_>) -> MessageQueueStatus {
    let queue = situation.queue;
    let names = Names::of(&queue.namespace().unwrap_or_default(), &queue.name_any());
    let reported = situation.stateful_set.and_then(|set| set.status.clone()).unwrap_or_default();
    let rollout = rollout(wanted_replicas(situation), situation.stateful_set, &reported);
    MessageQueueStatus {
        observed_generation: described_generation(queue),
        replicas: reported.replicas,
        ready_replicas: reported.ready_replicas.unwrap_or(0),
        address: address(situation, &names),
        volume_size: situation.growth.claim.as_ref().and_then(|claim| Some(requested(claim)?.0.clone())),
        binding: situation.provisioned.then(|| Binding { name: names.default_user.clone() }),
        certificate_authority: certificate_authority(situation, &names),
        consumers: situation.consumers.clone(),
        topology: declarations::flaws(situation),
        conditions: conditions(situation, rollout, reported.ready_replicas.unwrap_or(0)),
    }
}

/// Where clients connect. What is not known stays as it was said before.
fn address(situation: &Situation<'_>, names: &Names) -> Option<String> {
    let Some(tls) = situation.tls else { return situation.queue.status.as_ref()?.address.clone() };
    situation.provisioned.then(|| format!("{}:{}", names.client_host(), tls.port()))
}

/// Where it is written whom clients are to trust. What is not known stays as it was said before.
fn certificate_authority(situation: &Situation<'_>, names: &Names) -> Option<CertificateAuthority> {
    let Some(tls) = situation.tls else { return situation.queue.status.as_ref()?.certificate_authority.clone() };
    let is_told = situation.provisioned && tls.authorities().is_some();
    is_told.then(|| CertificateAuthority { name: names.authorities.clone() })
}

/// The generation that the status is about. While everything stays as it is, that is the last one that was carried out.
fn described_generation(queue: &MessageQueue) -> Option<i64> {
    let described = queue.status.as_ref().and_then(|status| status.observed_generation);
    if queue.is_paused() { described } else { queue.metadata.generation }
}

/// The brokers that there should be by now.
fn wanted_replicas(situation: &Situation<'_>) -> i32 {
    let carried_out = situation.stateful_set.and_then(|set| set.spec.as_ref()?.replicas);
    let wanted = situation.queue.spec.replicas;
    if situation.queue.is_paused() { carried_out.unwrap_or(wanted) } else { wanted }
}

/// Whether the queue is on its way to another state, so that it is worth another look soon.
pub fn is_progressing(status: &MessageQueueStatus) -> bool {
    find(status, PROGRESSING).is_some_and(|condition| condition.status == "True")
}

/// The condition of this type.
pub fn find<'a>(status: &'a MessageQueueStatus, type_: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == type_)
}

fn rollout(wanted: i32, set: Option<&StatefulSet>, reported: &StatefulSetStatus) -> Rollout {
    let generation = set.and_then(|set| set.metadata.generation);
    let seen = set.is_some() && reported.observed_generation >= generation;
    let (ready, updated) = (reported.ready_replicas.unwrap_or(0), reported.updated_replicas.unwrap_or(0));
    match (seen, wanted) {
        (true, 0) if reported.replicas == 0 => Rollout::Stopped,
        (_, 0) => Rollout::Stopping,
        (true, _) if reported.replicas == wanted && ready == wanted && updated == wanted => Rollout::Complete,
        (true, _) if reported.update_revision != reported.current_revision => Rollout::Updating,
        (true, _) if updated < reported.replicas => Rollout::Restarting,
        (false, _) if reported.replicas > 0 => Rollout::Applying,
        _ => Rollout::Starting,
    }
}

fn conditions(situation: &Situation<'_>, rollout: Rollout, ready: i32) -> Vec<Condition> {
    let trouble = situation.problem.clone().or_else(|| match rollout {
        Rollout::Complete | Rollout::Stopped | Rollout::Stopping => None,
        Rollout::Starting | Rollout::Applying | Rollout::Updating | Rollout::Restarting => {
            pod_trouble(situation.pods, situation.now)
        }
    });
    // A change that the operator cannot carry out is not on its way.
    let underway = situation.problem.is_none() && !matches!(rollout, Rollout::Complete | Rollout::Stopped);
    let grows = volume::is_growing(situation.growth).filter(|_| !underway);
    let (reason, message) = match &trouble {
        Some(problem) => (problem.reason, problem.message.as_str()),
        None => describe(rollout),
    };
    let (available, availability) = match ready {
        0 => (false, ("NoBrokerReady", "no broker node serves clients")),
        _ => (true, ("BrokerReady", "at least one broker node serves clients")),
    };
    let declared = declarations::conditions(situation);
    // A broker on another volume than asked for serves all the same, so this changes nothing about Ready; nor does what is
    // declared in it.
    let fault = trouble.clone().or_else(|| volume::difference(situation.queue, situation.growth));
    let fault = fault.or_else(|| declarations::fault(&declared)).or_else(|| consumers::fault(situation));
    let mut conditions = vec![
        condition(situation, READY, trouble.is_none() && rollout == Rollout::Complete, (reason, message)),
        condition(situation, AVAILABLE, available, availability),
        match &grows {
            Some(message) => condition(situation, PROGRESSING, true, ("VolumeGrowing", message)),
            None if underway => condition(situation, PROGRESSING, true, describe(rollout)),
            None => condition(situation, PROGRESSING, false, (reason, message)),
        },
        condition(
            situation,
            DEGRADED,
            fault.is_some(),
            fault.as_ref().map_or(("AsExpected", "nothing is wrong"), |fault| (fault.reason, fault.message.as_str())),
        ),
        encryption(situation),
    ];
    conditions.extend(declared);
    conditions.extend(consumers::condition_of(situation));
    if let Some(release) = situation.held {
        let message = format!(
            "the broker is as operator {release} has made it. Operator {} makes it anew when a change restarts it, the annotation \
             {RESTART_ANNOTATION} gets another value, or spec.upgradePolicy is Automatic",
            env!("CARGO_PKG_VERSION")
        );
        conditions.push(condition(situation, UPGRADE_PENDING, true, ("OtherRelease", &message)));
    }
    if situation.queue.is_paused() {
        let message = format!("the annotation {PAUSED_ANNOTATION} is \"true\": nothing is changed until it is gone");
        conditions.push(condition(situation, PAUSED, true, ("Asked", &message)));
    }
    conditions
}

fn encryption(situation: &Situation<'_>) -> Condition {
    let (holds, reason, message) = match situation.tls {
        Some(PlannedTls::Managed(certificates)) => {
            let until = Timestamp::from_second(certificates.leaf_not_after).unwrap_or(Timestamp::MAX);
            (true, "Managed", format!("the certificate is valid until {until} and is renewed before"))
        }
        Some(PlannedTls::Secret { name, .. }) => (true, "Secret", format!("the certificate is in Secret {name}")),
        Some(PlannedTls::Disabled) => {
            (false, "Disabled", "spec.tls.mode is Disabled: passwords and messages can be read on their way".to_owned())
        }
        None => {
            match (&situation.problem, situation.queue.status.as_ref().and_then(|status| find(status, TLS_READY))) {
                (Some(problem), _) => (false, problem.reason, problem.message.clone()),
                (None, Some(before)) => return before.clone(),
                (None, None) => (false, "Unknown", "nothing is known about certificates yet".to_owned()),
            }
        }
    };
    condition(situation, TLS_READY, holds, (reason, &message))
}

fn describe(rollout: Rollout) -> (&'static str, &'static str) {
    match rollout {
        Rollout::Stopped => ("Stopped", "spec.replicas is 0: no broker runs, and the volume is kept"),
        Rollout::Stopping => ("Stopping", "the broker is being stopped; its volume is kept"),
        Rollout::Starting => ("Starting", "the broker is starting"),
        Rollout::Applying => ("Updating", "a new specification is being applied"),
        Rollout::Updating => ("Updating", "the broker is being restarted with a new specification"),
        Rollout::Restarting => ("Restarting", "the broker is being started again"),
        Rollout::Complete => ("Ready", "clients can connect"),
    }
}

fn condition(situation: &Situation<'_>, type_: &str, holds: bool, (reason, message): (&str, &str)) -> Condition {
    let status = if holds { "True" } else { "False" };
    let previous = situation.queue.status.as_ref().and_then(|status| find(status, type_));
    let unchanged = previous.filter(|previous| previous.status == status);
    Condition {
        type_: type_.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        observed_generation: described_generation(situation.queue),
        last_transition_time: unchanged.map_or(Time(situation.now), |previous| previous.last_transition_time.clone()),
    }
}

/// The first thing about a pod that does not heal by waiting.
fn pod_trouble(pods: &[Pod], now: Timestamp) -> Option<Problem> {
    pods.iter()
        .find_map(|pod| unschedulable(pod, now).or_else(|| container_trouble(pod)).or_else(|| no_sandbox(pod, now)))
}

fn unschedulable(pod: &Pod, now: Timestamp) -> Option<Problem> {
    let (scheduled, since) = unmet(pod, "PodScheduled")?;
    let message = scheduled.message.as_deref().unwrap_or("the scheduler does not say why");
    (now.duration_since(since) >= UNSCHEDULABLE_GRACE).then(|| Problem {
        reason: "Unschedulable",
        message: format!("no node can run pod {}: {message}", pod.name_any()),
    })
}

/// A pod whose containers cannot be made at all, which the kubelet says in Events only.
fn no_sandbox(pod: &Pod, now: Timestamp) -> Option<Problem> {
    let (_, since) = unmet(pod, "PodReadyToStartContainers")?;
    let name = pod.name_any();
    let stuck = pod.metadata.deletion_timestamp.is_none() && now.duration_since(since) >= SANDBOX_GRACE;
    stuck.then(|| Problem {
        reason: "BrokerNotStarted",
        message: format!("the node cannot prepare volumes or network of pod {name}; see `kubectl describe pod {name}`"),
    })
}

/// The condition of this type and since when it does not hold, if that is so.
fn unmet<'a>(pod: &'a Pod, type_: &str) -> Option<(&'a PodCondition, Timestamp)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let unmet = conditions.iter().find(|condition| condition.type_ == type_ && condition.status == "False")?;
    Some((unmet, unmet.last_transition_time.as_ref()?.0))
}

fn container_trouble(pod: &Pod) -> Option<Problem> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let broker = statuses.iter().find(|status| status.name == BROKER_CONTAINER && !status.ready)?;
    let name = pod.name_any();
    let waiting = broker.state.as_ref().and_then(|state| state.waiting.as_ref());
    match waiting.and_then(|waiting| waiting.reason.as_deref()) {
        // The kubelet alternates between these while it tries again.
        Some("ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName") => Some(Problem {
            reason: "ImagePullFailed",
            message: format!("pod {name} cannot get image {}; see `kubectl describe pod {name}`", broker.image),
        }),
        Some(reason @ ("CreateContainerConfigError" | "CreateContainerError" | "RunContainerError")) => {
            Some(not_started(&name, reason))
        }
        _ => broker_exit(pod, broker),
    }
}

/// A container that never ran has no logs; why is in the pod's status and Events.
fn not_started(pod: &str, reason: &str) -> Problem {
    Problem {
        reason: "BrokerNotStarted",
        message: format!("the broker of pod {pod} cannot be started ({reason}); see `kubectl describe pod {pod}`"),
    }
}

/// A broker that ended by itself stays trouble while it is started again, until it is ready.
fn broker_exit(pod: &Pod, broker: &k8s_openapi::api::core::v1::ContainerStatus) -> Option<Problem> {
    let terminated = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| state.as_ref()?.terminated.clone();
    let last = terminated(&broker.state).or_else(|| terminated(&broker.last_state))?;
    let name = pod.name_any();
    let reason = last.reason.as_deref().unwrap_or("Error");
    if let "StartError" | "ContainerCannotRun" = reason {
        return Some(not_started(&name, reason));
    }
    (last.exit_code != 0).then(|| Problem {
        reason: "BrokerFailed",
        message: format!(
            "the broker of pod {name} ended with exit code {} ({reason}); see `kubectl logs {name} --previous`",
            last.exit_code
        ),
    })
}

#[cfg(test)]
mod tests;
