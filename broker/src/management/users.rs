//! Users.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use warren_core::Secret;
use warren_core::topology::{Administration, HashingAlgorithm, PasswordHash, UserRecord};

use super::answer::{Answer, Failure, Reply};
use super::call::Call;
use super::json::texts;
use super::route::Handle::{Later, Now};
use super::route::{Needs, Route, delete, get, post, put};
use crate::clock::wall_clock_ms;
use crate::definitions::{self, tags};
use crate::limits::PREVIOUS_PASSWORD_SECONDS;

pub(super) const ROUTES: &[Route] = &[
    get("/api/users", Needs::Administrator, "All users.", Now(list)),
    get(
        "/api/users/without-permissions",
        Needs::Administrator,
        "Users who have rights nowhere.",
        Now(without_permissions),
    ),
    post(
        "/api/users/bulk-delete",
        Needs::Administrator,
        "Delete the users of a list.",
        Later(|call| Box::pin(bulk_delete(call))),
    ),
    get("/api/users/{user}", Needs::Administrator, "One user.", Now(one)),
    put("/api/users/{user}", Needs::Administrator, "Make or change a user.", Later(|call| Box::pin(make(call)))),
    delete(
        "/api/users/{user}",
        Needs::Administrator,
        "Delete a user with its rights.",
        Later(|call| Box::pin(remove(call))),
    ),
    get("/api/whoami", Needs::Management, "The caller and its tags.", Now(whoami)),
];

fn list(call: &Call) -> Answer {
    let node_user = call.node_user().map(|name| node_user_shape(&name));
    call.pages(call.topology.users().map(|user| shown(user)).chain(node_user).collect())
}

fn without_permissions(call: &Call) -> Answer {
    let idle = call.topology.users().filter(|user| call.topology.permissions().all(|record| record.user != user.name));
    call.pages(idle.map(|user| shown(user)).collect())
}

fn one(call: &Call) -> Answer {
    let name = call.name("user");
    if call.is_node_user(name) {
        return Ok(Reply::Json(node_user_shape(name)));
    }
    call.topology.user(name).map(|user| Reply::Json(shown(user))).ok_or_else(Failure::not_found)
}

/// The node's own user among the others. Its password is no hash.
fn node_user_shape(name: &str) -> Json {
    json!({
        "name": name,
        "password_hash": "",
        "hashing_algorithm": HashingAlgorithm::Sha256.name(),
        "tags": ["administrator"],
        "limits": {},
    })
}

/// A user as it is shown: beside what RabbitMQ shows, until when the password before counts, if it does.
fn shown(user: &UserRecord) -> Json {
    let mut shown = shape(user);
    if let Some(previous) = user.previous_at(wall_clock_ms()) {
        shown["previous_password_until_ms"] = previous.until_ms.into();
    }
    shown
}

/// A user as RabbitMQ shows it to administrators, and as definitions have it: with the hash of its password.
pub(super) fn shape(user: &UserRecord) -> Json {
    let hash = user.password.as_ref();
    // RabbitMQ names an algorithm also where there is no hash.
    let algorithm = hash.map_or(HashingAlgorithm::Sha256, |hash| hash.algorithm);
    json!({
        "name": &*user.name,
        "password_hash": hash.map(|hash| BASE64_STANDARD.encode(&hash.octets)).unwrap_or_default(),
        "hashing_algorithm": algorithm.name(),
        "tags": texts(&user.tags),
        "limits": limits(user),
    })
}

/// The limits that a user has, by name.
pub(super) fn limits(user: &UserRecord) -> Json {
    let limits = [("max-connections", user.limits.max_connections), ("max-channels", user.limits.max_channels)];
    let set = limits.into_iter().filter_map(|(name, limit)| Some((name.to_owned(), Json::from(limit?))));
    Json::Object(set.collect::<Map<_, _>>())
}

fn whoami(call: &Call) -> Answer {
    let caller = &call.caller;
    Ok(Reply::Json(json!({
        "name": &**caller.identity.name(),
        "tags": texts(&caller.tags),
        "is_internal_user": call.topology.user(caller.identity.name()).is_some(),
    })))
}

/// What a user may be made with. One without password and hash cannot log in by password.
#[derive(Deserialize)]
struct Body {
    password: Option<String>,
    password_hash: Option<String>,
    hashing_algorithm: Option<String>,
    /// For so long the password that this one replaces counts too; RabbitMQ does not know it. Without it, not at all.
    previous_password_seconds: Option<u64>,
    #[serde(deserialize_with = "tags")]
    tags: Vec<String>,
}

