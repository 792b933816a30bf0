//! Which brokers may ask the API server whose token somebody shows (TokenReview): the subjects of one ClusterRoleBinding.
//!
//! The chart makes the binding, to a role that allows this question and nothing else, and the operator may change no other one. A
//! ServiceAccount that the operator has made for a broker is there as long as its broker has to ask. So these accounts are the
//! subjects, and nothing has to be remembered: whoever is an account no longer is a subject no longer.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, Subject};
use kube::api::{Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info};

use crate::api::MessageQueue;
use crate::controller::{QueueMeta, Scope};
use crate::metrics::Metrics;
use crate::names::{FIELD_MANAGER, INSTANCE_LABEL, Names};
use crate::server_error::said;
use crate::validate::belongs_to;

/// How soon an account that came or went is noticed; nobody is asked for that.
const NOTICE_PERIOD: Duration = Duration::from_secs(1);

/// How often the binding is looked at while brokers need it.
const LOOK_PERIOD: Duration = Duration::from_secs(5);

/// How long the API server may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Keeps the subjects of the binding.
pub struct TokenReviews {
    client: Client,
    metrics: Arc<Metrics>,
    /// The name of the binding; `None`: there is none.
    binding: Option<String>,
    /// Everything that this operator watches. What is outside is nobody's.
    scopes: Vec<Scope>,
    right: Mutex<Option<Right>>,
}

/// Whether brokers may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Right {
    /// These may.
    Given(BTreeSet<Reviewer>),
    /// Nobody may, because of this.
    Missing(String),
}

/// The ServiceAccount of a broker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reviewer {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The MessageQueue that it belongs to.
    pub queue: String,
}

/// Why the binding was not looked at or not changed.
enum Failure {
    /// It is for a person to do something about it.
    Right(String),
    /// It passes.
    Passing(String),
}

impl TokenReviews {
    /// For the binding of this name, and an operator that watches `scopes`.
    pub fn new(client: Client, metrics: Arc<Metrics>, binding: Option<String>, scopes: Vec<Scope>) -> Self {
        let switched_off =
            "the operator was installed without the right to give it: set rbac.tokenReviews of the chart to always";
        let right = binding.is_none().then(|| Right::Missing(switched_off.to_owned()));
        Self { client, metrics, binding, scopes, right: Mutex::new(right) }
    }

