//! The cluster that KUBECONFIG names, and what every test does there.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, CustomResourceExt, ResourceExt};
use serde_json::{Value, json};
use warren_operator::api::MessageQueue;

/// For what the cluster does in its own time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client that may do everything, in a cluster that knows MessageQueues.
pub(crate) async fn administrator() -> Client {
    let client = Client::try_default().await.expect("KUBECONFIG names a cluster");
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let (crd, parameters) = (MessageQueue::crd(), PatchParams::apply("warren-tests").force());
    api.patch(&crd.name_any(), &parameters, &Patch::Apply(&crd)).await.unwrap();
    within(await_condition(api, &crd.name_any(), conditions::is_crd_established())).await.unwrap();
    client
}

/// Makes a namespace for one test and returns its name.
pub(crate) async fn make_namespace(client: &Client, test: &str) -> String {
    let namespace = json!({"metadata": {"generateName": format!("{test}-")}});
    let namespace: Namespace = serde_json::from_value(namespace).unwrap();
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap().name_any()
}

/// Takes the namespace away, in its own time.
pub(crate) async fn remove_namespace(client: &Client, name: &str) {
    Api::<Namespace>::all(client.clone()).delete(name, &DeleteParams::background()).await.unwrap();
}

/// Applies a MessageQueue as a person would.
pub(crate) async fn apply(
    client: &Client,
    namespace: &str,
    name: &str,
    spec: Value,
) -> Result<MessageQueue, kube::Error> {
    let manifest = json!({
        "apiVersion": "warrenmq.dev/v1alpha1", "kind": "MessageQueue", "metadata": {"name": name}, "spec": spec,
    });
    let api: Api<MessageQueue> = Api::namespaced(client.clone(), namespace);
    api.patch(name, &PatchParams::apply("person").force(), &Patch::Apply(manifest)).await
}

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("the cluster does it within a minute")
}
