//! An operator of another release restarts no broker by itself.
//!
//! What a broker runs with, its pod's template and its configuration, is made by one release of the operator and stays so, as one,
//! until a person changes something that restarts the broker anyway, asks for a restart, or lets the broker follow. Two annotations
//! of the StatefulSet tell: which release made it, and the fingerprint of what a person had asked for then.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;
use serde::Serialize;

use crate::api::UpgradePolicy;
use crate::build::{CONFIG_HASH_ANNOTATION, Objects, config_hash};
use crate::fingerprint::fingerprint;
use crate::observe::ObservedObjects;
use crate::validate::{Plan, PlannedTls};

/// Annotation of the StatefulSet: the release of the operator that has made template and configuration.
pub const RELEASE_ANNOTATION: &str = "warrenmq.dev/release";

/// Annotation of the StatefulSet: the fingerprint of everything that a person has said about them.
pub const REQUEST_ANNOTATION: &str = "warrenmq.dev/request";

/// Annotation of a MessageQueue that restarts its broker: each new value once.
pub const RESTART_ANNOTATION: &str = "warrenmq.dev/restart";

/// The annotations of a StatefulSet that is made of `plan` now.
pub fn annotations(plan: &Plan) -> BTreeMap<String, String> {
    [(RELEASE_ANNOTATION, plan.release.clone()), (REQUEST_ANNOTATION, request(plan))]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
}

/// Keeps template and configuration of another release where nobody has asked for another broker. Returns that release.
///
/// What is kept is what is there: a template that somebody has changed meanwhile is not repaired before it is made anew. A
/// configuration that is not the one of the template is no reason to keep either.
pub fn hold(wanted: &mut Objects, plan: &Plan, observed: &ObservedObjects) -> Option<String> {
    let set = observed.stateful_set.as_ref()?;
    let annotations = set.annotations();
    let release = annotations.get(RELEASE_ANNOTATION).filter(|release| **release != plan.release)?;
    let is_asked_for = annotations.get(REQUEST_ANNOTATION) != Some(&request(plan));
    if is_asked_for || plan.spec.upgrade_policy == UpgradePolicy::Automatic {
        return None;
    }
    let config = observed.config.as_ref()?;
    let template = &set.spec.as_ref()?.template;
    let made_for = template.metadata.as_ref()?.annotations.as_ref()?.get(CONFIG_HASH_ANNOTATION)?;
    if *made_for != config_hash(plan, config) {
        return None;
    }
    wanted.config.data = config.data.clone();
    keep(&mut wanted.stateful_set, set, release);
    Some(release.clone())
}

fn keep(wanted: &mut StatefulSet, present: &StatefulSet, release: &str) {
    if let (Some(wanted), Some(present)) = (wanted.spec.as_mut(), present.spec.as_ref()) {
        wanted.template = present.template.clone();
    }
    wanted.annotations_mut().insert(RELEASE_ANNOTATION.to_owned(), release.to_owned());
}

/// The fingerprint of everything about the broker that a person can say. What was not said is no part of it, so that a field that a
/// later release has besides changes nothing.
fn request(plan: &Plan) -> String {
    let spec = &plan.spec;
    let tls = match &plan.tls {
        PlannedTls::Disabled => "disabled",
        PlannedTls::Managed(_) => "managed",
        PlannedTls::Secret { name, .. } => name,
    };
    let said = [
        said("image", &spec.image),
        said("imagePullPolicy", &spec.image_pull_policy),
        said("imagePullSecrets", &spec.image_pull_secrets),
        said("resources", &spec.resources),
        said("nodeSelector", &spec.node_selector),
        said("tolerations", &spec.tolerations),
        said("affinity", &spec.affinity),
        said("topologySpreadConstraints", &spec.topology_spread_constraints),
        said("restart", &plan.restart),
        said("tls", &(plan.tls != PlannedTls::Disabled).then_some(tls)),
        said("user", &plan.credentials.username),
        said("audience", &plan.audience()),
    ];
    fingerprint(said.iter().flatten().map(String::as_str))
}

