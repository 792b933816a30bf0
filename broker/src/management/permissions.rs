//! Rights of users: permissions, and topic permissions.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value as Json, json};
use warren_core::topology::{Administration, PermissionsRecord, TopicPermissionsRecord};

use super::answer::{Answer, Failure, Reply};
use super::call::Call;
use super::route::Handle::{Later, Now};
use super::route::{Needs, Route, delete, get, put};

pub(super) const ROUTES: &[Route] = &[
    get("/api/permissions", Needs::Administrator, "All permissions.", Now(list)),
    get("/api/permissions/{vhost}/{user}", Needs::Administrator, "A user's permissions in a virtual host.", Now(one)),
    put(
        "/api/permissions/{vhost}/{user}",
        Needs::Administrator,
        "Give a user permissions.",
        Later(|call| Box::pin(grant(call))),
    ),
    delete(
        "/api/permissions/{vhost}/{user}",
        Needs::Administrator,
        "Take a user's permissions.",
        Later(|call| Box::pin(revoke(call))),
    ),
    get("/api/users/{user}/permissions", Needs::Administrator, "A user's permissions.", Now(of_user)),
    get("/api/vhosts/{vhost}/permissions", Needs::Administrator, "Permissions in a virtual host.", Now(of_vhost)),
    get("/api/topic-permissions", Needs::Administrator, "All topic permissions.", Now(topics)),
    get(
        "/api/topic-permissions/{vhost}/{user}",
        Needs::Administrator,
        "A user's topic permissions.",
        Now(topics_of_one),
    ),
    put(
        "/api/topic-permissions/{vhost}/{user}",
        Needs::Administrator,
        "Limit a user's routing keys.",
        Later(|call| Box::pin(grant_topic(call))),
    ),
    delete(
        "/api/topic-permissions/{vhost}/{user}",
        Needs::Administrator,
        "Take all topic permissions.",
        Later(|call| Box::pin(revoke_topics(call))),
    ),
    delete(
        "/api/topic-permissions/{vhost}/{user}/{exchange}",
        Needs::Administrator,
        "Take the topic permissions for one exchange.",
        Later(|call| Box::pin(revoke_topic(call))),
    ),
    get(
        "/api/users/{user}/topic-permissions",
        Needs::Administrator,
        "A user's topic permissions.",
        Now(topics_of_user),
    ),
    get(
        "/api/vhosts/{vhost}/topic-permissions",
        Needs::Administrator,
        "Topic permissions in a virtual host.",
        Now(topics_of_vhost),
    ),
];

/// The pattern that every name matches.
const ALL: &str = ".*";

/// Permissions as JSON.
pub(super) fn shape(record: &PermissionsRecord) -> Json {
    json!({
        "user": &*record.user,
        "vhost": &*record.vhost,
        "configure": record.configure.as_str(),
        "write": record.write.as_str(),
        "read": record.read.as_str(),
    })
}

/// Topic permissions as JSON.
pub(super) fn topic_shape(record: &TopicPermissionsRecord) -> Json {
    json!({
        "user": &*record.user,
        "vhost": &*record.vhost,
        "exchange": &*record.exchange,
        "write": record.write.as_str(),
        "read": record.read.as_str(),
    })
}

/// What is asked of the permissions, those of the node's own user among them. All of these are of one user or in one
/// virtual host, or are all there are.
fn shapes(call: &Call, is_asked: impl Fn(&str, &str) -> bool) -> Vec<Json> {
    let asked = call.topology.permissions().filter(|record| is_asked(&record.user, &record.vhost));
    let node_user = call.node_user();
    let everywhere = node_user.iter().flat_map(|user| call.topology.vhosts().map(move |vhost| (user, vhost.name())));
    let of_node = everywhere.filter(|(user, vhost)| is_asked(user, vhost));
    let everything = |(user, vhost): (&String, &Arc<str>)| json!({"user": user, "vhost": &**vhost, "configure": ALL, "write": ALL, "read": ALL});
    asked.map(|record| shape(record)).chain(of_node.map(everything)).collect()
}

fn topic_shapes(call: &Call, is_asked: impl Fn(&TopicPermissionsRecord) -> bool) -> Vec<Json> {
    call.topology.topic_permissions().filter(|record| is_asked(record)).map(|record| topic_shape(record)).collect()
}

fn list(call: &Call) -> Answer {
    call.list(shapes(call, |_, _| true))
}

fn one(call: &Call) -> Answer {
    let (vhost, user) = (call.name("vhost"), call.name("user"));
    let found = shapes(call, |of, within| within == vhost && of == user);
    found.into_iter().next().map(Reply::Json).ok_or_else(Failure::not_found)
}

fn of_user(call: &Call) -> Answer {
    let user = call.name("user");
    check_user(call, user)?;
    call.list(shapes(call, |of, _| of == user))
}

