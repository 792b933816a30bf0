//! What the API answers: JSON, a status alone, or a failure as RabbitMQ words it.

use axum::Extension;
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{StreamExt, stream};
use hyper::body::Body as _;
use serde_json::{Value as Json, json};
use warren_amqp::ReplyCode;
use warren_core::Exception;

use super::room::Room;
use crate::definitions::Problem;
use crate::http::server::Endless;

/// RabbitMQ's word for a right that is missing.
pub(super) const NOT_AUTHORISED: &str = "not_authorised";

/// What a handler comes to.
pub(super) type Answer = Result<Reply, Failure>;

/// A request that succeeded.
#[derive(Debug)]
pub(super) enum Reply {
    /// 200 with a body.
    Json(Json),
    /// 200 with a body of JSON that is made while it is sent.
    Stream(Body),
    /// 200 with lines of JSON that come as long as they are read.
    Lines(Body),
    /// 201: it is new.
    Created,
    /// 201 with the place of what is new, relative to the request's.
    CreatedAt(String),
    /// 204: it is so, and was there before.
    Done,
    /// 503 with a body: what was checked is not well.
    Unwell(Json),
}

impl Reply {
    /// 201 if it is new, otherwise 204.
    pub(super) fn put(is_new: bool) -> Self {
        if is_new { Self::Created } else { Self::Done }
    }
}

/// A request that failed: status, RabbitMQ's word for the error, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status} {error}: {reason}")]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) error: &'static str,
    pub(super) reason: String,
}

impl Failure {
    pub(super) fn new(status: StatusCode, error: &'static str, reason: impl Into<String>) -> Self {
        Self { status, error, reason: reason.into() }
    }

    /// 400
    pub(super) fn bad_request(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", reason)
    }

    /// 404 for what the path names.
    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Object Not Found", "Not Found")
    }

    /// 404 for something that the request needs.
    pub(super) fn missing(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", reason)
    }

    /// 401: who it is is known, and it may not do this.
    pub(super) fn not_authorised(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, NOT_AUTHORISED, reason)
    }

    /// 401: it is not known who it is.
    pub(super) fn not_authenticated() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "not_authorized", "Not_Authorized")
    }

    /// 500: a defect of the broker.
    pub(super) fn defect() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "a defect")
    }

    /// 503: the node is stopping.
    pub(super) fn stopping() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the node is stopping; try again")
    }
}

/// What AMQP tells in a `channel.close` or `connection.close`, the API tells with RabbitMQ's status for it.
impl From<Exception> for Failure {
    fn from(exception: Exception) -> Self {
        let (Exception::Channel { code, text } | Exception::Connection { code, text }) = exception;
        match code {
            ReplyCode::NotFound => Self::missing(text),
            ReplyCode::AccessRefused | ReplyCode::NotAllowed => Self::not_authorised(text),
            ReplyCode::ResourceError => Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", text),
            ReplyCode::InternalError => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", text),
            _ => Self::bad_request(text),
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::bad_request(problem.to_string())
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        match self {
            Self::Json(body) => with_json(StatusCode::OK, &body),
            Self::Stream(body) => {
                (StatusCode::OK, [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")], body)
                    .into_response()
            }
            Self::Lines(body) => {
                let headers = [(CONTENT_TYPE, "application/x-ndjson"), (CACHE_CONTROL, "no-cache")];
                (StatusCode::OK, headers, Extension(Endless), body).into_response()
            }
            Self::Unwell(body) => with_json(StatusCode::SERVICE_UNAVAILABLE, &body),
            Self::Created => StatusCode::CREATED.into_response(),
            Self::CreatedAt(place) => (StatusCode::CREATED, [(LOCATION, place)]).into_response(),
            Self::Done => StatusCode::NO_CONTENT.into_response(),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = with_json(self.status, &json!({"error": self.error, "reason": self.reason}));
        let header = match (self.status, self.error) {
            // Asks a browser for name and password.
            (StatusCode::UNAUTHORIZED, "not_authorized") => {
                Some((WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"Warren\"")))
            }
            (StatusCode::TOO_MANY_REQUESTS, _) => Some((RETRY_AFTER, HeaderValue::from_static("1"))),
            _ => None,
        };
        response.headers_mut().extend(header);
        response
    }
}

/// Gives the room back when the answer has been taken; of what is short at once.
pub(super) fn hold(response: Response, room: Option<Room>) -> Response {
    let is_long = response.body().size_hint().exact().is_none_or(|octets| octets > ANSWER_PART as u64);
    let Some(room) = room.filter(|_| is_long) else { return response };
    // The server takes a part when there is room for it, so what it holds itself is little.
    response.map(|body| {
        let state = (body.into_data_stream(), Bytes::new(), room);
        Body::from_stream(stream::unfold(state, |(mut body, mut rest, room)| async move {
            if rest.is_empty() {
                match body.next().await? {
                    Ok(more) => rest = more,
                    Err(error) => return Some((Err(error), (body, rest, room))),
                }
            }
            let part = rest.split_to(rest.len().min(ANSWER_PART));
            Some((Ok(part), (body, rest, room)))
        }))
    })
}

/// Octets of an answer that the server takes at once.
const ANSWER_PART: usize = 64 << 10;

fn with_json(status: StatusCode, body: &Json) -> Response {
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-cache"),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
    ];
    (status, headers, Body::from(body.to_string())).into_response()
}
