//! HTTP on the metrics port: `/startupz`, `/readyz`, `/livez` (Kubernetes' probes) and `/metrics` (Prometheus); and the server of all HTTP
//! ports.

mod patience;
mod probes;
pub(crate) mod server;
mod slots;

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router, http};
use percent_encoding::percent_decode_str;
use tracing::error;

use crate::metrics::page::Sums;
use crate::metrics::scrape;
use crate::metrics::selection::Selection;
use crate::node::Shared;

/// What Prometheus' text format is called.
const TEXT: [(http::HeaderName, &str); 1] = [(http::header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];

/// The routes.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let router = Router::new()
        .route("/startupz", get(probes::startupz))
        .route("/readyz", get(probes::readyz))
        .route("/livez", get(probes::livez))
        .route("/metrics", get(metrics))
        .route("/metrics/per-object", get(metrics_per_object))
        .route("/metrics/detailed", get(metrics_detailed))
        .layer(Extension(Sums::default()))
        .with_state(shared);
    // Nothing here reads a body.
    server::limit_bodies(router, 0)
}

/// Sums over everything.
async fn metrics(State(shared): State<Arc<Shared>>, Extension(sums): Extension<Sums>) -> Response {
    match sums.page(scrape::aggregated(&shared)).await {
        Ok(text) => (TEXT, text).into_response(),
        Err(error) => {
            error!(%error, "metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A sample for each object.
async fn metrics_per_object(State(shared): State<Arc<Shared>>) -> Response {
    objects(shared, Selection::all())
}

/// A sample for each object that was asked for.
async fn metrics_detailed(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Response {
    match Selection::from_query(query_pairs(query.as_deref().unwrap_or_default())) {
        Ok(selection) => objects(shared, selection),
        Err(error) => (StatusCode::BAD_REQUEST, format!("queue: {error}\n")).into_response(),
    }
}

fn objects(shared: Arc<Shared>, selection: Selection) -> Response {
    match Arc::clone(&shared.metrics.scrapes).try_acquire_owned() {
        Ok(permit) => (TEXT, scrape::objects(shared, selection, permit)).into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "other pages are being written; try again later\n").into_response(),
    }
}

/// The names and values behind a `?`, in order. Octets that are no UTF-8 become the replacement character.
pub(crate) fn query_pairs(text: &str) -> Vec<(String, String)> {
    let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    };
    text.split('&').filter(|pair| !pair.is_empty()).map(pair).collect()
}
