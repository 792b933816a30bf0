//! The ServiceMonitor: how a Prometheus of the Prometheus operator scrapes the brokers.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::metadata;
use crate::names::NAME_LABEL;
use crate::prometheus_operator::{Endpoint, Relabeling, ServiceMonitor, ServiceMonitorSpec};
use crate::validate::Plan;

/// What dashboards and alerts know about single queues.
const QUEUE_FAMILIES: [&str; 4] =
    ["queue_coarse_metrics", "queue_metrics", "queue_consumer_count", "queue_delivery_metrics"];

/// `None`: nobody wants it, or nobody would read it.
pub(super) fn service_monitor(plan: &Plan) -> Option<ServiceMonitor> {
    let monitoring = &plan.spec.monitoring;
    let is_wanted = monitoring.enabled && plan.kinds.service_monitors;
    let page = |path: &str| Endpoint {
        port: "metrics".into(),
        path: path.into(),
        interval: monitoring.interval.clone(),
        ..Endpoint::default()
    };
    // Both pages are of the same pod. Without a label of its own, the second one's `up` would be the first one's.
    let page_label =
        Relabeling { action: "replace".into(), target_label: "page".into(), replacement: "detailed".into() };
    let queues = monitoring.queues.then(|| Endpoint {
        params: BTreeMap::from([("family".to_owned(), QUEUE_FAMILIES.map(str::to_owned).to_vec())]),
        relabelings: vec![page_label],
        ..page("/metrics/detailed")
    });
    is_wanted.then(|| ServiceMonitor {
        metadata: labelled(plan, &plan.names.service_monitor),
        spec: ServiceMonitorSpec {
            // Of the queue's Services, one has a port of that name.
            selector: LabelSelector { match_labels: Some(plan.names.selector()), ..LabelSelector::default() },
            job_label: NAME_LABEL.into(),
            endpoints: std::iter::once(page("/metrics")).chain(queues).collect(),
        },
    })
}

/// The usual metadata, with the labels by which a Prometheus chooses. Ours are stronger, because we find our objects by them.
pub(super) fn labelled(plan: &Plan, name: &str) -> ObjectMeta {
    let usual = metadata(plan, name);
    let mut labels = plan.spec.monitoring.labels.clone();
    labels.extend(usual.labels.unwrap_or_default());
    ObjectMeta { labels: Some(labels), ..usual }
}
