//! Exchanges.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value as Json};
use warren_core::topology::{Action, ExchangeDeclaration, ExchangeRecord, Vhost};

use super::answer::{Answer, Failure, Reply};
use super::call::Call;
use super::json::{flag, of_table};
use super::reports::MessageStats;
use super::route::Handle::{Later, Now};
use super::route::{Needs, Route, delete, get, put};
use crate::definitions;

pub(super) const ROUTES: &[Route] = &[
    get("/api/exchanges", Needs::Management, "The exchanges that the caller sees.", Now(list)),
    get("/api/exchanges/{vhost}", Needs::Management, "Exchanges of a virtual host.", Now(list_of_vhost)),
    get("/api/exchanges/{vhost}/{exchange}", Needs::Management, "One exchange.", Now(one)),
    put(
        "/api/exchanges/{vhost}/{exchange}",
        Needs::Management,
        "Declare an exchange.",
        Later(|call| Box::pin(declare(call))),
    ),
    delete(
        "/api/exchanges/{vhost}/{exchange}",
        Needs::Management,
        "Delete an exchange; with `if-unused=true` only if no binding leads from it.",
        Later(|call| Box::pin(remove(call))),
    ),
];

fn list(call: &Call) -> Answer {
    call.pages(shapes(call, &call.vhosts().collect::<Vec<_>>()))
}

fn list_of_vhost(call: &Call) -> Answer {
    call.pages(shapes(call, &[call.vhost()?]))
}

fn shapes(call: &Call, vhosts: &[&Vhost]) -> Vec<Json> {
    let (reports, rates) = (call.shared.statistics.exchanges(), call.shared.statistics.rates());
    let of_vhost = |vhost: &&Vhost| {
        let mut records: Vec<_> = vhost.exchanges().collect();
        records.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let shown = records.into_iter().map(|record| {
            let mut shape = shape(vhost, record);
            let report = reports.get(&(Arc::clone(&record.vhost), Arc::clone(&record.name)));
            if let Some(report) = report.filter(|_| !call.query.flag("disable_stats")) {
                MessageStats::of_exchange(report).put_into(&mut shape, &rates);
            }
            Json::Object(shape)
        });
        shown.collect::<Vec<_>>()
    };
    vhosts.iter().flat_map(of_vhost).collect()
}

fn one(call: &Call) -> Answer {
    let name = call.exchange_name("exchange");
    let mut all = shapes(call, &[call.vhost()?]).into_iter();
    all.find(|shape| shape["name"] == name).map(Reply::Json).ok_or_else(Failure::not_found)
}

fn shape(vhost: &Vhost, record: &ExchangeRecord) -> Map<String, Json> {
    let mut shape = Map::from_iter([
        ("arguments".to_owned(), of_table(&record.arguments)),
        ("auto_delete".to_owned(), record.auto_delete.into()),
        ("durable".to_owned(), record.durable.into()),
        ("internal".to_owned(), record.internal.into()),
        ("name".to_owned(), (*record.name).into()),
        ("type".to_owned(), record.type_name().into()),
        ("vhost".to_owned(), (*record.vhost).into()),
    ]);
    if let Some(policy) = vhost.policy_of_exchange(&record.name).policy {
        shape.insert("policy".to_owned(), (*policy.name).into());
    }
    shape
}

/// What an exchange may be declared with; as in RabbitMQ it is a direct one that does not last, if nothing else is said.
#[derive(Deserialize)]
struct Body {
    #[serde(rename = "type", default = "direct")]
    kind: String,
    #[serde(default, deserialize_with = "flag")]
    durable: bool,
    #[serde(default, deserialize_with = "flag")]
    auto_delete: bool,
    #[serde(default, deserialize_with = "flag")]
    internal: bool,
    #[serde(default)]
    arguments: BTreeMap<String, Json>,
}

fn direct() -> String {
    String::from("direct")
}

async fn declare(call: Call) -> Answer {
    let Body { kind, durable, auto_delete, internal, arguments } = call.read()?;
    let name = call.exchange_name("exchange").to_owned();
    let vhost = call.target_vhost()?;
    let is_new = vhost.exchange(&name).is_none();
    let arguments = definitions::table("arguments", &arguments).map_err(Failure::from)?;
    let declaration = ExchangeDeclaration { name, kind, passive: false, durable, auto_delete, internal, arguments };
    call.ask(vhost.name(), Action::DeclareExchange(declaration)).await?;
    Ok(Reply::put(is_new))
}

async fn remove(call: Call) -> Answer {
    let vhost = call.vhost()?;
    let name = call.exchange_name("exchange").to_owned();
    if vhost.exchange(&name).is_none() {
        return Err(Failure::not_found());
    }
    let if_unused = call.query.flag("if-unused");
    call.ask(vhost.name(), Action::DeleteExchange { name, if_unused }).await?;
    Ok(Reply::Done)
}

/// The exchange's name as paths have it.
pub(super) fn named(name: &str) -> &str {
    if name.is_empty() { "amq.default" } else { name }
}
