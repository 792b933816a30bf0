//! Who calls, and what that lets them see.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use warren_core::Secret;
use warren_core::session::Login;
use warren_core::topology::{Identity, Topology};

use super::answer::Failure;
use super::route::Needs;
use crate::authentication::{Authenticated, Credentials, Door};
use crate::node::Shared;

/// Somebody who has logged in.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) identity: Identity,
    /// RabbitMQ's tags, at the time of the request.
    pub(super) tags: Vec<Arc<str>>,
    /// When its credentials run out; never, if there is none.
    pub(super) expires: Option<SystemTime>,
}

impl Caller {
    /// Who the request's credentials say it is.
    ///
    /// # Errors
    /// 401 if there are none or they are wrong.
    pub(super) async fn of(headers: &HeaderMap, peer: IpAddr, shared: &Shared) -> Result<Self, Failure> {
        let credentials = credentials(headers).ok_or_else(Failure::not_authenticated)?;
        let authenticated = shared.authentication.authenticate(&credentials, Door::Http, peer).await;
        // Why is in the log; whoever asks is told no more than that.
        let Authenticated { identity, expires, .. } = authenticated.map_err(|_| Failure::not_authenticated())?;
        let tags = shared.topology.load().tags(&identity);
        Ok(Self { identity, tags, expires })
    }

    /// Refuses whoever has none of the tags that it takes.
    pub(super) fn check(&self, needs: Needs) -> Result<(), Failure> {
        let tags = needs.tags();
        if tags.is_empty() || tags.iter().any(|tag| self.has_tag(tag)) {
            return Ok(());
        }
        // Whoever may not use the API at all is told that first.
        let managers = Needs::Management;
        let is_manager = managers.tags().iter().any(|tag| self.has_tag(tag));
        Err(Failure::not_authorised(if is_manager { needs } else { managers }.refusal()))
    }

    pub(super) fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| **own == *tag)
    }

    /// Whether it may do everything that there is in the API.
    pub(super) fn is_administrator(&self) -> bool {
        self.has_tag("administrator")
    }

    /// Whether it may see the node, and everybody's connections.
    pub(super) fn is_monitor(&self) -> bool {
        self.has_tag("monitoring") || self.is_administrator()
    }

    /// Whether it may see what is in the virtual host: it has a right there, or is an administrator.
    pub(super) fn sees(&self, topology: &Topology, vhost: &str) -> bool {
        self.is_administrator() || topology.may_enter(&self.identity, vhost)
    }
}

/// What the header `Authorization` shows: `Basic` (RFC 7617) or `Bearer` (RFC 6750).
fn credentials(headers: &HeaderMap) -> Option<Credentials> {
    let (scheme, shown) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    match scheme.to_ascii_lowercase().as_str() {
        "basic" => basic(shown).map(Credentials::Password),
        "bearer" => Some(Credentials::Bearer(Secret::from(shown.trim().as_bytes()))),
        _ => None,
    }
}

fn basic(shown: &str) -> Option<Login> {
    let octets = Secret::from(BASE64_STANDARD.decode(shown.trim()).ok()?);
    let colon = octets.expose().iter().position(|octet| *octet == b':')?;
    let (user, password) = (&octets.expose()[..colon], &octets.expose()[colon + 1..]);
    Some(Login { user: std::str::from_utf8(user).ok()?.to_owned(), password: Secret::from(password) })
}
