//! States of the world and the conditions that they deserve.

use k8s_openapi::api::apps::v1::StatefulSetSpec;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;
use crate::api::MessageQueueSpec;

const NOW: i64 = 1_000_000;

fn queue(replicas: i32) -> MessageQueue {
    let mut queue = MessageQueue::new("hello", MessageQueueSpec { replicas, ..MessageQueueSpec::default() });
    queue.metadata.namespace = Some("default".into());
    queue.metadata.generation = Some(7);
    queue
}

/// A StatefulSet whose controller has seen its present generation.
fn set(replicas: i32, ready: i32, updated: i32) -> StatefulSet {
    StatefulSet {
        metadata: ObjectMeta { generation: Some(3), ..ObjectMeta::default() },
        spec: None,
        status: Some(StatefulSetStatus {
            observed_generation: Some(3),
            replicas,
            ready_replicas: Some(ready),
            updated_replicas: Some(updated),
            ..StatefulSetStatus::default()
        }),
    }
}

fn unseen(mut set: StatefulSet) -> StatefulSet {
    set.metadata.generation = Some(4);
    set
}

/// A StatefulSet whose controller is replacing pods of an older revision.
fn updating(mut set: StatefulSet) -> StatefulSet {
    let status = set.status.as_mut().unwrap();
    status.current_revision = Some("hello-1".into());
    status.update_revision = Some("hello-2".into());
    set
}

fn pod(conditions: Vec<PodCondition>, broker: ContainerStatus) -> Pod {
    Pod {
        metadata: ObjectMeta { name: Some("hello-0".into()), ..ObjectMeta::default() },
        spec: None,
        status: Some(PodStatus {
            conditions: Some(conditions),
            container_statuses: Some(vec![ContainerStatus { name: "broker".into(), ..broker }]),
            ..PodStatus::default()
        }),
    }
}

/// A condition of a pod that has not held for some seconds.
fn unmet_for(seconds: i64, type_: &str) -> PodCondition {
    PodCondition {
        type_: type_.into(),
        status: "False".into(),
        message: Some("0/1 nodes are available".into()),
        last_transition_time: Some(Time(Timestamp::from_second(NOW - seconds).unwrap())),
        ..PodCondition::default()
    }
}

fn waiting(reason: &str) -> ContainerStatus {
    let waiting = ContainerStateWaiting { reason: Some(reason.into()), message: None };
    ContainerStatus {
        image: "warrenmq/broker:test".into(),
        state: Some(ContainerState { waiting: Some(waiting), ..ContainerState::default() }),
        ..ContainerStatus::default()
    }
}

fn exited(exit_code: i32, ready: bool) -> ContainerStatus {
    let terminated = ContainerStateTerminated { exit_code, reason: Some("Error".into()), ..Default::default() };
    ContainerStatus {
        ready,
        last_state: Some(ContainerState { terminated: Some(terminated), ..ContainerState::default() }),
        ..ContainerStatus::default()
    }
}

fn assess_with(
    queue: &MessageQueue,
    set: Option<&StatefulSet>,
    pods: &[Pod],
    problem: Option<Problem>,
) -> MessageQueueStatus {
    let now = Timestamp::from_second(NOW).unwrap();
    assess(&Situation {
        queue,
        stateful_set: set,
        pods,
        growth: &Growth::default(),
        tls: Some(&PlannedTls::Disabled),
        token_reviews: Some(Ok(())),
        consumers: Vec::new(),
        held: None,
        declared: None,
        problem,
        provisioned: true,
        now,
    })
}

/// `Ready Available Progressing Degraded` as `T` or `F`, and the reason of Ready.
fn summary(status: &MessageQueueStatus) -> String {
    let flags: String =
        [READY, AVAILABLE, PROGRESSING, DEGRADED].map(|type_| &find(status, type_).unwrap().status[..1]).concat();
    format!("{flags} {}", find(status, READY).unwrap().reason)
}

#[test]
fn conditions_follow_the_rollout() {
    for (replicas, set, expected) in [
        (1, None, "FFTF Starting"),
        (1, Some(unseen(set(0, 0, 0))), "FFTF Starting"),
        (1, Some(set(1, 0, 1)), "FFTF Starting"),
        (1, Some(set(1, 1, 1)), "TTFF Ready"),
        // The controller has not seen the newest specification: what it reports is about the one before.
        (1, Some(unseen(set(1, 1, 1))), "FTTF Updating"),
        (1, Some(updating(set(1, 1, 0))), "FTTF Updating"),
        (1, Some(updating(set(1, 0, 1))), "FFTF Updating"),
        // A pod on its way out is not counted as updated, though nothing about it is old.
        (1, Some(set(1, 1, 0)), "FTTF Restarting"),
        (1, Some(set(1, 0, 0)), "FFTF Restarting"),
        (0, Some(unseen(set(1, 1, 1))), "FTTF Stopping"),
        (0, Some(set(1, 0, 0)), "FFTF Stopping"),
        (0, Some(set(0, 0, 0)), "FFFF Stopped"),
    ] {
        let status = assess_with(&queue(replicas), set.as_ref(), &[], None);
        assert_eq!(summary(&status), expected, "{replicas} replicas, {set:?}");
    }
}

