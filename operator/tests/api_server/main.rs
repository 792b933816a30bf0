//! The operator against a real API server with its controllers: KUBECONFIG names it.
//!
//! Each test has a namespace of its own. The image cannot be pulled on purpose: what is tested here ends where the kubelet
//! begins, except that its failure must reach the status.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cluster;
mod consumers;
mod day_two;
mod refused;
mod world;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::runtime::wait::await_condition;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use warren_operator::api::MessageQueue;
use warren_operator::controller::{Scope, control};
use warren_operator::metrics::Metrics;
use warren_operator::reconcile::{Context, Outcome, reconcile};
use warren_operator::status::{DEGRADED, READY, TLS_READY, find};

use cluster::within;
use world::{Cut, IMAGE, World, context, metered, scalers, unwatched};

#[tokio::test]
async fn a_message_queue_becomes_its_objects() {
    let world = World::new("objects").await;
    world.apply("hello", json!({})).await.unwrap();
    assert_eq!(world.reconcile("hello").await, Outcome::Progressing);
    world.api::<StatefulSet>().get("hello").await.unwrap();
    world.api::<Service>().get("hello").await.unwrap();
    world.api::<Service>().get("hello-nodes").await.unwrap();
    world.api::<PodDisruptionBudget>().get("hello").await.unwrap();
    let config = world.api::<ConfigMap>().get("hello-config").await.unwrap().data.unwrap();
    assert!(config["warren.toml"].contains("data_dir"));
    let status = world.status("hello").await;
    assert_eq!(status.address, Some(format!("hello.{}.svc:5671", world.namespace)));
    assert_eq!(status.binding.unwrap().name, "hello-default-user");
    assert_eq!(status.observed_generation, Some(1));
    world.end().await;
}

#[tokio::test]
async fn a_second_reconcile_writes_nothing() {
    let world = World::new("idempotent").await;
    let all_fields = include_str!("../../../deploy/samples/messagequeue-all-fields.yaml");
    let mut spec = serde_saphyr::from_str::<Value>(all_fields).unwrap()["spec"].take();
    spec["replicas"] = json!(0);
    world.apply("stopped", spec).await.unwrap();
    world.reconcile("stopped").await;
    world.await_stateful_set("stopped", 0).await;
    // It names a target that is not there, which its own task finds out.
    let queue = world.api::<MessageQueue>().get("stopped").await.unwrap();
    world.until_reason(&queue, "TargetMissing").await;
    world.reconcile("stopped").await;
    assert_eq!(world.writes_of_reconcile("stopped").await, 0);
    assert_eq!(find(&world.status("stopped").await, READY).unwrap().reason, "Stopped");
    world.end().await;
}

#[tokio::test]
async fn the_default_user_survives_reconciles_and_is_made_anew_when_lost() {
    let world = World::new("user").await;
    world.apply("hello", json!({"replicas": 0})).await.unwrap();
    let user = async || world.api::<Secret>().get("hello-default-user").await.unwrap().data.unwrap();
    world.reconcile("hello").await;
    let first = user().await;
    world.apply("hello", json!({"replicas": 0, "image": "localhost:1/other"})).await.unwrap();
    world.reconcile("hello").await;
    assert_eq!(user().await, first);
    world.api::<Secret>().delete("hello-default-user", &DeleteParams::default()).await.unwrap();
    world.reconcile("hello").await;
    let second = user().await;
    assert_ne!(second["password"], first["password"]);
    assert_ne!(second["username"], first["username"]);
    world.end().await;
}

