//! Definitions that are exported and imported.

use super::*;

/// Makes something of each kind.
async fn fill(world: &World) {
    for (path, body) in [
        ("/vhosts/v", json!({"description": "d", "tags": ["a", "b"], "default_queue_type": "quorum"})),
        (
            "/users/bob",
            json!({"password_hash": "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR", "tags": "management"}),
        ),
        ("/users/nobody", json!({"tags": ""})),
        ("/permissions/v/bob", json!({"configure": "^a", "write": ".*", "read": ""})),
        ("/topic-permissions/v/bob", json!({"exchange": "amq.topic", "write": "^a", "read": ".*"})),
        ("/user-limits/bob/max-channels", json!({"value": 7})),
        ("/vhost-limits/v/max-queues", json!({"value": 9})),
        ("/queues/v/c", json!({"durable": true, "arguments": {"x-queue-type": "classic", "x-max-length": 5}})),
        ("/queues/v/q", json!({"durable": true})),
        ("/queues/v/t", json!({"auto_delete": true, "arguments": {"x-queue-type": "classic"}})),
        (
            "/exchanges/v/x",
            json!({"type": "headers", "durable": true, "arguments": {"alternate-exchange": "amq.fanout"}}),
        ),
        ("/exchanges/v/d", json!({"type": "x-delayed-message", "arguments": {"x-delayed-type": "topic"}})),
        (
            "/policies/v/p",
            json!({"pattern": "^a", "definition": {"max-length": 1}, "apply-to": "queues", "priority": 3}),
        ),
        ("/operator-policies/v/p", json!({"pattern": "^a", "definition": {"expires": 100_000}})),
    ] {
        let status = world.put(path, body).await;
        assert!(status.is_success(), "{path}: {status}");
    }
    for (path, body) in [
        ("/bindings/v/e/x/q/q", json!({"routing_key": "k", "arguments": {"a": 1, "x-match": "any"}})),
        ("/bindings/v/e/d/e/x", json!({"routing_key": "#"})),
    ] {
        assert_eq!(world.post(path, body).await.status, StatusCode::CREATED, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_can_be_imported_and_is_the_same_then() {
    let (one, other) = (World::start().await, World::start().await);
    fill(&one).await;
    let exported = one.get("/definitions").await;
    for list in ["users", "vhosts", "permissions", "topic_permissions", "parameters", "policies", "queues", "exchanges"]
    {
        assert!(!exported[list].as_array().expect("a list").is_empty(), "{list}");
    }
    // Twice: what is there already is no mistake.
    for _ in 0..2 {
        let answered = other.post("/definitions", exported.clone()).await;
        assert_eq!(answered.status, StatusCode::NO_CONTENT, "{answered:?}");
    }
    assert_eq!(other.get("/definitions").await, exported);
    one.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_virtual_host_goes_into_another() {
    let world = World::start().await;
    fill(&world).await;
    let exported = world.get("/definitions/v").await;
    world.put("/vhosts/w", json!({})).await;
    let answered = world.post("/definitions/w", exported.clone()).await;
    assert_eq!(answered.status, StatusCode::NO_CONTENT, "{answered:?}");
    let imported = world.get("/definitions/w").await;
    for key in ["metadata", "limits", "parameters", "policies", "queues", "exchanges", "bindings"] {
        assert_eq!(imported[key], exported[key], "{key}");
    }
    let answered = world.post("/definitions/w", json!({"users": [{"name": "x"}]})).await;
    assert_eq!(answered.status, StatusCode::BAD_REQUEST, "{answered:?}");
    assert_eq!(world.post("/definitions/none", json!({})).await.status, StatusCode::NOT_FOUND);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_tells_what_it_could_not_make_and_makes_the_rest() {
    let world = World::start().await;
    world.put("/queues/%2F/there", json!({"durable": true})).await;
    let queue = |vhost: &str, name: &str, durable: bool| json!({"vhost": vhost, "name": name, "durable": durable, "auto_delete": false, "arguments": {}});
    let different = json!({"queues": [queue("/", "there", false), queue("/", "new", true)]});
    assert_eq!(world.post("/definitions", different).await.status, StatusCode::NO_CONTENT);
    assert_eq!(world.get("/queues/%2F/there").await["durable"], true, "what is there stays");
    let impossible = json!({"queues": [queue("none", "q", true), queue("/", "newer", true)]});
    let answered = world.post("/definitions", impossible).await;
    assert_eq!(answered.status, StatusCode::BAD_REQUEST);
    assert!(answered.reason().contains("queue 'q' in vhost 'none' (queues[0])"), "{answered:?}");
    assert_eq!(world.get("/queues?columns=name").await.as_array().expect("a list").len(), 3);
    for body in [json!({"nothing": 1}), json!(["x"]), json!({"queues": [{"name": "x"}]})] {
        assert_eq!(world.post("/definitions", body.clone()).await.status, StatusCode::BAD_REQUEST, "{body}");
    }
    world.stop().await;
}
