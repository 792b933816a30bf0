//! Queues that are paused, and parameters of the cluster.

use super::*;
use warren_core::limits::{GLOBAL_PARAMETER_BYTES, GLOBAL_PARAMETERS};

async fn got(world: &World) -> usize {
    let body = json!({"count": 5, "ackmode": "ack_requeue_true", "encoding": "auto"});
    world.post("/queues/%2F/q/get", body).await.body.as_array().map_or(0, Vec::len)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_queue_takes_messages_and_hands_none_out_until_it_is_resumed() {
    let world = World::start().await;
    world.put("/queues/%2F/q", json!({"durable": true})).await;
    let message = json!({"routing_key": "q", "payload": "x", "payload_encoding": "string", "properties": {}});
    assert_eq!(world.put("/queues/%2F/q/pause", json!(null)).await, StatusCode::NO_CONTENT);
    let routed = world.post("/exchanges/%2F/amq.default/publish", message).await.body;
    assert_eq!(routed, json!({"routed": true}));
    assert_eq!(got(&world).await, 0);
    let shown = world.get("/queues/%2F/q?columns=state,messages_ready").await;
    assert_eq!(shown, json!({"state": "paused", "messages_ready": 1}));
    assert_eq!(world.put("/queues/%2F/q/resume", json!(null)).await, StatusCode::NO_CONTENT);
    assert_eq!(got(&world).await, 1);
    assert_eq!(world.get("/queues/%2F/q?columns=state").await, json!({"state": "running"}));
    assert_eq!(world.put("/queues/%2F/none/pause", json!(null)).await, StatusCode::NOT_FOUND);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_has_the_name_that_it_is_given() {
    let world = World::start().await;
    let own = world.get("/cluster-name").await["name"].clone();
    assert_eq!(world.put("/cluster-name", json!({"name": "mine"})).await, StatusCode::NO_CONTENT);
    assert_eq!(world.get("/cluster-name").await, json!({"name": "mine"}));
    assert_eq!(world.get("/overview?columns=cluster_name").await, json!({"cluster_name": "mine"}));
    assert_eq!(world.get("/global-parameters").await, json!([{"name": "cluster_name", "value": "mine"}]));
    assert_eq!(world.delete("/global-parameters/cluster_name").await, StatusCode::NO_CONTENT);
    assert_eq!(world.delete("/global-parameters/cluster_name").await, StatusCode::NOT_FOUND);
    assert_eq!(world.get("/cluster-name").await["name"], own);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn global_parameters_are_bounded_in_number_and_size() {
    let world = World::start().await;
    let quoted = |length: usize| json!({"value": "a".repeat(length - 2)});
    let put = async |name: &str, value: Json| world.put(&format!("/global-parameters/{name}"), value).await.as_u16();
    assert_eq!(put("0", quoted(GLOBAL_PARAMETER_BYTES + 1)).await, 400);
    assert_eq!(put("0", quoted(GLOBAL_PARAMETER_BYTES)).await, 201);
    for number in 1..GLOBAL_PARAMETERS {
        assert_eq!(put(&number.to_string(), json!({"value": 1})).await, 201);
    }
    assert_eq!(put("one-more", json!({"value": 1})).await, 400);
    assert_eq!(put("0", json!({"value": 1})).await, 204);
    world.stop().await;
}
