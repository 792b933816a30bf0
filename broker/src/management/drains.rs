//! Addresses whose consumers are handed nothing new: for who takes away pods and wants none of their messages delivered twice.

use std::net::IpAddr;
use std::time::Duration;

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::answer::{Answer, Failure, Reply};
use super::call::Call;
use super::route::Handle::{Later, Now};
use super::route::{Needs, Route, delete, get, put};
use crate::drains::Drains;
use crate::limits::{DRAIN_SECONDS, DRAINS};

pub(super) const ROUTES: &[Route] = &[
    get("/api/warren/drains", Needs::Administrator, "The addresses that are drained.", Now(list)),
    get(
        "/api/warren/drains/{address}",
        Needs::Administrator,
        "A drained address: for how many seconds, and how many messages its clients still hold (`unacked`).",
        Later(|call| Box::pin(one(call))),
    ),
    put(
        "/api/warren/drains/{address}",
        Needs::Administrator,
        "Hand nothing new to the consumers of clients at that address for so many `seconds`; the answer says how many messages they hold (`unacked`).",
        Later(|call| Box::pin(begin(call))),
    ),
    delete(
        "/api/warren/drains/{address}",
        Needs::Administrator,
        "Serve the consumers of clients at that address again.",
        Later(|call| Box::pin(end(call))),
    ),
];

#[derive(Deserialize)]
struct Body {
    seconds: u64,
}

fn address(call: &Call) -> Result<IpAddr, Failure> {
    let text = call.name("address");
    let address = text.parse::<IpAddr>();
    address
        .map(|address| address.to_canonical())
        .map_err(|_| Failure::bad_request(format!("{text} is no IP address, such as 10.0.0.7")))
}

fn shape(address: IpAddr, left: Duration) -> Json {
    json!({"address": address.to_string(), "seconds": left.as_secs_f64().ceil()})
}

fn shape_with(address: IpAddr, left: Duration, unacked: u64) -> Json {
    json!({"address": address.to_string(), "seconds": left.as_secs_f64().ceil(), "unacked": unacked})
}

fn list(call: &Call) -> Answer {
    let all = call.shared.drains.all().into_iter();
    call.list(all.map(|(address, left)| shape(address, left)).collect())
}

async fn one(call: Call) -> Answer {
    let address = address(&call)?;
    let left = call.shared.drains.left(address).ok_or_else(Failure::not_found)?;
    let unacked = Drains::unacked(&call.shared, address).await.ok_or_else(Failure::not_found)?;
    Ok(Reply::Json(shape_with(address, left, unacked)))
}

async fn begin(call: Call) -> Answer {
    let address = address(&call)?;
    let Body { seconds } = call.read()?;
    if !DRAIN_SECONDS.contains(&seconds) {
        let (least, most) = (DRAIN_SECONDS.start(), DRAIN_SECONDS.end());
        return Err(Failure::bad_request(format!("seconds has to be from {least} to {most}")));
    }
    let time = Duration::from_secs(seconds);
    let unacked = Drains::begin(&call.shared, address, time).await.map_err(|_| {
        let reason = format!("{DRAINS} addresses are drained, and no more can be; end one of these first");
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "busy", reason)
    })?;
    Ok(Reply::Json(shape_with(address, time, unacked)))
}

async fn end(call: Call) -> Answer {
    let address = address(&call)?;
    if Drains::end(&call.shared, address).await { Ok(Reply::Done) } else { Err(Failure::not_found()) }
}
