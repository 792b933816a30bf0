//! One reconcile: observe → validate → build → apply → prune → status → Events.
//!
//! Each run starts from what is in the cluster and from nothing else, so it does not matter at which point the one before
//! was interrupted.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::events::Recorder;
use kube::{Client, ResourceExt};
use tracing::{debug, info};

use crate::api::ConsumerStatus;
use crate::apply::{ApplyError, Changes, Writer, write_status};
use crate::broker_api::Endpoint;
use crate::build::{MANAGEMENT_PORT, MANAGEMENT_TLS_PORT, build};
use crate::consumers::scaler::{Scalers, Wish};
use crate::declarations::keeper::{self, Keepers};
use crate::events;
use crate::growth::{Growth, grow, keep_template_size};
use crate::metrics::{GONE, Metrics};
use crate::names::Names;
use crate::observe::{ObserveError, Observed, observe, observe_pods};
use crate::owned::Owned;
use crate::release;
use crate::status::{Problem, Situation, assess, is_progressing};
use crate::token_reviews::TokenReviews;
use crate::validate::{Plan, PlannedTls, belongs_to, validate};

/// What a reconcile works with.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The operator's metrics.
    pub metrics: Arc<Metrics>,
    /// Publishes Events, and remembers those of the last minutes.
    pub recorder: Recorder,
    /// What the watches know about the operator's objects.
    pub owned: Owned,
    /// Keep what is declared in brokers.
    pub keepers: Arc<Keepers>,
    /// Scale consumers.
    pub scalers: Arc<Scalers>,
    /// Lets brokers ask about tokens.
    pub token_reviews: TokenReviews,
    /// The domain of the cluster's Services.
    pub cluster_domain: String,
    /// Where the operators' pods run, if they run in the cluster.
    pub operator_namespace: Option<String>,
    /// The broker's image for MessageQueues that name none.
    pub broker_image: String,
}

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is as it should be.
    Settled,
    /// Everything is written, and the cluster is still working on it.
    Progressing,
    /// A person has asked for everything to stay as it is.
    Paused,
    /// The MessageQueue cannot be made what it asks for; its status says why.
    Refused,
    /// The MessageQueue does not exist any longer, and Kubernetes takes its objects away.
    Gone,
}

impl Outcome {
    /// The value of the metric label `result`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Progressing => "progressing",
            Self::Paused => "paused",
            Self::Refused => "refused",
            Self::Gone => GONE,
        }
    }
}

/// What came of a reconcile, and when there is something to do again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconciled {
    /// How it ended.
    pub outcome: Outcome,
    /// After so long a certificate is due.
    pub due_in: Option<Duration>,
}

/// Why a reconcile failed: one variant per step that does IO.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The state of the world could not be read.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// An object could not be written.
    #[error(transparent)]
    Apply(ApplyError),
    /// An object that is wanted no longer could not be deleted.
    #[error(transparent)]
    Prune(ApplyError),
    /// The status could not be written.
    #[error(transparent)]
    Status(ApplyError),
    /// Something took too long.
    #[error("not done after {} s: the API server or the network does not answer", after.as_secs())]
    Timeout {
        /// So much time there was.
        after: Duration,
    },
}

impl ReconcileError {
    /// The value of the metric label `step`.
    pub fn step(&self) -> &'static str {
        match self {
            Self::Observe(_) => "observe",
            Self::Apply(_) => "apply",
            Self::Prune(_) => "prune",
            Self::Status(_) => "status",
            Self::Timeout { .. } => "timeout",
        }
    }

    /// What a person must know, if the API server said no for good. Anything else is tried again without a word.
    fn problem(&self) -> Option<Problem> {
        match self {
            Self::Apply(error) | Self::Prune(error) if error.is_rejection() => {
                Some(Problem { reason: "ApplyFailed", message: error.to_string() })
            }
            _ => None,
        }
    }
}

/// What came of trying to carry out the MessageQueue.
struct Attempt {
    stateful_set: Option<StatefulSet>,
    /// What became of the volume.
    growth: Growth,
    /// The release whose template and configuration were kept, if it is not this one.
    held: Option<String>,
    changes: Changes,
    provisioned: bool,
    /// What encrypts connections, if that is known.
    tls: Option<PlannedTls>,
    problem: Option<Problem>,
    failure: Option<ReconcileError>,
}

