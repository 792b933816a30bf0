//! What happens to a MessageQueue after its first day.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use warren_operator::api::MessageQueue;
use warren_operator::reconcile::Outcome;
use warren_operator::status::{PAUSED, READY, find};

use crate::world::World;

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
