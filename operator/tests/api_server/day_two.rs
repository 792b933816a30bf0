//! What happens to a MessageQueue after its first day.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use warren_operator::api::MessageQueue;
use warren_operator::growth::requested;
use warren_operator::reconcile::{Outcome, reconcile};
use warren_operator::status::{DEGRADED, PAUSED, READY, UPGRADE_PENDING, find};
use warren_operator::validate::belongs_to;

use crate::cluster::within;
use crate::world::{Cut, World, context, metered, scalers, unwatched};

impl World {
    /// Annotates a MessageQueue as a person would. `Null` takes the annotation away.
    async fn annotate(&self, name: &str, key: &str, value: Value) {
        let annotations = json!({"metadata": {"annotations": {key: value}}});
        self.api::<MessageQueue>().patch(name, &PatchParams::default(), &Patch::Merge(annotations)).await.unwrap();
    }

    /// The reasons of Events about MessageQueue `name`.
    async fn event_reasons(&self, name: &str) -> Vec<String> {
        let events = self.api::<Event>().list(&ListParams::default()).await.unwrap();
        let is_about =
            |event: &Event| event.regarding.as_ref().is_some_and(|about| about.name.as_deref() == Some(name));
        events.into_iter().filter(is_about).filter_map(|event| event.reason).collect()
    }
}

#[tokio::test]
async fn a_paused_queue_is_left_as_it_is_until_the_annotation_is_gone() {
    let world = World::new("paused").await;
    world.apply("hello", json!({"replicas": 0})).await.unwrap();
    world.reconcile("hello").await;
    world.await_stateful_set("hello", 0).await;
    world.reconcile("hello").await;
    world.annotate("hello", "warrenmq.dev/paused", json!("true")).await;
    world.apply("hello", json!({"replicas": 0, "image": "localhost:1/other"})).await.unwrap();
    let services = world.api::<Service>();
    services.delete("hello", &DeleteParams::default()).await.unwrap();
    let version = async || world.api::<StatefulSet>().get("hello").await.unwrap().resource_version();
    let before = version().await;

    assert_eq!(world.reconcile("hello").await, Outcome::Paused);
    assert_eq!(world.writes_of_reconcile("hello").await, 0, "the pause is told once");
    let status = world.status("hello").await;
    assert_eq!(find(&status, PAUSED).unwrap().status, "True");
    assert_eq!(find(&status, READY).unwrap().reason, "Stopped");
    assert_eq!(status.observed_generation, Some(1), "the second generation was not carried out");
    assert_eq!((version().await, services.get_opt("hello").await.unwrap().is_some()), (before, false));

    world.annotate("hello", "warrenmq.dev/paused", Value::Null).await;
    world.reconcile("hello").await;
    assert_eq!(world.pod("hello").await.containers[0].image.as_deref(), Some("localhost:1/other"));
    assert!(services.get_opt("hello").await.unwrap().is_some());
    let status = world.status("hello").await;
    assert_eq!((find(&status, PAUSED), status.observed_generation), (None, Some(2)));
    let reasons = world.event_reasons("hello").await;
    assert!(["Paused", "Resumed"].iter().all(|reason| reasons.contains(&(*reason).to_owned())), "{reasons:?}");
    world.end().await;
}

impl World {
    /// A class of volumes that can be enlarged, for this test alone. Its name is the namespace's.
    async fn make_growing_class(&self) -> String {
        let class = json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": self.namespace},
            "provisioner": "warrenmq.dev/local-directory", "volumeBindingMode": "WaitForFirstConsumer",
            "allowVolumeExpansion": true,
        });
        let class: StorageClass = serde_json::from_value(class).unwrap();
        Api::all(self.admin.clone()).create(&PostParams::default(), &class).await.unwrap().name_any()
    }

    /// Waits for the claim of the queue's first broker to have a volume.
    async fn await_volume(&self, name: &str) {
        let is_bound = |claim: Option<&PersistentVolumeClaim>| {
            let phase = claim.and_then(|claim| claim.status.as_ref()?.phase.as_deref());
            phase == Some("Bound")
        };
        within(await_condition(self.api(), &format!("data-{name}-0"), is_bound)).await.unwrap();
    }

    async fn claim_size(&self, name: &str) -> String {
        let claim: PersistentVolumeClaim = self.api().get(&format!("data-{name}-0")).await.unwrap();
        requested(&claim).unwrap().0.clone()
    }
}

