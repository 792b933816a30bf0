//! The table of paths: which of RabbitMQ's the tools asked, and how our broker answered.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use warren_tests::trial::Outcome;

/// The paths of RabbitMQ's API below `/api` that tools have been seen to ask, names in braces. The first that fits counts.
const PATHS: &[&str] = &[
    "overview",
    "whoami",
    "version",
    "cluster-name",
    "extensions",
    "nodes",
    "nodes/{node}",
    "nodes/{node}/memory",
    "auth/attempts/{node}",
    "connections",
    "connections/username/{user}",
    "connections/{connection}",
    "connections/{connection}/channels",
    "channels",
    "channels/{channel}",
    "consumers",
    "consumers/{vhost}",
    "exchanges",
    "exchanges/{vhost}",
    "exchanges/{vhost}/{exchange}",
    "exchanges/{vhost}/{exchange}/publish",
    "exchanges/{vhost}/{exchange}/bindings/source",
    "exchanges/{vhost}/{exchange}/bindings/destination",
    "queues",
    "queues/detailed",
    "queues/{vhost}",
    "queues/{vhost}/{queue}",
    "queues/{vhost}/{queue}/bindings",
    "queues/{vhost}/{queue}/contents",
    "queues/{vhost}/{queue}/get",
    "queues/{vhost}/{queue}/actions",
    "bindings",
    "bindings/{vhost}",
    "bindings/{vhost}/e/{source}/q/{queue}",
    "bindings/{vhost}/e/{source}/q/{queue}/{properties}",
    "bindings/{vhost}/e/{source}/e/{destination}",
    "bindings/{vhost}/e/{source}/e/{destination}/{properties}",
    "vhosts",
    "vhosts/{vhost}",
    "vhosts/{vhost}/permissions",
    "vhosts/{vhost}/topic-permissions",
    "vhosts/{vhost}/connections",
    "vhosts/{vhost}/channels",
    "vhosts/{vhost}/deletion/protection",
    "users",
    "users/without-permissions",
    "users/bulk-delete",
    "users/{user}",
    "users/{user}/permissions",
    "users/{user}/topic-permissions",
    "permissions",
    "permissions/{vhost}/{user}",
    "topic-permissions",
    "topic-permissions/{vhost}/{user}",
    "topic-permissions/{vhost}/{user}/{exchange}",
    "vhost-limits",
    "vhost-limits/{vhost}",
    "vhost-limits/{vhost}/{limit}",
    "user-limits",
    "user-limits/{user}",
    "user-limits/{user}/{limit}",
    "policies",
    "policies/{vhost}",
    "policies/{vhost}/{policy}",
    "operator-policies",
    "operator-policies/{vhost}",
    "operator-policies/{vhost}/{policy}",
    "parameters",
    "parameters/{component}",
    "parameters/{component}/{vhost}",
    "parameters/{component}/{vhost}/{name}",
    "global-parameters",
    "global-parameters/{name}",
    "definitions",
    "definitions/{vhost}",
    "feature-flags",
    "feature-flags/{flag}/enable",
    "deprecated-features",
    "deprecated-features/used",
    "rebalance/queues",
    "healthchecks/node",
    "healthchecks/node/{node}",
    "aliveness-test/{vhost}",
    "health/checks/alarms",
    "health/checks/local-alarms",
    "health/checks/virtual-hosts",
    "health/checks/node-is-quorum-critical",
    "health/checks/port-listener/{port}",
    "health/checks/protocol-listener/{protocol}",
    "health/checks/certificate-expiration/{within}/{unit}",
    "federation-links",
    "federation-links/{vhost}",
    "shovels",
    "shovels/{vhost}",
];

/// What was asked by whom, and answered how.
#[derive(Default)]
struct Asked {
    tools: BTreeSet<&'static str>,
    statuses: BTreeSet<u16>,
}

/// The table, as a section of the page.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let mut rows = BTreeMap::<(&str, String), Asked>::new();
    for outcome in outcomes {
        for request in &outcome.requests {
            let asked = rows.entry((template(&request.path), request.method.clone())).or_default();
            asked.tools.insert(outcome.suite.name);
            asked.statuses.insert(request.status);
        }
    }
    let mut text = format!(
        "\n## Paths\n\nEvery path that the tools asked, and the statuses of our answers: {} methods of paths.\n\n\
         | path | method | tools | statuses |\n| --- | --- | --- | --- |\n",
        rows.len()
    );
    for ((path, method), Asked { tools, statuses }) in rows {
        let tools = tools.into_iter().collect::<Vec<_>>().join(", ");
        let statuses = statuses.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        let _ = writeln!(text, "| `/api/{path}` | {method} | {tools} | {statuses} |");
    }
    text
}

/// The path with names in the place of what tools called their objects.
fn template(path: &str) -> &'static str {
    let path = path.trim_start_matches("/api").trim_matches('/');
    let fits = |template: &str| {
        let mut pairs = template.split('/').zip(path.split('/'));
        let is_as_long = template.split('/').count() == path.split('/').count();
        is_as_long && pairs.all(|(name, asked)| name.starts_with('{') || name == asked)
    };
    PATHS.iter().copied().find(|template| fits(template)).unwrap_or("(others)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_with_names_in_the_place_of_objects() {
        assert_eq!(template("/api/queues/%2F/a%20b"), "queues/{vhost}/{queue}");
        assert_eq!(template("/api/users/"), "users");
        assert_eq!(template("/api/users/bulk-delete"), "users/bulk-delete");
        assert_eq!(template("/api/bindings/v/e/x/q/y/~"), "bindings/{vhost}/e/{source}/q/{queue}/{properties}");
        assert_eq!(template("/api/no/such/path/at/all/there"), "(others)");
    }
}
