//! What somebody asks `/metrics/detailed` for.

use warren_core::topology::{Pattern, PatternError};

/// Which families, and of which objects.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    /// `None`: all.
    families: Option<Vec<String>>,
    /// Empty: all.
    vhosts: Vec<String>,
    queue: Option<Pattern>,
}

impl Selection {
    /// Everything.
    pub(crate) const fn all() -> Self {
        Self { families: None, vhosts: Vec::new(), queue: None }
    }

    /// Reads `family` and `vhost`, which may be there several times, and `queue`, a regular expression. Families that
    /// nobody knows and other parameters mean nothing, as in RabbitMQ.
    ///
    /// # Errors
    /// `queue` is no regular expression.
    pub(crate) fn from_query(query: Vec<(String, String)>) -> Result<Self, PatternError> {
        let mut selection = Self { families: Some(Vec::new()), vhosts: Vec::new(), queue: None };
        for (parameter, value) in query {
            match parameter.as_str() {
                "family" => selection.families.get_or_insert_default().push(value),
                "vhost" => selection.vhosts.push(value),
                "queue" => selection.queue = Some(Pattern::of_policy(&value)?),
                _ => {}
            }
        }
        Ok(selection)
    }

    pub(super) fn is_all(&self) -> bool {
        self.families.is_none()
    }

    /// Whether one of these values of `family=` was given.
    pub(super) fn asks_for(&self, families: &[&str]) -> bool {
        let Some(asked) = &self.families else { return true };
        asked.iter().any(|family| families.contains(&family.as_str()) && !family.is_empty())
    }

    pub(super) fn takes_vhost(&self, vhost: &str) -> bool {
        self.vhosts.is_empty() || self.vhosts.iter().any(|taken| taken == vhost)
    }

    pub(super) fn takes_queue(&self, vhost: &str, name: &str) -> bool {
        self.takes_vhost(vhost) && self.queue.as_ref().is_none_or(|pattern| pattern.matches(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(query: &[(&str, &str)]) -> Selection {
        let query = query.iter().map(|(parameter, value)| (String::from(*parameter), String::from(*value))).collect();
        Selection::from_query(query).expect("the expression is one")
    }

    #[test]
    fn families_are_those_that_were_asked_for_and_no_others() {
        let some = selection(&[("family", "queue_metrics"), ("family", "vhost_status"), ("family", "")]);
        assert!(some.asks_for(&["queue_metrics"]) && some.asks_for(&["queue_consumer_count", "queue_metrics"]));
        assert!(!some.asks_for(&["queue_coarse_metrics"]) && !some.asks_for(&[""]));
        assert!(!selection(&[]).asks_for(&["queue_metrics"]), "who asks for nothing gets nothing");
        assert!(Selection::all().asks_for(&["queue_metrics"]) && Selection::all().asks_for(&[""]));
    }

    #[test]
    fn queues_are_taken_by_virtual_host_and_expression() {
        let some = selection(&[("vhost", "a"), ("vhost", "b"), ("queue", "^orders\\..*new$")]);
        assert!(some.takes_queue("a", "orders.new") && some.takes_queue("b", "orders.x.new"));
        assert!(!some.takes_queue("c", "orders.new") && !some.takes_queue("a", "orders.old"));
        assert!(selection(&[]).takes_queue("any", "any"));
        assert!(Selection::from_query(vec![("queue".into(), "(".into())]).is_err());
    }
}
