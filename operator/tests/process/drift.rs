//! What others do to the operator's objects, and kinds that appear while it runs.

use std::time::{Duration, Instant};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, CustomResourceExt, ResourceExt};
use serde_json::json;
use warren_operator::prometheus_operator::{PrometheusRule, ServiceMonitor};

use crate::cluster::{administrator, apply, make_namespace, remove_namespace, within};
use crate::operator::Operator;
use crate::proxy::Proxy;

/// From a change by somebody else until it is undone.
const REPAIR: Duration = Duration::from_secs(10);

/// From when a kind is there until the operator makes objects of it.
const DISCOVERY: Duration = Duration::from_secs(60);

fn api(client: &Client, namespace: &str, (group, version, kind): (&str, &str, &str)) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// Waits until `name` is there, and returns its uid.
async fn uid(api: &Api<DynamicObject>, name: &str) -> String {
    let exists = |object: Option<&DynamicObject>| object.is_some();
    within(await_condition(api.clone(), name, exists)).await.unwrap().unwrap().uid().unwrap()
}

async fn is_gone(api: &Api<DynamicObject>, name: &str) {
    within(await_condition(api.clone(), name, |object: Option<&DynamicObject>| object.is_none())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_deleted_or_changed_is_as_before_within_ten_seconds() {
    let admin = administrator().await;
    let namespace = make_namespace(&admin, "drift").await;
    let proxy = Proxy::start(admin.clone()).await;
    let _operator = Operator::start(&proxy, &namespace, &["--watch-namespaces", &namespace]);
    apply(&admin, &namespace, "hello", json!({"replicas": 0, "networkPolicy": {}})).await.unwrap();
    let kinds = [
        (("", "v1", "Secret"), "hello-default-user"),
        (("", "v1", "Secret"), "hello-ca"),
        (("", "v1", "Secret"), "hello-tls"),
        (("", "v1", "ConfigMap"), "hello-ca"),
        (("", "v1", "ConfigMap"), "hello-config"),
        (("", "v1", "Service"), "hello"),
        (("", "v1", "Service"), "hello-nodes"),
        (("policy", "v1", "PodDisruptionBudget"), "hello"),
        (("networking.k8s.io", "v1", "NetworkPolicy"), "hello"),
        (("apps", "v1", "StatefulSet"), "hello"),
    ];
    for (kind, name) in kinds {
        uid(&api(&admin, &namespace, kind), name).await;
    }
    // Every Secret has been looked at once by then.
    tokio::time::sleep(REPAIR / 2).await;
    // Secrets first and alone: nothing else may draw the operator's attention to them.
    let (secrets, others) = kinds.split_at(3);
    for group in [secrets, others] {
        delete_and_await(&admin, &namespace, group).await;
    }

    let services = api(&admin, &namespace, ("", "v1", "Service"));
    let other = json!({"spec": {"selector": {"app.kubernetes.io/instance": "other"}}});
    services.patch("hello", &PatchParams::default(), &Patch::Merge(other)).await.unwrap();
    let begun = Instant::now();
    let is_repaired = |object: Option<&DynamicObject>| {
        object.is_some_and(|object| object.data["spec"]["selector"]["app.kubernetes.io/instance"] == "hello")
    };
    within(await_condition(services, "hello", is_repaired)).await.unwrap();
    assert!(begun.elapsed() < REPAIR);
    remove_namespace(&admin, &namespace).await;
}

/// Deletes objects and measures how soon there are others of their names.
async fn delete_and_await(admin: &Client, namespace: &str, objects: &[((&str, &str, &'static str), &'static str)]) {
    let checks = objects.iter().map(|&(kind, name)| {
        let api = api(admin, namespace, kind);
        async move {
            let before = uid(&api, name).await;
            let begun = Instant::now();
            api.delete(name, &DeleteParams::background()).await.unwrap();
            let is_new = |object: Option<&DynamicObject>| object.is_some_and(|object| object.uid().unwrap() != before);
            within(await_condition(api.clone(), name, is_new)).await.unwrap();
            (kind.2, name, begun.elapsed())
        }
    });
    for (kind, name, elapsed) in futures::future::join_all(checks).await {
        eprintln!("{kind} {name} is back after {elapsed:?}");
        assert!(elapsed < REPAIR, "{kind} {name} took {elapsed:?}");
    }
}

/// A definition of a kind of the Prometheus operator that takes whatever is written.
fn definition<K: CustomResourceExt>() -> CustomResourceDefinition {
    let mut definition = K::crd();
    let open = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    definition.spec.versions[0].schema = serde_json::from_value(open).unwrap();
    definition
}

#[tokio::test(flavor = "multi_thread")]
async fn monitoring_begins_when_its_kinds_appear_and_ends_when_it_is_switched_off() {
    let _kinds = crate::KINDS.lock().await;
    let admin = administrator().await;
    let namespace = make_namespace(&admin, "monitoring").await;
    let proxy = Proxy::start(admin.clone()).await;
    let _operator = Operator::start(&proxy, &namespace, &["--watch-namespaces", &namespace]);
    apply(&admin, &namespace, "hello", json!({"replicas": 0})).await.unwrap();
    uid(&api(&admin, &namespace, ("apps", "v1", "StatefulSet")), "hello").await;

    let definitions: Api<CustomResourceDefinition> = Api::all(admin.clone());
    let begun = Instant::now();
    let kinds = [definition::<ServiceMonitor>(), definition::<PrometheusRule>()];
    for kind in &kinds {
        let parameters = PatchParams::apply("warren-tests").force();
        definitions.patch(&kind.name_any(), &parameters, &Patch::Apply(kind)).await.unwrap();
        within(await_condition(definitions.clone(), &kind.name_any(), conditions::is_crd_established())).await.unwrap();
    }
    let monitors = api(&admin, &namespace, ("monitoring.coreos.com", "v1", "ServiceMonitor"));
    let rules = api(&admin, &namespace, ("monitoring.coreos.com", "v1", "PrometheusRule"));
    let monitor = uid(&monitors, "hello").await;
    uid(&rules, "hello").await;
    eprintln!("ServiceMonitor and PrometheusRule were there {:?} after their kinds", begun.elapsed());
    assert!(begun.elapsed() < DISCOVERY);

    let begun = Instant::now();
    monitors.delete("hello", &DeleteParams::default()).await.unwrap();
    let is_new = |object: Option<&DynamicObject>| object.is_some_and(|object| object.uid().unwrap() != monitor);
    within(await_condition(monitors.clone(), "hello", is_new)).await.unwrap();
    assert!(begun.elapsed() < REPAIR);

    apply(&admin, &namespace, "hello", json!({"replicas": 0, "monitoring": {"alerts": false}})).await.unwrap();
    is_gone(&rules, "hello").await;
    monitors.get("hello").await.unwrap();
    apply(&admin, &namespace, "hello", json!({"replicas": 0, "monitoring": {"enabled": false}})).await.unwrap();
    is_gone(&monitors, "hello").await;
    for kind in &kinds {
        definitions.delete(&kind.name_any(), &DeleteParams::default()).await.unwrap();
    }
    remove_namespace(&admin, &namespace).await;
}
