//! What one caller can take of the node, and what it learns of others.

use super::*;
use crate::limits::{ANSWERS_AT_ONCE, COLUMNS, LIST_PART};

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_sent_in_parts_is_whole_sorted_and_has_the_columns_that_are_asked_for() {
    let world = World::start().await;
    let count = 2 * LIST_PART + 1;
    let definitions: Json = (0..count)
        .map(|number| {
            json!({
                "vhost": "/", "name": format!("{number:04}"), "durable": false, "auto_delete": false,
                "arguments": {"x-max-length": count - number},
            })
        })
        .collect();
    let made = world.post("/definitions", json!({"queues": definitions})).await;
    assert_eq!(made.status, StatusCode::NO_CONTENT, "{made:?}");
    let named = |numbers: Vec<usize>| -> Json {
        numbers.into_iter().map(|number| json!({"name": format!("{number:04}")})).collect()
    };
    for (query, expected) in [
        ("", named((0..count).collect())),
        ("&sort_reverse=true", named((0..count).rev().collect())),
        ("&sort=arguments.x-max-length", named((0..count).rev().collect())),
    ] {
        assert_eq!(world.get(&format!("/queues?columns=name{query}")).await, expected, "{query}");
    }
    let page = world.get("/queues?columns=name&sort=arguments.x-max-length&page=2&page_size=2").await;
    assert_eq!(page["items"], named(vec![count - 3, count - 4]));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_bounded_and_the_same_one_counts_once() {
    let world = World::start().await;
    let columns = |count: usize| (0..count).map(|number| format!("c{number}")).collect::<Vec<_>>().join(",");
    for (columns, expected) in [(columns(COLUMNS), 200), (columns(COLUMNS + 1), 400), ("a,".repeat(3_000), 200)] {
        let path = format!("/queues?columns={columns}");
        assert_eq!(world.ask(Method::Get, &path, json!(null)).await.status.as_u16(), expected);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_virtual_hosts_of_others_is_not_told() {
    let world = World::start().await;
    world.add_user("manager", "management").await;
    world.put("/vhosts/theirs", json!({})).await;
    world.put("/queues/theirs/there", json!({})).await;
    let got = json!({"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"});
    let message = json!({"routing_key": "", "payload": "", "payload_encoding": "string", "properties": {}});
    let ask = async |method, path: &str, body: &Json| {
        let answered = world.ask_as(("manager", "secret"), method, path, body.clone()).await;
        (answered.status.as_u16(), answered.body)
    };
    for (method, path, body) in [
        (Method::Post, "/queues/{}/there/get", &got),
        (Method::Post, "/exchanges/{}/amq.topic/publish", &message),
        (Method::Put, "/queues/{}/there", &json!({})),
        (Method::Delete, "/queues/{}/there", &json!(null)),
        (Method::Delete, "/queues/{}/there/contents", &json!(null)),
        (Method::Post, "/bindings/{}/e/amq.topic/q/there", &json!({})),
    ] {
        let there = ask(method, &path.replace("{}", "theirs"), body).await;
        let nowhere = ask(method, &path.replace("{}", "nowhere"), body).await;
        assert_eq!((there.0, &there), (404, &nowhere), "{path}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_without_rights_imports_what_is_in_a_virtual_host() {
    let world = World::start().await;
    assert_eq!(world.put("/users/boss", json!({"password": "secret", "tags": "administrator"})).await.as_u16(), 201);
    let definitions = json!({
        "vhosts": [{"name": "new"}],
        "queues": [{"vhost": "new", "name": "q", "durable": true, "auto_delete": false, "arguments": {}}],
    });
    let answered = world.ask_as(("boss", "secret"), Method::Post, "/definitions", definitions).await;
    assert_eq!(answered.status, StatusCode::NO_CONTENT, "{answered:?}");
    assert_eq!(world.get("/queues/new/q?columns=name").await, json!({"name": "q"}));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_names_one_binding_also_where_it_is_the_routing_key_of_another() {
    let world = World::start().await;
    world.put("/queues/%2F/q", json!({})).await;
    for key in ["a/b", "a%2Fb"] {
        world.post("/bindings/%2F/e/amq.direct/q/q", json!({"routing_key": key})).await;
    }
    assert_eq!(world.delete("/bindings/%2F/e/amq.direct/q/q/a%252Fb").await, StatusCode::NO_CONTENT);
    let left = world.get("/bindings/%2F/e/amq.direct/q/q").await;
    assert_eq!((left.as_array().map(Vec::len), &left[0]["routing_key"]), (Some(1), &json!("a%2Fb")));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_long_answers_are_held_until_they_are_read_and_short_ones_are_not() {
    let world = World::start().await;
    world.put("/queues/%2F/q", json!({})).await;
    let payload = "x".repeat(200_000);
    let message = json!({"routing_key": "q", "payload": payload, "payload_encoding": "string", "properties": {}});
    assert_eq!(world.post("/exchanges/%2F/amq.default/publish", message).await.body, json!({"routed": true}));
    let got = json!({"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"});
    let request = || world.request(("guest", "guest"), Method::Post, "/queues/%2F/q/get", got.clone());
    let mut unread = Vec::new();
    for _ in 0..ANSWERS_AT_ONCE {
        unread.push(world.router.clone().oneshot(request()).await.expect("it cannot fail"));
    }
    let next = tokio::spawn(world.router.clone().oneshot(request()));
    assert_eq!(world.get("/health/checks/virtual-hosts").await, json!({"status": "ok"}), "others are served");
    assert!(!next.is_finished(), "it waits");
    drop(unread.pop());
    assert_eq!(next.await.expect("no panic").expect("it cannot fail").status(), StatusCode::OK);
    world.stop().await;
}
