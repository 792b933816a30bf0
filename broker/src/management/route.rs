//! A route: path, method, what it takes to use it, and who answers. The table of routes is all there is: the router, the
//! OpenAPI document, `docs/management.md` and the test of rights are made from it.

use std::pin::Pin;

use axum::routing::MethodFilter;

use super::answer::Answer;
use super::call::Call;

/// An answer that is being worked out.
pub(super) type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// One method of one path.
#[derive(Debug)]
pub(super) struct Route {
    /// The path, with names of parameters in braces.
    pub(super) path: &'static str,
    pub(super) method: Method,
    /// Who may use it at all. What it does may take more: the topology decides that.
    pub(super) needs: Needs,
    /// What it does, as a sentence.
    pub(super) summary: &'static str,
    pub(super) handle: Handle,
}

/// Who answers.
#[derive(Debug)]
pub(super) enum Handle {
    /// What the request brings along is enough.
    Now(fn(&Call) -> Answer),
    /// Others are asked.
    Later(fn(Call) -> Answering),
}

/// The methods that there are. `HEAD` is `GET` without the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Method {
    Get,
    Put,
    Post,
    Delete,
}

impl Method {
    /// As it is written in a request.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }

    pub(super) const fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Put => MethodFilter::PUT,
            Self::Post => MethodFilter::POST,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

/// What it takes to use a route, as RabbitMQ has it. A path with `{vhost}` also takes that the caller may see the virtual
/// host, as administrators may all: to others it is not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// To be logged in, with whatever tags.
    Login,
    /// One of the tags `management`, `policymaker`, `monitoring` and `administrator`.
    Management,
    /// The tag `policymaker` or `administrator`.
    Policymaker,
    /// The tag `monitoring` or `administrator`.
    Monitoring,
    /// The tag `administrator`.
    Administrator,
}

impl Needs {
    /// The tags of which one is needed; none for [`Self::Login`].
    pub(super) const fn tags(self) -> &'static [&'static str] {
        match self {
            Self::Login => &[],
            Self::Management => &["management", "policymaker", "monitoring", "administrator"],
            Self::Policymaker => &["policymaker", "administrator"],
            Self::Monitoring => &["monitoring", "administrator"],
            Self::Administrator => &["administrator"],
        }
    }

    /// What somebody without those tags is told, in RabbitMQ's words.
    pub(super) const fn refusal(self) -> &'static str {
        match self {
            Self::Login | Self::Management => "Not management user",
            Self::Policymaker => "User not authorised to access object",
            Self::Monitoring => "Not monitor user",
            Self::Administrator => "Not administrator user",
        }
    }
}

/// Makes a route for each way to write `get`, `put`, `post` and `delete`.
macro_rules! method {
    ($name:ident, $method:ident) => {
        pub(super) const fn $name(path: &'static str, needs: Needs, summary: &'static str, handle: Handle) -> Route {
            Route { path, method: Method::$method, needs, summary, handle }
        }
    };
}

method!(get, Get);
method!(put, Put);
method!(post, Post);
method!(delete, Delete);
