//! Connections, their channels and consumers.

use serde_json::Value as Json;
use warren_core::ConsumerKey;
use warren_core::queue::QueueFilter;

use super::answer::{Answer, Failure, Reply};
use super::call::Call;
use super::queues;
use super::reports;
use super::route::Handle::Later;
use super::route::{Needs, Route, delete, get};
use crate::audit;
use crate::connections::Order;
use crate::statistics::{ChannelReport, ConnectionReport};

pub(super) const ROUTES: &[Route] = &[
    get("/api/connections", Needs::Management, OWN, Later(|call| Box::pin(list(call)))),
    get("/api/connections/{connection}", Needs::Management, "One connection.", Later(|call| Box::pin(one(call)))),
    delete(
        "/api/connections/{connection}",
        Needs::Management,
        "Close a connection; the header `x-reason` is told to the client.",
        Later(|call| Box::pin(close(call))),
    ),
    get(
        "/api/connections/{connection}/channels",
        Needs::Management,
        "Channels of a connection.",
        Later(|call| Box::pin(channels_of_one(call))),
    ),
    get(
        "/api/connections/username/{user}",
        Needs::Management,
        "Connections of a user: one's own, or as `monitoring`.",
        Later(|call| Box::pin(list_of_user(call))),
    ),
    delete(
        "/api/connections/username/{user}",
        Needs::Management,
        "Close all connections of a user.",
        Later(|call| Box::pin(close_all(call))),
    ),
    get("/api/vhosts/{vhost}/connections", Needs::Management, OWN, Later(|call| Box::pin(list_of_vhost(call)))),
    get("/api/channels", Needs::Management, OWN_CHANNELS, Later(|call| Box::pin(channels(call)))),
    get("/api/vhosts/{vhost}/channels", Needs::Management, OWN_CHANNELS, Later(|call| Box::pin(channels(call)))),
    get("/api/channels/{channel}", Needs::Management, "One channel.", Later(|call| Box::pin(channel(call)))),
    get(
        "/api/consumers",
        Needs::Management,
        "Consumers: all of them for `monitoring`, otherwise one's own.",
        Later(|call| Box::pin(consumers(call))),
    ),
    get(
        "/api/consumers/{vhost}",
        Needs::Management,
        "The same, of a virtual host.",
        Later(|call| Box::pin(consumers(call))),
    ),
];

const OWN: &str = "Connections: all of them for `monitoring`, otherwise one's own.";
const OWN_CHANNELS: &str = "Channels: all of them for `monitoring`, otherwise one's own.";

/// What a client is told that is closed without a reason.
const NO_REASON: &str = "Closed via management plugin";

/// The connections that the caller may see.
pub(super) async fn visible(call: &Call) -> Vec<ConnectionReport> {
    let mut connections = call.shared.statistics.connections().await;
    connections.retain(|report| call.caller.is_monitor() || is_of(report, call.caller.identity.name()));
    connections
}

fn user(report: &ConnectionReport) -> &str {
    report.session.as_ref().map_or("", |session| session.user.as_str())
}

fn is_of(report: &ConnectionReport, name: &str) -> bool {
    !name.is_empty() && user(report) == name
}

fn shapes(call: &Call, connections: &[ConnectionReport]) -> Vec<Json> {
    let rates = call.shared.statistics.rates();
    connections.iter().map(|report| Json::Object(reports::connection(report, &rates))).collect()
}

async fn list(call: Call) -> Answer {
    call.pages(shapes(&call, &visible(&call).await))
}

async fn list_of_vhost(call: Call) -> Answer {
    let vhost = call.vhost()?.name();
    let mut connections = visible(&call).await;
    connections.retain(|report| report.session.as_ref().is_some_and(|session| session.vhost == *vhost));
    call.pages(shapes(&call, &connections))
}

async fn list_of_user(call: Call) -> Answer {
    let name = call.name("user");
    if !call.caller.is_monitor() && **call.caller.identity.name() != *name {
        return Err(Failure::not_authorised(Needs::Policymaker.refusal()));
    }
    let mut connections = visible(&call).await;
    connections.retain(|report| is_of(report, name));
    call.list(shapes(&call, &connections))
}

