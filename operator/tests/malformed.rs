//! A MessageQueue that this release cannot read fails alone, and a person hears of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use kube::runtime::events::Recorder;
use kube::runtime::reflector;
use serde_json::{Value, json};
use tokio::sync::mpsc::unbounded_channel;
use tower::service_fn;
use warren_operator::consumers::scaler::Scalers;
use warren_operator::declarations::keeper::Keepers;
use warren_operator::metrics::Metrics;
use warren_operator::observe::ObserveError;
use warren_operator::owned::Owned;
use warren_operator::prometheus_operator::Kinds;
use warren_operator::reconcile::{Context, ReconcileError, reconcile};
use warren_operator::token_reviews::TokenReviews;

/// An API server that has one object, and notes what is written to it.
fn server_with(object: Value, written: Arc<Mutex<Vec<Value>>>) -> Client {
    let service = service_fn(move |request: Request<Body>| {
        let (object, written) = (object.clone(), written.clone());
        async move {
            let body = match *request.method() {
                Method::GET => object,
                _ => {
                    let octets = request.into_body().collect_bytes().await.map_err(std::io::Error::other)?;
                    let body: Value = serde_json::from_slice(&octets)?;
                    written.lock().unwrap().push(body.clone());
                    body
                }
            };
            Ok::<_, std::io::Error>(Response::new(Body::from(serde_json::to_vec(&body)?)))
        }
    });
    Client::new(service, "default")
}

#[tokio::test]
async fn a_message_queue_of_another_definition_is_reported_and_left_alone() {
    let written = Arc::default();
    let queue = json!({
        "apiVersion": "warrenmq.dev/v1alpha1",
        "kind": "MessageQueue",
        "metadata": {"name": "hello", "namespace": "default", "uid": "1"},
        "spec": {"replicas": "many"},
    });
    let client = server_with(queue, Arc::clone(&written));
    let metrics = Arc::new(Metrics::new().unwrap());
    let context = Context {
        token_reviews: TokenReviews::new(client.clone(), metrics.clone(), None, Vec::new()),
        keepers: Arc::new(Keepers::new(client.clone(), unbounded_channel().0)),
        scalers: Arc::new(Scalers::new(client.clone(), unbounded_channel().0, metrics.consumers.clone())),
        cluster_domain: "cluster.local".into(),
        operator_namespace: Some("warren".into()),
        recorder: Recorder::new(client.clone(), "warren-operator".into()),
        metrics,
        client,
        owned: Owned {
            stateful_sets: reflector::store().0,
            services: reflector::store().0,
            config_maps: reflector::store().0,
            disruption_budgets: reflector::store().0,
            network_policies: reflector::store().0,
            service_monitors: reflector::store().0,
            prometheus_rules: reflector::store().0,
            service_accounts: reflector::store().0,
            kinds: tokio::sync::watch::channel(Kinds::default()).1,
        },
        broker_image: "broker".into(),
    };
    let error = reconcile(&context, "default", "hello").await.unwrap_err();
    assert!(matches!(&error, ReconcileError::Observe(ObserveError::Malformed { .. })), "{error}");
    let written = written.lock().unwrap();
    assert_eq!(written.len(), 1, "{written:?}");
    assert_eq!(written[0]["reason"], "Malformed");
    assert_eq!(written[0]["regarding"]["name"], "hello");
    assert!(
        written[0]["note"].as_str().unwrap().contains("replicas")
            || written[0]["note"].as_str().unwrap().contains("many")
    );
}
