//! The management HTTP API under `/api`: RabbitMQ's paths, fields and status codes, for the tools that rely on them.
//!
//! Each noun has a file with its routes; [`routes`] is all of them. A request is authenticated, its caller's tags are
//! compared with what the route needs, its body is read within bounds, and its handler answers from the topology's snapshot
//! or asks the metadata for a change in the caller's name: what may be done is decided there, for AMQP and HTTP alike.

mod answer;
mod bindings;
mod call;
mod caller;
mod client;
mod cluster;
mod connections;
mod definitions;
mod drains;
mod exchanges;
mod figures;
mod health;
mod json;
mod limits;
mod listing;
mod messages;
mod nodes;
mod openapi;
mod overview;
mod parameters;
mod permissions;
mod policies;
mod queues;
mod rate;
mod reports;
mod room;
mod route;
#[cfg(test)]
mod tests;
mod users;
mod vhosts;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, FromRequestParts, RawPathParams};
use axum::http::header::{HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{Request, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::on;
use bytes::Bytes;
use http_body_util::LengthLimitError;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tower::Service;

use crate::audit;
use crate::http::server::Peer;
use crate::limits::{
    ANSWERS_AT_ONCE, BODY_BYTES, BODY_TIMEOUT, DEFINITIONS_BYTES, FIGURES_AT_ONCE, HANDLER_TIMEOUT, IMPORT_TIMEOUT,
    INSIDE_AT_ONCE, OBJECTS_AT_ONCE,
};
use crate::node::Shared;
use answer::{Answer, Failure, NOT_AUTHORISED, Reply};
use call::{Call, Query};
use caller::Caller;
use listing::Columns;
use rate::Rates;
use room::{Room, Rooms};
use route::{Handle, Method, Needs, Route};

/// Every route there is.
fn routes() -> impl Iterator<Item = &'static Route> {
    let all: [&'static [Route]; 19] = [
        cluster::ROUTES,
        vhosts::ROUTES,
        users::ROUTES,
        permissions::ROUTES,
        exchanges::ROUTES,
        queues::ROUTES,
        bindings::ROUTES,
        messages::ROUTES,
        policies::ROUTES,
        parameters::ROUTES,
        limits::ROUTES,
        nodes::ROUTES,
        overview::ROUTES,
        connections::ROUTES,
        figures::ROUTES,
        drains::ROUTES,
        health::ROUTES,
        definitions::ROUTES,
        openapi::ROUTES,
    ];
    all.into_iter().flatten()
}

/// What requests share.
struct Api {
    shared: Arc<Shared>,
    rates: Rates,
    /// So many requests use an AMQP client inside at once.
    inside: Arc<Semaphore>,
    /// So many read figures at once.
    figures: Arc<Semaphore>,
    /// For answers that grow with what there is: lists, and single objects.
    lists: Rooms,
    objects: Rooms,
}

/// The router of the API.
pub(crate) fn router(shared: Arc<Shared>, requests_per_second: u32) -> Router {
    let routes = by_path(shared, requests_per_second);
    let handler = move |mut request: Request<Body>| {
        let mut routes = routes.clone();
        async move {
            trim_slashes(request.uri_mut());
            routes.call(request).await
        }
    };
    Router::new().fallback(handler)
}

/// Some clients end paths with a slash: that means the same.
fn trim_slashes(uri: &mut Uri) {
    let trimmed = uri.path().trim_end_matches('/');
    if trimmed.len() == uri.path().len() {
        return;
    }
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    if let Ok(path) = format!("{trimmed}{query}").parse() {
        *uri = path;
    }
}

fn by_path(shared: Arc<Shared>, requests_per_second: u32) -> Router {
    let api = Arc::new(Api {
        shared,
        rates: Rates::new(requests_per_second),
        inside: Arc::new(Semaphore::new(INSIDE_AT_ONCE)),
        figures: Arc::new(Semaphore::new(FIGURES_AT_ONCE)),
        lists: Rooms::new(ANSWERS_AT_ONCE),
        objects: Rooms::new(OBJECTS_AT_ONCE),
    });
    let with = |router: Router, route: &'static Route| {
        let api = Arc::clone(&api);
        router.route(route.path, on(route.method.filter(), move |request| serve(api, route, request)))
    };
    routes().fold(Router::new(), with).fallback(async || Failure::not_found())
}

