//! The StatefulSet: the broker's pods and their volumes.
//!
//! The pod meets the Pod Security Standard "restricted". Only the fields that the MessageQueue lists can change it; there
//! is no way to pass a raw pod specification through, and so no way to gain privileges by a MessageQueue.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMap, ConfigMapProjection, Container, ContainerPort, HTTPGetAction, KeyToPath,
    PersistentVolumeClaim, PersistentVolumeClaimSpec, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    ProjectedVolumeSource, ResourceRequirements, SeccompProfile, SecretProjection, SecurityContext,
    ServiceAccountTokenProjection, TopologySpreadConstraint, Volume, VolumeMount, VolumeProjection,
    VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{
    AMQP_PORT, AMQPS_PORT, BROKER_CONTAINER, MANAGEMENT_PORT, MANAGEMENT_TLS_PORT, METRICS_PORT, metadata, paths,
};
use crate::api::{DeletionPolicy, ResourceAmounts, Resources};
use crate::fingerprint::fingerprint;
use crate::names::DATA_VOLUME;
use crate::release;
use crate::validate::{Plan, PlannedTls};

/// Annotation of the pod template that changes with the broker's configuration and default user. A new value rolls the pods.
pub const CONFIG_HASH_ANNOTATION: &str = "warrenmq.dev/config-hash";

/// User and group of the broker, with no entry in any password file.
const NONROOT_ID: i64 = 65532;

/// Time for a broker to close its connections and sync its log after SIGTERM, before it is killed.
const TERMINATION_GRACE_PERIOD_SECS: i64 = 30;

/// Time for a broker to recover its log before it counts as hung: ten minutes at least. A probe during which the log is read
/// takes its whole timeout.
const STARTUP_PROBES: i32 = 600;

const CONFIG_VOLUME: &str = "config";
const TLS_VOLUME: &str = "tls";
const ACCOUNT_VOLUME: &str = "account";

/// How long a token is valid by which the broker asks about others. The kubelet renews it when four fifths have passed.
const TOKEN_EXPIRATION_SECS: i64 = 3600;

