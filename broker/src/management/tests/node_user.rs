//! The node's own user, who is not in the topology, as tools find it.

use axum::http::StatusCode;
use serde_json::json;

use super::World;

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
async fn the_nodes_own_user_cannot_have_less_than_everything() {
    let world = World::start().await;
    let some = json!({"configure": "^mine", "write": ".*", "read": ".*"});
    let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
    assert_eq!(world.put("/permissions/%2F/guest", all.clone()).await, StatusCode::NO_CONTENT);
    assert_eq!(world.put("/permissions/%2F/guest", some).await, StatusCode::BAD_REQUEST);
    assert_eq!(world.put("/permissions/missing/guest", all).await, StatusCode::BAD_REQUEST);
    assert_eq!(world.delete("/permissions/%2F/guest").await, StatusCode::BAD_REQUEST);
    assert_eq!(world.delete("/users/guest").await, StatusCode::BAD_REQUEST);
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
