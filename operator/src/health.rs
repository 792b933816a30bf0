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
    /// Controllers whose watches have not yet delivered what exists.
    unsynced: Arc<AtomicUsize>,
}

impl Health {
    /// Not ready until [`Health::synced`] was called `controllers` times.
    pub fn new(metrics: Arc<Metrics>, controllers: usize) -> Self {
        Self { metrics, unsynced: Arc::new(AtomicUsize::new(controllers)) }
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
