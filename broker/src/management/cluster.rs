//! The node as a cluster of one: its name, its versions, and what RabbitMQ lists of itself that is not here.

use serde_json::{Value as Json, json};

use super::answer::{Answer, Reply};
use super::call::Call;
use super::route::Handle::Now;
use super::route::{Needs, Route, get};
use crate::node;

pub(super) const ROUTES: &[Route] = &[
    get("/api/cluster-name", Needs::Management, "The cluster's name.", Now(show_cluster_name)),
    get("/api/version", Needs::Login, "The version of RabbitMQ whose API this is.", Now(version)),
    get("/api/extensions", Needs::Management, "Extensions of the web page: none.", Now(nothing)),
    get("/api/feature-flags", Needs::Management, "Feature flags: none, everything is on.", Now(nothing)),
    get("/api/deprecated-features", Needs::Management, "Deprecated features: none.", Now(nothing)),
    get("/api/deprecated-features/used", Needs::Management, "Deprecated features in use: none.", Now(nothing)),
];

/// The release of RabbitMQ whose API this is, as far as it goes. Tools decide by it what to ask for.
pub(super) const RABBITMQ_VERSION: &str = "4.3.6";

/// Who we are, where RabbitMQ says the same of itself.
pub(super) const PRODUCT_NAME: &str = "Warren";

/// Our own release.
pub(super) const PRODUCT_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The cluster's name: the node's, as long as nobody gives it another one.
pub(super) fn cluster_name(_call: &Call) -> String {
    node::name().to_owned()
}

fn show_cluster_name(call: &Call) -> Answer {
    Ok(Reply::Json(json!({"name": cluster_name(call)})))
}

/// Parameters of the cluster: its name, once somebody has given it one.
pub(super) fn global_parameters(_call: &Call) -> Vec<Json> {
    Vec::new()
}

fn version(_call: &Call) -> Answer {
    Ok(Reply::Json(RABBITMQ_VERSION.into()))
}

fn nothing(_call: &Call) -> Answer {
    Ok(Reply::Json(json!([])))
}