#[tokio::test]
async fn a_volume_grows_under_the_same_pod() {
    let world = World::new("growth").await;
    let class = world.make_growing_class().await;
    let storage = |size: &str| json!({"storage": {"size": size, "storageClassName": class}});
    world.apply("hello", storage("64Mi")).await.unwrap();
    world.reconcile("hello").await;
    world.await_volume("hello").await;
    let (pods, sets) = (world.api::<Pod>(), world.api::<StatefulSet>());
    let (pod, set) = (pods.get("hello-0").await.unwrap().uid(), sets.get("hello").await.unwrap().uid());

    world.apply("hello", storage("128Mi")).await.unwrap();
    world.reconcile("hello").await;
    assert_eq!(world.claim_size("hello").await, "128Mi");
    let next = sets.get("hello").await.unwrap();
    assert_ne!(next.uid(), set, "a template cannot be changed");
    let template = next.spec.as_ref().unwrap().volume_claim_templates.as_ref().unwrap()[0].clone();
    assert_eq!(requested(&template).unwrap().0, "128Mi");
    let owner = next.uid().unwrap();
    let is_taken_over = move |pod: Option<&Pod>| pod.is_some_and(|pod| belongs_to(pod, &owner));
    let kept = within(await_condition(pods, "hello-0", is_taken_over)).await.unwrap().unwrap();
    assert_eq!((kept.uid(), kept.metadata.deletion_timestamp), (pod, None), "the pod is the one that was there");

    world.reconcile("hello").await;
    assert_eq!(world.status("hello").await.volume_size.as_deref(), Some("128Mi"));
    let refusal = world.apply("hello", storage("64Mi")).await.map(|_| ()).unwrap_err().to_string();
    assert!(refusal.contains("spec.storage.size cannot be less than what the volume has"), "{refusal}");
    Api::<StorageClass>::all(world.admin.clone()).delete(&class, &DeleteParams::default()).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_volume_that_cannot_grow_is_said_and_the_size_may_be_set_back() {
    let world = World::new("rigid").await;
    let apply = async |size: &str| world.apply("hello", json!({"storage": {"size": size}})).await;
    apply("64Mi").await.unwrap();
    world.reconcile("hello").await;
    world.await_volume("hello").await;
    let set = world.api::<StatefulSet>().get("hello").await.unwrap().uid();

    apply("1Gi").await.unwrap();
    world.reconcile("hello").await;
    let degraded = find(&world.status("hello").await, DEGRADED).unwrap().clone();
    assert_eq!(degraded.reason, "VolumeCannotGrow");
    assert!(degraded.message.contains("must support resize"), "{}", degraded.message);
    assert_eq!(
        (world.claim_size("hello").await.as_str(), world.status("hello").await.volume_size.as_deref()),
        ("64Mi", Some("64Mi"))
    );

    apply("64Mi").await.unwrap();
    world.reconcile("hello").await;
    assert_ne!(find(&world.status("hello").await, DEGRADED).unwrap().reason, "VolumeCannotGrow");
    assert_eq!(world.api::<StatefulSet>().get("hello").await.unwrap().uid(), set);
    world.end().await;
}

#[tokio::test]
async fn a_queue_sleeps_and_wakes_with_the_same_volume() {
    let world = World::new("sleep").await;
    let apply = async |replicas: i32| {
        world.apply("hello", json!({"replicas": replicas, "storage": {"size": "64Mi"}})).await.unwrap();
        world.reconcile("hello").await;
        world.await_stateful_set("hello", replicas).await;
    };
    apply(1).await;
    world.await_volume("hello").await;
    let claims = world.api::<PersistentVolumeClaim>();
    let claim = claims.get("data-hello-0").await.unwrap().uid();
    apply(0).await;
    world.await_absence::<Pod>("hello-0").await;
    world.reconcile("hello").await;
    assert_eq!(find(&world.status("hello").await, READY).unwrap().reason, "Stopped");
    apply(1).await;
    assert_eq!(claims.get("data-hello-0").await.unwrap().uid(), claim);
    world.end().await;
}

#[tokio::test]
async fn nothing_of_a_queue_waits_for_the_operator_or_a_broker_when_it_is_deleted() {
    let world = World::new("finalizers").await;
    world.apply("hello", json!({"replicas": 0})).await.unwrap();
    world.reconcile("hello").await;
    assert_eq!(world.api::<MessageQueue>().get("hello").await.unwrap().finalizers(), Vec::<String>::new());
    // From here on there is no operator, and there has never been a broker.
    world.api::<MessageQueue>().delete("hello", &DeleteParams::foreground()).await.unwrap();
    world.await_absence::<MessageQueue>("hello").await;
    world.await_absence::<StatefulSet>("hello").await;
    world.await_absence::<Secret>("hello-ca").await;
    world.end().await;
}

#[tokio::test]
async fn another_release_of_the_operator_leaves_the_broker_until_a_restart_is_asked_for() {
    let world = World::new("release").await;
    world.apply("hello", json!({"replicas": 0})).await.unwrap();
    world.reconcile("hello").await;
    // As if an earlier release had made it, and had probed the broker otherwise.
    let container = json!({"name": "broker", "startupProbe": {"periodSeconds": 9}});
    let earlier = json!({
        "metadata": {"annotations": {"warrenmq.dev/release": "0.0.1"}},
        "spec": {"template": {"spec": {"containers": [container]}}},
    });
    let sets = world.api::<StatefulSet>();
    sets.patch("hello", &PatchParams::default(), &Patch::Strategic(earlier)).await.unwrap();
    let period = async || world.pod("hello").await.containers[0].startup_probe.clone().unwrap().period_seconds;
    let made = async || sets.get("hello").await.unwrap().metadata.generation;
    let before = made().await;

    world.reconcile("hello").await;
    world.reconcile("hello").await;
    assert_eq!((period().await, made().await), (Some(9), before));
    assert_eq!(world.writes_of_reconcile("hello").await, 0);
    assert_eq!(find(&world.status("hello").await, UPGRADE_PENDING).unwrap().reason, "OtherRelease");
    assert!(world.event_reasons("hello").await.contains(&"UpgradePending".to_owned()));

    world.annotate("hello", "warrenmq.dev/restart", json!("today")).await;
    world.reconcile("hello").await;
    assert_eq!(period().await, Some(1));
    assert_eq!(find(&world.status("hello").await, UPGRADE_PENDING), None);
    world.end().await;
}

#[tokio::test]
async fn an_operator_killed_while_a_volume_grows_converges_under_the_same_pod() {
    let world = World::new("growth-killed").await;
    let class = world.make_growing_class().await;
    let apply = async |size: usize| {
        let storage = json!({"size": format!("{size}Mi"), "storageClassName": class});
        world.apply("hello", json!({"storage": storage})).await.unwrap();
    };
    apply(64).await;
    world.reconcile("hello").await;
    world.await_volume("hello").await;
    let pod = world.api::<Pod>().get("hello-0").await.unwrap().uid();
    let mut size = 64;
    let (mut writes, mut completed) = (0, false);
    while !completed {
        completed = true;
        for cut in [Cut::Before(writes), Cut::After(writes)] {
            size += 1;
            apply(size).await;
            let client = metered(&world.admin, Arc::default(), Some(cut));
            let dying = context(client.clone(), unwatched(), scalers(&client));
            completed &= reconcile(&dying, &world.namespace, "hello").await.is_ok();
            world.reconcile("hello").await;
            assert_eq!(world.claim_size("hello").await, format!("{size}Mi"), "{cut:?}");
            let set = world.api::<StatefulSet>().get("hello").await.unwrap();
            let template = set.spec.unwrap().volume_claim_templates.unwrap().remove(0);
            assert_eq!(requested(&template).unwrap().0, format!("{size}Mi"), "{cut:?}");
            assert_eq!(world.api::<Pod>().get("hello-0").await.unwrap().uid(), pod, "{cut:?}");
        }
        writes += 1;
    }
    // The claim grows, the StatefulSet goes and comes, and the status is written.
    assert!(writes > 4, "{writes}");
    Api::<StorageClass>::all(world.admin.clone()).delete(&class, &DeleteParams::default()).await.unwrap();
    world.end().await;
}