#[test]
fn only_another_revision_is_called_a_new_specification() {
    let message = |set: StatefulSet| {
        let status = assess_with(&queue(1), Some(&set), &[], None);
        find(&status, PROGRESSING).unwrap().message.clone()
    };
    assert_eq!(message(updating(set(1, 1, 0))), "the broker is being restarted with a new specification");
    assert_eq!(message(unseen(set(1, 1, 1))), "a new specification is being applied");
    assert_eq!(message(set(1, 1, 0)), "the broker is being started again");
}

#[test]
fn the_status_says_where_and_how_to_connect() {
    let status = assess_with(&queue(1), Some(&set(1, 1, 1)), &[], None);
    assert_eq!(status.observed_generation, Some(7));
    assert_eq!((status.replicas, status.ready_replicas), (1, 1));
    assert_eq!(status.address.as_deref(), Some("hello.default.svc:5672"));
    assert_eq!(status.binding, Some(Binding { name: "hello-default-user".into() }));
}

#[test]
fn nothing_is_promised_before_it_exists() {
    let now = Timestamp::from_second(NOW).unwrap();
    let queue = queue(1);
    let status = assess(&Situation {
        tls: Some(&PlannedTls::Disabled),
        token_reviews: Some(Ok(())),
        consumers: Vec::new(),
        declared: None,
        queue: &queue,
        stateful_set: None,
        pods: &[],
        growth: &Growth::default(),
        held: None,
        problem: None,
        provisioned: false,
        now,
    });
    assert_eq!((status.address, status.binding), (None, None));
}

#[test]
fn trouble_of_a_pod_is_named() {
    for (broker, reason) in [
        (waiting("ErrImagePull"), "FFTT ImagePullFailed"),
        (waiting("ImagePullBackOff"), "FFTT ImagePullFailed"),
        (waiting("CreateContainerConfigError"), "FFTT BrokerNotStarted"),
        (waiting("ContainerCreating"), "FFTF Starting"),
        (exited(1, false), "FFTT BrokerFailed"),
        (exited(0, false), "FFTF Starting"),
        (exited(1, true), "FFTF Starting"),
    ] {
        let status = assess_with(&queue(1), Some(&set(1, 0, 1)), &[pod(vec![], broker)], None);
        assert_eq!(summary(&status), reason);
    }
}

#[test]
fn trouble_that_repeats_gives_the_same_status() {
    let status = |reason: &str| assess_with(&queue(1), Some(&set(1, 0, 1)), &[pod(vec![], waiting(reason))], None);
    assert_eq!(status("ErrImagePull"), status("ImagePullBackOff"));
}

#[test]
fn an_old_exit_is_no_trouble_once_the_broker_is_ready() {
    let status = assess_with(&queue(1), Some(&set(1, 1, 1)), &[pod(vec![], exited(137, true))], None);
    assert_eq!(summary(&status), "TTFF Ready");
}

#[test]
fn a_pod_may_wait_a_moment_for_a_node() {
    let status = |seconds| {
        let pod = pod(vec![unmet_for(seconds, "PodScheduled")], ContainerStatus::default());
        assess_with(&queue(1), Some(&set(1, 0, 1)), &[pod], None)
    };
    assert_eq!(summary(&status(14)), "FFTF Starting");
    assert_eq!(summary(&status(15)), "FFTT Unschedulable");
}

#[test]
fn a_node_may_take_a_while_to_prepare_a_pod() {
    let trouble = |seconds, going: bool| {
        let mut pod = pod(vec![unmet_for(seconds, "PodReadyToStartContainers")], waiting("ContainerCreating"));
        pod.metadata.deletion_timestamp = going.then(|| Time(Timestamp::from_second(NOW).unwrap()));
        pod_trouble(&[pod], Timestamp::from_second(NOW).unwrap()).map(|problem| problem.message)
    };
    assert_eq!(trouble(59, false), None);
    assert_eq!(trouble(60, true), None);
    let message = "the node cannot prepare volumes or network of pod hello-0; see `kubectl describe pod hello-0`";
    assert_eq!(trouble(60, false).as_deref(), Some(message));
}