/// Makes the cluster what MessageQueue `name` in `namespace` says.
///
/// # Errors
/// See [`ReconcileError`]. The caller tries again later.
pub async fn reconcile(context: &Context, namespace: &str, name: &str) -> Result<Reconciled, ReconcileError> {
    let now = Timestamp::now();
    let place = (namespace, name);
    let kinds = *context.owned.kinds.borrow();
    let observed = match observe(&context.client, place, &context.cluster_domain, kinds, now.as_second()).await {
        Ok(Some(observed)) => observed,
        Ok(None) => {
            context.scalers.forget(namespace, name);
            context.keepers.forget(namespace, name);
            return Ok(Reconciled { outcome: Outcome::Gone, due_in: None });
        }
        Err(error) => {
            report_malformed(context, &error).await;
            return Err(error.into());
        }
    };
    let attempt = match validate(&observed, &context.broker_image, context.operator_namespace.as_deref()) {
        Ok(_) | Err(_) if observed.queue.is_paused() => {
            context.scalers.forget(namespace, name);
            context.keepers.forget(namespace, name);
            standing(&observed)
        }
        Ok(plan) => carry_out(context, &plan, &observed).await,
        // Until it is put right, what was asked for before goes on, and so does the scaling of consumers.
        Err(refusal) => stand_still(&observed, Problem { reason: refusal.reason(), message: refusal.to_string() }),
    };
    match attempt.failure {
        // Nothing is known but that it did not work this time.
        Some(failure) if attempt.problem.is_none() => Err(failure),
        _ => conclude(context, &observed, attempt).await,
    }
}

/// Builds, applies and prunes.
async fn carry_out(context: &Context, plan: &Plan, observed: &Observed) -> Attempt {
    let mut writer = Writer::new(&context.client, &context.metrics, &plan.names.namespace);
    let result = write(context, plan, observed, &mut writer).await;
    let changes = writer.into_changes();
    let Names { namespace, queue, .. } = &plan.names;
    context.scalers.set(namespace, queue, wish(plan, observed), &known_consumers(observed));
    if let Ok(Written { stateful_set, .. }) = &result {
        context.keepers.set(namespace, queue, declarations(plan, observed, stateful_set.as_ref()));
    }
    let tls = Some(plan.tls.clone());
    match result {
        Ok(Written { stateful_set, growth, held }) => {
            Attempt { stateful_set, growth, held, changes, provisioned: true, tls, problem: None, failure: None }
        }
        Err(failure) => {
            let problem = failure.problem();
            Attempt { changes, tls, problem, failure: Some(failure), ..standing(observed) }
        }
    }
}

/// What came of writing the objects.
struct Written {
    stateful_set: Option<StatefulSet>,
    growth: Growth,
    held: Option<String>,
}

/// Grows the volume, applies, prunes.
async fn write(
    context: &Context,
    plan: &Plan,
    observed: &Observed,
    writer: &mut Writer<'_>,
) -> Result<Written, ReconcileError> {
    let growth = grow(writer, plan, observed).await.map_err(ReconcileError::Apply)?;
    let mut objects = build(plan);
    let held = release::hold(&mut objects, plan, &observed.objects);
    let mut existing = Cow::Borrowed(&observed.objects);
    if growth.is_replaced {
        existing.to_mut().stateful_set = None;
    } else if let Some(present) = &observed.objects.stateful_set {
        keep_template_size(&mut objects.stateful_set, present);
    }
    let mut applied = writer.apply(&objects, &existing).await.map_err(ReconcileError::Apply)?;
    if let (Some(set), true) = (&mut applied, growth.is_replaced) {
        // Its pods are those of the one before, which says how they are until its controller has looked.
        set.status = observed.objects.stateful_set.as_ref().and_then(|before| before.status.clone());
    }
    let leftovers = context.owned.leftovers(&plan.owner.uid, &plan.names.namespace, &objects);
    writer.prune(&leftovers).await.map_err(ReconcileError::Prune)?;
    Ok(Written { stateful_set: applied, growth, held })
}

/// What the consumers of the MessageQueue are scaled by.
fn wish(plan: &Plan, observed: &Observed) -> Wish {
    let serves = is_served(observed.objects.stateful_set.as_ref());
    Wish { endpoint: endpoint(plan), serves, consumers: plan.spec.consumers.clone() }
}

/// Whether a pod of the set is ready.
fn is_served(set: Option<&StatefulSet>) -> bool {
    set.and_then(|set| set.status.as_ref()?.ready_replicas).unwrap_or(0) > 0
}

/// What is declared in the broker, once it serves.
fn declarations(plan: &Plan, observed: &Observed, stateful_set: Option<&StatefulSet>) -> keeper::Wish {
    let foreign = match &plan.tls {
        PlannedTls::Disabled | PlannedTls::Managed(_) => None,
        PlannedTls::Secret { name, .. } => Some(name.clone()),
    };
    let own = [&observed.objects.default_user, &observed.objects.certificate_secret];
    keeper::Wish {
        endpoint: is_served(stateful_set).then(|| endpoint(plan)),
        pods: (0..plan.spec.replicas).map(|ordinal| plan.names.pod(ordinal)).collect(),
        mounted: own.into_iter().map(|secret| secret.as_ref().and_then(ResourceExt::resource_version)).collect(),
        foreign,
        auth: plan.spec.auth.clone(),
        topology: plan.spec.topology.clone(),
    }
}

