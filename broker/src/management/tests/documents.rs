//! The OpenAPI document and docs/management.md name the routes that there are, and no other.

use super::*;
use crate::management::route::{Needs, Route};

/// A route's line in docs/management.md.
fn line(route: &Route) -> String {
    let needs = match route.needs {
        Needs::Login => "login",
        Needs::Management => "management",
        Needs::Policymaker => "policymaker",
        Needs::Monitoring => "monitoring",
        Needs::Administrator => "administrator",
    };
    let path = route.path.strip_prefix("/api").expect("all are under it");
    format!("| {} | `{path}` | {needs} | {} |\n", route.method.name(), route.summary)
}

#[test]
fn the_manual_has_the_table_of_routes() {
    let mut all: Vec<_> = routes().collect();
    all.sort_by_key(|route| (route.path, route.method));
    let table: String = all.into_iter().map(line).collect();
    let text = include_str!("../../../../docs/management.md");
    let begin = text.find("| --- | --- | --- | --- |\n").expect("a table") + "| --- | --- | --- | --- |\n".len();
    let end = begin + text[begin..].find("\n\n").expect("its end") + 1;
    assert!(text[begin..end] == table, "docs/management.md: put this in the place of its table of routes:\n{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_document_names_exactly_the_routes() {
    let world = World::start().await;
    let document = world.get("/openapi.json").await;
    let mut named = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let parameters = operation["parameters"].as_array().expect("a list").len();
            assert_eq!(parameters, path.matches('{').count(), "{path}");
            named.push((path.clone(), method.to_uppercase()));
        }
    }
    let mut expected: Vec<_> = routes().map(|route| (route.path.to_owned(), route.method.name().to_owned())).collect();
    named.sort_unstable();
    expected.sort_unstable();
    assert_eq!(named, expected);
    world.stop().await;
}
