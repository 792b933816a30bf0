//! The node as a cluster of one: its name, its versions, and what RabbitMQ lists of itself that is not here.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value as Json, json};
use warren_core::topology::Administration;

use super::answer::{Answer, Failure, Reply};
use super::call::Call;
use super::route::Handle::{Later, Now};
use super::route::{Needs, Route, delete, get, put};
use crate::node::{self, RABBITMQ_VERSION};

pub(super) const ROUTES: &[Route] = &[
    get("/api/cluster-name", Needs::Management, "The cluster's name.", Now(show_cluster_name)),
    put("/api/cluster-name", Needs::Administrator, "Give the cluster a name.", Later(|call| Box::pin(rename(call)))),
    get("/api/global-parameters", Needs::Policymaker, "Parameters of the cluster.", Now(list_parameters)),
    get("/api/global-parameters/{name}", Needs::Policymaker, "One parameter of the cluster.", Now(parameter)),
    put(
        "/api/global-parameters/{name}",
        Needs::Administrator,
        "Make or change a parameter of the cluster; only `cluster_name` has an effect.",
        Later(|call| Box::pin(put_parameter(call))),
    ),
    delete(
        "/api/global-parameters/{name}",
        Needs::Administrator,
        "Delete a parameter of the cluster.",
        Later(|call| Box::pin(delete_parameter(call))),
    ),
    get("/api/version", Needs::Login, "The version of RabbitMQ whose API this is.", Now(version)),
    get("/api/extensions", Needs::Management, "Extensions of the web page: none.", Now(nothing)),
    get("/api/feature-flags", Needs::Management, "Feature flags: none, everything is on.", Now(nothing)),
    get("/api/deprecated-features", Needs::Management, "Deprecated features: none.", Now(nothing)),
    get("/api/deprecated-features/used", Needs::Management, "Deprecated features in use: none.", Now(nothing)),
];

/// Who we are, where RabbitMQ says the same of itself.
pub(super) const PRODUCT_NAME: &str = "Warren";

/// Our own release.
pub(super) const PRODUCT_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The cluster's name: the node's, as long as nobody gives it another one.
pub(super) fn cluster_name(call: &Call) -> String {
    let given = call.topology.global_parameters().find(|(name, _)| &***name == CLUSTER_NAME);
    let text = given.and_then(|(_, value)| serde_json::from_str::<String>(value).ok());
    text.unwrap_or_else(|| node::name().to_owned())
}

/// The global parameter that has the cluster's name.
const CLUSTER_NAME: &str = "cluster_name";

fn show_cluster_name(call: &Call) -> Answer {
    Ok(Reply::Json(json!({"name": cluster_name(call)})))
}

/// Parameters of the cluster: its name, once somebody has given it one, and what else people keep there.
pub(super) fn global_parameters(call: &Call) -> Vec<Json> {
    let shape = |(name, value): (&Arc<str>, &Arc<str>)| json!({"name": &**name, "value": serde_json::from_str::<Json>(value).unwrap_or_default()});
    call.topology.global_parameters().map(shape).collect()
}

fn list_parameters(call: &Call) -> Answer {
    call.list(global_parameters(call))
}

fn parameter(call: &Call) -> Answer {
    let mut all = global_parameters(call).into_iter();
    all.find(|shown| shown["name"] == call.name("name")).map(Reply::Json).ok_or_else(Failure::not_found)
}

#[derive(Deserialize)]
struct Value {
    value: Json,
}

async fn put_parameter(call: Call) -> Answer {
    let Value { value } = call.read()?;
    let is_new = parameter(&call).is_err();
    let asked = Administration::PutGlobalParameter { name: call.name("name").to_owned(), value: value.to_string() };
    call.administer("/", asked).await?;
    Ok(Reply::put(is_new))
}

async fn delete_parameter(call: Call) -> Answer {
    parameter(&call)?;
    call.administer("/", Administration::DeleteGlobalParameter { name: call.name("name").to_owned() }).await?;
    Ok(Reply::Done)
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

async fn rename(call: Call) -> Answer {
    let Name { name } = call.read()?;
    let value = Json::from(name).to_string();
    call.administer("/", Administration::PutGlobalParameter { name: CLUSTER_NAME.to_owned(), value }).await?;
    Ok(Reply::Done)
}

fn version(_call: &Call) -> Answer {
    Ok(Reply::Json(RABBITMQ_VERSION.into()))
}

fn nothing(_call: &Call) -> Answer {
    Ok(Reply::Json(json!([])))
}