#[tokio::test]
async fn the_api_server_refuses_a_bad_specification_and_says_why() {
    let world = World::new("refused").await;
    let replicas =
        "spec.replicas: Invalid value: 3: replicas must be 0 or 1: replication is not available in this version";
    let size = "spec.storage.size: Invalid value: \"-1Gi\": storage.size must be a number of bytes and at least 64Mi";
    let cpu = "spec.resources.limits.cpu: Invalid value: \"much\": cpu must be a positive number of processors";
    for (name, spec, sentence) in [
        ("hello", json!({"replicas": 3}), replicas),
        ("hello", json!({"replicas": -1}), "replicas must be 0 or 1"),
        ("hello", json!({"storage": {"size": "-1Gi"}}), size),
        ("hello", json!({"storage": {"size": "63Mi"}}), "storage.size must be a number of bytes and at least 64Mi"),
        ("hello", json!({"storage": {"size": 1024}}), "storage.size must be a number of bytes and at least 64Mi"),
        ("hello", json!({"storage": {"size": "big"}}), "storage.size must be a number of bytes and at least 64Mi"),
        ("hello", json!({"resources": {"limits": {"cpu": "much"}}}), cpu),
        (
            "hello",
            json!({"resources": {"requests": {"cpu": "1500m"}, "limits": {"cpu": 1}}}),
            "resources.requests.cpu must not be above resources.limits.cpu",
        ),
        (
            "hello",
            json!({"resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "1G"}}}),
            "resources.requests.memory must not be above resources.limits.memory",
        ),
        ("hello", json!({"tolerations": [{"operator": "Exist"}]}), "tolerations: operator must be Exists or Equal"),
        ("hello", json!({"storage": {"deletionPolicy": "Keep"}}), "supported values: \"Retain\", \"Delete\""),
        (
            "hello",
            json!({"monitoring": {"interval": "often"}}),
            "monitoring.interval must be a number of seconds or minutes",
        ),
        ("hello", json!({"networkPolicy": {"client": []}}), "client"),
        ("hello", json!({"tlss": {}}), "tlss"),
        ("hello", json!({"tls": {"mode": "Off"}}), "supported values: \"Managed\", \"Secret\", \"Disabled\""),
        ("hello", json!({"tls": {"mode": "Secret"}}), "tls.secretName names the Secret of mode Secret"),
        ("hello", json!({"tls": {"secretName": "s"}}), "tls.secretName names the Secret of mode Secret"),
        (
            "hello",
            json!({"tls": {"mode": "Secret", "secretName": "../x"}}),
            "tls.secretName must be the name of a Secret",
        ),
        ("hello", json!({"tls": {"dnsNames": ["Orders"]}}), "tls.dnsNames must be DNS names in lower case"),
        ("hello", json!({"tls": {"ipAddresses": ["10.0.0"]}}), "tls.ipAddresses must be IP addresses"),
        (
            "hello",
            json!({"tls": {"certificateDuration": "90d"}}),
            "tls.certificateDuration must be a time of at least 10m",
        ),
        (
            "hello",
            json!({"tls": {"certificateDuration": "9m"}}),
            "tls.certificateDuration must be a time of at least 10m",
        ),
        ("hello", json!({"tls": {"caDuration": "1s"}}), "tls.caDuration must be a time of at least 10m"),
        ("hello", json!({"tls": {"caOverlap": "59s"}}), "tls.caOverlap must be a time of at least 1m"),
        ("hello", json!({"tls": {"caOverlap": "6571h"}}), "tls.caDuration must be at least four times tls.caOverlap"),
        (
            "hello",
            json!({"tls": {"caDuration": "2159h", "caOverlap": "1h"}}),
            "tls.caDuration must not be less than tls.certificateDuration",
        ),
        (&"a".repeat(53), json!({}), "metadata.name must have at most 52 characters"),
        ("9lives", json!({}), "metadata.name must start with a letter"),
        ("a.b", json!({}), "metadata.name must start with a letter"),
    ] {
        let refusal = world.apply(name, spec.clone()).await.map(|_| ()).unwrap_err().to_string();
        assert!(refusal.contains(sentence), "{spec}: {refusal}");
    }
    let allowed = json!({
        "replicas": 0,
        "storage": {"size": 67_108_864},
        "resources": {"requests": {"cpu": 1, "memory": "1G"}, "limits": {"cpu": "1000m", "memory": "1Gi"}},
        "tls": {"dnsNames": ["*.mq.example.com", "mq"], "ipAddresses": ["::1"], "caOverlap": "1h30m"},
        "tolerations": [{"operator": "Exists"}, {"key": "a", "operator": "Equal", "value": "b"}, {"key": "c"}],
    });
    world.apply(&"a".repeat(52), allowed).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_volume_that_was_kept_and_is_another_is_said() {
    let world = World::new("volume").await;
    world.apply("hello", json!({"storage": {"size": "65Mi"}})).await.unwrap();
    world.reconcile("hello").await;
    world.await_stateful_set("hello", 1).await;
    world.api::<MessageQueue>().delete("hello", &DeleteParams::background()).await.unwrap();
    world.await_absence::<StatefulSet>("hello").await;
    world.await_absence::<Secret>("hello-default-user").await;

    world.apply("hello", json!({"replicas": 0, "storage": {"size": "64Mi"}})).await.unwrap();
    world.reconcile("hello").await;
    world.await_stateful_set("hello", 0).await;
    world.reconcile("hello").await;
    let degraded = find(&world.status("hello").await, DEGRADED).unwrap().clone();
    assert_eq!((degraded.status.as_str(), degraded.reason.as_str()), ("True", "VolumeDiffers"));
    let sentence = "the volume claim data-hello-0 has 65Mi, spec.storage.size says 64Mi; ";
    assert!(degraded.message.starts_with(sentence), "{}", degraded.message);
    assert_eq!(world.writes_of_reconcile("hello").await, 0);
    world.end().await;
}

#[tokio::test]
async fn a_queue_is_stopped_by_its_scale() {
    let world = World::new("scale").await;
    world.apply("hello", json!({"storage": {"size": "64Mi"}})).await.unwrap();
    let scale = Patch::Merge(json!({"spec": {"replicas": 0}}));
    world.api::<MessageQueue>().patch_scale("hello", &PatchParams::default(), &scale).await.unwrap();
    assert_eq!(world.api::<MessageQueue>().get("hello").await.unwrap().spec.replicas, 0);
    let scale = Patch::Merge(json!({"spec": {"replicas": 2}}));
    let refusal = world.api::<MessageQueue>().patch_scale("hello", &PatchParams::default(), &scale).await;
    assert!(refusal.map(|_| ()).unwrap_err().to_string().contains("replicas must be 0 or 1"));
    world.end().await;
}

#[tokio::test]
async fn the_class_of_a_volume_cannot_be_changed_and_its_deletion_policy_can() {
    let world = World::new("immutable").await;
    world.apply("hello", json!({"replicas": 0, "storage": {"size": "1Gi"}})).await.unwrap();
    world.reconcile("hello").await;
    let storage = json!({"size": "1Gi", "storageClassName": "fast"});
    let refusal = world.apply("hello", json!({"replicas": 0, "storage": storage})).await.map(|_| ()).unwrap_err();
    assert!(refusal.to_string().contains("storage.storageClassName cannot be changed"), "{refusal}");
    let storage = json!({"size": "1Gi", "deletionPolicy": "Delete"});
    world.apply("hello", json!({"replicas": 0, "storage": storage})).await.unwrap();
    world.reconcile("hello").await;
    let set = world.api::<StatefulSet>().get("hello").await.unwrap().spec.unwrap();
    assert_eq!(set.persistent_volume_claim_retention_policy.unwrap().when_deleted.as_deref(), Some("Delete"));
    world.end().await;
}

#[tokio::test]
async fn an_operator_killed_at_any_write_converges() {
    let world = World::new("killed").await;
    let mut writes = 0;
    loop {
        let mut completed = true;
        for cut in [Cut::Before(writes), Cut::After(writes)] {
            let name = format!("queue-{}", format!("{cut:?}").to_lowercase().replace(['(', ')'], ""));
            world.apply(&name, json!({"replicas": 0})).await.unwrap();
            let client = metered(&world.admin, Arc::default(), Some(cut));
            let dying = context(client.clone(), unwatched(), scalers(&client));
            completed &= reconcile(&dying, &world.namespace, &name).await.is_ok();
            check_convergence(&world, &name, cut).await;
        }
        if completed {
            break;
        }
        writes += 1;
    }
    // Nine objects and the status. A lost Event does not fail a reconcile.
    assert_eq!(writes, 10);
    world.end().await;
}

/// After an interruption, the next reconciles reach the same end, with the default user and authority that were made before
/// it.
async fn check_convergence(world: &World, name: &str, cut: Cut) {
    let secrets = world.api::<Secret>();
    let made = [format!("{name}-default-user"), format!("{name}-ca")];
    let mut before = Vec::new();
    for secret in &made {
        before.push(secrets.get_opt(secret).await.unwrap());
    }
    world.reconcile(name).await;
    world.await_stateful_set(name, 0).await;
    world.reconcile(name).await;
    assert_eq!(world.writes_of_reconcile(name).await, 0, "{cut:?}");
    for (secret, before) in made.iter().zip(before) {
        let after = secrets.get(secret).await.unwrap();
        // The binding tells whom to trust: its user is what must stay.
        let kept = |secret: &Secret| {
            let data = secret.data.clone().unwrap_or_default();
            ["username", "password", "tls.crt", "tls.key"].map(|key| data.get(key).cloned())
        };
        assert!(before.is_none_or(|before| kept(&before) == kept(&after)), "{cut:?} changed {secret}");
    }
}

#[tokio::test]
async fn another_authority_is_announced_before_it_signs_when_a_person_asks_for_it() {
    let world = World::new("rotation").await;
    let (secrets, config_maps) = (world.api::<Secret>(), world.api::<ConfigMap>());
    world.apply("hello", json!({"replicas": 0})).await.unwrap();
    world.reconcile("hello").await;
    let trusted = async || config_maps.get("hello-ca").await.unwrap().data.unwrap().remove("ca.crt").unwrap();
    let first = trusted().await;
    let leaf = secrets.get("hello-tls").await.unwrap().data.unwrap();
    assert_eq!(world.status("hello").await.certificate_authority.unwrap().name, "hello-ca");
    assert_eq!(find(&world.status("hello").await, TLS_READY).unwrap().reason, "Managed");

    let asked = json!({"metadata": {"annotations": {"warrenmq.dev/rotate-ca": "today"}}});
    world.api::<MessageQueue>().patch("hello", &PatchParams::default(), &Patch::Merge(asked)).await.unwrap();
    world.reconcile("hello").await;
    let both = trusted().await;
    assert!(both.starts_with(&first) && both.matches("BEGIN CERTIFICATE").count() == 2, "{both}");
    let binding = secrets.get("hello-default-user").await.unwrap().data.unwrap();
    assert_eq!(binding["ca.crt"].0, both.as_bytes());
    let after = secrets.get("hello-tls").await.unwrap().data.unwrap();
    assert_eq!((&after["tls.crt"], &after["tls.key"]), (&leaf["tls.crt"], &leaf["tls.key"]), "it does not sign yet");
    assert_eq!(world.writes_of_reconcile("hello").await, 0);
    world.end().await;
}

#[tokio::test]
async fn a_certificate_of_somebody_else_is_waited_for_and_its_authority_told() {
    let world = World::new("theirs").await;
    let tls = json!({"mode": "Secret", "secretName": "theirs"});
    world.apply("hello", json!({"replicas": 0, "tls": tls})).await.unwrap();
    assert_eq!(world.reconcile("hello").await, Outcome::Refused);
    let degraded = find(&world.status("hello").await, DEGRADED).unwrap().clone();
    assert_eq!(degraded.reason, "CertificateMissing");
    assert!(degraded.message.starts_with("Secret theirs has no tls.crt"), "{}", degraded.message);
    let entries = json!({"tls.crt": "certificate", "tls.key": "key", "ca.crt": "authority"});
    let secret = json!({"metadata": {"name": "theirs"}, "stringData": entries});
    let secret: Secret = serde_json::from_value(secret).unwrap();
    world.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
    assert_ne!(world.reconcile("hello").await, Outcome::Refused);
    let told = world.api::<ConfigMap>().get("hello-ca").await.unwrap().data.unwrap();
    assert_eq!(told["ca.crt"], "authority");
    assert_eq!(world.api::<Secret>().get_opt("hello-ca").await.unwrap(), None);
    world.end().await;
}

#[tokio::test]
async fn without_tls_it_is_said_that_there_is_none() {
    let world = World::new("disabled").await;
    world.apply("hello", json!({"replicas": 0, "tls": {"mode": "Disabled"}})).await.unwrap();
    world.reconcile("hello").await;
    let status = world.status("hello").await;
    let condition = find(&status, TLS_READY).unwrap();
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "Disabled"));
    assert_eq!(find(&status, DEGRADED).unwrap().status, "False");
    assert_eq!(status.certificate_authority, None);
    assert_eq!(status.address, Some(format!("hello.{}.svc:5672", world.namespace)));
    world.end().await;
}

#[tokio::test]
async fn a_foreign_object_is_left_as_it_is() {
    let world = World::new("foreign").await;
    let foreign = json!({"metadata": {"name": "hello-config"}, "data": {"mine": "yes"}});
    let foreign: ConfigMap = serde_json::from_value(foreign).unwrap();
    let made = world.api::<ConfigMap>().create(&PostParams::default(), &foreign).await.unwrap();
    world.apply("hello", json!({"replicas": 0})).await.unwrap();
    assert_eq!(world.reconcile("hello").await, Outcome::Refused);
    assert_eq!(world.api::<ConfigMap>().get("hello-config").await.unwrap(), made);
    let status = world.status("hello").await;
    let degraded = find(&status, DEGRADED).unwrap();
    assert_eq!((degraded.status.as_str(), degraded.reason.as_str()), ("True", "ForeignObject"));
    assert!(degraded.message.starts_with("ConfigMap hello-config exists"), "{}", degraded.message);
    assert_eq!(status.binding, None);
    assert_eq!(world.writes_of_reconcile("hello").await, 0);
    world.api::<ConfigMap>().delete("hello-config", &DeleteParams::default()).await.unwrap();
    world.reconcile("hello").await;
    assert_eq!(find(&world.status("hello").await, DEGRADED).unwrap().status, "False");
    world.end().await;
}

#[tokio::test]
async fn fields_that_are_wanted_no_longer_are_removed() {
    let world = World::new("removal").await;
    world.apply("hello", json!({"replicas": 0, "nodeSelector": {"disk": "fast"}})).await.unwrap();
    world.reconcile("hello").await;
    world.apply("hello", json!({"replicas": 0})).await.unwrap();
    world.reconcile("hello").await;
    assert_eq!(world.pod("hello").await.node_selector, None);
    world.end().await;
}

#[tokio::test]
async fn changes_by_others_are_undone_and_leave_no_trace() {
    let world = World::new("drift").await;
    world.apply("hello", json!({"replicas": 0, "resources": {"limits": {"cpu": 1}}})).await.unwrap();
    world.reconcile("hello").await;
    let another = PatchParams::default();
    let (services, sets) = (world.api::<Service>(), world.api::<StatefulSet>());
    let port = json!({"spec": {"ports": [{"name": "amqps", "port": 1234}]}});
    services.patch("hello", &another, &Patch::Merge(port)).await.unwrap();
    let intruder = json!({"spec": {"template": {"spec": {"containers": [{"name": "intruder", "image": "x"}]}}}});
    sets.patch("hello", &another, &Patch::Strategic(intruder)).await.unwrap();
    assert_eq!(world.pod("hello").await.containers.len(), 2);

    world.reconcile("hello").await;
    let ports = services.get("hello").await.unwrap().spec.unwrap().ports.unwrap();
    assert_eq!(ports.iter().map(|port| port.port).collect::<Vec<_>>(), [5671]);
    let containers = world.pod("hello").await.containers;
    assert_eq!(containers.iter().map(|container| container.name.as_str()).collect::<Vec<_>>(), ["broker"]);

    // The repair owns nothing, so what is wanted no longer still goes.
    world.apply("hello", json!({"replicas": 0})).await.unwrap();
    world.reconcile("hello").await;
    assert_eq!(world.pod("hello").await.containers[0].resources.clone().unwrap_or_default().limits, None);
    world.await_stateful_set("hello", 0).await;
    world.reconcile("hello").await;
    assert_eq!(world.writes_of_reconcile("hello").await, 0);
    world.end().await;
}

#[tokio::test]
async fn deletion_keeps_or_removes_the_volume_as_asked() {
    let world = World::new("deletion").await;
    for (name, policy) in [("kept", "Retain"), ("removed", "Delete")] {
        world.apply(name, json!({"storage": {"size": "64Mi", "deletionPolicy": policy}})).await.unwrap();
        world.reconcile(name).await;
        world.await_stateful_set(name, 1).await;
        world.api::<PersistentVolumeClaim>().get(&format!("data-{name}-0")).await.unwrap();
        world.api::<MessageQueue>().delete(name, &DeleteParams::background()).await.unwrap();
        world.await_absence::<StatefulSet>(name).await;
        world.await_absence::<Secret>(&format!("{name}-default-user")).await;
        assert_eq!(world.reconcile(name).await, Outcome::Gone);
    }
    world.await_absence::<PersistentVolumeClaim>("data-removed-0").await;
    let kept = world.api::<PersistentVolumeClaim>().get("data-kept-0").await.unwrap();
    assert_eq!(kept.metadata.deletion_timestamp, None);
    world.end().await;
}

#[tokio::test]
async fn a_new_queue_of_the_same_name_waits_for_the_old_ones_objects_to_go() {
    let world = World::new("successor").await;
    world.apply("hello", json!({"replicas": 0})).await.unwrap();
    world.reconcile("hello").await;
    // Orphaned, the old objects stay for good, which makes the race certain.
    let orphan = DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    world.api::<MessageQueue>().delete("hello", &orphan).await.unwrap();
    world.await_absence::<MessageQueue>("hello").await;
    world.apply("hello", json!({"replicas": 0})).await.unwrap();
    assert_eq!(world.reconcile("hello").await, Outcome::Refused);
    world.end().await;
}

#[tokio::test]
async fn events_tell_what_happened_once() {
    let world = World::new("events").await;
    world.apply("hello", json!({"replicas": 0})).await.unwrap();
    for _ in 0..3 {
        world.reconcile("hello").await;
    }
    let events = world.api::<Event>().list(&ListParams::default()).await.unwrap();
    let created: Vec<_> = events
        .iter()
        .filter(|event| event.regarding.as_ref().is_some_and(|about| about.kind.as_deref() == Some("MessageQueue")))
        .filter(|event| event.reason.as_deref() == Some("Created"))
        .collect();
    assert_eq!(created.len(), 1);
    assert!(created[0].series.is_none());
    assert!(created[0].note.as_deref().unwrap().contains("StatefulSet hello"));
    world.end().await;
}

#[tokio::test]
async fn the_controller_repairs_prunes_and_ends_when_asked() {
    let world = World::new("controller").await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (synced, in_sync) = tokio::sync::oneshot::channel::<()>();
    let shutdown = stopped.map(|_| ()).boxed().shared();
    let (client, scope) = (world.admin.clone(), Scope::Namespace(world.namespace.clone()));
    let (tell_metrics, metrics) = tokio::sync::oneshot::channel();
    let controller = tokio::spawn(async move {
        let of = client.clone();
        let synced = || synced.send(()).expect("the test waits for it");
        let with = move |owned, scalers, keepers| {
            let context = Context { keepers, ..context(of, owned, scalers) };
            tell_metrics.send(context.metrics.clone()).ok();
            context
        };
        control(&client, &scope, &Metrics::new().unwrap(), with, synced, shutdown).await;
    });
    within(in_sync).await.unwrap();
    let metrics = within(metrics).await.unwrap();

    let queue = world.apply("hello", json!({"replicas": 0})).await.unwrap();
    let stopped = |queue: Option<&MessageQueue>| {
        let status = queue.and_then(|queue| queue.status.as_ref());
        status.and_then(|status| find(status, READY)).is_some_and(|ready| ready.reason == "Stopped")
    };
    within(await_condition(world.api::<MessageQueue>(), "hello", stopped)).await.unwrap();

    let configs = world.api::<ConfigMap>();
    let old_uid = configs.get("hello-config").await.unwrap().uid();
    configs.delete("hello-config", &DeleteParams::default()).await.unwrap();
    let replaced = move |config: Option<&ConfigMap>| config.is_some_and(|config| config.uid() != old_uid);
    within(await_condition(configs.clone(), "hello-config", replaced)).await.unwrap();

    let mut leftover = configs.get("hello-config").await.unwrap();
    leftover.metadata = kube::core::ObjectMeta {
        name: Some("hello-of-an-older-release".into()),
        labels: leftover.metadata.labels,
        owner_references: Some(vec![queue.controller_owner_ref(&()).unwrap()]),
        ..Default::default()
    };
    configs.create(&PostParams::default(), &leftover).await.unwrap();
    world.await_absence::<ConfigMap>("hello-of-an-older-release").await;

    // Nothing of it changes when it goes, so that no reconcile says that it has gone.
    let count_is = async |count: &str| {
        let line = format!("warren_operator_message_queues{{result=\"settled\"}} {count}");
        while !String::from_utf8(metrics.encode().unwrap()).unwrap().contains(&line) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(count_is("1")).await;
    let orphan = DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    world.api::<MessageQueue>().delete("hello", &orphan).await.unwrap();
    within(count_is("0")).await;

    stop.send(()).unwrap();
    within(controller).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_reaches_the_status() {
    let world = World::new("image").await;
    world.apply("hello", json!({"storage": {"size": "64Mi"}})).await.unwrap();
    world.reconcile("hello").await;
    let failed = |pod: Option<&Pod>| {
        let statuses = pod.and_then(|pod| pod.status.clone()?.container_statuses).unwrap_or_default();
        let waiting = statuses.first().and_then(|broker| broker.state.clone()?.waiting?.reason);
        matches!(waiting.as_deref(), Some("ErrImagePull" | "ImagePullBackOff"))
    };
    within(await_condition(world.api::<Pod>(), "hello-0", failed)).await.unwrap();
    world.reconcile("hello").await;
    let ready = find(&world.status("hello").await, READY).unwrap().clone();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "ImagePullFailed"));
    assert!(ready.message.contains(IMAGE), "{}", ready.message);
    world.end().await;
}