#[test]
fn a_container_that_never_ran_has_no_logs_to_see() {
    let mut broker = exited(128, false);
    let last = broker.last_state.as_mut().unwrap().terminated.as_mut().unwrap();
    last.reason = Some("StartError".into());
    broker.state = waiting("CrashLoopBackOff").state;
    let problem = pod_trouble(&[pod(vec![], broker)], Timestamp::from_second(NOW).unwrap()).unwrap();
    assert_eq!(problem.reason, "BrokerNotStarted");
    assert_eq!(
        problem.message,
        "the broker of pod hello-0 cannot be started (StartError); see `kubectl describe pod hello-0`"
    );
}

#[test]
fn a_refusal_stops_progress_and_keeps_what_serves() {
    let problem = Problem { reason: "ForeignObject", message: "Service hello exists".into() };
    let status = assess_with(&queue(1), Some(&set(1, 1, 1)), &[], Some(problem));
    assert_eq!(summary(&status), "FTFT ForeignObject");
    assert_eq!(find(&status, DEGRADED).unwrap().message, "Service hello exists");
}

#[test]
fn a_volume_other_than_asked_for_degrades_a_queue_that_serves() {
    let queue = queue(1);
    let set = set(1, 1, 1);
    let situation = |claim: &k8s_openapi::api::core::v1::PersistentVolumeClaim| {
        assess(&Situation {
            tls: Some(&PlannedTls::Disabled),
            token_reviews: Some(Ok(())),
            consumers: Vec::new(),
            declared: None,
            queue: &queue,
            stateful_set: Some(&set),
            pods: &[],
            growth: &Growth { claim: Some(claim.clone()), ..Growth::default() },
            held: None,
            problem: None,
            provisioned: true,
            now: Timestamp::from_second(NOW).unwrap(),
        })
    };
    let status = situation(&volume::tests::claim("1Gi", None));
    assert_eq!(summary(&status), "TTFT Ready");
    assert_eq!(find(&status, DEGRADED).unwrap().reason, "VolumeDiffers");
    assert_eq!(summary(&situation(&volume::tests::claim("10240Mi", None))), "TTFF Ready");
}

#[test]
fn the_transition_time_moves_only_when_the_status_flips() {
    let mut queue = queue(1);
    let mut before = assess_with(&queue, Some(&set(1, 0, 1)), &[], None);
    for condition in &mut before.conditions {
        condition.last_transition_time = Time(Timestamp::from_second(1).unwrap());
    }
    queue.status = Some(before);
    let after = assess_with(&queue, Some(&set(1, 1, 1)), &[], None);
    let since = |type_: &str| find(&after, type_).unwrap().last_transition_time.0.as_second();
    assert_eq!([READY, AVAILABLE, PROGRESSING].map(since), [NOW; 3]);
    assert_eq!(since(DEGRADED), 1);
}

#[test]
fn a_state_that_stays_gives_the_same_status() {
    let mut queue = queue(1);
    queue.status = Some(assess_with(&queue, Some(&set(1, 1, 1)), &[], None));
    let later = Timestamp::from_second(NOW + 60).unwrap();
    let set = set(1, 1, 1);
    let again = assess(&Situation {
        tls: Some(&PlannedTls::Disabled),
        token_reviews: Some(Ok(())),
        consumers: Vec::new(),
        declared: None,
        queue: &queue,
        stateful_set: Some(&set),
        pods: &[],
        growth: &Growth::default(),
        held: None,
        problem: None,
        provisioned: true,
        now: later,
    });
    assert_eq!(queue.status, Some(again));
}

#[test]
fn a_paused_queue_is_told_as_it_was_carried_out_last() {
    let mut queue = queue(1);
    let complete =
        StatefulSet { spec: Some(StatefulSetSpec { replicas: Some(1), ..Default::default() }), ..set(1, 1, 1) };
    queue.status = Some(assess_with(&queue, Some(&complete), &[], None));
    queue.metadata.generation = Some(8);
    queue.spec.replicas = 0;
    let now = Timestamp::from_second(NOW).unwrap();
    let told = |queue: &MessageQueue| {
        assess(&Situation {
            queue,
            stateful_set: Some(&complete),
            pods: &[],
            growth: &Growth::default(),
            tls: None,
            held: None,
            problem: None,
            token_reviews: Some(Ok(())),
            consumers: Vec::new(),
            declared: None,
            provisioned: true,
            now,
        })
    };
    for (annotation, is_paused) in [("true", true), ("false", false)] {
        queue.metadata.annotations = Some([(PAUSED_ANNOTATION.to_owned(), annotation.to_owned())].into());
        let status = told(&queue);
        assert_eq!(find(&status, PAUSED).is_some(), is_paused, "{annotation}");
        assert_eq!(status.observed_generation, Some(if is_paused { 7 } else { 8 }));
        assert_eq!(summary(&status), if is_paused { "TTFF Ready" } else { "FTTF Stopping" });
        assert_eq!(status.address.as_deref(), Some("hello.default.svc:5672"), "what is not known stays");
    }
}