/// The connection that the path names, if the caller may see it.
async fn named(call: &Call) -> Result<ConnectionReport, Failure> {
    let all = call.shared.statistics.connections().await;
    let found = all.into_iter().find(|report| report.facts.name() == call.name("connection"));
    let report = found.ok_or_else(Failure::not_found)?;
    if call.caller.is_monitor() || is_of(&report, call.caller.identity.name()) {
        return Ok(report);
    }
    Err(Failure::not_authorised(Needs::Policymaker.refusal()))
}

async fn one(call: Call) -> Answer {
    let report = named(&call).await?;
    Ok(Reply::Json(Json::Object(reports::connection(&report, &call.shared.statistics.rates()))))
}

async fn close(call: Call) -> Answer {
    let report = named(&call).await?;
    check_closes(&call, user(&report))?;
    tell(&call, &report);
    Ok(Reply::Done)
}

async fn close_all(call: Call) -> Answer {
    let name = call.name("user");
    check_closes(&call, name)?;
    let all = call.shared.statistics.connections().await;
    all.iter().filter(|report| is_of(report, name)).for_each(|report| tell(&call, report));
    Ok(Reply::Done)
}

/// Others' connections are administrators' to close.
fn check_closes(call: &Call, owner: &str) -> Result<(), Failure> {
    if call.caller.is_administrator() || **call.caller.identity.name() == *owner {
        return Ok(());
    }
    Err(Failure::not_authorised(Needs::Policymaker.refusal()))
}

fn tell(call: &Call, report: &ConnectionReport) {
    let reason = call.reason.as_deref().unwrap_or(NO_REASON);
    audit::closed(call.caller.identity.name(), &report.facts.name(), reason);
    call.shared.connections.order(report.facts.id, Order::Close(reason.to_owned()));
}

fn channel_shapes(call: &Call, channels: &[ChannelReport]) -> Vec<Json> {
    let rates = call.shared.statistics.rates();
    channels.iter().map(|report| Json::Object(reports::channel(report, &rates))).collect()
}

async fn channels(call: Call) -> Answer {
    let mut channels = call.shared.statistics.channels(&visible(&call).await);
    if call.path.iter().any(|(name, _)| name == "vhost") {
        let vhost = call.vhost()?.name();
        channels.retain(|report| report.session.vhost == *vhost);
    }
    call.pages(channel_shapes(&call, &channels))
}

async fn channels_of_one(call: Call) -> Answer {
    let channels = call.shared.statistics.channels(&[named(&call).await?]);
    call.list(channel_shapes(&call, &channels))
}

async fn channel(call: Call) -> Answer {
    let channels = call.shared.statistics.channels(&visible(&call).await);
    let is_it = |report: &&ChannelReport| {
        reports::channel_name(&report.connection, report.channel.number) == call.name("channel")
    };
    let report = channels.iter().find(is_it).ok_or_else(Failure::not_found)?;
    let mut shape = reports::channel(report, &call.shared.statistics.rates());
    let is_here = |key: ConsumerKey| key.connection == report.connection.id && key.channel == report.channel.number;
    let own = report.session.consumers.iter().filter(|consumer| is_here(consumer.key));
    let filter = QueueFilter { queues: Some(own.map(|consumer| consumer.queue).collect()), ..QueueFilter::default() };
    let consumers = queues::consumers(&call, filter).await;
    let here = consumers.iter().filter(|consumer| is_here(consumer.consumer.key)).map(reports::consumer);
    shape.insert("consumer_details".to_owned(), here.collect());
    Ok(Reply::Json(Json::Object(shape)))
}

async fn consumers(call: Call) -> Answer {
    let vhosts: Vec<_> = if call.path.is_empty() { call.vhosts().collect() } else { vec![call.vhost()?] };
    let queues = vhosts.iter().flat_map(|vhost| queues::records(vhost)).map(|queue| queue.id).collect();
    let mut found = queues::consumers(&call, QueueFilter { queues: Some(queues), ..QueueFilter::default() }).await;
    found.retain(|report| call.caller.is_monitor() || *report.user == **call.caller.identity.name());
    call.list(found.iter().map(reports::consumer).collect())
}
