//! Connections, their channels and consumers.

use std::sync::Arc;

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
use crate::statistics::connection::ConnectionFacts;
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
    visible_of(call, |_| true).await
}

/// Of these, those of which `is_wanted`.
async fn visible_of(call: &Call, is_wanted: impl Fn(&ConnectionFacts) -> bool) -> Vec<ConnectionReport> {
    call.shared.statistics.connections(|facts| is_visible(call, facts) && is_wanted(facts)).await
}

fn is_visible(call: &Call, facts: &ConnectionFacts) -> bool {
    call.caller.is_monitor() || is_of(facts, call.caller.identity.name())
}

fn is_of(facts: &ConnectionFacts, name: &str) -> bool {
    !name.is_empty() && facts.user() == name
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
    let connections = visible_of(&call, |facts| *facts.vhost() == **vhost).await;
    call.pages(shapes(&call, &connections))
}

async fn list_of_user(call: Call) -> Answer {
    let name = call.name("user");
    if !call.caller.is_monitor() && **call.caller.identity.name() != *name {
        return Err(Failure::not_authorised(Needs::Policymaker.refusal()));
    }
    let connections = visible_of(&call, |facts| is_of(facts, name)).await;
    call.list(shapes(&call, &connections))
}

/// The connection that the path names, if the caller may see it.
fn named(call: &Call) -> Result<Arc<ConnectionFacts>, Failure> {
    let all = call.shared.connections.all();
    let found = all.into_iter().find(|facts| facts.name() == call.name("connection"));
    let facts = found.ok_or_else(Failure::not_found)?;
    if is_visible(call, &facts) {
        return Ok(facts);
    }
    Err(Failure::not_authorised(Needs::Policymaker.refusal()))
}

/// The same, and what it says of itself.
async fn described(call: &Call) -> Result<ConnectionReport, Failure> {
    let id = named(call)?.id;
    let found = call.shared.statistics.connections(|facts| facts.id == id).await;
    found.into_iter().next().ok_or_else(Failure::not_found)
}

async fn one(call: Call) -> Answer {
    let report = described(&call).await?;
    Ok(Reply::Json(Json::Object(reports::connection(&report, &call.shared.statistics.rates()))))
}

async fn close(call: Call) -> Answer {
    let facts = named(&call)?;
    check_closes(&call, facts.user())?;
    tell(&call, &facts);
    Ok(Reply::Done)
}

async fn close_all(call: Call) -> Answer {
    let name = call.name("user");
    check_closes(&call, name)?;
    let all = call.shared.connections.all();
    all.iter().filter(|facts| is_of(facts, name)).for_each(|facts| tell(&call, facts));
    Ok(Reply::Done)
}

/// Others' connections are administrators' to close.
fn check_closes(call: &Call, owner: &str) -> Result<(), Failure> {
    if call.caller.is_administrator() || **call.caller.identity.name() == *owner {
        return Ok(());
    }
    Err(Failure::not_authorised(Needs::Policymaker.refusal()))
}

fn tell(call: &Call, facts: &ConnectionFacts) {
    let reason = call.reason.as_deref().unwrap_or(NO_REASON);
    audit::closed(call.caller.identity.name(), &facts.name(), reason);
    call.shared.connections.order(facts.id, Order::Close(reason.to_owned()));
}

fn channel_shapes(call: &Call, channels: &[ChannelReport]) -> Vec<Json> {
    let rates = call.shared.statistics.rates();
    channels.iter().map(|report| Json::Object(reports::channel(report, &rates))).collect()
}

async fn channels(call: Call) -> Answer {
    let vhost = match call.path.iter().any(|(name, _)| name == "vhost") {
        true => Some(call.vhost()?.name()),
        false => None,
    };
    let connections = visible_of(&call, |facts| vhost.is_none_or(|vhost| *facts.vhost() == **vhost)).await;
    let channels = call.shared.statistics.channels(&connections);
    call.pages(channel_shapes(&call, &channels))
}

async fn channels_of_one(call: Call) -> Answer {
    let channels = call.shared.statistics.channels(&[described(&call).await?]);
    call.list(channel_shapes(&call, &channels))
}

async fn channel(call: Call) -> Answer {
    // A channel's name begins with its connection's.
    let connections = visible_of(&call, |facts| call.name("channel").starts_with(&facts.name())).await;
    let channels = call.shared.statistics.channels(&connections);
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
