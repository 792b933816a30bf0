//! The PrometheusRule: the alerts of `deploy/prometheus/rules.yaml`, for the brokers of one MessageQueue.

use super::service_monitor::labelled;
use crate::prometheus_operator::{Alert, PrometheusRule, PrometheusRuleSpec, RuleGroup};
use crate::validate::Plan;

const RULES: &str = include_str!("../../../deploy/prometheus/rules.yaml");

/// `None`: nobody wants it, or nobody would read it.
pub(super) fn prometheus_rule(plan: &Plan) -> Option<PrometheusRule> {
    let monitoring = &plan.spec.monitoring;
    let is_wanted = monitoring.enabled && monitoring.alerts && plan.kinds.prometheus_rules;
    is_wanted.then(|| PrometheusRule {
        metadata: labelled(plan, &plan.names.prometheus_rule),
        spec: PrometheusRuleSpec { groups: groups(plan) },
    })
}

fn groups(plan: &Plan) -> Vec<RuleGroup> {
    // The file is part of the program, and a test reads it.
    let rules: PrometheusRuleSpec = serde_saphyr::from_str(RULES).unwrap_or_default();
    let of_queue = |group: RuleGroup| RuleGroup {
        name: format!("{}/{}", plan.names.namespace, plan.names.queue),
        rules: group.rules.into_iter().map(|alert| scoped(plan, alert)).collect(),
    };
    rules.groups.into_iter().map(of_queue).collect()
}

/// The alert, if it is about an instance of this queue. Each alert has the label `instance`, which Prometheus knows by `up`.
fn scoped(plan: &Plan, alert: Alert) -> Alert {
    let (namespace, service) = (&plan.names.namespace, &plan.names.nodes_service);
    let expr = format!("({}) and on(instance) up{{namespace=\"{namespace}\", service=\"{service}\"}}", alert.expr);
    let own = [("namespace", namespace), ("messagequeue", &plan.names.queue)];
    let mut labels = alert.labels;
    labels.extend(own.map(|(key, value)| (key.to_owned(), value.clone())));
    Alert { expr, labels, ..alert }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_read_whole() {
        let rules: PrometheusRuleSpec = serde_saphyr::from_str(RULES).unwrap();
        let alerts = &rules.groups[0].rules;
        assert_eq!((rules.groups.len(), alerts.len()), (1, RULES.matches("- alert: ").count()));
        assert!(alerts.iter().all(|alert| !alert.expr.is_empty() && alert.annotations.contains_key("summary")));
        assert_eq!(alerts.iter().filter(|alert| alert.for_.is_some()).count(), RULES.matches(" for: ").count());
    }
}
