//! The node's own user, who is not in the topology, as tools find it.

use axum::http::StatusCode;
use serde_json::json;

use super::World;
use crate::config::{Config, DefaultUser};

#[tokio::test]
async fn the_nodes_own_user_is_among_the_users_with_rights_everywhere() {
    let world = World::start().await;
    assert_eq!(world.put("/vhosts/new", json!({})).await, StatusCode::CREATED);
    assert_eq!(world.get("/users/guest").await["tags"], json!(["administrator"]));
    assert_eq!(world.get("/users").await[0]["name"], "guest");
    assert_eq!(world.get("/users/without-permissions").await, json!([]));
    for path in ["/permissions", "/users/guest/permissions"] {
        let vhosts: Vec<_> =
            world.get(path).await.as_array().expect("a list").iter().map(|of| of["vhost"].clone()).collect();
        assert_eq!(vhosts, ["/", "new"], "{path}");
    }
    let rights = json!({"user": "guest", "vhost": "new", "configure": ".*", "write": ".*", "read": ".*"});
    assert_eq!(world.get("/permissions/new/guest").await, rights);
    assert_eq!(world.get("/vhosts/new/permissions").await, json!([rights]));
}

#[tokio::test]
async fn the_built_in_user_becomes_an_ordinary_one_when_it_gets_less() {
    let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
    let some = json!({"configure": "^mine", "write": ".*", "read": ".*"});
    let topics = json!({"exchange": "amq.topic", "write": "^a", "read": ".*"});
    for (path, body) in [
        ("/permissions/%2F/guest", some),
        ("/topic-permissions/%2F/guest", topics),
        ("/user-limits/guest/max-channels", json!({"value": 5})),
    ] {
        let world = World::start().await;
        assert_eq!(world.put("/vhosts/new", json!({})).await, StatusCode::CREATED);
        assert_eq!(world.put("/permissions/%2F/guest", all.clone()).await, StatusCode::NO_CONTENT);
        assert_eq!(world.get("/whoami").await["is_internal_user"], false, "{path}");
        assert!(world.put(path, body).await.is_success(), "{path}");
        assert_eq!(world.get("/whoami").await["is_internal_user"], true, "{path}");
        assert_eq!(world.get("/permissions/new/guest").await["configure"], ".*", "{path}");
    }
}

#[tokio::test]
async fn rights_of_the_built_in_user_can_be_taken_where_it_has_them() {
    let world = World::start().await;
    let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
    assert_eq!(world.put("/permissions/missing/guest", all).await, StatusCode::BAD_REQUEST);
    assert_eq!(world.delete("/permissions/%2F/guest").await, StatusCode::NO_CONTENT);
    assert_eq!(world.get("/users/guest/permissions").await, json!([]));
    assert_eq!(world.delete("/permissions/%2F/guest").await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn who_is_made_first_leaves_guest_in_its_place_and_its_deletion_is_for_good() {
    let world = World::start().await;
    assert_eq!(world.get("/whoami").await["is_internal_user"], false);
    let bob = json!({"password": "secret", "tags": "administrator"});
    assert_eq!(world.put("/users/bob", bob).await, StatusCode::CREATED);
    let guest = world.get("/whoami").await;
    assert_eq!((&guest["name"], &guest["is_internal_user"]), (&json!("guest"), &json!(true)));
    assert_eq!(world.delete("/users/guest").await, StatusCode::NO_CONTENT);
    let refused = world.ask(super::Method::Get, "/whoami", json!(null)).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let users = world.ask_as(("bob", "secret"), super::Method::Get, "/users", json!(null)).await;
    assert_eq!(users.body.as_array().map(Vec::len), Some(1), "{users:?}");
}

#[tokio::test]
async fn guest_is_gone_when_it_was_the_only_user() {
    let world = World::start().await;
    assert_eq!(world.delete("/users/guest").await, StatusCode::NO_CONTENT);
    let refused = world.ask(super::Method::Get, "/whoami", json!(null)).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn who_takes_the_place_of_the_built_in_user_may_do_what_that_could() {
    let world = World::start().await;
    assert_eq!(world.put("/vhosts/new", json!({})).await, StatusCode::CREATED);
    let user = json!({"password": "other", "tags": "administrator"});
    assert_eq!(world.put("/users/guest", user).await, StatusCode::NO_CONTENT);
    let refused = world.ask(super::Method::Get, "/whoami", json!(null)).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let rights = world.ask_as(("guest", "other"), super::Method::Get, "/permissions", json!(null)).await;
    assert_eq!(rights.body.as_array().map(Vec::len), Some(2), "{rights:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_made_with_the_name_of_a_configured_node_user_by_definitions_either() {
    let world = World::start_with(0, |folder| {
        let [name_file, password_file] = ["username", "password"].map(|name| folder.join(name));
        for file in [&name_file, &password_file] {
            std::fs::write(file, "guest").expect("written");
        }
        let default_user = DefaultUser {
            name_file,
            password_file,
            next_password_file: None,
            previous_password_file: None,
            previous_password_until_file: None,
        };
        Config { default_user: Some(default_user), ..Config::default() }
    });
    let world = world.await;
    let user = |name: &str| json!({"name": name, "password_hash": "", "tags": ["administrator"]});
    let answered = world.post("/definitions", json!({"users": [user("guest"), user("bob")]})).await;
    assert_eq!(answered.status, StatusCode::BAD_REQUEST);
    assert!(answered.reason().contains("user 'guest' is the node's own, whom [default_user] names"), "{answered:?}");
    let shared = world.node.shared();
    assert!(shared.topology.load().user("guest").is_none() && shared.topology.load().user("bob").is_some());
    // The node's own user is shown while its files cannot be read, and its name stays its own.
    std::fs::remove_file(world._folder.path().join("username")).expect("removed");
    assert!(shared.authentication.is_reserved("guest"));
    let refused = world.ask(super::Method::Get, "/whoami", json!(null)).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
}