fn check_user(call: &Call, user: &str) -> Result<(), Failure> {
    let is_there = call.topology.user(user).is_some() || call.is_node_user(user);
    if is_there { Ok(()) } else { Err(Failure::not_found()) }
}

fn of_vhost(call: &Call) -> Answer {
    let vhost = call.vhost()?.name();
    call.list(shapes(call, |_, within| within == &**vhost))
}

/// Rights are given where user and virtual host are there; RabbitMQ answers 400 otherwise. The user that the configuration
/// names may do everything, and cannot have less.
fn check_ends(call: &Call) -> Result<(), Failure> {
    if call.is_node_user(call.name("user")) {
        return Err(Failure::bad_request(
            "the node's own user may do everything: make another user and limit that one",
        ));
    }
    let found = call.topology.vhost(call.name("vhost")).is_some() && call.topology.user(call.name("user")).is_some();
    if found { Ok(()) } else { Err(Failure::bad_request(NO_END)) }
}

/// What RabbitMQ says of rights for nobody or nowhere.
const NO_END: &str = "vhost_or_user_not_found";

#[derive(Deserialize)]
struct Rights {
    configure: String,
    write: String,
    read: String,
}

async fn grant(mut call: Call) -> Answer {
    let Rights { configure, write, read } = call.read()?;
    let user = call.name("user").to_owned();
    if call.is_node_user(&user) && [&configure, &write, &read].into_iter().all(|pattern| pattern == ALL) {
        // It has these. Tools give them to it in each virtual host that they make.
        return call.target_vhost().map(|_| Reply::Done).map_err(|_| Failure::bad_request(NO_END));
    }
    call.make_ordinary(&user).await?;
    check_ends(&call)?;
    let is_new = one(&call).is_err();
    call.administer(call.name("vhost"), Administration::SetPermissions { user, configure, write, read }).await?;
    Ok(Reply::put(is_new))
}

async fn revoke(mut call: Call) -> Answer {
    one(&call)?;
    let user = call.name("user").to_owned();
    call.make_ordinary(&user).await?;
    check_ends(&call)?;
    call.administer(call.name("vhost"), Administration::ClearPermissions { user }).await?;
    Ok(Reply::Done)
}

fn topics(call: &Call) -> Answer {
    call.list(topic_shapes(call, |_| true))
}

fn topics_of_one(call: &Call) -> Answer {
    match here(call) {
        none if none.is_empty() => Err(Failure::not_found()),
        found => call.list(found),
    }
}

/// The topic permissions of the user in the virtual host that the path names.
fn here(call: &Call) -> Vec<Json> {
    let (vhost, user) = (call.name("vhost"), call.name("user"));
    topic_shapes(call, |record| *record.vhost == *vhost && *record.user == *user)
}

fn topics_of_user(call: &Call) -> Answer {
    let user = call.name("user");
    check_user(call, user)?;
    call.list(topic_shapes(call, |record| *record.user == *user))
}

fn topics_of_vhost(call: &Call) -> Answer {
    let vhost = call.vhost()?.name();
    call.list(topic_shapes(call, |record| record.vhost == *vhost))
}

#[derive(Deserialize)]
struct TopicRights {
    exchange: String,
    write: String,
    read: String,
}

async fn grant_topic(mut call: Call) -> Answer {
    let TopicRights { exchange, write, read } = call.read()?;
    let user = call.name("user").to_owned();
    call.make_ordinary(&user).await?;
    check_ends(&call)?;
    let is_new = here(&call).iter().all(|known| known["exchange"] != *exchange);
    let asked = Administration::SetTopicPermissions { user, exchange, write, read };
    call.administer(call.name("vhost"), asked).await?;
    Ok(Reply::put(is_new))
}

async fn revoke_topics(call: Call) -> Answer {
    let (vhost, user) = (call.name("vhost"), call.name("user"));
    let rights = call.topology.topic_permissions().filter(|record| *record.vhost == *vhost && *record.user == *user);
    let exchanges: Vec<_> = rights.map(|record| record.exchange.to_string()).collect();
    if exchanges.is_empty() {
        return Err(Failure::not_found());
    }
    for exchange in exchanges {
        let asked = Administration::ClearTopicPermissions { user: user.to_owned(), exchange };
        call.administer(vhost, asked).await?;
    }
    Ok(Reply::Done)
}

async fn revoke_topic(call: Call) -> Answer {
    let (user, exchange) = (call.name("user").to_owned(), call.exchange_name("exchange").to_owned());
    if here(&call).iter().all(|known| known["exchange"] != *exchange) {
        return Err(Failure::not_found());
    }
    call.administer(call.name("vhost"), Administration::ClearTopicPermissions { user, exchange }).await?;
    Ok(Reply::Done)
}
