//! What is made, shown and deleted.

use super::*;
use crate::limits::BODY_BYTES;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_is_created_and_what_is_there_is_done() {
    let world = World::start().await;
    for (path, body) in [
        ("/vhosts/v", json!({})),
        ("/users/bob", json!({"password": "secret", "tags": "management"})),
        ("/permissions/v/bob", json!({"configure": "", "write": "", "read": ""})),
        ("/topic-permissions/v/bob", json!({"exchange": "amq.topic", "write": "", "read": ""})),
        ("/queues/v/q", json!({"durable": true, "arguments": {"x-max-length": 5}})),
        ("/exchanges/v/x", json!({"type": "topic"})),
        ("/policies/v/p", json!({"pattern": "^a", "definition": {"max-length": 1}, "apply-to": "queues"})),
        ("/operator-policies/v/p", json!({"pattern": "^a", "definition": {"max-length": 1}})),
    ] {
        assert_eq!(world.put(path, body.clone()).await, StatusCode::CREATED, "{path}");
        assert_eq!(world.put(path, body).await, StatusCode::NO_CONTENT, "{path}");
    }
    for path in ["/topic-permissions/v/bob/amq.topic", "/permissions/v/bob", "/policies/v/p", "/operator-policies/v/p"]
    {
        assert_eq!(world.delete(path).await, StatusCode::NO_CONTENT, "{path}");
        assert_eq!(world.delete(path).await, StatusCode::NOT_FOUND, "{path}");
    }
    for path in ["/queues/v/q", "/exchanges/v/x", "/users/bob", "/vhosts/v"] {
        assert_eq!(world.delete(path).await, StatusCode::NO_CONTENT, "{path}");
        assert_eq!(world.delete(path).await, StatusCode::NOT_FOUND, "{path}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_get_rabbitmqs_status_and_a_reason() {
    let world = World::start().await;
    world.put("/queues/%2F/q", json!({})).await;
    for (method, path, body, status, reason) in [
        (Method::Get, "/queues/%2F/none", json!(null), 404, "Not Found"),
        (Method::Get, "/nothing", json!(null), 404, "Not Found"),
        (Method::Put, "/queues/none/q", json!({}), 404, "vhost_not_found"),
        (Method::Put, "/users/u", json!({"password": "x"}), 400, "missing field `tags`"),
        (Method::Put, "/users/u", json!(["x"]), 400, "not_json"),
        (Method::Put, "/users/u", json!({"password_hash": "abc", "tags": ""}), 400, "password_hash"),
        (Method::Put, "/users/u", json!({"password": "x", "password_hash": "x", "tags": ""}), 400, "both_password"),
        (
            Method::Put,
            "/users/u",
            json!({"password": "x", "previous_password_seconds": 86_401, "tags": ""}),
            400,
            "previous_password_seconds is 86401: it may be 86400 (a day) at most",
        ),
        (Method::Put, "/queues/%2F/q", json!({"durable": 5}), 400, "not_boolean"),
        (Method::Put, "/queues/%2F/q", json!({"node": "x@y"}), 400, "not a cluster member"),
        (Method::Put, "/queues/%2F/q\u{1}", json!({}), 400, "control characters"),
        (Method::Put, "/queues/%2F/amq.q", json!({}), 401, "reserved prefix"),
        (Method::Put, "/exchanges/%2F/x", json!({"type": "none"}), 400, "exchange type"),
        (
            Method::Put,
            "/permissions/%2F/none",
            json!({"configure": "", "write": "", "read": ""}),
            400,
            "user_not_found",
        ),
        (Method::Post, "/bindings/%2F/e/none/q/q", json!({}), 404, "no exchange 'none'"),
        (Method::Put, "/vhost-limits/%2F/max-none", json!({"value": 1}), 400, "max-none"),
        (
            Method::Put,
            "/policies/%2F/p",
            json!({"pattern": "(", "definition": {"max-length": 1}}),
            400,
            "cannot be used",
        ),
        (Method::Get, "/queues?page=0", json!(null), 400, "counted from 1"),
        (Method::Get, "/queues?page=1&page_size=501", json!(null), 400, "at most 500"),
        (Method::Get, "/queues?page=2", json!(null), 400, "out of range"),
        (Method::Get, "/queues?page=x", json!(null), 400, "whole numbers"),
        (Method::Get, "/queues?page=1&name=(&use_regex=true", json!(null), 400, "pattern"),
    ] {
        let path = path.replace('\u{1}', "%01");
        let answered = world.ask(method, &path, body).await;
        assert_eq!(answered.status.as_u16(), status, "{path}: {answered:?}");
        assert!(answered.reason().contains(reason), "{path}: {answered:?}");
    }
    let answered = world.post("/queues/%2F/q", json!({})).await;
    assert_eq!(answered.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answered.headers["allow"], "GET,HEAD,PUT,DELETE");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_may_have_1_mib_and_not_an_octet_more() {
    let world = World::start().await;
    let padded = |length: usize| Body::from(format!("{{\"x\":\"{}\"}}", "a".repeat(length - r#"{"x":""}"#.len())));
    let limit = usize::try_from(BODY_BYTES).expect("it fits");
    for (length, expected) in [(limit, 201), (limit + 1, 413)] {
        let credentials = BASE64_STANDARD.encode("guest:guest");
        let request = Request::builder().method("PUT").uri(format!("/api/queues/%2F/q{length}"));
        let request = request.header("authorization", format!("Basic {credentials}"));
        let answered = world.send(request.body(padded(length)).expect("a request")).await;
        assert_eq!(answered.status.as_u16(), expected, "{length}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_is_found_and_deleted_by_the_key_that_its_creation_names() {
    let world = World::start().await;
    world.put("/exchanges/%2F/x", json!({"type": "headers"})).await;
    world.put("/queues/%2F/a%2Fb", json!({})).await;
    for (body, key) in [
        (json!({}), Some("~")),
        (json!({"routing_key": "a.b"}), Some("a.b")),
        (json!({"routing_key": "a/ü #"}), Some("a%2F%C3%BC%20%23")),
        (json!({"routing_key": "~"}), Some("%7E")),
        (json!({"arguments": {"x": 1, "b": "c", "x-match": "all"}}), None),
        (json!({"routing_key": "k", "arguments": {"x": {"y": [1, true]}}}), None),
    ] {
        let made = world.post("/bindings/%2F/e/x/q/a%2Fb", body.clone()).await;
        assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
        let location = made.headers["location"].to_str().expect("text").to_owned();
        let last = location.strip_prefix("a%2Fb/").expect("the queue's name");
        let path = format!("/bindings/%2F/e/x/q/a%2Fb/{last}");
        let shown = world.get(&path).await;
        assert_eq!(shown["arguments"], body.get("arguments").cloned().unwrap_or_else(|| json!({})), "{body}");
        if let Some(key) = key {
            assert_eq!(shown["properties_key"], key);
        }
        assert_eq!(world.delete(&path).await, StatusCode::NO_CONTENT, "{body}");
        assert_eq!(world.delete(&path).await, StatusCode::NOT_FOUND, "{body}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_sorted_filtered_and_cut_into_pages() {
    let world = World::start().await;
    for name in ["b", "a", "C", "ab"] {
        world.put(&format!("/queues/%2F/{name}"), json!({"arguments": {"x-max-length": name.len()}})).await;
    }
    for (query, names) in [
        ("", vec!["C", "a", "ab", "b"]),
        ("&sort_reverse=true", vec!["b", "ab", "a", "C"]),
        ("&sort=arguments.x-max-length&sort_reverse=true", vec!["ab", "b", "a", "C"]),
    ] {
        let list = world.get(&format!("/queues?columns=name{query}")).await;
        let expected: Json = names.iter().map(|name| json!({"name": name})).collect();
        assert_eq!(list, expected, "{query}");
    }
    let page = world.get("/queues/%2F?page=2&page_size=1&name=A&columns=name").await;
    let expected = json!({
        "filtered_count": 2, "item_count": 1, "items": [{"name": "ab"}], "page": 2, "page_count": 2, "page_size": 1,
        "total_count": 4,
    });
    assert_eq!(page, expected);
    let page = world.get("/queues?page=1&use_regex=true&name=%5E%5Bab%5D%24&columns=name,type").await;
    assert_eq!(page["items"], json!([{"name": "a", "type": "classic"}, {"name": "b", "type": "classic"}]));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protected_virtual_host_is_deleted_only_when_it_is_not_any_more() {
    let world = World::start().await;
    let protection = "/vhosts/v/deletion/protection";
    assert_eq!(world.delete(protection).await, StatusCode::NOT_FOUND);
    let answered = world.post(protection, Json::Null).await;
    assert_eq!(answered.status, StatusCode::NOT_FOUND);
    assert!(answered.reason().contains("'v' because it does not exist"), "{answered:?}");
    // As RabbitMQ has it, this is passed over here.
    assert_eq!(world.put("/vhosts/v", json!({"protected_from_deletion": true})).await, StatusCode::CREATED);
    assert_eq!(world.get("/vhosts/v").await["protected_from_deletion"], false);
    assert_eq!(world.post(protection, Json::Null).await.status, StatusCode::NO_CONTENT);
    assert_eq!(world.put("/vhosts/v", json!({"description": "d"})).await, StatusCode::NO_CONTENT);
    let shown = world.get("/vhosts/v").await;
    assert_eq!((&shown["protected_from_deletion"], &shown["description"]), (&json!(true), &json!("d")));
    assert_eq!(shown["metadata"]["protected_from_deletion"], true);
    let refused = world.ask(Method::Delete, "/vhosts/v", Json::Null).await;
    assert_eq!(refused.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(refused.body["error"], "precondition_failed");
    assert_eq!(refused.reason(), "Refusing to delete virtual host 'v' because it is protected from deletion");
    // What was exported protects again.
    let exported = world.get("/definitions").await;
    assert_eq!(world.delete(protection).await, StatusCode::NO_CONTENT);
    assert_eq!(world.post("/definitions", exported).await.status, StatusCode::NO_CONTENT);
    assert_eq!(world.delete("/vhosts/v").await, StatusCode::PRECONDITION_FAILED);
    assert_eq!(world.delete(protection).await, StatusCode::NO_CONTENT);
    assert_eq!(world.delete("/vhosts/v").await, StatusCode::NO_CONTENT);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_without_a_type_are_of_the_virtual_hosts_default_type() {
    let world = World::start().await;
    for (number, (kind, expected)) in [
        (json!("quorum"), "quorum"),
        (json!("stream"), "stream"),
        (json!("undefined"), "classic"),
        (json!(null), "classic"),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(world.put("/vhosts/v", json!({"default_queue_type": kind})).await.is_success());
        assert_eq!(world.get("/vhosts/v").await["default_queue_type"], expected);
        let path = format!("/queues/v/q{number}");
        let made = world.put(&path, json!({"durable": true})).await;
        assert_eq!(made, StatusCode::CREATED);
        assert_eq!(world.get(&path).await["type"], expected);
        // What lives only as long as its user is classic.
        let path = format!("/queues/v/short{number}");
        assert_eq!(world.put(&path, json!({"durable": false, "auto_delete": true})).await, StatusCode::CREATED);
        assert_eq!(world.get(&path).await["type"], "classic");
    }
    let answered = world.ask(Method::Put, "/vhosts/v", json!({"default_queue_type": "nonsense"})).await;
    assert_eq!((answered.status, answered.reason()), (StatusCode::BAD_REQUEST, "nonsense is not a valid queue type"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_counted_by_protocol_and_what_the_api_does_inside_is_none() {
    let world = World::start().await;
    let node = world.get("/overview").await["node"].as_str().expect("a name").to_owned();
    let message = json!({"routing_key": "q", "payload": "", "payload_encoding": "string", "properties": {}});
    assert_eq!(world.post("/exchanges/%2F/amq.default/publish", message).await.status, StatusCode::OK);
    let refused = world.ask_as(("guest", "wrong"), Method::Get, "/overview", Json::Null).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let expected = json!([{
        "protocol": "http", "auth_attempts": 4, "auth_attempts_failed": 1, "auth_attempts_succeeded": 3,
    }]);
    assert_eq!(world.get(&format!("/auth/attempts/{node}")).await, expected);
    let other = world.ask(Method::Get, "/auth/attempts/none", Json::Null).await;
    assert_eq!(other.status, StatusCode::NOT_FOUND);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_replaced_counts_as_long_as_is_asked_for_and_is_in_no_definitions() {
    let world = World::start().await;
    let put = async |password: &str, seconds: Option<u64>| {
        let body = json!({"password": password, "previous_password_seconds": seconds, "tags": "management"});
        assert!(world.put("/users/bob", body).await.is_success());
    };
    let is_in = async |password: &str| {
        let answered = world.ask_as(("bob", password), Method::Get, "/whoami", Json::Null).await;
        answered.status == StatusCode::OK
    };
    put("one", Some(600)).await;
    assert_eq!(world.get("/users/bob").await["previous_password_until_ms"], Json::Null, "there was none before");
    put("two", Some(600)).await;
    assert!(is_in("two").await && is_in("one").await);
    let until = world.get("/users/bob").await["previous_password_until_ms"].as_u64().expect("it is told");
    assert!(until.abs_diff(crate::clock::wall_clock_ms()) <= 600_000, "{until}");
    let exported = world.get("/definitions").await["users"].to_string();
    assert!(exported.contains("bob") && !exported.contains("previous"), "{exported}");
    put("three", None).await;
    assert!(is_in("three").await && !is_in("two").await && !is_in("one").await);
    world.stop().await;
}