async fn serve(api: Arc<Api>, route: &'static Route, request: Request<Body>) -> Response {
    let mut room = None;
    let response = match answer(&api, route, request, &mut room).await {
        Ok(reply) => reply.into_response(),
        Err(failure) => failure.into_response(),
    };
    answer::hold(response, room)
}

/// `room`: taken for answers that may be large, and held until the client has them.
async fn answer(api: &Api, route: &'static Route, request: Request<Body>, room: &mut Option<Room>) -> Answer {
    let (mut parts, body) = request.into_parts();
    refuse_other_sites(route.method, &parts)?;
    let peer = parts.extensions.get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| peer.address);
    let peer = peer.ok_or_else(Failure::not_authenticated)?;
    let caller = Caller::of(&parts.headers, peer.ip(), &api.shared).await?;
    api.rates.count(caller.identity.name(), Instant::now())?;
    let caller_name = Arc::clone(caller.identity.name());
    let path = path_names(&mut parts).await?;
    let named = path.clone();
    let result = work(api, route, (parts, path, body), (caller, peer), room).await;
    if let Err(failure) = &result
        && failure.error == NOT_AUTHORISED
        && api.shared.authentication.tells_denial(&caller_name)
    {
        tell_denial(&caller_name, route, &named, failure);
    }
    result
}

/// What the path names: the parameters of the route with their values.
type PathNames = Vec<(String, String)>;

