//! IO out: writes the objects that differ from what is there, and deletes those that are wanted no longer.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::debug;

use crate::api::{MessageQueue, MessageQueueStatus};
use crate::build::Objects;
use crate::difference::{FIELD_SET_ANNOTATION, field_set, first_difference};
use crate::metrics::Metrics;
use crate::names::FIELD_MANAGER;
use crate::observe::ObservedObjects;
use crate::owned::Leftover;
use crate::server_error::said;

/// The field manager of repairs that server-side apply cannot do.
const REPAIR_MANAGER: &str = "warren-operator-repair";

/// How often ownership of a repair is given up before the whole is left for the next reconcile.
const RELEASE_TRIES: usize = 5;

/// Why an object could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server did not answer, or refused the object.
    #[error("cannot {verb} {kind} {name}: {}", said(.source))]
    Write {
        /// What was tried, such as `apply`.
        verb: &'static str,
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// What the API server or the connection said.
        source: Box<kube::Error>,
    },
    /// An object that is to be replaced does not go.
    #[error("{kind} {name} is to be replaced and is still there; this goes on when it is gone")]
    StillThere {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
    },
    /// An object could not be turned into JSON.
    #[error("cannot write {kind} {name} as JSON: {source}")]
    Encode {
        /// Kind of the object.
        kind: String,
        /// Its name.
        name: String,
        /// What the encoder said.
        source: serde_json::Error,
    },
}

/// What one reconcile wrote, for Events. Empty when everything was as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Objects that did not exist before, as `Kind name`.
    pub created: Vec<String>,
    /// Objects that were different before.
    pub updated: Vec<String>,
    /// Objects that were wanted no longer.
    pub deleted: Vec<String>,
}

/// Writes to the cluster on behalf of one reconcile, and keeps note of it.
pub struct Writer<'a> {
    pub(crate) client: &'a Client,
    pub(crate) metrics: &'a Metrics,
    pub(crate) namespace: &'a str,
    pub(crate) changes: Changes,
}

impl<'a> Writer<'a> {
    /// A writer for objects in `namespace`.
    pub fn new(client: &'a Client, metrics: &'a Metrics, namespace: &'a str) -> Self {
        Self { client, metrics, namespace, changes: Changes::default() }
    }

    /// What was written so far.
    pub fn into_changes(self) -> Changes {
        self.changes
    }

    /// Applies the objects that differ from the observed ones, and returns the StatefulSet as the API server has it then.
    ///
    /// # Errors
    /// At the first object that cannot be written; those after it are left for the next reconcile.
    pub async fn apply(
        &mut self,
        wanted: &Objects,
        observed: &ObservedObjects,
    ) -> Result<Option<StatefulSet>, ApplyError> {
        // Destructured whole, so that a new kind of object cannot be forgotten here.
        let Objects {
            default_user,
            config,
            authority_secret,
            certificate_secret,
            authorities,
            nodes_service,
            client_service,
            disruption_budget,
            network_policy,
            service_monitor,
            prometheus_rule,
            service_account,
            stateful_set,
        } = wanted;
        // The authority before what it signs: a certificate whose authority was lost would have to be made again.
        self.apply_if_wanted(authority_secret.as_ref(), observed.authority_secret.as_ref()).await?;
        self.apply_if_wanted(authorities.as_ref(), observed.authorities.as_ref()).await?;
        self.apply_if_wanted(certificate_secret.as_ref(), observed.certificate_secret.as_ref()).await?;
        self.apply_one(default_user, observed.default_user.as_ref()).await?;
        self.apply_one(config, observed.config.as_ref()).await?;
        self.apply_one(nodes_service, observed.nodes_service.as_ref()).await?;
        self.apply_one(client_service, observed.client_service.as_ref()).await?;
        self.apply_one(disruption_budget, observed.disruption_budget.as_ref()).await?;
        // Before the pods that it protects.
        self.apply_if_wanted(network_policy.as_ref(), observed.network_policy.as_ref()).await?;
        // A pod of an account that is not there is not made.
        self.apply_if_wanted(service_account.as_ref(), observed.service_account.as_ref()).await?;
        let applied = self.apply_one(stateful_set, observed.stateful_set.as_ref()).await?;
        self.apply_if_wanted(service_monitor.as_ref(), observed.service_monitor.as_ref()).await?;
        self.apply_if_wanted(prometheus_rule.as_ref(), observed.prometheus_rule.as_ref()).await?;
        Ok(applied.or_else(|| observed.stateful_set.clone()))
    }

    async fn apply_if_wanted<K>(&mut self, wanted: Option<&K>, observed: Option<&K>) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
    {
        match wanted {
            Some(wanted) => self.apply_one(wanted, observed).await.map(drop),
            None => Ok(()),
        }
    }

    /// Deletes objects that belong to the MessageQueue and that it needs no longer. One that is gone already is fine.
    ///
    /// # Errors
    /// At the first object that cannot be deleted.
    pub async fn prune(&mut self, leftovers: &[Leftover]) -> Result<(), ApplyError> {
        for leftover in leftovers {
            let api = leftover.api(self.client, self.namespace);
            // The uid makes sure that only the object that was seen is deleted, never a new one of the same name.
            let preconditions = Preconditions { uid: Some(leftover.uid.clone()), resource_version: None };
            let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
            match api.delete(&leftover.name, &parameters).await {
                Ok(_) => {
                    self.metrics.writes.with_label_values(&[leftover.kind()]).inc();
                    self.changes.deleted.push(leftover.to_string());
                }
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(source) => return Err(write_error("delete", leftover.kind(), &leftover.name, source)),
            }
        }
        Ok(())
    }

