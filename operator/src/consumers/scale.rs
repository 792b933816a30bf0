//! The scale subresource of a target: how many pods it asks for, and how many it should.

use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::pinned_kind;
use kube::{Api, Client};
use serde_json::json;

use crate::api::Target;
use crate::names::FIELD_MANAGER;

/// A target that was found.
#[derive(Clone)]
pub(super) struct Scale {
    api: Api<DynamicObject>,
    name: String,
    /// Its pods have ordinals, of which the highest go first.
    pub(super) is_ordinal: bool,
}

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Size {
    /// How many pods it asks for.
    pub(super) replicas: u32,
    /// What selects its pods; empty: it does not say.
    pub(super) selector: String,
    /// The version of the target that says so.
    version: Option<String>,
}

impl Size {
    fn of(scale: k8s_openapi::api::autoscaling::v1::Scale) -> Self {
        Self {
            replicas: count(scale.spec.and_then(|spec| spec.replicas)),
            selector: scale.status.and_then(|status| status.selector).unwrap_or_default(),
            version: scale.metadata.resource_version,
        }
    }
}

impl Scale {
    /// Looks up how the target's kind is reached.
    ///
    /// # Errors
    /// The API server does not answer, or knows no such kind.
    pub(super) async fn find(client: &Client, namespace: &str, target: &Target) -> Result<Self, kube::Error> {
        let (group, version) = target.api_version.split_once('/').unwrap_or(("", &target.api_version));
        let kind = GroupVersionKind::gvk(group, version, &target.kind);
        // Those that nearly everybody has need not be asked for.
        let resource = match (group, target.kind.as_str()) {
            ("apps", "Deployment" | "StatefulSet" | "ReplicaSet") => ApiResource::from_gvk(&kind),
            _ => pinned_kind(client, &kind).await?.0,
        };
        if !target.is_plain() {
            return Err(kube::Error::Service("the target's apiVersion, kind or name is none".into()));
        }
        let is_ordinal = group == "apps" && target.kind == "StatefulSet";
        let api = Api::namespaced_with(client.clone(), namespace, &resource);
        Ok(Self { api, name: target.name.clone(), is_ordinal })
    }

    /// How many pods it asks for; `None`: it is not there.
    pub(super) async fn size(&self) -> Result<Option<Size>, kube::Error> {
        match self.api.get_scale(&self.name).await {
            Ok(scale) => Ok(Some(Size::of(scale))),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks for so many, if the target is still as it was `seen`. Answers how it is then.
    ///
    /// # Errors
    /// The status is 409: somebody has changed it meanwhile.
    pub(super) async fn set(&self, replicas: u32, seen: &Size) -> Result<Size, kube::Error> {
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let patch = json!({"metadata": {"resourceVersion": seen.version}, "spec": {"replicas": replicas}});
        self.api.patch_scale(&self.name, &parameters, &Patch::Merge(patch)).await.map(Size::of)
    }
}

/// Whether the API server has understood, and will say the same again.
pub(super) fn is_refusal(error: &kube::Error) -> bool {
    match error {
        // 409 is somebody else's concurrent write and 429 is overload: both pass.
        kube::Error::Api(status) => (400..500).contains(&status.code) && ![409, 429].contains(&status.code),
        // It knows no such kind.
        kube::Error::Discovery(_) => true,
        _ => false,
    }
}

fn count(replicas: Option<i32>) -> u32 {
    u32::try_from(replicas.unwrap_or(0)).unwrap_or(0)
}
