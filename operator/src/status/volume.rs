//! A volume that is not the one that the MessageQueue asks for, or not yet.
//!
//! A claim may be older than its MessageQueue: one of the same name may have left it, and the StatefulSet's controller takes
//! such a claim as it is. A smaller one is enlarged, if its class allows that.

use kube::ResourceExt;

use super::Problem;
use crate::api::MessageQueue;
use crate::growth::{Growth, capacity, is_smaller, requested};
use crate::quantity;

/// What the claim has that `queue` does not ask for, if anything. A queue that names no class is content with any.
pub(super) fn difference(queue: &MessageQueue, growth: &Growth) -> Option<Problem> {
    let claim = growth.claim.as_ref()?;
    let (storage, name, found) = (&queue.spec.storage, claim.name_any(), claim.spec.as_ref()?);
    let size = &requested(claim)?.0;
    if let Some(refusal) = &growth.refusal {
        return Some(Problem {
            reason: "VolumeCannotGrow",
            message: format!(
                "the volume claim {name} has {size} and cannot have {}: {refusal}. Set spec.storage.size back to {size}, or \
                 let its StorageClass allow expansion, if what provides it can do that",
                storage.size.0
            ),
        });
    }
    let class = found.storage_class_name.as_deref().unwrap_or_default();
    let mut differences = Vec::new();
    let mut keeping = Vec::new();
    if !quantity::equal(size, &storage.size.0) {
        differences.push(format!("has {size}, spec.storage.size says {}", storage.size.0));
        keeping.push(format!("size {size}"));
    }
    if let Some(wanted) = storage.storage_class_name.as_deref().filter(|wanted| *wanted != class) {
        differences.push(format!("is of class {class:?}, spec.storage.storageClassName says {wanted:?}"));
        keeping.push(format!("storageClassName {class:?}"));
    }
    (!differences.is_empty()).then(|| Problem {
        reason: "VolumeDiffers",
        message: format!(
            "the volume claim {name} {}; the broker uses the volume as it is. To keep its messages, delete the \
             MessageQueue with deletionPolicy Retain and apply it with storage {}; to start with an empty volume, \
             delete the MessageQueue and then the claim, and apply it again",
            differences.join(" and "),
            keeping.join(" and "),
        ),
    })
}

/// What to say of a volume that is smaller than its claim.
pub(super) fn is_growing(growth: &Growth) -> Option<String> {
    let claim = growth.claim.as_ref()?;
    let wanted = requested(claim)?;
    let present = capacity(claim).filter(|present| is_smaller(Some(present), wanted))?;
    Some(format!("the volume of claim {} is being enlarged from {} to {}", claim.name_any(), present.0, wanted.0))
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::core::v1::{
        PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus, VolumeResourceRequirements,
    };
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;
    use crate::api::{MessageQueueSpec, Storage};

    pub(in crate::status) fn claim(size: &str, class: Option<&str>) -> PersistentVolumeClaim {
        let requests = BTreeMap::from([("storage".into(), Quantity(size.into()))]);
        PersistentVolumeClaim {
            metadata: ObjectMeta { name: Some("data-hello-0".into()), ..ObjectMeta::default() },
            spec: Some(PersistentVolumeClaimSpec {
                storage_class_name: class.map(Into::into),
                resources: Some(VolumeResourceRequirements { requests: Some(requests), ..Default::default() }),
                ..PersistentVolumeClaimSpec::default()
            }),
            status: None,
        }
    }

    fn message(size: &str, class: Option<&str>, claim: &PersistentVolumeClaim) -> Option<String> {
        let storage =
            Storage { size: Quantity(size.into()), storage_class_name: class.map(Into::into), ..Storage::default() };
        let queue = MessageQueue::new("hello", MessageQueueSpec { storage, ..MessageQueueSpec::default() });
        difference(&queue, &Growth { claim: Some(claim.clone()), ..Growth::default() }).map(|problem| problem.message)
    }

    #[test]
    fn another_size_is_named_with_what_to_do() {
        let message = message("3Gi", None, &claim("1Gi", Some("standard"))).unwrap();
        assert_eq!(
            message,
            "the volume claim data-hello-0 has 1Gi, spec.storage.size says 3Gi; the broker uses the volume as it is. To \
             keep its messages, delete the MessageQueue with deletionPolicy Retain and apply it with storage size 1Gi; \
             to start with an empty volume, delete the MessageQueue and then the claim, and apply it again"
        );
    }

    #[test]
    fn another_class_is_named() {
        let message = message("1Gi", Some("fast"), &claim("1Gi", Some("standard"))).unwrap();
        assert!(message.contains(r#"is of class "standard", spec.storage.storageClassName says "fast""#), "{message}");
        assert!(message.contains(r#"with storage storageClassName "standard""#), "{message}");
    }

    #[test]
    fn the_volume_that_was_asked_for_is_no_difference() {
        assert_eq!(message("1Gi", None, &claim("1024Mi", Some("standard"))), None);
        assert_eq!(message("1Gi", Some("fast"), &claim("1Gi", Some("fast"))), None);
    }

    #[test]
    fn a_volume_that_cannot_grow_is_said_with_what_to_do() {
        let storage = Storage { size: Quantity("3Gi".into()), ..Storage::default() };
        let queue = MessageQueue::new("hello", MessageQueueSpec { storage, ..MessageQueueSpec::default() });
        let refusal = Some("the class says no".to_owned());
        let growth = Growth { claim: Some(claim("1Gi", None)), refusal, is_replaced: false };
        let problem = difference(&queue, &growth).unwrap();
        assert_eq!(problem.reason, "VolumeCannotGrow");
        let beginning =
            "the volume claim data-hello-0 has 1Gi and cannot have 3Gi: the class says no. Set spec.storage.size back";
        assert!(problem.message.starts_with(beginning), "{}", problem.message);
    }

    #[test]
    fn a_volume_grows_until_it_has_what_its_claim_asks_for() {
        let growing = |capacity: Option<&str>| {
            let capacity = capacity.map(|size| BTreeMap::from([("storage".into(), Quantity(size.into()))]));
            let status = Some(PersistentVolumeClaimStatus { capacity, ..Default::default() });
            let claim = Some(PersistentVolumeClaim { status, ..claim("2Gi", None) });
            is_growing(&Growth { claim, ..Growth::default() })
        };
        let message = "the volume of claim data-hello-0 is being enlarged from 1Gi to 2Gi";
        assert_eq!(growing(Some("1Gi")).as_deref(), Some(message));
        assert_eq!((growing(Some("2Gi")), growing(Some("3Gi")), growing(None)), (None, None, None));
    }
}