/// The management API of the first broker node.
fn endpoint(plan: &Plan) -> Endpoint {
    let port = if plan.tls == PlannedTls::Disabled { MANAGEMENT_PORT } else { MANAGEMENT_TLS_PORT };
    Endpoint {
        address: format!("{}:{port}", plan.names.node_host(0)),
        authorities: plan.tls.vouchers(),
        credentials: plan.credentials.clone(),
    }
}

fn known_consumers(observed: &Observed) -> Vec<ConsumerStatus> {
    observed.queue.status.as_ref().map(|status| status.consumers.clone()).unwrap_or_default()
}

/// Leaves everything as it is, because of `problem`.
fn stand_still(observed: &Observed, problem: Problem) -> Attempt {
    Attempt { problem: Some(problem), ..standing(observed) }
}

/// What exists and is ours, without any change.
fn standing(observed: &Observed) -> Attempt {
    let uid = observed.queue.uid().unwrap_or_default();
    let objects = &observed.objects;
    Attempt {
        stateful_set: objects.stateful_set.clone().filter(|set| belongs_to(set, &uid)),
        growth: Growth { claim: observed.volume_claim.clone(), ..Growth::default() },
        held: None,
        changes: Changes::default(),
        provisioned: objects.default_user.as_ref().is_some_and(|secret| belongs_to(secret, &uid))
            && objects.client_service.as_ref().is_some_and(|service| belongs_to(service, &uid)),
        tls: None,
        problem: None,
        failure: None,
    }
}

/// Writes the status and publishes Events.
async fn conclude(context: &Context, observed: &Observed, attempt: Attempt) -> Result<Reconciled, ReconcileError> {
    let queue = &observed.queue;
    let names = Names::of(&queue.namespace().unwrap_or_default(), &queue.name_any());
    let pods = match &attempt.stateful_set {
        Some(set) if !is_settled(set) => observe_pods(&context.client, &names, queue.spec.replicas.min(1)).await?,
        _ => Vec::new(),
    };
    let refused = attempt.problem.is_some();
    let status = assess(&Situation {
        queue,
        stateful_set: attempt.stateful_set.as_ref(),
        pods: &pods,
        growth: &attempt.growth,
        held: attempt.held.as_deref(),
        problem: attempt.problem,
        tls: attempt.tls.as_ref(),
        declared: context.keepers.state(queue).as_ref(),
        token_reviews: context.token_reviews.right_of(queue),
        consumers: context.scalers.statuses(queue, &known_consumers(observed)),
        provisioned: attempt.provisioned,
        now: whole_second(Timestamp::now()),
    });
    write_status(&context.client, &context.metrics, queue, &status).await.map_err(ReconcileError::Status)?;
    if attempt.changes == Changes::default() {
        debug!("nothing to write");
    } else {
        let Changes { created, updated, deleted } = &attempt.changes;
        info!(?created, ?updated, ?deleted, "objects written");
    }
    let mut notices = events::notices(queue.status.as_ref(), &status, &attempt.changes);
    notices.extend(events::declared(&context.keepers.news(queue)));
    notices.extend(events::scaled(&context.scalers.news(queue)));
    events::publish(&context.recorder, &events::about(&queue.metadata), &notices).await;
    let outcome = match attempt.failure {
        Some(failure) => return Err(failure),
        None if queue.is_paused() => Outcome::Paused,
        None if refused => Outcome::Refused,
        None if is_progressing(&status) => Outcome::Progressing,
        None => Outcome::Settled,
    };
    let due_in = match &attempt.tls {
        Some(PlannedTls::Managed(certificates)) => Some(certificates.due_in),
        _ => None,
    };
    Ok(Reconciled { outcome, due_in })
}

/// Whether all pods of the set are ready, so that there is nothing to learn from them.
fn is_settled(set: &StatefulSet) -> bool {
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas);
    wanted == set.status.as_ref().and_then(|status| status.ready_replicas.or(Some(0)))
}

/// Kubernetes keeps times of conditions in whole seconds.
fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

async fn report_malformed(context: &Context, error: &ObserveError) {
    if let ObserveError::Malformed { metadata, .. } = error {
        let event = events::malformed(&error.to_string());
        events::publish(&context.recorder, &events::about(metadata), &[event]).await;
    }
}
