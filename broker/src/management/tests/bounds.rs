//! What one caller can take of the node, and what it learns of others.

use std::sync::Barrier;

use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::Semaphore;

use super::*;
use crate::limits::{ANSWERS_AT_ONCE, COLUMNS, LIST_PART};
use crate::management::answer::{Answer, Reply};
use crate::management::call::{Call, Query};
use crate::management::caller::Caller;
use crate::management::room::Rooms;
use crate::management::route::{Handle, Needs, Route, get};
use crate::management::{Size, handle};

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
async fn so_many_long_answers_are_held_until_they_are_read_and_what_is_short_is_answered() {
    let world = World::start().await;
    world.put("/queues/%2F/q", json!({})).await;
    let payload = "x".repeat(200_000);
    let message = json!({"routing_key": "q", "payload": payload, "payload_encoding": "string", "properties": {}});
    assert_eq!(world.post("/exchanges/%2F/amq.default/publish", message).await.body, json!({"routed": true}));
    let got = json!({"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"});
    assert_eq!(world.put("/users/other", json!({"password": "secret", "tags": "administrator"})).await.as_u16(), 201);
    let rights = json!({"configure": ".*", "write": ".*", "read": ".*"});
    assert_eq!(world.put("/permissions/%2F/other", rights).await, StatusCode::CREATED);
    let (guest, other) = (("guest", "guest"), ("other", "secret"));
    let ask =
        |login| world.router.clone().oneshot(world.request(login, Method::Post, "/queues/%2F/q/get", got.clone()));
    let mut unread = Vec::new();
    for _ in 0..ANSWERS_AT_ONCE / 2 {
        unread.push(ask(guest).await.expect("it cannot fail"));
    }
    let next = tokio::spawn(ask(guest));
    for _ in 0..ANSWERS_AT_ONCE / 2 {
        let answered = ask(other).await.expect("it cannot fail");
        assert_eq!(answered.status(), StatusCode::OK, "one user leaves half of the places to others");
        unread.push(answered);
    }
    for path in ["/health/checks/virtual-hosts", "/overview", "/whoami", "/nodes", "/queues/%2F/q"] {
        assert_ne!(world.get(path).await, Json::Null, "others are served");
    }
    assert!(!next.is_finished(), "it waits");
    unread.remove(0);
    assert_eq!(next.await.expect("no panic").expect("it cannot fail").status(), StatusCode::OK);
    world.stop().await;
}

#[test]
fn what_an_answer_grows_with_is_said_of_routes_that_are_there() {
    for path in Size::FIXED.iter().chain(&Size::OBJECTS) {
        assert!(routes().any(|route| route.path == *path && route.method == Method::Get), "{path}");
    }
}

/// Two meet there: the test, and the handler that it asked.
static MEETING: Barrier = Barrier::new(2);

static SLOW: Route = get("/api/slow", Needs::Login, "It takes its time.", Handle::Now(slow));

fn slow(_: &Call) -> Answer {
    MEETING.wait();
    Ok(Reply::Done)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_waits_for_has_its_place_until_it_is_made() {
    let world = World::start().await;
    let (parts, _) = world.request(("guest", "guest"), Method::Get, "/slow", Json::Null).into_parts();
    let shared = Arc::clone(world.node.shared());
    let call = Call {
        topology: shared.topology.load_full(),
        caller: Caller::of(&parts.headers, Ipv4Addr::LOCALHOST.into(), &shared).await.expect("it logs in"),
        path: vec![],
        query: Query::parse(""),
        body: Bytes::new(),
        reason: None,
        columns: None,
        peer: (Ipv4Addr::LOCALHOST, 50_000).into(),
        inside: Arc::new(Semaphore::new(1)),
        figures: Arc::new(Semaphore::new(1)),
        shared,
    };
    let (rooms, user) = (Rooms::new(2), Arc::from("guest"));
    let mut room = Some(rooms.take(&user).await.expect("there is room"));
    assert!(handle(&SLOW, call, &mut room).now_or_never().is_none(), "it is being made");
    drop(room);
    assert!(rooms.take(&user).now_or_never().is_none(), "it has its place");
    tokio::task::spawn_blocking(|| MEETING.wait()).await.expect("no panic");
    rooms.take(&user).await.expect("there is room again");
    world.stop().await;
}
