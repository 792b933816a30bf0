//! The operator's own HTTP endpoints: `/livez`, `/readyz` and `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tracing::warn;

use crate::metrics::Metrics;

/// What the endpoints report.
#[derive(Clone)]
pub struct Health {
    metrics: Arc<Metrics>,
    /// Controllers whose watches have not yet delivered what exists; [`UNKNOWN`] before the first turn.
    unsynced: Arc<AtomicUsize>,
}

/// Whether this operator is to work is not known yet.
const UNKNOWN: usize = usize::MAX;

impl Health {
    /// Not ready until it is known who works.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, unsynced: Arc::new(AtomicUsize::new(UNKNOWN)) }
    }

    /// Notes that this operator works, and is ready when [`Health::synced`] was called `controllers` times.
    pub fn leads(&self, controllers: usize) {
        self.metrics.leader.set(1);
        self.unsynced.store(controllers, Ordering::Relaxed);
    }

    /// Notes that another operator works, and that this one is ready to take over.
    pub fn follows(&self) {
        self.metrics.stands_by();
        self.unsynced.store(0, Ordering::Relaxed);
    }

    /// Notes that one controller knows everything that exists.
    pub fn synced(&self) {
        self.unsynced.fetch_sub(1, Ordering::Relaxed);
    }

    /// The endpoints.
    pub fn router(self) -> Router {
        Router::new()
            .route("/livez", get(|| async { "ok" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(self)
    }
}

async fn readyz(State(health): State<Health>) -> Response {
    match health.unsynced.load(Ordering::Relaxed) {
        0 => "ok".into_response(),
        UNKNOWN => (StatusCode::SERVICE_UNAVAILABLE, "the API server has not been reached yet").into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "the watches have not yet delivered what exists").into_response(),
    }
}

async fn metrics(State(health): State<Health>) -> Response {
    match health.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            warn!(%error, "metrics could not be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt;

    async fn status(health: &Health, path: &str) -> StatusCode {
        let request = Request::get(path).body(Body::empty()).unwrap();
        health.clone().router().oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn the_operator_is_ready_once_every_controller_is_in_sync() {
        let health = Health::new(Arc::new(Metrics::new().unwrap()));
        assert_eq!(status(&health, "/livez").await, StatusCode::OK);
        assert_eq!(status(&health, "/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
        health.leads(2);
        health.synced();
        assert_eq!(status(&health, "/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
        health.synced();
        assert_eq!(status(&health, "/readyz").await, StatusCode::OK);
    }

    #[tokio::test]
    async fn an_operator_that_stands_by_is_ready() {
        let health = Health::new(Arc::new(Metrics::new().unwrap()));
        health.follows();
        assert_eq!(status(&health, "/readyz").await, StatusCode::OK);
        health.leads(1);
        assert_eq!(status(&health, "/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(health.metrics.leader.get(), 1);
    }

    #[tokio::test]
    async fn metrics_are_served_and_nothing_else() {
        let health = Health::new(Arc::new(Metrics::new().unwrap()));
        assert_eq!(status(&health, "/metrics").await, StatusCode::OK);
        assert_eq!(status(&health, "/debug").await, StatusCode::NOT_FOUND);
    }
}
