//! A namespace for each test, and clients that count and cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, Request};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PodSpec;
use kube::client::Body;
use kube::runtime::events::Recorder;
use kube::runtime::reflector;
use kube::runtime::wait::await_condition;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::{Instant, sleep};
use tower::service_fn;
use warren_operator::api::{ConsumerStatus, MessageQueue, MessageQueueStatus};
use warren_operator::consumers::scaler::Scalers;
use warren_operator::consumers::series::ConsumerSeries;
use warren_operator::declarations::keeper::Keepers;
use warren_operator::metrics::Metrics;
use warren_operator::owned::Owned;
use warren_operator::prometheus_operator::Kinds;
use warren_operator::reconcile::{Context, Outcome, reconcile};
use warren_operator::token_reviews::TokenReviews;

use crate::cluster::{self, administrator, make_namespace, remove_namespace, within};

pub(crate) const IMAGE: &str = "localhost:1/warren/nowhere:test";

/// A namespace for one test, and a client that counts its write requests.
pub(crate) struct World {
    pub(crate) admin: Client,
    pub(crate) namespace: String,
    pub(crate) writes: Arc<AtomicUsize>,
    pub(crate) context: Context,
}

impl World {
    pub(crate) async fn new(test: &str) -> Self {
        let admin = administrator().await;
        let namespace = make_namespace(&admin, test).await;
        let writes = Arc::new(AtomicUsize::new(0));
        let client = metered(&admin, writes.clone(), None);
        Self { namespace, writes, context: context(client.clone(), unwatched(), scalers(&client)), admin }
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.admin.clone(), &self.namespace)
    }

    /// Applies a MessageQueue as a person would.
    pub(crate) async fn apply(&self, name: &str, spec: Value) -> Result<MessageQueue, kube::Error> {
        cluster::apply(&self.admin, &self.namespace, name, spec).await
    }

    pub(crate) async fn reconcile(&self, name: &str) -> Outcome {
        reconcile(&self.context, &self.namespace, name).await.unwrap().outcome
    }

    /// Write requests of one reconcile.
    pub(crate) async fn writes_of_reconcile(&self, name: &str) -> usize {
        let before = self.writes.load(Ordering::SeqCst);
        self.reconcile(name).await;
        self.writes.load(Ordering::SeqCst) - before
    }

    pub(crate) async fn status(&self, name: &str) -> MessageQueueStatus {
        self.api::<MessageQueue>().get(name).await.unwrap().status.unwrap()
    }

    /// Waits for the StatefulSet's controller to have seen the newest specification and reached `replicas`.
    pub(crate) async fn await_stateful_set(&self, name: &str, replicas: i32) {
        let seen = move |set: Option<&StatefulSet>| {
            set.is_some_and(|set| {
                let status = set.status.clone().unwrap_or_default();
                status.observed_generation == set.metadata.generation && status.replicas == replicas
            })
        };
        within(await_condition(self.api::<StatefulSet>(), name, seen)).await.unwrap();
    }

    /// Waits until a consumer of `queue` is said to have as many pods as it has for `reason`.
    pub(crate) async fn until_reason(&self, queue: &MessageQueue, reason: &str) -> ConsumerStatus {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let statuses = self.context.scalers.statuses(queue, &[]);
            if let Some(status) = statuses.into_iter().find(|status| status.reason == reason) {
                return status;
            }
            assert!(Instant::now() < end, "it never becomes {reason}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// What the StatefulSet says about its pods.
    pub(crate) async fn pod(&self, name: &str) -> PodSpec {
        self.api::<StatefulSet>().get(name).await.unwrap().spec.unwrap().template.spec.unwrap()
    }

    pub(crate) async fn await_absence<K>(&self, name: &str)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
    {
        within(await_condition(self.api::<K>(), name, |object: Option<&K>| object.is_none())).await.unwrap();
    }

    pub(crate) async fn end(self) {
        remove_namespace(&self.admin, &self.namespace).await;
    }
}

/// For reconciles of which nobody hears.
pub(crate) fn scalers(client: &Client) -> Arc<Scalers> {
    Arc::new(Scalers::new(client.clone(), unbounded_channel().0, ConsumerSeries::new().unwrap()))
}

pub(crate) fn context(client: Client, owned: Owned, scalers: Arc<Scalers>) -> Context {
    let metrics = Arc::new(Metrics::new().unwrap());
    Context {
        token_reviews: TokenReviews::new(client.clone(), metrics.clone(), None, Vec::new()),
        metrics,
        keepers: Arc::new(Keepers::new(client.clone(), unbounded_channel().0)),
        scalers,
        cluster_domain: "cluster.local".into(),
        operator_namespace: Some("warren".into()),
        recorder: Recorder::new(client.clone(), "warren-operator".into()),
        client,
        owned,
        broker_image: IMAGE.into(),
    }
}

/// What watches know before they have started.
pub(crate) fn unwatched() -> Owned {
    Owned {
        stateful_sets: reflector::store().0,
        services: reflector::store().0,
        config_maps: reflector::store().0,
        disruption_budgets: reflector::store().0,
        network_policies: reflector::store().0,
        service_monitors: reflector::store().0,
        prometheus_rules: reflector::store().0,
        service_accounts: reflector::store().0,
        kinds: tokio::sync::watch::channel(Kinds::default()).1,
    }
}

/// When a client loses its connection for good.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// Before the write request with this number reaches the API server.
    Before(usize),
    /// After it was carried out, but before the answer arrives.
    After(usize),
}

/// A client that counts its write requests, and stops working at `cut`.
pub(crate) fn metered(inner: &Client, writes: Arc<AtomicUsize>, cut: Option<Cut>) -> Client {
    let inner = inner.clone();
    let service = service_fn(move |request: Request<Body>| {
        let (inner, writes) = (inner.clone(), writes.clone());
        async move {
            let lost = || std::io::Error::other("the connection is lost");
            let is_write = request.method() != Method::GET;
            let number = if is_write { writes.fetch_add(1, Ordering::SeqCst) } else { writes.load(Ordering::SeqCst) };
            if matches!(cut, Some(Cut::Before(at)) if number >= at) {
                return Err(lost());
            }
            let answer = inner.send(request).await.map_err(std::io::Error::other)?;
            match cut {
                Some(Cut::After(at)) if is_write && number >= at => Err(lost()),
                _ => Ok(answer),
            }
        }
    });
    Client::new(service, "default")
}
