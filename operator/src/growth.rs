//! Makes volumes larger, under a broker that goes on.
//!
//! A StatefulSet's template of claims cannot be changed. So the claim grows first; then the StatefulSet is deleted in a way that
//! leaves its pods and claims where they are, and made again with the new template, which takes them over as its own.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::apply::{ApplyError, Writer, write_error};
use crate::names::FIELD_MANAGER;
use crate::observe::Observed;
use crate::quantity;
use crate::server_error::said;
use crate::validate::Plan;

/// How long the garbage collector may take to let go of a StatefulSet's pods. After that, the next reconcile goes on.
const ORPHANING_LIMIT: Duration = Duration::from_secs(10);

/// How often it is looked at.
const LOOK_PERIOD: Duration = Duration::from_millis(100);

/// What became of the volume and its StatefulSet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Growth {
    /// The claim of the first broker's volume as it is now.
    pub claim: Option<PersistentVolumeClaim>,
    /// Why the claim cannot grow, in the API server's words.
    pub refusal: Option<String>,
    /// The StatefulSet was taken away, and is to be made again.
    pub is_replaced: bool,
}

/// Grows the claim to what `plan` asks for, and takes away a StatefulSet that would make smaller ones.
///
/// # Errors
/// The API server does not answer. That a volume cannot grow is no error but a refusal.
pub async fn grow(writer: &mut Writer<'_>, plan: &Plan, observed: &Observed) -> Result<Growth, ApplyError> {
    let wanted = &plan.spec.storage.size;
    let mut growth = Growth { claim: observed.volume_claim.clone(), ..Growth::default() };
    if let Some(claim) = growth.claim.as_ref().filter(|claim| is_smaller(requested(claim), wanted)) {
        match writer.grow_claim(claim, wanted).await {
            Ok(grown) => growth.claim = Some(grown),
            Err(ApplyError::Write { source, .. }) if is_refusal(&source) => growth.refusal = Some(said(&source)),
            Err(error) => return Err(error),
        }
    }
    let outdated = observed.objects.stateful_set.as_ref().filter(|set| is_smaller(template_size(set), wanted));
    if let Some(set) = outdated.filter(|_| growth.refusal.is_none()) {
        writer.orphan(set).await?;
        growth.is_replaced = true;
    }
    Ok(growth)
}

/// Gives `wanted` the size of claims that `present` has, because it cannot be changed.
pub fn keep_template_size(wanted: &mut StatefulSet, present: &StatefulSet) {
    let size = template_size(present).cloned();
    let templates = wanted.spec.as_mut().and_then(|spec| spec.volume_claim_templates.as_mut());
    for template in templates.into_iter().flatten() {
        let requests = template.spec.as_mut().and_then(|spec| spec.resources.as_mut()?.requests.as_mut());
        if let (Some(requests), Some(size)) = (requests, size.clone()) {
            requests.insert(STORAGE.to_owned(), size);
        }
    }
}

/// The resource of a claim that its size is.
pub const STORAGE: &str = "storage";

/// The size that a claim asks for.
pub fn requested(claim: &PersistentVolumeClaim) -> Option<&Quantity> {
    claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get(STORAGE)
}

/// The size that a claim has by now.
pub fn capacity(claim: &PersistentVolumeClaim) -> Option<&Quantity> {
    claim.status.as_ref()?.capacity.as_ref()?.get(STORAGE)
}

/// Whether there is a size, and less than `wanted`.
pub fn is_smaller(size: Option<&Quantity>, wanted: &Quantity) -> bool {
    size.is_some_and(|size| quantity::less(&size.0, &wanted.0))
}

fn template_size(set: &StatefulSet) -> Option<&Quantity> {
    requested(set.spec.as_ref()?.volume_claim_templates.as_ref()?.first()?)
}

fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if [403, 422].contains(&status.code))
}

impl Writer<'_> {
    async fn grow_claim(
        &mut self,
        claim: &PersistentVolumeClaim,
        size: &Quantity,
    ) -> Result<PersistentVolumeClaim, ApplyError> {
        let (kind, name) = (PersistentVolumeClaim::kind(&()), claim.name_any());
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), self.namespace);
        let requests = BTreeMap::from([(STORAGE, size)]);
        let grown = json!({"metadata": {"uid": claim.uid()}, "spec": {"resources": {"requests": requests}}});
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let written = api.patch(&name, &parameters, &Patch::Merge(grown)).await;
        let written = written.map_err(|source| write_error("enlarge", &kind, &name, source))?;
        self.metrics.writes.with_label_values(&[kind.as_ref()]).inc();
        self.changes.updated.push(format!("{kind} {name}"));
        Ok(written)
    }

    /// Deletes `set` without its pods and claims, and waits until it is gone.
    async fn orphan(&mut self, set: &StatefulSet) -> Result<(), ApplyError> {
        let (kind, name) = (StatefulSet::kind(&()), set.name_any());
        let api: Api<StatefulSet> = Api::namespaced(self.client.clone(), self.namespace);
        let parameters = DeleteParams {
            preconditions: Some(Preconditions { uid: set.uid(), resource_version: None }),
            propagation_policy: Some(PropagationPolicy::Orphan),
            ..DeleteParams::default()
        };
        let failed = |source| write_error("replace", &kind, &name, source);
        match api.delete(&name, &parameters).await {
            Ok(_) => self.metrics.writes.with_label_values(&[kind.as_ref()]).inc(),
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
            Err(source) => return Err(failed(source)),
        }
        let begun = Instant::now();
        while begun.elapsed() < ORPHANING_LIMIT {
            if api.get_metadata_opt(&name).await.map_err(failed)?.is_none() {
                return Ok(());
            }
            sleep(LOOK_PERIOD).await;
        }
        Err(ApplyError::StillThere { kind: kind.into_owned(), name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::StatefulSetSpec;
    use k8s_openapi::api::core::v1::{PersistentVolumeClaimSpec, VolumeResourceRequirements};

    fn set(size: &str) -> StatefulSet {
        let requests = BTreeMap::from([(STORAGE.to_owned(), Quantity(size.into()))]);
        let resources = VolumeResourceRequirements { requests: Some(requests), ..Default::default() };
        let spec = PersistentVolumeClaimSpec { resources: Some(resources), ..Default::default() };
        let template = PersistentVolumeClaim { spec: Some(spec), ..Default::default() };
        let spec = StatefulSetSpec { volume_claim_templates: Some(vec![template]), ..Default::default() };
        StatefulSet { spec: Some(spec), ..StatefulSet::default() }
    }

    #[test]
    fn sizes_are_compared_by_value_and_what_is_not_there_is_not_smaller() {
        let quantity = |text: &str| Quantity(text.into());
        assert!(is_smaller(Some(&quantity("1Gi")), &quantity("1025Mi")));
        assert!(!is_smaller(Some(&quantity("1Gi")), &quantity("1024Mi")));
        assert!(!is_smaller(Some(&quantity("2Gi")), &quantity("1Gi")));
        assert!(!is_smaller(None, &quantity("1Gi")));
    }

    #[test]
    fn a_template_that_stays_keeps_its_size() {
        let mut wanted = set("2Gi");
        keep_template_size(&mut wanted, &set("1Gi"));
        assert_eq!(wanted, set("1Gi"));
    }
}