pub(super) fn stateful_set(plan: &Plan, config: &ConfigMap) -> StatefulSet {
    StatefulSet {
        metadata: ObjectMeta {
            annotations: Some(release::annotations(plan)),
            ..metadata(plan, &plan.names.stateful_set)
        },
        spec: Some(StatefulSetSpec {
            replicas: Some(plan.spec.replicas),
            service_name: Some(plan.names.nodes_service.clone()),
            // In order, one pod that never becomes ready would keep the fix for it from being rolled out.
            pod_management_policy: Some("Parallel".into()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".into()),
                ..StatefulSetUpdateStrategy::default()
            }),
            selector: LabelSelector { match_labels: Some(plan.names.selector()), ..LabelSelector::default() },
            template: pod_template(plan, config),
            volume_claim_templates: Some(vec![volume_claim(plan)]),
            persistent_volume_claim_retention_policy: Some(retention_policy(plan.spec.storage.deletion_policy)),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

/// A stopped queue always keeps its volume; a deleted one as it was asked for.
fn retention_policy(policy: DeletionPolicy) -> StatefulSetPersistentVolumeClaimRetentionPolicy {
    let when_deleted = match policy {
        DeletionPolicy::Retain => "Retain",
        DeletionPolicy::Delete => "Delete",
    };
    StatefulSetPersistentVolumeClaimRetentionPolicy {
        when_deleted: Some(when_deleted.into()),
        when_scaled: Some("Retain".into()),
    }
}

fn volume_claim(plan: &Plan) -> PersistentVolumeClaim {
    let storage = &plan.spec.storage;
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(DATA_VOLUME.into()),
            labels: Some(plan.names.labels()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            storage_class_name: storage.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".into(), storage.size.clone())])),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

fn pod_template(plan: &Plan, config: &ConfigMap) -> PodTemplateSpec {
    let spec = &plan.spec;
    let pull_secrets = &spec.image_pull_secrets;
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(plan.names.labels()),
            annotations: Some(template_annotations(plan, config)),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            containers: vec![broker(plan)],
            volumes: Some(
                [Some(config_volume(plan)), tls_volume(plan), account_volume(plan)].into_iter().flatten().collect(),
            ),
            security_context: Some(pod_security_context()),
            // Always said: the API server keeps a name that is taken away.
            service_account_name: Some(account_name(plan)),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(TERMINATION_GRACE_PERIOD_SECS),
            image_pull_secrets: (!pull_secrets.is_empty()).then(|| pull_secrets.clone()),
            node_selector: (!spec.node_selector.is_empty()).then(|| spec.node_selector.clone()),
            tolerations: (!spec.tolerations.is_empty()).then(|| spec.tolerations.clone()),
            affinity: spec.affinity.clone(),
            topology_spread_constraints: topology_spread_constraints(plan),
            ..PodSpec::default()
        }),
    }
}

fn template_annotations(plan: &Plan, config: &ConfigMap) -> BTreeMap<String, String> {
    let restart = plan.restart.clone().map(|value| (release::RESTART_ANNOTATION.to_owned(), value));
    restart.into_iter().chain([(CONFIG_HASH_ANNOTATION.to_owned(), config_hash(plan, config))]).collect()
}

/// Changes when the broker must start anew: with its configuration, and with a default user that was made anew.
/// The user's name stands for the user, so that nothing can be learnt about the password from a pod's annotation.
pub fn config_hash(plan: &Plan, config: &ConfigMap) -> String {
    let files = config.data.iter().flatten().flat_map(|(name, text)| [name.as_str(), text.as_str()]);
    fingerprint(files.chain([plan.credentials.username.as_str()]))
}

fn broker(plan: &Plan) -> Container {
    Container {
        name: BROKER_CONTAINER.into(),
        image: Some(plan.image.clone()),
        image_pull_policy: plan.spec.image_pull_policy.map(|policy| policy.as_str().into()),
        command: Some(vec!["/warren-broker".into()]),
        args: Some(vec!["serve".into(), "--config".into(), format!("{}/{}", paths::CONFIG_FOLDER, paths::CONFIG_FILE)]),
        ports: Some(ports(plan)),
        resources: plan.spec.resources.as_ref().map(resource_requirements),
        volume_mounts: Some(volume_mounts(plan)),
        security_context: Some(container_security_context()),
        startup_probe: Some(probe("/startupz", 1, STARTUP_PROBES)),
        liveness_probe: Some(probe("/livez", 10, 3)),
        readiness_probe: Some(probe("/readyz", 2, 2)),
        ..Container::default()
    }
}

fn container_port(name: &str, number: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.into()),
        container_port: number,
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    }
}

fn ports(plan: &Plan) -> Vec<ContainerPort> {
    let metrics = container_port("metrics", METRICS_PORT);
    match plan.tls {
        PlannedTls::Disabled => {
            vec![container_port("amqp", AMQP_PORT), container_port("management", MANAGEMENT_PORT), metrics]
        }
        PlannedTls::Managed(_) | PlannedTls::Secret { .. } => {
            vec![container_port("amqps", AMQPS_PORT), container_port("management-tls", MANAGEMENT_TLS_PORT), metrics]
        }
    }
}

fn volume_mounts(plan: &Plan) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let mut mounts = vec![mount(DATA_VOLUME, paths::DATA, false), mount(CONFIG_VOLUME, paths::CONFIG_FOLDER, true)];
    if plan.tls != PlannedTls::Disabled {
        mounts.push(mount(TLS_VOLUME, paths::TLS_FOLDER, true));
    }
    if plan.audience().is_some() {
        mounts.push(mount(ACCOUNT_VOLUME, paths::ACCOUNT_FOLDER, true));
    }
    mounts
}

/// One folder with the configuration file and, below it, the default user's name and password as a file each.
fn config_volume(plan: &Plan) -> Volume {
    let secret_file = |key: &str| KeyToPath {
        key: key.into(),
        path: format!("{}/{key}", paths::DEFAULT_USER_FOLDER),
        // Readable by the broker's group and nobody else.
        mode: Some(0o440),
    };
    let sources = vec![
        VolumeProjection {
            config_map: Some(ConfigMapProjection { name: plan.names.config.clone(), ..ConfigMapProjection::default() }),
            ..VolumeProjection::default()
        },
        VolumeProjection {
            secret: Some(SecretProjection {
                name: plan.names.default_user.clone(),
                items: Some(vec![secret_file("username"), secret_file("password")]),
                ..SecretProjection::default()
            }),
            ..VolumeProjection::default()
        },
    ];
    Volume {
        name: CONFIG_VOLUME.into(),
        projected: Some(ProjectedVolumeSource { sources: Some(sources), default_mode: None }),
        ..Volume::default()
    }
}

