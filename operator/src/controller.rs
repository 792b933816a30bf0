//! Watches MessageQueues and everything that belongs to them, and runs a reconcile for each that may have changed.
//!
//! All watches carry metadata only: it says that something changed, which is all a trigger needs. It also means that one
//! MessageQueue that this release cannot read cannot stop the watch of all others; only its own reconcile fails.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, Shared};
use futures::stream::Stream;
use futures::{FutureExt, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::controller::{Action, Config as ControllerConfig, Controller, Error as ControllerError};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::api::MessageQueue;
use crate::backoff::{Backoff, jittered};
use crate::consumers::scaler::Scalers;
use crate::declarations::keeper::Keepers;
use crate::metrics::Metrics;
use crate::names::{FIELD_MANAGER, INSTANCE_LABEL, MANAGED_BY_LABEL};
use crate::owned::Owned;
use crate::prometheus_operator::{self, Kinds};
use crate::reconcile::{Context, Outcome, ReconcileError, Reconciled, reconcile};
use crate::secret_changes;

/// Reconciles that run at the same time, per watched namespace (or for all, if all are watched).
const CONCURRENCY_MAX: u16 = 16;

/// How long a settled MessageQueue stays unread. Nothing waits for this that anybody could have noticed before.
const RESYNC_PERIOD: Duration = Duration::from_secs(300);

/// How soon a MessageQueue that is still changing is read again, for states that no watched object reports.
const PROGRESS_PERIOD: Duration = Duration::from_secs(15);

/// Certificates are due at a whole second.
const DUE_MARGIN: Duration = Duration::from_secs(1);

/// How soon a refused MessageQueue is read again: what it was refused for may not be watched.
const REFUSED_PERIOD: Duration = Duration::from_secs(30);

/// How soon what runs for a MessageQueue ends that is there no more. Its deletion alone triggers nothing.
const FORGET_PERIOD: Duration = Duration::from_secs(5);

/// How long one reconcile may take. An API server that takes requests and does not answer must not hold up others for longer.
const RECONCILE_TIMEOUT: Duration = Duration::from_secs(30);

/// A MessageQueue as the watch sees it.
pub type QueueMeta = PartialObjectMeta<MessageQueue>;

/// What ends the operator: resolves once, for everybody who holds a clone.
pub type Shutdown = Shared<BoxFuture<'static, ()>>;

/// The namespaces of one controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every namespace; needs a ClusterRole.
    All,
    /// One namespace; a Role in it is enough.
    Namespace(String),
}

impl Scope {
    /// Whether the namespace is one of it.
    pub fn has(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Namespace(name) => name == namespace,
        }
    }

    fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match self {
            Self::All => Api::all(client.clone()),
            Self::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }
}

/// The reconciler's context and what its retries need.
struct Shelf {
    context: Context,
    backoff: Backoff,
}

