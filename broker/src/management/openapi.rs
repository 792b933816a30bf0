//! `/api/openapi.json`: the routes as an OpenAPI document. It is made from the table of routes, so it names those that
//! there are and no other. Bodies and answers are RabbitMQ's; `docs/management.md` says where they are not.

use serde_json::{Map, Value as Json, json};

use super::answer::{Answer, Reply};
use super::call::Call;
use super::route::Handle::Now;
use super::route::{Method, Needs, Route, get};

pub(super) const ROUTES: &[Route] = &[get("/api/openapi.json", Needs::Login, "This document.", Now(document))];

fn document(_call: &Call) -> Answer {
    Ok(Reply::Json(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Warren's management API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "RabbitMQ's management API, as far as Warren has it.",
        },
        "security": [{"basic": []}, {"bearer": []}],
        "components": {
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
            "schemas": {
                "Failure": {
                    "type": "object",
                    "properties": {"error": {"type": "string"}, "reason": {"type": "string"}},
                    "required": ["error", "reason"],
                },
            },
        },
        "paths": paths(),
    })))
}

fn paths() -> Json {
    let mut paths = Map::new();
    for route in super::routes() {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.name().to_ascii_lowercase()] = operation(route);
    }
    Json::Object(paths)
}

fn operation(route: &Route) -> Json {
    let parameters: Json = parameters(route.path)
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    let failure = json!({
        "description": "It failed.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Failure"}}},
    });
    let mut operation = json!({
        "summary": route.summary,
        "description": needed(route.needs),
        "parameters": parameters,
        "responses": {"2XX": {"description": "It succeeded."}, "default": failure},
    });
    if matches!(route.method, Method::Put | Method::Post) {
        operation["requestBody"] = json!({"content": {"application/json": {"schema": {"type": "object"}}}});
    }
    operation
}

/// The names in braces.
fn parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

fn needed(needs: Needs) -> String {
    match needs.tags() {
        [] => String::from("For everybody who logs in."),
        [tag] => format!("For users with the tag {tag}."),
        tags => format!("For users with one of the tags {}.", tags.join(", ")),
    }
}
