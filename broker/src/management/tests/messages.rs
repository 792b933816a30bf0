//! Messages that are published, got and purged.

use super::*;
use crate::limits::{GET_BYTES, GET_MESSAGES};

async fn publish(world: &World, queue: &str, payload: &str) -> Answered {
    let body = json!({"routing_key": queue, "payload": payload, "payload_encoding": "string", "properties": {}});
    world.post("/exchanges/%2F/amq.default/publish", body).await
}

async fn get(world: &World, queue: &str, count: usize, ackmode: &str) -> Json {
    let body = json!({"count": count, "ackmode": ackmode, "encoding": "auto"});
    let answered = world.post(&format!("/queues/%2F/{queue}/get"), body).await;
    assert_eq!(answered.status, StatusCode::OK, "{answered:?}");
    answered.body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_comes_back_as_it_was_published() {
    let world = World::start().await;
    world.put("/queues/%2F/q", json!({"durable": true})).await;
    let properties = json!({
        "delivery_mode": 2, "headers": {"a": 1, "b": [1, {"c": true}], "f": 1.5}, "content_type": "text/plain", "priority": 3,
        "timestamp": 1_700_000_000, "message_id": "m", "app_id": "a", "type": "t", "user_id": "guest",
        "expiration": "60000", "correlation_id": "c", "reply_to": "r", "content_encoding": "e", "cluster_id": "k",
    });
    let body = json!({
        "routing_key": "q", "payload": "AAEC/w==", "payload_encoding": "base64", "properties": properties,
    });
    let answered = world.post("/exchanges/%2F/amq.default/publish", body).await;
    assert_eq!((answered.status, answered.body), (StatusCode::OK, json!({"routed": true})));
    let messages = get(&world, "q", 5, "ack_requeue_false").await;
    let expected = json!([{
        "payload_bytes": 4, "redelivered": false, "exchange": "", "routing_key": "q", "message_count": 0,
        "properties": properties, "payload": "AAEC/w==", "payload_encoding": "base64",
    }]);
    assert_eq!(messages, expected);
    assert_eq!(get(&world, "q", 5, "ack_requeue_false").await, json!([]));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_no_queue_takes_is_told() {
    let world = World::start().await;
    assert_eq!(publish(&world, "none", "x").await.body, json!({"routed": false}));
    let body = json!({"routing_key": "", "payload": "", "payload_encoding": "string", "properties": {}});
    let answered = world.post("/exchanges/%2F/none/publish", body).await;
    assert_eq!((answered.status.as_u16(), answered.reason()), (404, "exchange_not_found"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_messages_is_what_the_ackmode_says() {
    let world = World::start().await;
    world.put("/queues/%2F/dead", json!({})).await;
    let arguments = json!({"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"});
    world.put("/queues/%2F/q", json!({"arguments": arguments})).await;
    let large = "ü".repeat(200_000);
    assert_eq!(publish(&world, "q", &large).await.body, json!({"routed": true}));
    for (ackmode, redelivered) in [("ack_requeue_true", false), ("reject_requeue_true", true)] {
        let body = json!({"count": 5, "ackmode": ackmode, "encoding": "auto", "truncate": 6});
        let messages = world.post("/queues/%2F/q/get", body).await.body;
        assert_eq!((&messages[0]["payload"], &messages[0]["payload_bytes"]), (&json!("üüü"), &json!(400_000)));
        assert_eq!(messages[0]["redelivered"], redelivered, "{ackmode}");
    }
    assert_eq!(get(&world, "q", 5, "reject_requeue_false").await[0]["payload"], large);
    let dead = async || get(&world, "dead", 1, "ack_requeue_true").await;
    while dead().await == json!([]) {
        tokio::task::yield_now().await;
    }
    assert_eq!(get(&world, "dead", 1, "ack_requeue_false").await[0]["payload"], large);
    assert_eq!(dead().await, json!([]));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_takes_what_waits() {
    let world = World::start().await;
    world.put("/queues/%2F/q", json!({})).await;
    for _ in 0..3 {
        publish(&world, "q", "x").await;
    }
    assert_eq!(world.get("/queues/%2F/q").await["messages"], 3);
    assert_eq!(world.delete("/queues/%2F/q/contents").await, StatusCode::NO_CONTENT);
    assert_eq!(world.get("/queues/%2F/q").await["messages"], 0);
    assert_eq!(world.delete("/queues/%2F/none/contents").await, StatusCode::NOT_FOUND);
    assert_eq!(world.get("/aliveness-test/%2F").await, json!({"status": "ok"}));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_take_the_rights_that_amqp_takes() {
    let world = World::start().await;
    world.add_user("manager", "management").await;
    world.put("/queues/%2F/other", json!({})).await;
    world.put("/queues/%2F/mine", json!({})).await;
    let ask = async |method, path: &str, body| world.ask_as(("manager", "secret"), method, path, body).await;
    let got = json!({"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"});
    let message = json!({"routing_key": "mine", "payload": "x", "payload_encoding": "string", "properties": {}});
    let refused = ask(Method::Post, "/exchanges/%2F/amq.default/publish", message).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_eq!(refused.reason(), "write access to exchange 'amq.default' in vhost '/' refused for user 'manager'");
    assert_eq!(ask(Method::Post, "/queues/%2F/other/get", got.clone()).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(Method::Delete, "/queues/%2F/other/contents", json!(null)).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(Method::Post, "/queues/%2F/mine/get", got).await.status, StatusCode::OK);
    assert_eq!(ask(Method::Delete, "/queues/%2F/mine/contents", json!(null)).await.status, StatusCode::NO_CONTENT);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_messages_are_told() {
    let world = World::start().await;
    world.put("/queues/%2F/q", json!({})).await;
    let message = |key: &str, value: Json| {
        let mut body = json!({"routing_key": "q", "payload": "x", "payload_encoding": "string", "properties": {}});
        body[key] = value;
        ("/exchanges/%2F/amq.default/publish", body)
    };
    let get = |key: &str, value: Json| {
        let mut body = json!({"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"});
        body[key] = value;
        ("/queues/%2F/q/get", body)
    };
    for ((path, body), status, reason) in [
        (message("payload_encoding", json!("x")), 400, "unsupported_encoding"),
        (message("payload_encoding", json!("base64")), 400, "not_base64"),
        (message("properties", json!({"delivery_mode": "x"})), 400, "delivery_mode"),
        (message("properties", json!({"type": "x".repeat(256)})), 400, "longer than 255"),
        (message("properties", json!({"expiration": "x"})), 400, "expiration"),
        (message("properties", json!({"user_id": "other"})), 400, "user_id"),
        (message("routing_key", json!("x".repeat(256))), 400, "longer than 255"),
        (get("ackmode", json!("x")), 400, "Invalid ackmode value: x"),
        (get("encoding", json!("x")), 400, "Unsupported encoding"),
        (get("count", json!(GET_MESSAGES + 1)), 400, "is more than"),
        (get("count", json!("x")), 400, "not_integer"),
        (("/queues/%2F/none/get", get("count", json!(1)).1), 404, "queue_not_found"),
    ] {
        let answered = world.post(path, body.clone()).await;
        assert_eq!(answered.status.as_u16(), status, "{body}: {answered:?}");
        assert!(answered.reason().contains(reason), "{body}: {answered:?}");
    }
    for count in [json!(GET_MESSAGES), json!("5"), json!(0), json!(-1)] {
        let (path, body) = get("count", count);
        assert_eq!(world.post(path, body).await.body, json!([]));
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_the_headers_of_its_messages() {
    const OCTETS: usize = 60_000;
    const VALUES: usize = 1_000;
    let world = World::start().await;
    world.put("/queues/%2F/q", json!({})).await;
    // A text of characters that take six octets each, and values that take a place each.
    let headers = [(json!("\u{1}".repeat(OCTETS)), 6 * OCTETS), (json!(vec![Json::Null; VALUES]), 96 * VALUES)];
    for (header, cost) in headers {
        let properties = json!({"headers": {"a": header}});
        let body = json!({"routing_key": "q", "payload": "", "payload_encoding": "string", "properties": properties});
        let expected = GET_BYTES.div_ceil(cost);
        for _ in 0..=expected {
            let answered = world.post("/exchanges/%2F/amq.default/publish", body.clone()).await;
            assert_eq!(answered.status, StatusCode::OK, "{answered:?}");
        }
        let got = get(&world, "q", GET_MESSAGES, "ack_requeue_false").await;
        assert_eq!(got.as_array().map(Vec::len), Some(expected));
        assert_eq!(get(&world, "q", GET_MESSAGES, "ack_requeue_false").await.as_array().map(Vec::len), Some(1));
    }
    world.stop().await;
}