fn said(name: &str, value: &impl Serialize) -> Option<String> {
    let text = serde_json::to_string(value).unwrap_or_default();
    let is_nothing = ["null", "[]", "{}"].contains(&text.as_str());
    (!is_nothing).then(|| format!("{name}={text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Consumer, MessageQueueSpec};
    use crate::build::build;
    use crate::build::tests::plan;

    /// What an operator of release 0.0.1 has made of `plan`, which probes the broker at another path.
    fn made_before(plan: &Plan) -> ObservedObjects {
        let mut objects = build(&Plan { release: "0.0.1".into(), ..plan.clone() });
        let pod = objects.stateful_set.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
        pod.containers[0].startup_probe = None;
        ObservedObjects {
            stateful_set: Some(objects.stateful_set),
            config: Some(objects.config),
            ..ObservedObjects::default()
        }
    }

    /// Whether the broker stays as it was made of `before` when `after` is asked for.
    fn stays(before: &Plan, after: &Plan) -> bool {
        let (mut wanted, observed) = (build(after), made_before(before));
        let held = hold(&mut wanted, after, &observed);
        let template = |set: &StatefulSet| set.spec.clone().unwrap().template;
        let is_kept = template(&wanted.stateful_set) == template(observed.stateful_set.as_ref().unwrap());
        assert_eq!(held.is_some(), is_kept);
        let release = if is_kept { "0.0.1" } else { after.release.as_str() };
        assert_eq!(wanted.stateful_set.annotations()[RELEASE_ANNOTATION], release);
        is_kept
    }

    fn with(change: impl FnOnce(&mut MessageQueueSpec)) -> Plan {
        let mut spec = MessageQueueSpec::default();
        change(&mut spec);
        plan(spec)
    }

    #[test]
    fn another_operator_alone_restarts_nothing() {
        let before = with(|_| {});
        assert!(stays(&before, &before));
        assert!(stays(&before, &Plan { image: "warrenmq/broker:next".into(), ..before.clone() }), "its own image");
    }

    #[test]
    fn the_same_release_repairs_what_was_changed() {
        let plan = with(|_| {});
        assert!(!stays(&plan, &Plan { release: "0.0.1".into(), ..plan.clone() }));
    }

    #[test]
    fn what_restarts_the_broker_anyway_brings_the_release_and_nothing_else_does() {
        let before = with(|_| {});
        assert!(!stays(&before, &with(|spec| spec.image = Some("own".into()))));
        assert!(!stays(&before, &with(|spec| spec.node_selector = [("a".to_owned(), "b".to_owned())].into())));
        assert!(!stays(&before, &Plan { restart: Some("today".into()), ..before.clone() }));
        assert!(!stays(&before, &Plan { tls: PlannedTls::Disabled, ..before.clone() }));
        assert!(!stays(&before, &with(|spec| spec.upgrade_policy = UpgradePolicy::Automatic)));
        assert!(stays(&before, &with(|spec| spec.replicas = 0)));
        assert!(stays(&before, &with(|spec| spec.monitoring.enabled = false)));
        assert!(stays(&before, &with(|spec| spec.consumers = Vec::<Consumer>::new())));
    }

    #[test]
    fn a_configuration_that_somebody_has_changed_is_not_kept() {
        let plan = with(|_| {});
        let mut observed = made_before(&plan);
        observed.config.as_mut().unwrap().data.as_mut().unwrap().insert("warren.toml".into(), "theirs".into());
        assert_eq!(hold(&mut build(&plan), &plan, &observed), None);
        observed.config = None;
        assert_eq!(hold(&mut build(&plan), &plan, &observed), None);
    }

    #[test]
    fn the_fingerprint_is_the_same_in_every_release() {
        assert_eq!(request(&with(|_| {})), "08ac093229442205");
    }
}
