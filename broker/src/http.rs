//! HTTP on the metrics port: `/livez`, `/readyz` (Kubernetes' probes) and `/metrics` (Prometheus); and the server of all HTTP
//! ports.

mod patience;
pub(crate) mod server;
mod slots;

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Router, http};
use tracing::error;

use crate::node::Shared;

/// The routes.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(shared);
    // Nothing here reads a body.
    server::limit_bodies(router, 0)
}

/// The process runs and its runtime answers. A log that fails ends the process, so there is nothing else to ask.
async fn livez() -> &'static str {
    "ok\n"
}

/// The log has been read, the ports are open, and the node is not stopping.
async fn readyz(State(shared): State<Arc<Shared>>) -> (StatusCode, &'static str) {
    if shared.is_stopping() { (StatusCode::SERVICE_UNAVAILABLE, "stopping\n") } else { (StatusCode::OK, "ok\n") }
}

async fn metrics(
    State(shared): State<Arc<Shared>>,
) -> Result<([(http::HeaderName, &'static str); 1], String), StatusCode> {
    let text = shared.metrics.render(shared.statistics.summary().await.totals).map_err(|error| {
        error!(%error, "metrics cannot be written");
        StatusCode::INTERNAL_SERVER_ERROR
    })?;
    Ok(([(http::header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}