/// The brokers' certificate. It is renewed in the running pod, and so stands for nothing in the pod's template.
fn tls_volume(plan: &Plan) -> Option<Volume> {
    let name = match &plan.tls {
        PlannedTls::Disabled => return None,
        PlannedTls::Managed(_) => &plan.names.certificate_secret,
        PlannedTls::Secret { name, .. } => name,
    };
    let file = |key: &str| KeyToPath { key: key.into(), path: key.into(), mode: Some(0o440) };
    let source = VolumeProjection {
        secret: Some(SecretProjection {
            name: name.clone(),
            items: Some(vec![file("tls.crt"), file("tls.key")]),
            ..SecretProjection::default()
        }),
        ..VolumeProjection::default()
    };
    Some(Volume {
        name: TLS_VOLUME.into(),
        projected: Some(ProjectedVolumeSource { sources: Some(vec![source]), default_mode: None }),
        ..Volume::default()
    })
}

fn account_name(plan: &Plan) -> String {
    let is_own = plan.audience().is_some();
    if is_own { plan.names.service_account.clone() } else { "default".into() }
}

/// What the broker needs to ask the API server about tokens: a token of its own, and whom to trust there. `None`: it does not ask.
fn account_volume(plan: &Plan) -> Option<Volume> {
    plan.audience()?;
    let sources = vec![
        VolumeProjection {
            service_account_token: Some(ServiceAccountTokenProjection {
                path: "token".into(),
                expiration_seconds: Some(TOKEN_EXPIRATION_SECS),
                audience: None,
            }),
            ..VolumeProjection::default()
        },
        VolumeProjection {
            // Kubernetes keeps one in each namespace.
            config_map: Some(ConfigMapProjection {
                name: "kube-root-ca.crt".into(),
                items: Some(vec![KeyToPath { key: "ca.crt".into(), path: "ca.crt".into(), mode: None }]),
                optional: None,
            }),
            ..VolumeProjection::default()
        },
    ];
    Some(Volume {
        name: ACCOUNT_VOLUME.into(),
        projected: Some(ProjectedVolumeSource { sources: Some(sources), default_mode: None }),
        ..Volume::default()
    })
}

fn pod_security_context() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(NONROOT_ID),
        run_as_group: Some(NONROOT_ID),
        fs_group: Some(NONROOT_ID),
        // Walking a large volume at each start would take minutes.
        fs_group_change_policy: Some("OnRootMismatch".into()),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }),
        ..PodSecurityContext::default()
    }
}

fn container_security_context() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
        ..SecurityContext::default()
    }
}

fn probe(path: &str, period_secs: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String("metrics".into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_secs),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn resource_requirements(resources: &Resources) -> ResourceRequirements {
    ResourceRequirements {
        requests: resources.requests.as_ref().map(amounts),
        limits: resources.limits.as_ref().map(amounts),
        claims: None,
    }
}

fn amounts(amounts: &ResourceAmounts) -> BTreeMap<String, Quantity> {
    let ResourceAmounts { cpu, memory } = amounts;
    [("cpu", cpu), ("memory", memory)]
        .into_iter()
        .filter_map(|(name, amount)| Some((name.to_owned(), amount.clone()?)))
        .collect()
}

fn topology_spread_constraints(plan: &Plan) -> Option<Vec<TopologySpreadConstraint>> {
    let constraints = &plan.spec.topology_spread_constraints;
    let own_pods = LabelSelector { match_labels: Some(plan.names.selector()), ..LabelSelector::default() };
    let complete = |constraint: &TopologySpreadConstraint| TopologySpreadConstraint {
        label_selector: constraint.label_selector.clone().or_else(|| Some(own_pods.clone())),
        ..constraint.clone()
    };
    (!constraints.is_empty()).then(|| constraints.iter().map(complete).collect())
}