/// When the password that is replaced now ends.
fn until_ms(seconds: u64) -> Result<u64, Failure> {
    if seconds > PREVIOUS_PASSWORD_SECONDS {
        let text = format!(
            "previous_password_seconds is {seconds}: it may be {PREVIOUS_PASSWORD_SECONDS} (a day) at most; \
             with 0 only the new password counts"
        );
        return Err(Failure::bad_request(text));
    }
    Ok(wall_clock_ms().saturating_add(seconds * 1_000))
}

async fn make(mut call: Call) -> Answer {
    let name = &call.name("user").to_owned();
    let Body { password, password_hash, hashing_algorithm, previous_password_seconds, tags } = call.read()?;
    let previous_until_ms = previous_password_seconds.filter(|seconds| *seconds > 0).map(until_ms).transpose()?;
    let password_hash = password_hash.filter(|hash| !hash.is_empty());
    let password = match (password, password_hash) {
        (Some(_), Some(_)) => return Err(Failure::bad_request("both_password_and_password_hash_are_provided")),
        (Some(password), None) => Some(hash(&call, password).await?),
        (None, Some(hash)) => Some(definitions::password_hash("user", &hash, hashing_algorithm.as_deref())?),
        (None, None) => None,
    };
    let is_node_user = call.is_node_user(name);
    if is_node_user && call.shared.authentication.configures_node_user() {
        return Err(Failure::bad_request(CONFIGURED));
    }
    if !is_node_user {
        call.keep_built_in().await?;
    }
    let is_new = !is_node_user && call.topology.user(name).is_none();
    let put = Administration::PutUser { name: name.to_owned(), password, previous_until_ms, tags };
    call.administer("/", put).await?;
    if is_node_user {
        keep_rights(&call, name).await?;
    }
    Ok(Reply::put(is_new))
}

/// Makes the built-in user one of the topology: with the password that it has, which is its name.
pub(super) async fn take_over(call: &Call, name: &str) -> Result<(), Failure> {
    let password = Some(hash(call, name.to_owned()).await?);
    let user = Administration::PutUser {
        name: name.to_owned(),
        password,
        previous_until_ms: None,
        tags: vec!["administrator".to_owned()],
    };
    call.administer("/", user).await?;
    keep_rights(call, name).await
}

/// A user that takes the place of the built-in one may first do what that could: everything, everywhere.
async fn keep_rights(call: &Call, name: &str) -> Result<(), Failure> {
    for vhost in call.topology.vhosts() {
        let all = || ".*".to_owned();
        let rights =
            Administration::SetPermissions { user: name.to_owned(), configure: all(), write: all(), read: all() };
        call.administer(vhost.name(), rights).await?;
    }
    Ok(())
}

/// Why the configuration's user is not changed by requests.
const CONFIGURED: &str = "this is the node's own user, whose name and password are in the files of [default_user]";

async fn hash(call: &Call, password: String) -> Result<PasswordHash, Failure> {
    let hash = call.shared.authentication.hash(Secret::from(password.into_bytes())).await;
    hash.map_err(|_| Failure::bad_request("the password cannot be hashed; choose another one"))
}

async fn remove(mut call: Call) -> Answer {
    let name = call.name("user").to_owned();
    delete_one(&mut call, name).await?.then_some(Reply::Done).ok_or_else(Failure::not_found)
}

/// Whether there was one. The built-in user is made an ordinary one first, so that it is deleted for good.
async fn delete_one(call: &mut Call, name: String) -> Result<bool, Failure> {
    call.make_ordinary(&name).await?;
    if call.is_node_user(&name) {
        return Err(Failure::bad_request(CONFIGURED));
    }
    let is_there = call.topology.user(&name).is_some();
    call.administer("/", Administration::DeleteUser { name }).await?;
    Ok(is_there)
}

#[derive(Deserialize)]
struct Names {
    users: Vec<String>,
}

/// Those who are not there are passed over, as in RabbitMQ.
async fn bulk_delete(mut call: Call) -> Answer {
    let Names { users } = call.read()?;
    if users.iter().any(|name| call.is_node_user(name)) && call.shared.authentication.configures_node_user() {
        return Err(Failure::bad_request(CONFIGURED));
    }
    for name in users {
        delete_one(&mut call, name).await?;
    }
    Ok(Reply::Done)
}
