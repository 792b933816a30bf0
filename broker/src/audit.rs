//! The audit trail: who came in or was kept out, who changed what, who was refused what. Events with the target `audit`, so
//! that a filter such as `warn,audit=info` keeps them alone.
//!
//! | field | what it is |
//! |---|---|
//! | `user` | who acts; `""` if nobody has said |
//! | `action` | `login`, or as AMQP names the method: `queue.declare`, `basic.publish`; for administration `user.put`, `policy.delete` … |
//! | `outcome` | `ok` or `refused` |
//! | `mechanism` | of a login: how it was tried |
//! | `vhost`, `object` | what the action concerns, if that is something |
//! | `reason` | why it was refused, or why a connection was closed |
//! | `peer`, `connection_id` | where it came from: fields of the span that the event is in. Without them it is the node itself that acts, as `definitions` (its file) or `authentication` (a better hash), whatever users have these names |
//!
//! Logins over HTTP are one for each request: of a user and a source one is told every ten minutes. Of refused logins of one source
//! sixty a minute are told one by one, and of those that are not looked at the first; of the others a line says, when the minute
//! is over, how many (`count`) there were and where from (`source`; none if that were too many). So are requests over HTTP that
//! somebody lacks the right for, by user. Their `action` is method and path, without the names in it: these are `vhost` and
//! `object`.
//!
//! What lives only as long as a connection or a consumer (exclusive and auto-delete queues, exchanges that are not durable,
//! bindings of these) comes and goes with every client; it is told at the level debug.

use std::fmt::Display;
use std::net::IpAddr;

use tracing::{Level, Span, debug, enabled, info};
use warren_core::topology::{AdministrationChange, Change, Destination, Identity, Topology};

/// Somebody showed credentials; `refused` says why that did not do.
pub(crate) fn login(user: &str, mechanism: &str, refused: Option<&dyn Display>) {
    match refused {
        None => info!(target: "audit", user, mechanism, action = "login", outcome = "ok", "login"),
        Some(reason) => {
            info!(target: "audit", user, mechanism, action = "login", outcome = "refused", %reason, "login refused");
        }
    }
}

/// So many logins were refused and not told one by one.
pub(crate) fn logins_refused(source: Option<IpAddr>, count: u64) {
    let source = source.map(tracing::field::display);
    info!(target: "audit", source, count, action = "login", outcome = "refused", "logins refused");
}

/// Somebody was refused what they asked for, because they lack the right.
pub(crate) fn refused(user: &str, action: &str, (vhost, object): (&str, &str), reason: &str) {
    info!(target: "audit", user, action, vhost, object, outcome = "refused", reason, "refused");
}

/// So often a user was refused something over HTTP, and it was not told each time.
pub(crate) fn denials(user: Option<&str>, count: u64) {
    info!(target: "audit", user, count, outcome = "refused", "requests refused");
}

/// An administrator closed somebody's connection.
pub(crate) fn closed(user: &str, connection: &str, reason: &str) {
    let action = "connection.close";
    info!(target: "audit", user, action, object = connection, outcome = "ok", reason, "connection closed");
}

/// A change of the topology that is under way: it is told when it is durable.
#[derive(Debug)]
pub(crate) struct PendingChange {
    /// Where it was asked for.
    span: Span,
    user: String,
    action: &'static str,
    vhost: String,
    object: String,
    lasts: bool,
}

impl PendingChange {
    /// `topology` is what it is before the change; `span` the span of who asked. `None` if nobody wants to know of it.
    pub(crate) fn new(identity: &Identity, span: &Span, change: &Change, topology: &Topology) -> Option<Self> {
        let lasts = change.is_logged();
        if !enabled!(target: "audit", Level::INFO) || (!lasts && !enabled!(target: "audit", Level::DEBUG)) {
            return None;
        }
        let (action, vhost, object) = describe(change, topology)?;
        Some(Self { span: span.clone(), user: identity.name().to_string(), action, vhost, object, lasts })
    }

    pub(crate) fn tell(self) {
        let Self { span, user, action, vhost, object, lasts } = self;
        span.in_scope(|| match lasts {
            true => info!(target: "audit", user, action, vhost, object, outcome = "ok", "change"),
            false => debug!(target: "audit", user, action, vhost, object, outcome = "ok", "change"),
        });
    }
}

/// A change's action, virtual host and object; `None` for what is only the node's own record keeping.
pub(crate) fn describe(change: &Change, topology: &Topology) -> Option<(&'static str, String, String)> {
    let of = |action, vhost: &str, object: &str| Some((action, vhost.to_owned(), object.to_owned()));
    match change {
        Change::CreateExchange(record) => of("exchange.declare", &record.vhost, &record.name),
        Change::DeleteExchange { vhost, name, .. } => of("exchange.delete", vhost, name),
        Change::CreateQueue(record) => of("queue.declare", &record.vhost, &record.name),
        Change::DeleteQueue { id, .. } => {
            let record = topology.queue_by_id(*id)?;
            of("queue.delete", &record.vhost, &record.name)
        }
        Change::Bind(record) | Change::Unbind(record) => {
            let binds = matches!(change, Change::Bind(_));
            let (action, destination) = match &record.destination {
                Destination::Queue(id) => {
                    let action = if binds { "queue.bind" } else { "queue.unbind" };
                    (action, topology.queue_by_id(*id).map(|queue| queue.name.to_string()).unwrap_or_default())
                }
                Destination::Exchange(name) => {
                    (if binds { "exchange.bind" } else { "exchange.unbind" }, name.to_string())
                }
            };
            let object = format!("{} -> {destination} [{}]", record.source, record.routing_key);
            of(action, &record.vhost, &object)
        }
        Change::PauseQueue { id, paused, .. } => {
            let record = topology.queue_by_id(*id)?;
            of(if *paused { "queue.pause" } else { "queue.resume" }, &record.vhost, &record.name)
        }
        Change::QueueIds { .. } => None,
        Change::Administration(change) => describe_administration(change),
    }
}

fn describe_administration(change: &AdministrationChange) -> Option<(&'static str, String, String)> {
    let (action, vhost, object) = match change {
        AdministrationChange::PutVhost(record) => ("vhost.put", "", record.name.to_string()),
        AdministrationChange::DeleteVhost { name } => ("vhost.delete", "", name.to_string()),
        AdministrationChange::PutUser(record) => ("user.put", "", record.name.to_string()),
        AdministrationChange::DeleteUser { name } => ("user.delete", "", name.to_string()),
        AdministrationChange::PutPermissions(record) => ("permissions.put", &*record.vhost, record.user.to_string()),
        AdministrationChange::DeletePermissions { user, vhost } => ("permissions.delete", &**vhost, user.to_string()),
        AdministrationChange::PutTopicPermissions(record) => {
            ("topic_permissions.put", &*record.vhost, format!("{} {}", record.user, record.exchange))
        }
        AdministrationChange::DeleteTopicPermissions { user, vhost, exchange } => {
            ("topic_permissions.delete", &**vhost, format!("{user} {exchange}"))
        }
        AdministrationChange::PutPolicy(policy) => ("policy.put", &*policy.vhost, policy.name.to_string()),
        AdministrationChange::DeletePolicy { vhost, name, .. } => ("policy.delete", &**vhost, name.to_string()),
        AdministrationChange::PutGlobalParameter { name, .. } => ("global_parameter.put", "", name.to_string()),
        AdministrationChange::DeleteGlobalParameter { name } => ("global_parameter.delete", "", name.to_string()),
    };
    Some((action, vhost.to_owned(), object))
}
