//! The objects of two MessageQueues, spelled out in `tests/objects/`, and the rules that hold for all.

use k8s_openapi::api::core::v1::PodSpec;
use kube::ResourceExt;
use serde::Serialize;

use super::*;
use crate::api::{MessageQueue, MessageQueueSpec, Monitoring, Tls, TlsMode};
use crate::certificates::{Authorities, Certificates, Pair};
use crate::credentials::Credentials;
use crate::observe::{Observed, ObservedObjects, ObservedTls};
use crate::prometheus_operator::Kinds;
use crate::validate::validate;

/// The plan for a MessageQueue in YAML, as if the API server had taken it.
fn plan_of(manifest: &str) -> Plan {
    let mut queue: MessageQueue = serde_saphyr::from_str(manifest).unwrap();
    queue.metadata.namespace = Some("default".into());
    queue.metadata.uid = Some("0b7e4b4e-2f7c-4b8f-9a53-2d1c7f3e6a10".into());
    let credentials = Credentials { username: "default_user_x".into(), password: "open/sesame".into() };
    let tls = match (queue.spec.tls.mode, &queue.spec.tls.secret_name) {
        (TlsMode::Managed, _) => ObservedTls::Managed(Box::new(certificates())),
        (TlsMode::Secret, name) => ObservedTls::Secret(name.as_ref().map(|_| Box::new(tls_secret()))),
        (TlsMode::Disabled, _) => ObservedTls::Disabled,
    };
    let kinds = Kinds { service_monitors: true, prometheus_rules: true };
    let observed = Observed { queue, objects: ObservedObjects::default(), volume_claim: None, credentials, tls, kinds };
    validate(&observed, "warrenmq/broker:test", Some("warren")).unwrap()
}

/// In the middle of a rotation.
fn certificates() -> Certificates {
    let pair = |of: &str| Pair { certificate: format!("certificate {of}\n"), key: format!("key {of}\n") };
    Certificates {
        authorities: Authorities {
            active: pair("active"),
            next: Some(pair("next")),
            old: Some("certificate old\n".into()),
            rotated_for: Some("monday".into()),
        },
        leaf: pair("leaf"),
        due_in: std::time::Duration::from_secs(60),
        leaf_not_after: 0,
        authority_not_after: 0,
    }
}

fn tls_secret() -> Secret {
    let entry = |key: &str| (key.to_owned(), k8s_openapi::ByteString(format!("{key} of somebody else\n").into_bytes()));
    Secret { data: Some(["tls.crt", "tls.key", "ca.crt"].map(entry).into()), ..Secret::default() }
}

pub(crate) fn plan(spec: MessageQueueSpec) -> Plan {
    Plan { spec, ..plan_of(include_str!("../../../deploy/samples/messagequeue.yaml")) }
}