    /// Writes `wanted` unless `observed` says the same already. Returns the object if it was written.
    async fn apply_one<K>(&mut self, wanted: &K, observed: Option<&K>) -> Result<Option<K>, ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
    {
        let (kind, name) = (K::kind(&()).into_owned(), wanted.name_any());
        let encode = |object: &K| {
            serde_json::to_value(object).map_err(|source| ApplyError::Encode {
                kind: kind.clone(),
                name: name.clone(),
                source,
            })
        };
        let mut manifest = with_field_set(encode(wanted)?);
        if let Some(observed) = observed {
            let Some(path) = first_difference(&encode(observed)?, &manifest) else { return Ok(None) };
            debug!(kind, name, path, "object differs");
            // An object that was replaced since it was read has another uid, and the API server refuses.
            manifest["metadata"]["uid"] = json!(observed.uid());
        }
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        let applied = match observed {
            None => create(&api, &name, &manifest).await,
            Some(_) => update(&api, &name, &manifest).await,
        };
        let applied = applied.map_err(|source| write_error("apply", &kind, &name, source))?;
        self.metrics.writes.with_label_values(&[&kind]).inc();
        let list = if observed.is_some() { &mut self.changes.updated } else { &mut self.changes.created };
        list.push(format!("{kind} {name}"));
        Ok(Some(applied))
    }
}

/// Applies an object that does not exist. Without force, one that somebody else made since it was looked for is a conflict
/// and stays theirs.
async fn create<K>(api: &Api<K>, name: &str, manifest: &Value) -> Result<K, kube::Error>
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    api.patch(name, &PatchParams::apply(FIELD_MANAGER), &Patch::Apply(manifest)).await
}

/// Applies an object that exists. Server-side apply never takes away what others added to a list, and fails when that
/// contradicts what we want, such as two ports of one name; then the lists are replaced.
async fn update<K>(api: &Api<K>, name: &str, manifest: &Value) -> Result<K, kube::Error>
where
    K: Resource + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let applied = api.patch(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(manifest)).await;
    match applied {
        Ok(applied) => {
            let found = serde_json::to_value(&applied).map_err(kube::Error::SerdeError)?;
            if first_difference(&found, manifest).is_none() {
                Ok(applied)
            } else {
                replace_lists(api, name, manifest).await
            }
        }
        Err(kube::Error::Api(status)) if status.code == 422 => replace_lists(api, name, manifest).await,
        Err(error) => Err(error),
    }
}

/// Merges the manifest into the object, which replaces lists whole (RFC 7396).
///
/// A merge makes its manager an owner of all that it wrote beside [`FIELD_MANAGER`], and a field with another owner would
/// outlive our wish for it. So that ownership is given up at once.
async fn replace_lists<K>(api: &Api<K>, name: &str, manifest: &Value) -> Result<K, kube::Error>
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned,
{
    let parameters = PatchParams { field_manager: Some(REPAIR_MANAGER.into()), ..PatchParams::default() };
    let mut latest = api.patch(name, &parameters, &Patch::Merge(manifest)).await?;
    let mut tries = 1;
    loop {
        let is_kept = |entry: &&ManagedFieldsEntry| entry.manager.as_deref() != Some(REPAIR_MANAGER);
        let kept: Vec<_> = latest.managed_fields().iter().filter(is_kept).collect();
        let release = json!({"metadata": {"managedFields": kept, "resourceVersion": latest.resource_version()}});
        match api.patch(name, &parameters, &Patch::Merge(release)).await {
            // Its controller has written the status meanwhile.
            Err(kube::Error::Api(status)) if status.code == 409 && tries < RELEASE_TRIES => {
                tries += 1;
                latest = api.get(name).await?;
            }
            released => return released,
        }
    }
}

/// Writes the status of `queue`, unless it has it already.
///
/// # Errors
/// When the API server does not answer or refuses.
pub async fn write_status(
    client: &Client,
    metrics: &Metrics,
    queue: &MessageQueue,
    status: &MessageQueueStatus,
) -> Result<(), ApplyError> {
    if queue.status.as_ref() == Some(status) {
        return Ok(());
    }
    let api: Api<MessageQueue> = Api::namespaced(client.clone(), &queue.namespace().unwrap_or_default());
    let kind = MessageQueue::kind(&());
    let manifest = json!({
        "apiVersion": MessageQueue::api_version(&()),
        "kind": kind,
        "metadata": {"name": queue.name_any(), "uid": queue.uid()},
        "status": status,
    });
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let written = api.patch_status(&queue.name_any(), &parameters, &Patch::Apply(manifest)).await;
    written.map_err(|source| write_error("apply the status of", &kind, &queue.name_any(), source))?;
    metrics.writes.with_label_values(&["MessageQueueStatus"]).inc();
    Ok(())
}

fn with_field_set(mut manifest: Value) -> Value {
    let fields = field_set(&manifest);
    manifest["metadata"]["annotations"][FIELD_SET_ANNOTATION] = json!(fields);
    manifest
}

pub(crate) fn write_error(verb: &'static str, kind: &str, name: &str, source: kube::Error) -> ApplyError {
    ApplyError::Write { verb, kind: kind.into(), name: name.into(), source: Box::new(source) }
}

impl ApplyError {
    /// Whether the API server understood and said no, so that trying the same again will not help by itself.
    pub fn is_rejection(&self) -> bool {
        match self {
            // 409 is somebody else's concurrent write and 429 is overload: both pass.
            Self::Write { source, .. } => {
                matches!(source.as_ref(), kube::Error::Api(status) if (400..500).contains(&status.code) && ![409, 429].contains(&status.code))
            }
            Self::StillThere { .. } => false,
            Self::Encode { .. } => true,
        }
    }
}
