//! The objects of two MessageQueues, spelled out in `tests/objects/`, and the rules that hold for all.

use k8s_openapi::api::core::v1::PodSpec;
use serde::Serialize;

use super::*;
use crate::api::{MessageQueue, MessageQueueSpec};
use crate::credentials::Credentials;
use crate::observe::{Observed, ObservedObjects};
use crate::validate::validate;

/// The plan for a MessageQueue in YAML, as if the API server had taken it.
fn plan_of(manifest: &str) -> Plan {
    let mut queue: MessageQueue = serde_saphyr::from_str(manifest).unwrap();
    queue.metadata.namespace = Some("default".into());
    queue.metadata.uid = Some("0b7e4b4e-2f7c-4b8f-9a53-2d1c7f3e6a10".into());
    let credentials = Credentials { username: "default_user_x".into(), password: "open/sesame".into() };
    let observed = Observed { queue, objects: ObservedObjects::default(), volume_claim: None, credentials };
    validate(&observed, "warrenmq/broker:test").unwrap()
}

fn plan(spec: MessageQueueSpec) -> Plan {
    Plan { spec, ..plan_of(include_str!("../../../deploy/samples/messagequeue.yaml")) }
}

/// Compares objects with a file below `tests/objects/`. With `WARREN_UPDATE` set, the file is written instead.
fn check_objects(plan: &Plan, file: &str) {
    let Objects { default_user, config, nodes_service, client_service, disruption_budget, stateful_set } = build(plan);
    let text = [
        yaml(&default_user),
        yaml(&config),
        yaml(&nodes_service),
        yaml(&client_service),
        yaml(&disruption_budget),
        yaml(&stateful_set),
    ]
    .join("---\n");
    let path = format!("{}/tests/objects/{file}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("WARREN_UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert!(text == expected, "{path} differs from what is built; look at it with WARREN_UPDATE=1:\n{text}");
}

fn yaml(object: &impl Serialize) -> String {
    serde_saphyr::to_string(object).unwrap()
}

fn pod(objects: &Objects) -> PodSpec {
    objects.stateful_set.spec.clone().unwrap().template.spec.unwrap()
}

fn config_hash(plan: &Plan) -> String {
    let template = build(plan).stateful_set.spec.unwrap().template;
    template.metadata.unwrap().annotations.unwrap().remove("warrenmq.dev/config-hash").unwrap()
}

#[test]
fn the_sample_becomes_these_objects() {
    check_objects(&plan_of(include_str!("../../../deploy/samples/messagequeue.yaml")), "sample.yaml");
}

#[test]
fn every_field_reaches_its_object() {
    check_objects(&plan_of(include_str!("../../../deploy/samples/messagequeue-all-fields.yaml")), "all-fields.yaml");
}

#[test]
fn the_same_plan_builds_the_same_objects() {
    let plan = plan(MessageQueueSpec::default());
    assert_eq!(build(&plan), build(&plan));
}

#[test]
fn the_pod_meets_the_restricted_pod_security_standard() {
    let pod = pod(&build(&plan_of(include_str!("../../../deploy/samples/messagequeue-all-fields.yaml"))));
    let context = pod.security_context.clone().unwrap();
    assert_eq!(context.run_as_non_root, Some(true));
    assert_eq!(context.seccomp_profile.unwrap().type_, "RuntimeDefault");
    assert!(pod.host_network.is_none() && pod.host_pid.is_none() && pod.host_ipc.is_none());
    assert_eq!(pod.automount_service_account_token, Some(false));
    for container in pod.containers.iter().chain(pod.init_containers.iter().flatten()) {
        let context = container.security_context.clone().unwrap();
        assert_eq!(context.allow_privilege_escalation, Some(false));
        assert_eq!(context.read_only_root_filesystem, Some(true));
        assert_eq!(context.capabilities.clone().unwrap().drop.unwrap(), ["ALL"]);
        assert!(context.capabilities.unwrap().add.is_none() && context.privileged.is_none());
        assert!(container.ports.iter().flatten().all(|port| port.host_port.is_none()));
    }
    assert!(pod.volumes.unwrap().iter().all(|volume| volume.host_path.is_none() && volume.projected.is_some()));
}

#[test]
fn a_stopped_queue_keeps_its_objects_and_its_volume() {
    let spec = build(&plan(MessageQueueSpec { replicas: 0, ..MessageQueueSpec::default() })).stateful_set.spec.unwrap();
    assert_eq!(spec.replicas, Some(0));
    let retention = spec.persistent_volume_claim_retention_policy.unwrap();
    assert_eq!(retention.when_scaled.as_deref(), Some("Retain"));
    assert_eq!(retention.when_deleted.as_deref(), Some("Retain"));
}

#[test]
fn pods_restart_for_another_user_and_not_for_another_password() {
    let before = plan(MessageQueueSpec::default());
    let with = |username: &str, password: &str| Plan {
        credentials: Credentials { username: username.into(), password: password.into() },
        ..before.clone()
    };
    let user = before.credentials.username.as_str();
    assert_eq!(config_hash(&before), config_hash(&with(user, "another")));
    assert_ne!(config_hash(&before), config_hash(&with("another", "open/sesame")));
}

#[test]
fn names_and_selectors_of_a_queue_never_depend_on_its_specification() {
    let small = build(&plan(MessageQueueSpec::default()));
    let large = build(&plan_of(
        "{apiVersion: warrenmq.dev/v1alpha1, kind: MessageQueue, metadata: {name: hello}, spec: {image: other, replicas: 0}}",
    ));
    let selector = |objects: &Objects| objects.stateful_set.spec.clone().unwrap().selector;
    assert_eq!(selector(&small), selector(&large));
    assert_eq!(small.stateful_set.metadata, large.stateful_set.metadata);
}

#[test]
fn a_spread_constraint_without_selector_counts_the_nodes_of_the_queue() {
    let manifest = include_str!("../../../deploy/samples/messagequeue-all-fields.yaml");
    let constraints = pod(&build(&plan_of(manifest))).topology_spread_constraints.unwrap();
    let selector = constraints[0].label_selector.clone().unwrap().match_labels.unwrap();
    assert_eq!(selector["app.kubernetes.io/instance"], "orders");
}