    /// Whether the broker of `queue` may ask if it has to, or what keeps it from that; `None`: nobody knows yet.
    pub fn right_of(&self, queue: &MessageQueue) -> Option<Result<(), String>> {
        if queue.spec.auth.service_accounts.is_empty() {
            return Some(Ok(()));
        }
        let (namespace, queue) = (queue.namespace().unwrap_or_default(), queue.name_any());
        match &*self.right.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Right::Missing(reason)) => Some(Err(reason.clone())),
            Some(Right::Given(reviewers)) => {
                let is_it = |reviewer: &Reviewer| reviewer.namespace == namespace && reviewer.queue == queue;
                reviewers.iter().any(is_it).then_some(Ok(()))
            }
            None => None,
        }
    }

    /// Makes the accounts in `scope` the binding's subjects, again and again, and tells `changed` whose broker may ask now, or may
    /// no longer. Never ends.
    pub async fn keep(
        &self,
        scope: &Scope,
        accounts: &Store<PartialObjectMeta<ServiceAccount>>,
        queues: &Store<QueueMeta>,
        changed: &UnboundedSender<ObjectRef<QueueMeta>>,
    ) {
        let Some(binding) = &self.binding else { return std::future::pending().await };
        // Until all are known, nobody is gone. A store whose writer has gone has no more changes.
        if accounts.wait_until_ready().await.is_err() || queues.wait_until_ready().await.is_err() {
            return std::future::pending().await;
        }
        let mut last: Option<(Instant, BTreeSet<Reviewer>)> = None;
        loop {
            let wanted = reviewers(accounts, queues);
            let is_due = last
                .as_ref()
                .is_none_or(|(at, before)| *before != wanted || (!wanted.is_empty() && at.elapsed() >= LOOK_PERIOD));
            if is_due && self.keep_once(binding, scope, &wanted, changed).await {
                last = Some((Instant::now(), wanted));
            }
            sleep(NOTICE_PERIOD).await;
        }
    }

    /// False: it is to be tried again soon.
    async fn keep_once(
        &self,
        binding: &str,
        scope: &Scope,
        wanted: &BTreeSet<Reviewer>,
        changed: &UnboundedSender<ObjectRef<QueueMeta>>,
    ) -> bool {
        let late = |_| Err(Failure::Passing("the API server does not answer".to_owned()));
        let right = match timeout(TIMEOUT, self.write(binding, scope, wanted)).await.unwrap_or_else(late) {
            Ok(()) => Right::Given(wanted.clone()),
            Err(Failure::Right(reason)) => Right::Missing(reason),
            Err(Failure::Passing(reason)) => {
                debug!(binding, reason, "the binding cannot be kept now; it is tried again");
                return false;
            }
        };
        let before = self.right.lock().unwrap_or_else(PoisonError::into_inner).replace(right.clone());
        if before.as_ref() != Some(&right) {
            for reviewer in wanted {
                // Nobody hears it when the controller has ended.
                let _ = changed.send(ObjectRef::new(&reviewer.queue).within(&reviewer.namespace));
            }
        }
        true
    }

    async fn write(&self, name: &str, scope: &Scope, wanted: &BTreeSet<Reviewer>) -> Result<(), Failure> {
        let api: Api<ClusterRoleBinding> = Api::all(self.client.clone());
        let failure = |error: kube::Error| match &error {
            kube::Error::Api(status) if [403, 422].contains(&status.code) => Failure::Right(said(&error)),
            _ => Failure::Passing(said(&error)),
        };
        let Some(found) = api.get_opt(name).await.map_err(failure)? else {
            let advice = "upgrade or install the chart with rbac.tokenReviews always";
            return Err(Failure::Right(format!("ClusterRoleBinding {name} is not there: {advice}")));
        };
        let present = found.subjects.clone().unwrap_or_default();
        let next = subjects(&present, scope, &self.scopes, wanted);
        if next == present {
            return Ok(());
        }
        let manifest = json!({
            "apiVersion": ClusterRoleBinding::api_version(&()),
            "kind": ClusterRoleBinding::kind(&()),
            // What somebody else has changed meanwhile is looked at again.
            "metadata": {"name": name, "resourceVersion": found.resource_version()},
            "subjects": next,
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        api.patch(name, &parameters, &Patch::Apply(manifest)).await.map_err(failure)?;
        self.metrics.writes.with_label_values(&["ClusterRoleBinding"]).inc();
        info!(binding = name, brokers = wanted.len(), "these may ask about tokens now");
        Ok(())
    }
}

/// The accounts of brokers that exist. Who may make ServiceAccounts may give one our labels, but not the name that belongs to a
/// MessageQueue without having it taken away again.
fn reviewers(accounts: &Store<PartialObjectMeta<ServiceAccount>>, queues: &Store<QueueMeta>) -> BTreeSet<Reviewer> {
    let reviewer = |account: &Arc<PartialObjectMeta<ServiceAccount>>| {
        let (namespace, queue) = (account.namespace()?, account.labels().get(INSTANCE_LABEL)?.clone());
        let owner = queues.get(&ObjectRef::new(&queue).within(&namespace))?;
        let name = Names::of(&namespace, &queue).service_account;
        let is_its = belongs_to(&**account, owner.metadata.uid.as_deref()?) && account.name_any() == name;
        let is_there = account.metadata.deletion_timestamp.is_none() && owner.metadata.deletion_timestamp.is_none();
        (is_its && is_there).then_some(Reviewer { namespace, name, queue })
    };
    accounts.state().iter().filter_map(reviewer).collect()
}

/// What the subjects should be: `wanted` in `scope`, and in other scopes those that are there.
fn subjects(present: &[Subject], scope: &Scope, scopes: &[Scope], wanted: &BTreeSet<Reviewer>) -> Vec<Subject> {
    let is_elsewhere = |subject: &&Subject| {
        let namespace = subject.namespace.as_deref().unwrap_or_default();
        !scope.has(namespace) && scopes.iter().any(|other| other.has(namespace))
    };
    let subject = |reviewer: &Reviewer| Subject {
        kind: "ServiceAccount".into(),
        name: reviewer.name.clone(),
        namespace: Some(reviewer.namespace.clone()),
        api_group: None,
    };
    let mut next: Vec<Subject> =
        present.iter().filter(is_elsewhere).cloned().chain(wanted.iter().map(subject)).collect();
    next.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(namespace: &str, name: &str) -> Subject {
        let (kind, namespace) = ("ServiceAccount".into(), Some(namespace.into()));
        Subject { kind, name: name.into(), namespace, api_group: None }
    }

    fn wanted(accounts: &[(&str, &str)]) -> BTreeSet<Reviewer> {
        let reviewer = |(namespace, queue): &(&str, &str)| Reviewer {
            namespace: (*namespace).into(),
            name: format!("{queue}-broker"),
            queue: (*queue).into(),
        };
        accounts.iter().map(reviewer).collect()
    }

    #[test]
    fn who_is_wanted_no_longer_leaves_and_nobody_else_is_let_in() {
        let present = [subject("a", "gone-broker"), subject("b", "x-broker"), subject("", "somebody")];
        let next = subjects(&present, &Scope::All, &[Scope::All], &wanted(&[("b", "x"), ("a", "new")]));
        assert_eq!(next, [subject("a", "new-broker"), subject("b", "x-broker")]);
        assert_eq!(subjects(&next, &Scope::All, &[Scope::All], &wanted(&[])), []);
    }

    #[test]
    fn each_namespace_is_kept_by_its_own_and_one_that_is_not_watched_by_nobody() {
        let scopes = ["a", "b"].map(|name| Scope::Namespace(name.into()));
        let present = [subject("a", "gone-broker"), subject("b", "x-broker"), subject("c", "y-broker")];
        let next = subjects(&present, &scopes[0], &scopes, &wanted(&[("a", "new")]));
        assert_eq!(next, [subject("a", "new-broker"), subject("b", "x-broker")]);
    }
}