async fn path_names(parts: &mut Parts) -> Result<PathNames, Failure> {
    let path = RawPathParams::from_request_parts(parts, &()).await;
    let path = path.map_err(|_| Failure::bad_request("the path is not UTF-8"))?;
    Ok(path.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

fn tell_denial(caller: &str, route: &Route, path: &PathNames, failure: &Failure) {
    let is_vhost = |(parameter, _): &&(String, String)| parameter == "vhost";
    let vhost = path.iter().find(is_vhost).map_or("", |(_, name)| name);
    let others: Vec<_> = path.iter().filter(|name| !is_vhost(name)).map(|(_, name)| name.as_str()).collect();
    let words: Vec<_> = route.path.split('/').filter(|word| !word.starts_with('{')).collect();
    let action = format!("{} {}", route.method.name(), words.join("/"));
    audit::refused(caller, &action, (vhost, &others.join(" ")), &failure.reason);
}

/// What somebody who has logged in asks for.
async fn work(
    api: &Api,
    route: &'static Route,
    (parts, path, body): (Parts, PathNames, Body),
    (caller, peer): (Caller, SocketAddr),
    room: &mut Option<Room>,
) -> Answer {
    caller.check(route.needs)?;
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let call = Call {
        shared: Arc::clone(&api.shared),
        caller,
        path,
        columns: query.get("columns").map(Columns::parse).transpose()?.map(Arc::new),
        query,
        reason: parts.headers.get("x-reason").and_then(|reason| reason.to_str().ok()).map(str::to_owned),
        body: read_body(route, body).await?,
        // What is there when all of the request is.
        topology: api.shared.topology.load_full(),
        peer,
        inside: Arc::clone(&api.inside),
        figures: Arc::clone(&api.figures),
    };
    check_vhost(route, &call)?;
    let rooms = match Size::of(route) {
        Size::Fixed => None,
        Size::Object => Some(&api.objects),
        Size::List => Some(&api.lists),
    };
    if let Some(rooms) = rooms {
        *room = Some(rooms.take(call.caller.identity.name()).await?);
    }
    let late = |_| {
        let reason = "it takes too long; look whether an alarm is in effect";
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", reason)
    };
    let most = if route.path.starts_with("/api/definitions") { IMPORT_TIMEOUT } else { HANDLER_TIMEOUT };
    timeout(most, handle(route, call, room)).await.map_err(late)?
}

/// To whom does not see it, a virtual host that is there is as one that is not.
fn check_vhost(route: &Route, call: &Call) -> Result<(), Failure> {
    let reads = route.method == Method::Get;
    let looks = reads || matches!(route.needs, Needs::Management | Needs::Policymaker);
    if !looks || !route.path.contains("{vhost}") {
        return Ok(());
    }
    call.vhost().map(drop).map_err(|_| if reads { Failure::not_found() } else { call.no_vhost() })
}

async fn handle(route: &'static Route, call: Call, room: &mut Option<Room>) -> Answer {
    match route.handle {
        // Its answer may take a while to put together, and others wait on this thread. It goes on when nobody waits for it any
        // more, and has its place until then.
        Handle::Now(handle) if room.is_some() => {
            let taken = room.take();
            let work =
                spawn_blocking(move || (handle(&call).map(|reply| chosen(reply, call.columns.as_deref())), taken));
            let (answer, taken) = work.await.map_err(|_| Failure::defect())?;
            *room = taken;
            answer
        }
        Handle::Now(handle) => handle(&call).map(|reply| chosen(reply, call.columns.as_deref())),
        Handle::Later(handle) => {
            let columns = call.columns.clone();
            handle(call).await.map(|reply| chosen(reply, columns.as_deref()))
        }
    }
}

/// With the fields that are wanted. What is streamed has no others.
fn chosen(reply: Reply, columns: Option<&Columns>) -> Reply {
    match (reply, columns) {
        (Reply::Json(body), Some(columns)) => Reply::Json(columns.of_answer(body)),
        (reply, _) => reply,
    }
}

/// What an answer grows with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    /// With nothing.
    Fixed,
    /// With what a single object has, such as the consumers of a queue.
    Object,
    /// With all objects, or the messages of a queue.
    List,
}

impl Size {
    const FIXED: [&str; 12] = [
        "/api/auth/attempts/{node}",
        "/api/cluster-name",
        "/api/deprecated-features",
        "/api/deprecated-features/used",
        "/api/extensions",
        "/api/feature-flags",
        "/api/nodes",
        "/api/nodes/{node}",
        "/api/nodes/{node}/memory",
        "/api/overview",
        "/api/version",
        "/api/whoami",
    ];
    const OBJECTS: [&str; 6] = [
        "/api/channels/{channel}",
        "/api/connections/{connection}",
        "/api/exchanges/{vhost}/{exchange}",
        "/api/queues/{vhost}/{queue}",
        "/api/users/{user}",
        "/api/vhosts/{vhost}",
    ];

    fn of(route: &Route) -> Self {
        let path = route.path;
        if path.ends_with("/get") {
            return Self::List;
        }
        let is_small =
            ["/api/health", "/api/aliveness-test", "/api/warren/figures"].iter().any(|small| path.starts_with(small));
        if route.method != Method::Get || is_small || Self::FIXED.contains(&path) {
            return Self::Fixed;
        }
        if Self::OBJECTS.contains(&path) { Self::Object } else { Self::List }
    }
}

/// A browser sends along the passwords that it remembers, whatever page asks it to. It also says which site that page is
/// of; what changes something is done for our own pages only.
fn refuse_other_sites(method: Method, parts: &Parts) -> Result<(), Failure> {
    let Some(origin) = parts.headers.get(ORIGIN).filter(|_| method != Method::Get) else { return Ok(()) };
    let site = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, site)| site);
    let own = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    if site.is_some() && site == own {
        return Ok(());
    }
    let reason = "the request comes from a page of another site; this API is not for those";
    Err(Failure::new(StatusCode::FORBIDDEN, "forbidden", reason))
}

async fn read_body(route: &Route, body: Body) -> Result<Bytes, Failure> {
    if matches!(route.method, Method::Get | Method::Delete) {
        return Ok(Bytes::new());
    }
    let most = if route.path.starts_with("/api/definitions") { DEFINITIONS_BYTES } else { BODY_BYTES };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let too_slow = |_| {
        let reason = format!("the body has not arrived in {} seconds", BODY_TIMEOUT.as_secs());
        Failure::new(StatusCode::REQUEST_TIMEOUT, "timeout", reason)
    };
    let too_large = |error: axum::Error| {
        if std::error::Error::source(&error).is_some_and(|source| source.is::<LengthLimitError>()) {
            let reason = format!("the body has more than {most} octets");
            Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", reason)
        } else {
            Failure::bad_request("the body cannot be read to its end")
        }
    };
    timeout(BODY_TIMEOUT, to_bytes(body, most)).await.map_err(too_slow)?.map_err(too_large)
}