/// Compares objects with a file below `tests/objects/`. With `WARREN_UPDATE` set, the file is written instead.
fn check_objects(plan: &Plan, file: &str) {
    let Objects {
        default_user,
        config,
        authority_secret,
        certificate_secret,
        authorities,
        nodes_service,
        client_service,
        disruption_budget,
        network_policy,
        service_monitor,
        prometheus_rule,
        service_account,
        stateful_set,
    } = build(plan);
    let optional =
        [authority_secret.as_ref().map(yaml), certificate_secret.as_ref().map(yaml), authorities.as_ref().map(yaml)];
    let mut text = vec![yaml(&default_user), yaml(&config)];
    text.extend(optional.into_iter().flatten());
    text.extend([yaml(&nodes_service), yaml(&client_service), yaml(&disruption_budget), yaml(&stateful_set)]);
    text.extend(service_account.as_ref().map(yaml));
    text.extend(network_policy.as_ref().map(yaml));
    text.extend(service_monitor.as_ref().map(yaml));
    // All alerts are made alike: one is shown.
    text.extend(prometheus_rule.map(|mut rule| {
        rule.spec.groups[0].rules.truncate(1);
        yaml(&rule)
    }));
    let text = text.join("---\n");
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
fn pods_do_not_restart_for_another_certificate() {
    let before = plan(MessageQueueSpec::default());
    let mut renewed = certificates();
    renewed.leaf.certificate = "certificate renewed\n".into();
    renewed.authorities.next = None;
    let after = Plan { tls: crate::validate::PlannedTls::Managed(Box::new(renewed)), ..before.clone() };
    assert_ne!(build(&before).certificate_secret, build(&after).certificate_secret);
    assert_eq!(build(&before).stateful_set, build(&after).stateful_set);
}

#[test]
fn without_tls_clients_connect_to_the_other_port_and_nothing_is_mounted() {
    let tls = Tls { mode: TlsMode::Disabled, ..Tls::default() };
    let manifest = "{apiVersion: warrenmq.dev/v1alpha1, kind: MessageQueue, metadata: {name: hello}, spec: {tls: {mode: Disabled}}}";
    let plan = plan_of(manifest);
    assert_eq!(plan.spec.tls, tls);
    let objects = build(&plan);
    assert_eq!((objects.authority_secret.as_ref(), objects.authorities.as_ref()), (None, None));
    assert_eq!(objects.client_service.spec.clone().unwrap().ports.unwrap()[0].port, AMQP_PORT);
    assert_eq!(pod(&objects).volumes.unwrap().len(), 1);
    let uri = objects.default_user.data.unwrap()["uri"].0.clone();
    assert!(uri.starts_with(b"amqp://") && uri.ends_with(b":5672/%2F"));
}

#[test]
fn a_certificate_of_somebody_else_is_mounted_and_its_authority_told() {
    let plan = plan_of(
        "{apiVersion: warrenmq.dev/v1alpha1, kind: MessageQueue, metadata: {name: hello}, spec: {tls: {mode: Secret, secretName: theirs}}}",
    );
    let objects = build(&plan);
    assert_eq!((objects.authority_secret.as_ref(), objects.certificate_secret.as_ref()), (None, None));
    assert_eq!(objects.authorities.clone().unwrap().data.unwrap()["ca.crt"], "ca.crt of somebody else\n");
    let text = yaml(&pod(&objects).volumes);
    assert!(text.contains("name: theirs"), "{text}");
}

#[test]
fn names_and_selectors_of_a_queue_never_depend_on_its_specification() {
    let small = build(&plan(MessageQueueSpec::default()));
    let large = build(&plan_of(
        "{apiVersion: warrenmq.dev/v1alpha1, kind: MessageQueue, metadata: {name: hello}, spec: {image: other, replicas: 0}}",
    ));
    let selector = |objects: &Objects| objects.stateful_set.spec.clone().unwrap().selector;
    assert_eq!(selector(&small), selector(&large));
    let named = |objects: &Objects| (objects.stateful_set.name_any(), objects.stateful_set.labels().clone());
    assert_eq!(named(&small), named(&large));
}

#[test]
fn a_spread_constraint_without_selector_counts_the_nodes_of_the_queue() {
    let manifest = include_str!("../../../deploy/samples/messagequeue-all-fields.yaml");
    let constraints = pod(&build(&plan_of(manifest))).topology_spread_constraints.unwrap();
    let selector = constraints[0].label_selector.clone().unwrap().match_labels.unwrap();
    assert_eq!(selector["app.kubernetes.io/instance"], "orders");
}

#[test]
fn without_a_word_about_it_nobody_is_kept_out_and_an_empty_list_is_nobody() {
    let with = |network_policy: &str| {
        let spec = format!("{{networkPolicy: {network_policy}}}");
        plan_of(&format!(
            "{{apiVersion: warrenmq.dev/v1alpha1, kind: MessageQueue, metadata: {{name: hello}}, spec: {spec}}}"
        ))
    };
    assert_eq!(build(&plan(MessageQueueSpec::default())).network_policy, None);
    let ports = |plan: &Plan| -> Vec<String> {
        let rules = build(plan).network_policy.unwrap().spec.unwrap().ingress.unwrap();
        assert!(rules.iter().all(|rule| !rule.from.as_ref().unwrap().is_empty()), "a rule from nobody is one for all");
        let port = |rule: &k8s_openapi::api::networking::v1::NetworkPolicyIngressRule| {
            yaml(&rule.ports.as_ref().unwrap()[0].port).trim().to_owned()
        };
        rules.iter().map(port).collect()
    };
    assert_eq!(ports(&with("{}")), ["amqps", "management-tls", "metrics"]);
    assert_eq!(ports(&with("{clients: [], metrics: []}")), ["management-tls"]);
    let outside = Plan { operator_namespace: None, ..with("{clients: [], metrics: []}") };
    assert_eq!(ports(&outside), Vec::<String>::new());
}

#[test]
fn monitoring_is_made_where_its_kinds_are_and_as_far_as_it_is_wanted() {
    let with = |monitoring: Monitoring, kinds: Kinds| {
        let objects = build(&Plan { kinds, ..plan(MessageQueueSpec { monitoring, ..MessageQueueSpec::default() }) });
        (objects.service_monitor.map(|monitor| monitor.spec.endpoints.len()), objects.prometheus_rule.is_some())
    };
    let (all, usual) = (Kinds { service_monitors: true, prometheus_rules: true }, Monitoring::default());
    assert_eq!(with(usual.clone(), all), (Some(2), true));
    assert_eq!(with(usual.clone(), Kinds::default()), (None, false));
    assert_eq!(with(Monitoring { queues: false, ..usual.clone() }, all), (Some(1), true));
    assert_eq!(with(Monitoring { alerts: false, ..usual.clone() }, all), (Some(2), false));
    assert_eq!(with(Monitoring { enabled: false, ..usual.clone() }, all), (None, false));
    let labels = [("release".to_owned(), "p".to_owned()), ("app.kubernetes.io/instance".to_owned(), "x".to_owned())];
    let spec = MessageQueueSpec { monitoring: Monitoring { labels: labels.into(), ..usual }, ..Default::default() };
    let labels = build(&plan(spec)).service_monitor.unwrap().metadata.labels.unwrap();
    assert_eq!((labels["release"].as_str(), labels["app.kubernetes.io/instance"].as_str()), ("p", "hello"));
}