/// Runs the controller for `scope` until `shutdown`; running reconciles end first. `context_with` gets what the watches
/// know, and `synced` is called once all watches have delivered what exists.
pub async fn control(
    client: &Client,
    scope: &Scope,
    metrics: &Metrics,
    context_with: impl FnOnce(Owned, Arc<Scalers>, Arc<Keepers>) -> Context,
    synced: impl FnOnce() + Send,
    shutdown: Shutdown,
) {
    // MessageQueues that are to be looked at, for reasons that no watch tells.
    let (changed, mut changes_told) = tokio::sync::mpsc::unbounded_channel();
    let told = futures::stream::poll_fn(move |context| changes_told.poll_recv(context));
    let keepers = Arc::new(Keepers::new(client.clone(), changed.clone()));
    let scalers = Arc::new(Scalers::new(client.clone(), changed.clone(), metrics.consumers.clone()));
    let (stateful_sets, stateful_set_changes) = watch_owned(scope.api(client));
    let (services, service_changes) = watch_owned(scope.api(client));
    let (config_maps, config_map_changes) = watch_owned(scope.api(client));
    let (disruption_budgets, disruption_budget_changes) = watch_owned(scope.api(client));
    let (network_policies, network_policy_changes) = watch_owned(scope.api(client));
    let (service_accounts, service_account_changes) = watch_owned(scope.api(client));
    let (found, kinds) = watch::channel(Kinds::default());
    let (service_monitors, service_monitor_changes) =
        watch_when(scope.api(client), kinds.clone(), |kinds| kinds.service_monitors);
    let (prometheus_rules, prometheus_rule_changes) =
        watch_when(scope.api(client), kinds.clone(), |kinds| kinds.prometheus_rules);
    let kinds_changed = prometheus_operator::changes(kinds.clone());
    let owned = Owned {
        stateful_sets,
        services,
        config_maps,
        disruption_budgets,
        network_policies,
        service_monitors,
        prometheus_rules,
        service_accounts: service_accounts.clone(),
        kinds,
    };
    let controller = Controller::new(scope.api::<QueueMeta>(client), watcher::Config::default())
        .with_config(ControllerConfig::default().concurrency(CONCURRENCY_MAX))
        .owns_stream(stateful_set_changes)
        .owns_stream(service_changes)
        .owns_stream(config_map_changes)
        .owns_stream(disruption_budget_changes)
        .owns_stream(network_policy_changes)
        .owns_stream(service_account_changes)
        .owns_stream(service_monitor_changes)
        .owns_stream(prometheus_rule_changes)
        .reconcile_all_on(kinds_changed)
        .watches_stream(changes(scope.api::<PartialObjectMeta<Pod>>(client)), queue_of_pod)
        .reconcile_on(told)
        .graceful_shutdown_on(shutdown.clone());
    let queues = controller.store();
    let ready = all_synced(queues.clone(), owned.clone()).map(|()| synced());
    let shelf = Arc::new(Shelf { context: context_with(owned, scalers, keepers), backoff: Backoff::default() });
    let reconciles = controller.run(run_one, retry, shelf.clone()).for_each(|ended| {
        if let Err(ControllerError::QueueError(error)) = ended {
            metrics.watch_errors.inc();
            warn!(%error, "a watch was interrupted and starts again");
        }
        std::future::ready(())
    });
    // A watch that never starts must not keep the operator from ending.
    let ready = futures::future::select(Box::pin(ready), shutdown.clone());
    tokio::select! {
        _ = async { futures::join!(reconciles, ready) } => {}
        () = prometheus_operator::discover(client, found) => {}
        () = secret_changes::notice(client, &queues, &changed) => {}
        () = shelf.context.token_reviews.keep(scope, &service_accounts, &queues, &changed) => {}
        () = forget_the_deleted(&queues, &shelf) => {}
        () = ends_before_it_begins(&queues, shutdown) => {}
    }
}

/// Resolves at a shutdown before the first reconcile. The controller, which waits for its watch then, would wait for ever.
async fn ends_before_it_begins(queues: &Store<QueueMeta>, shutdown: Shutdown) {
    tokio::select! {
        biased;
        _ = queues.wait_until_ready() => std::future::pending().await,
        () = shutdown => {}
    }
}

/// Ends what runs, and drops what is remembered, for MessageQueues that are there no more. Never ends itself.
async fn forget_the_deleted(queues: &Store<QueueMeta>, shelf: &Shelf) {
    // Until all are known, nothing is gone. A store whose writer has gone has no more changes.
    if queues.wait_until_ready().await.is_err() {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(FORGET_PERIOD).await;
        let is_there = |namespace: &str, name: &str| queues.get(&ObjectRef::new(name).within(namespace)).is_some();
        shelf.context.scalers.keep_only(is_there);
        shelf.context.keepers.keep_only(is_there);
        shelf.context.metrics.keep_only(is_there);
        shelf.backoff.keep_only(is_there);
    }
}

async fn run_one(queue: Arc<QueueMeta>, shelf: Arc<Shelf>) -> Result<Action, ReconcileError> {
    let (namespace, name) = (queue.namespace().unwrap_or_default(), queue.name_any());
    let metrics = &shelf.context.metrics;
    let timer = metrics.reconcile_duration.start_timer();
    let reconciled = tokio::time::timeout(RECONCILE_TIMEOUT, reconcile(&shelf.context, &namespace, &name)).await;
    let result = reconciled.unwrap_or(Err(ReconcileError::Timeout { after: RECONCILE_TIMEOUT }));
    timer.observe_duration();
    let label = result.as_ref().map_or("error", |reconciled| reconciled.outcome.label());
    metrics.reconciled(&namespace, &name, label);
    let reconciled = result?;
    shelf.backoff.succeeded(&namespace, &name);
    Ok(next_look(&reconciled))
}

