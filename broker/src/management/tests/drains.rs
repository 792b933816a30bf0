//! Drains: who may begin them, their bounds, and that they end.

use super::*;
use crate::limits::DRAINS;

const DRAIN: &str = "/warren/drains/10.0.0.7";

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_is_told_and_ends_when_it_is_ended() {
    let world = World::start().await;
    let answered = world.ask(Method::Put, "/warren/drains/::ffff:10.0.0.7", json!({"seconds": 60})).await;
    assert_eq!(answered.status, StatusCode::OK, "{answered:?}");
    assert_eq!(answered.body, json!({"address": "10.0.0.7", "seconds": 60.0, "unacked": 0}));
    assert_eq!(world.get("/warren/drains").await[0]["address"], "10.0.0.7");
    assert_eq!(world.get(DRAIN).await["unacked"], 0);
    assert_eq!(world.delete(DRAIN).await, StatusCode::NO_CONTENT);
    assert_eq!(world.delete(DRAIN).await, StatusCode::NOT_FOUND);
    assert_eq!(world.get("/warren/drains").await, json!([]));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_by_itself() {
    let world = World::start().await;
    world.put(DRAIN, json!({"seconds": 1})).await;
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    while world.get("/warren/drains").await != json!([]) {
        assert!(tokio::time::Instant::now() < end, "it goes on");
        tokio::task::yield_now().await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_address_or_no_time_is_refused_and_so_is_one_drain_too_many() {
    let world = World::start().await;
    for (path, body) in [
        ("/warren/drains/here", json!({"seconds": 60})),
        (DRAIN, json!({"seconds": 0})),
        (DRAIN, json!({"seconds": 3_601})),
        (DRAIN, json!({})),
    ] {
        assert_eq!(world.ask(Method::Put, path, body).await.status, StatusCode::BAD_REQUEST, "{path}");
    }
    for number in 0..DRAINS {
        let path = format!("/warren/drains/10.0.{}.{}", number / 256, number % 256);
        assert_eq!(world.put(&path, json!({"seconds": 3_600})).await, StatusCode::OK);
    }
    assert_eq!(world.put("/warren/drains/10.9.9.9", json!({"seconds": 1})).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        world.put("/warren/drains/10.0.0.0", json!({"seconds": 3_600})).await,
        StatusCode::OK,
        "it is one of them"
    );
    world.stop().await;
}
