//! Who may ask for what.

use super::*;
use crate::management::route::Needs;

/// The tags of users, and which routes they may use.
const USERS: [(&str, &[Needs]); 5] = [
    ("", &[Needs::Login]),
    ("management", &[Needs::Login, Needs::Management]),
    ("policymaker", &[Needs::Login, Needs::Management, Needs::Policymaker]),
    ("monitoring", &[Needs::Login, Needs::Management, Needs::Monitoring]),
    ("administrator", &[Needs::Login, Needs::Management, Needs::Policymaker, Needs::Monitoring, Needs::Administrator]),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_route_answers_those_with_its_tags_and_nobody_else() {
    let world = World::start().await;
    for (tag, _) in USERS {
        world.add_user(&format!("user-{tag}"), tag).await;
    }
    for route in routes() {
        // Nothing that is made or deleted on the way is there.
        let path = route.path.strip_prefix("/api").expect("all are under it").replace(['{', '}'], "");
        for (tag, allowed) in USERS {
            let name = format!("user-{tag}");
            let answered = world.ask_as((&name, "secret"), route.method, &path, json!({})).await;
            let refused = answered.status == StatusCode::UNAUTHORIZED
                && ["Not management user", route.needs.refusal()].contains(&answered.reason());
            let expected = !allowed.contains(&route.needs);
            assert_eq!(refused, expected, "{} {} as '{tag}': {answered:?}", route.method.name(), route.path);
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_takes_a_login() {
    let world = World::start().await;
    for route in routes() {
        let path = route.path.replace(['{', '}'], "");
        let request = Request::builder().method(route.method.name()).uri(&path).body(Body::empty());
        let answered = world.send(request.expect("a request")).await;
        assert_eq!(answered.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(answered.headers["www-authenticate"], "Basic realm=\"Warren\"", "{path}");
    }
    let wrong = world.ask_as(("guest", "wrong"), Method::Get, "/whoami", json!({})).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_host_without_rights_is_not_found_but_for_administrators() {
    let world = World::start().await;
    world.add_user("manager", "management").await;
    world.add_user("watcher", "monitoring").await;
    world.add_user("boss", "administrator").await;
    assert_eq!(world.put("/vhosts/theirs", json!({})).await, StatusCode::CREATED);
    assert_eq!(world.put("/queues/theirs/q", json!({})).await, StatusCode::CREATED);
    for path in ["/queues/theirs", "/queues/theirs/q", "/exchanges/theirs", "/bindings/theirs", "/policies/theirs"] {
        for (user, expected) in [("manager", 404), ("watcher", 404), ("boss", 200)] {
            let answered = world.ask_as((user, "secret"), Method::Get, path, Json::Null).await;
            assert_eq!(answered.status.as_u16(), expected, "{path} as {user}");
        }
    }
    for (user, count) in [("manager", 0), ("watcher", 0), ("boss", 1)] {
        let answered = world.ask_as((user, "secret"), Method::Get, "/queues", Json::Null).await;
        assert_eq!(answered.body.as_array().expect("a list").len(), count, "{user}");
    }
    let names = world.ask_as(("watcher", "secret"), Method::Get, "/vhosts?columns=name", Json::Null).await;
    assert_eq!(names.body, json!([{"name": "/"}, {"name": "theirs"}]), "who watches the node sees that they exist");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_take_the_rights_that_amqp_takes() {
    let world = World::start().await;
    world.add_user("manager", "management").await;
    let ask = async |method, path: &str, body| world.ask_as(("manager", "secret"), method, path, body).await.status;
    for (method, path, body) in [
        (Method::Put, "/queues/%2F/other", json!({})),
        (Method::Put, "/exchanges/%2F/other", json!({})),
        (Method::Post, "/bindings/%2F/e/amq.topic/q/mine", json!({})),
    ] {
        assert_eq!(ask(method, path, body).await, StatusCode::UNAUTHORIZED, "{path}");
    }
    assert_eq!(ask(Method::Put, "/queues/%2F/mine", json!({})).await, StatusCode::CREATED);
    assert_eq!(ask(Method::Put, "/exchanges/%2F/mine", json!({})).await, StatusCode::CREATED);
    assert_eq!(ask(Method::Post, "/bindings/%2F/e/mine/q/mine", json!({})).await, StatusCode::CREATED);
    assert_eq!(world.put("/queues/%2F/other", json!({})).await, StatusCode::CREATED);
    assert_eq!(ask(Method::Delete, "/queues/%2F/other", json!({})).await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(Method::Delete, "/queues/%2F/mine", json!({})).await, StatusCode::NO_CONTENT);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_change_nothing() {
    let world = World::start().await;
    let credentials = BASE64_STANDARD.encode("guest:guest");
    for (origin, expected) in [("http://evil.example", 403), ("null", 403), ("http://broker:15672", 201)] {
        let request = Request::builder().method("PUT").uri("/api/queues/%2F/q").header("host", "broker:15672");
        let request = request.header("authorization", format!("Basic {credentials}")).header("origin", origin);
        let answered = world.send(request.body(Body::empty()).expect("a request")).await;
        assert_eq!(answered.status.as_u16(), expected, "{origin}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_user_are_limited_in_rate() {
    let world = World::start_with_rate(3).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(world.ask(Method::Get, "/whoami", Json::Null).await.status.as_u16());
    }
    assert_eq!(statuses, [200, 200, 200, 429]);
    world.stop().await;
}