fn next_look(reconciled: &Reconciled) -> Action {
    let period = match reconciled.outcome {
        Outcome::Settled | Outcome::Paused => RESYNC_PERIOD,
        Outcome::Progressing => PROGRESS_PERIOD,
        Outcome::Refused => REFUSED_PERIOD,
        Outcome::Gone => return Action::await_change(),
    };
    // What is due in no time was not done because of a refusal, and is no reason to hurry.
    let due = reconciled.due_in.filter(|due| !due.is_zero()).unwrap_or(period);
    Action::requeue(jittered(period).min(due + DUE_MARGIN))
}

fn retry(queue: Arc<QueueMeta>, error: &ReconcileError, shelf: Arc<Shelf>) -> Action {
    let (namespace, name) = (queue.namespace().unwrap_or_default(), queue.name_any());
    shelf.context.metrics.reconcile_errors.with_label_values(&[error.step()]).inc();
    let delay = shelf.backoff.failed(&namespace, &name);
    warn!(object = format!("{namespace}/{name}"), step = error.step(), %error, ?delay, "reconcile failed and is tried again");
    Action::requeue(delay)
}

/// The objects of one kind that carry our label, kept in a store, and a stream of those that changed or went away.
fn watch_owned<K>(
    api: Api<PartialObjectMeta<K>>,
) -> (Store<PartialObjectMeta<K>>, impl Stream<Item = Result<PartialObjectMeta<K>, watcher::Error>> + Send)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let stream = watcher(api, labelled()).default_backoff().modify(trim).reflect(writer).touched_objects();
    (store, stream)
}

/// Like [`watch_owned`], for a kind that the cluster need not have: it is watched from when it is there.
fn watch_when<K>(
    api: Api<PartialObjectMeta<K>>,
    mut kinds: watch::Receiver<Kinds>,
    is_there: fn(&Kinds) -> bool,
) -> (Store<PartialObjectMeta<K>>, impl Stream<Item = Result<PartialObjectMeta<K>, watcher::Error>> + Send)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let appeared = async move {
        // The sender lives as long as the controller.
        let _ = kinds.wait_for(is_there).await;
        watcher(api, labelled()).default_backoff().modify(trim).reflect(writer).touched_objects()
    };
    (store, appeared.into_stream().flatten())
}

/// Like [`watch_owned`], for objects of which only changes matter.
fn changes<K>(api: Api<PartialObjectMeta<K>>) -> impl Stream<Item = Result<PartialObjectMeta<K>, watcher::Error>> + Send
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    watcher(api, labelled()).default_backoff().touched_objects()
}

fn labelled() -> watcher::Config {
    watcher::Config::default().labels(&format!("{MANAGED_BY_LABEL}={FIELD_MANAGER}"))
}

/// Managed fields are most of the metadata, and nobody here reads them.
fn trim<K>(object: &mut PartialObjectMeta<K>) {
    object.metadata.managed_fields = None;
}

fn queue_of_pod(pod: PartialObjectMeta<Pod>) -> Option<ObjectRef<QueueMeta>> {
    let name = pod.labels().get(INSTANCE_LABEL)?;
    Some(ObjectRef::new(name).within(&pod.namespace()?))
}

async fn all_synced(queues: Store<QueueMeta>, owned: Owned) {
    let Owned { stateful_sets, services, config_maps, disruption_budgets, network_policies, .. } = &owned;
    let Owned { service_accounts, .. } = &owned;
    let waited = futures::join!(
        queues.wait_until_ready(),
        stateful_sets.wait_until_ready(),
        services.wait_until_ready(),
        config_maps.wait_until_ready(),
        disruption_budgets.wait_until_ready(),
        network_policies.wait_until_ready(),
        service_accounts.wait_until_ready(),
    );
    // A store whose writer is gone belongs to a controller that has ended.
    debug!(?waited, "watches are in sync");
}
