//! Figures of queues, read as they come.

use std::time::Duration;

use axum::body::BodyDataStream;
use futures::StreamExt;
use tokio::time::timeout;

use super::*;
use crate::limits::{FIGURES_AT_ONCE, FIGURES_QUEUES};

/// The lines of one answer.
struct Lines {
    body: BodyDataStream,
    text: String,
}

impl Lines {
    async fn read(world: &World, query: &str) -> Self {
        let request = world.request(("guest", "guest"), Method::Get, &format!("/warren/figures?{query}"), Json::Null);
        let response = world.router.clone().oneshot(request).await.expect("it cannot fail");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "application/x-ndjson");
        Self { body: response.into_body().into_data_stream(), text: String::new() }
    }

    async fn next(&mut self) -> Json {
        loop {
            if let Some((line, rest)) = self.text.split_once('\n') {
                let line = serde_json::from_str(line).expect("a line of JSON");
                self.text = rest.to_owned();
                return line;
            }
            let more = timeout(Duration::from_secs(30), self.body.next()).await.expect("it says something");
            self.text.push_str(std::str::from_utf8(&more.expect("it goes on").expect("octets")).expect("text"));
        }
    }

    /// The first line of a queue that is as it should be.
    async fn until(&mut self, is_so: impl Fn(&Json) -> bool) -> Json {
        loop {
            let line = self.next().await;
            if line["kind"] == "queue" && is_so(&line) {
                return line;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_queue_has_to_do_is_told_as_it_changes() {
    let world = World::start().await;
    let mut lines = Lines::read(&world, "queue=%252F/a%2Fb&queue=%252F/a%2Fb").await;
    let first = lines.next().await;
    assert_eq!((&first["kind"], &first["vhost"], &first["name"]), (&json!("queue"), &json!("/"), &json!("a/b")));
    assert_eq!(first.get("ready"), None, "there is no such queue yet");
    assert_eq!(lines.next().await["kind"], "alive");

    world.put("/queues/%2F/a%2Fb", json!({"durable": true})).await;
    let made = lines.until(|line| line["ready"] == 0).await;
    assert_eq!((&made["published"], &made["peers"]), (&json!(0), &json!([])));
    let message = json!({"routing_key": "a/b", "payload": "x", "payload_encoding": "string", "properties": {}});
    world.post("/exchanges/%2F/amq.default/publish", message).await;
    let published = lines.until(|line| line["ready"] == 1).await;
    assert_eq!(published["published"], 1);
    assert!(published["at_ms"].as_u64() >= published["since_ms"].as_u64());
    let get = json!({"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"});
    world.post("/queues/%2F/a%2Fb/get", get).await;
    let done = lines.until(|line| line["ready"] == 0).await;
    assert_eq!(done["unacked"], 0);
    world.delete("/queues/%2F/a%2Fb").await;
    lines.until(|line| line.get("ready").is_none()).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_for_monitors_who_name_queues_that_they_see() {
    let world = World::start().await;
    world.add_user("monitor", "monitoring").await;
    world.add_user("manager", "management").await;
    world.put("/vhosts/other", json!({})).await;
    let refused = async |user: &str, query: &str| {
        let path = format!("/warren/figures{query}");
        world.ask_as((user, "secret"), Method::Get, &path, Json::Null).await.status.as_u16()
    };
    assert_eq!(refused("manager", "?queue=%252F/q").await, 401);
    assert_eq!(refused("monitor", "?queue=other/q").await, 404);
    assert_eq!(refused("monitor", "").await, 400);
    assert_eq!(refused("monitor", "?queue=q").await, 400);
    let many: Vec<_> = (0..=FIGURES_QUEUES).map(|number| format!("queue=%252F/{number}")).collect();
    assert_eq!(refused("monitor", &format!("?{}", many.join("&"))).await, 400);
    Lines::read(&world, &many[1..].join("&")).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_read_as_may_and_the_place_of_one_that_has_gone_is_free() {
    let world = World::start().await;
    let mut readers = Vec::new();
    for _ in 0..FIGURES_AT_ONCE {
        readers.push(Lines::read(&world, "queue=%252F/q").await);
    }
    let one_more = async || world.ask(Method::Get, "/warren/figures?queue=%252F/q", Json::Null).await;
    assert_eq!(one_more().await.status, StatusCode::SERVICE_UNAVAILABLE);
    readers.clear();
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let request = world.request(("guest", "guest"), Method::Get, "/warren/figures?queue=%252F/q", Json::Null);
        if world.router.clone().oneshot(request).await.expect("it cannot fail").status() == StatusCode::OK {
            break;
        }
        assert!(tokio::time::Instant::now() < end, "no place is free");
        tokio::task::yield_now().await;
    }
    world.stop().await;
}
