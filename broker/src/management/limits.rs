//! Limits of virtual hosts and of users.

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use warren_core::topology::{Administration, UserLimits, Vhost, VhostLimits};

use super::answer::{Answer, Failure, Reply};
use super::call::Call;
use super::json::integer;
use super::route::Handle::{Later, Now};
use super::route::{Needs, Route, delete, get, put};
use super::users;

pub(super) const ROUTES: &[Route] = &[
    get("/api/vhost-limits", Needs::Management, "Limits of the virtual hosts that the caller sees.", Now(of_vhosts)),
    get("/api/vhost-limits/{vhost}", Needs::Management, "Limits of a virtual host.", Now(of_vhost)),
    put(
        "/api/vhost-limits/{vhost}/{limit}",
        Needs::Administrator,
        "Set `max-connections` or `max-queues` of a virtual host.",
        Later(|call| Box::pin(limit_vhost(call))),
    ),
    delete(
        "/api/vhost-limits/{vhost}/{limit}",
        Needs::Administrator,
        "Take a limit from a virtual host.",
        Later(|call| Box::pin(unlimit_vhost(call))),
    ),
    get("/api/user-limits", Needs::Administrator, "Limits of all users.", Now(of_users)),
    get("/api/user-limits/{user}", Needs::Management, "Limits of a user: one's own, or as `monitoring`.", Now(of_user)),
    put(
        "/api/user-limits/{user}/{limit}",
        Needs::Administrator,
        "Set `max-connections` or `max-channels` of a user.",
        Later(|call| Box::pin(limit_user(call))),
    ),
    delete(
        "/api/user-limits/{user}/{limit}",
        Needs::Administrator,
        "Take a limit from a user.",
        Later(|call| Box::pin(unlimit_user(call))),
    ),
];

/// The limits that are set, by name.
pub(super) fn named(limits: &VhostLimits) -> Map<String, Json> {
    let all = [("max-connections", limits.max_connections), ("max-queues", limits.max_queues)];
    all.into_iter().filter_map(|(name, limit)| Some((name.to_owned(), Json::from(limit?)))).collect()
}

fn vhost_shape(vhost: &Vhost) -> Option<Json> {
    let limits = named(&vhost.record().limits);
    (!limits.is_empty()).then(|| json!({"vhost": &**vhost.name(), "value": limits}))
}

fn of_vhosts(call: &Call) -> Answer {
    call.list(call.vhosts().filter_map(vhost_shape).collect())
}

fn of_vhost(call: &Call) -> Answer {
    call.list(vhost_shape(call.vhost()?).into_iter().collect())
}

#[derive(Deserialize)]
struct Body {
    #[serde(deserialize_with = "integer")]
    value: i64,
}

impl Body {
    /// A negative limit is none, as in RabbitMQ.
    fn limit(&self) -> Result<Option<u32>, Failure> {
        if self.value < 0 {
            return Ok(None);
        }
        let too_high = |_| Failure::bad_request(format!("a limit of {} is too high", self.value));
        u32::try_from(self.value).map(Some).map_err(too_high)
    }
}

async fn limit_vhost(call: Call) -> Answer {
    let value = call.read::<Body>()?.limit()?;
    set_vhost(&call, value).await
}

async fn unlimit_vhost(call: Call) -> Answer {
    set_vhost(&call, None).await
}

async fn set_vhost(call: &Call, value: Option<u32>) -> Answer {
    let vhost = call.target_vhost()?;
    let mut limits = vhost.record().limits;
    match call.name("limit") {
        "max-connections" => limits.max_connections = value,
        "max-queues" => limits.max_queues = value,
        other => return Err(unknown(other, "max-connections and max-queues")),
    }
    call.administer(vhost.name(), Administration::SetVhostLimits(limits)).await?;
    Ok(Reply::Done)
}

fn unknown(limit: &str, known: &str) -> Failure {
    Failure::bad_request(format!("limit '{limit}' is not known; known are {known}"))
}

fn user_shape(user: &warren_core::topology::UserRecord) -> Option<Json> {
    let limits = users::limits(user);
    (limits != json!({})).then(|| json!({"user": &*user.name, "value": limits}))
}

fn of_users(call: &Call) -> Answer {
    call.list(call.topology.users().filter_map(|user| user_shape(user)).collect())
}

fn of_user(call: &Call) -> Answer {
    let name = call.name("user");
    if !call.caller.is_monitor() && **call.caller.identity.name() != *name {
        return Err(Failure::not_authorised(Needs::Policymaker.refusal()));
    }
    if call.is_node_user(name) {
        return call.list(Vec::new());
    }
    let user = call.topology.user(name).ok_or_else(Failure::not_found)?;
    call.list(user_shape(user).into_iter().collect())
}

async fn limit_user(mut call: Call) -> Answer {
    let value = call.read::<Body>()?.limit()?;
    let user = call.name("user").to_owned();
    call.make_ordinary(&user).await?;
    set_user(&call, value).await
}

async fn unlimit_user(call: Call) -> Answer {
    set_user(&call, None).await
}

async fn set_user(call: &Call, value: Option<u32>) -> Answer {
    let name = call.name("user");
    let user = call.topology.user(name).ok_or_else(|| Failure::bad_request(format!("no_such_user: {name}")))?;
    let limits = match call.name("limit") {
        "max-connections" => UserLimits { max_connections: value, ..user.limits },
        "max-channels" => UserLimits { max_channels: value, ..user.limits },
        other => return Err(unknown(other, "max-connections and max-channels")),
    };
    call.administer("/", Administration::SetUserLimits { user: name.to_owned(), limits }).await?;
    Ok(Reply::Done)
}
