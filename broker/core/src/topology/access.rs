//! Who may do what: one table of verbs and resources, and nothing is allowed that is not in it.
//!
//! Every way into the broker asks here, so that no way forgets to. What the table asks for is what RabbitMQ 4.3 asks
//! for; that unbinding needs the rights of binding and a passive declaration those of a declaration is its choice.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use warren_amqp::ReplyCode;

use super::Topology;
use super::permissions::Permission;
use super::records::{ExchangeKind, QueueRecord};
use super::token::TokenIdentity;
use super::users::{User, UserLimits};
use super::vhost::Vhost;
use crate::Exception;

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The node's own user, of its configuration: it may do everything everywhere and is not in the topology. The
    /// node itself acts under this identity too.
    Node(Arc<str>),
    /// A user of the topology, with the rights that are written down there at the time of each request.
    User(Arc<str>),
    /// Somebody who showed a token, with the rights that it carries. A user of that name does not matter, but for its limits.
    Token(Arc<TokenIdentity>),
}

impl Identity {
    /// The user's name.
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Node(name) | Self::User(name) => name,
            Self::Token(token) => token.name(),
        }
    }
}

/// What somebody does to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// `connection.open`
    Open,
    /// `queue.declare` and `exchange.declare`, passive or not.
    Declare,
    /// `queue.delete` and `exchange.delete`
    Delete,
    /// To be the source of a binding that is made or taken away.
    BindFrom,
    /// To be the destination of a binding that is made or taken away.
    BindTo,
    /// To be declared with a dead-letter or alternate exchange: what leaves the resource goes on.
    PassOn,
    /// To be declared as the dead-letter or alternate exchange of something.
    TakeOn,
    /// `basic.publish`
    Publish,
    /// `basic.consume`
    Consume,
    /// `basic.get`
    Get,
    /// `queue.purge`
    Purge,
    /// To make, change and delete what only administrators may.
    Administer,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Open,
        Self::Declare,
        Self::Delete,
        Self::BindFrom,
        Self::BindTo,
        Self::PassOn,
        Self::TakeOn,
        Self::Publish,
        Self::Consume,
        Self::Get,
        Self::Purge,
        Self::Administer,
    ];
}

/// What a right is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// A virtual host, its limits included.
    Vhost,
    /// An exchange.
    Exchange,
    /// A queue.
    Queue,
    /// The routing keys of one topic exchange.
    Topic,
    /// A user, its limits included.
    User,
    /// Permissions and topic permissions of users.
    Permissions,
    /// A policy.
    Policy,
    /// An operator policy.
    OperatorPolicy,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Vhost,
        Self::Exchange,
        Self::Queue,
        Self::Topic,
        Self::User,
        Self::Permissions,
        Self::Policy,
        Self::OperatorPolicy,
    ];
}

/// What it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// A permission whose pattern matches the name.
    Permission(Permission),
    /// Any permission in the virtual host.
    Entry,
    /// The tag `administrator`.
    Administrator,
    /// The tag `administrator`, or `policymaker` and any permission in the virtual host.
    Policymaker,
}

/// The table. `None`: nobody may, not even the node's own user, for there is no such thing.
const fn need(verb: Verb, resource: Resource) -> Option<Need> {
    use Permission::{Configure, Read, Write};
    Some(match (verb, resource) {
        (Verb::Open, Resource::Vhost) => Need::Entry,
        (Verb::Declare | Verb::Delete, Resource::Exchange | Resource::Queue) => Need::Permission(Configure),
        (Verb::BindFrom, Resource::Exchange | Resource::Topic) => Need::Permission(Read),
        (Verb::BindTo, Resource::Exchange | Resource::Queue) => Need::Permission(Write),
        (Verb::PassOn, Resource::Exchange | Resource::Queue) => Need::Permission(Read),
        (Verb::TakeOn, Resource::Exchange) => Need::Permission(Write),
        (Verb::Publish, Resource::Exchange | Resource::Topic) => Need::Permission(Write),
        (Verb::Consume | Verb::Get | Verb::Purge, Resource::Queue) => Need::Permission(Read),
        (Verb::Administer, Resource::Policy) => Need::Policymaker,
        (Verb::Administer, Resource::Vhost | Resource::User | Resource::Permissions | Resource::OperatorPolicy) => {
            Need::Administrator
        }
        _ => return None,
    })
}

/// How many connections there are when one more wants to open a virtual host, without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenConnections {
    /// Of the same user.
    pub of_user: usize,
    /// In the same virtual host.
    pub in_vhost: usize,
}

impl Topology {
    /// The virtual host that `connection.open` names.
    ///
    /// # Errors
    /// 530 if there is none, if the user has no rights in it, or if there are as many connections as a limit of the
    /// virtual host or of the user allows.
    pub fn may_open(&self, identity: &Identity, vhost: &str, open: OpenConnections) -> Result<&Vhost, Exception> {
        let found = self.vhost_or_refuse(vhost)?;
        self.check(identity, Verb::Open, Resource::Vhost, vhost, "")?;
        let user = identity.name();
        let refused = |text: String| Err(Exception::connection(ReplyCode::NotAllowed, text));
        if let Some(limit) =
            reached(Some(found.record().limits.max_connections.unwrap_or(self.limits.vhost_connections)), open.in_vhost)
        {
            let text =
                format!("access to vhost '{vhost}' refused for user '{user}': connection limit ({limit}) is reached");
            return refused(text);
        }
        let limits = self.limits_of(identity);
        if let Some(limit) = reached(limits.max_connections, open.of_user) {
            let text = format!("connection refused for user '{user}': user connection limit ({limit}) is reached");
            return refused(text);
        }
        Ok(found)
    }

    /// Whether somebody who is in the virtual host may be there with these rights.
    ///
    /// # Errors
    /// 530 if not, in RabbitMQ's words.
    pub fn may_stay(&self, identity: &Identity, vhost: &str) -> Result<(), Exception> {
        self.check(identity, Verb::Open, Resource::Vhost, vhost, "")
    }

    /// Whether a consumer that was there already may go on to read the queue with these rights.
    pub fn may_consume(&self, identity: &Identity, queue: &QueueRecord) -> bool {
        self.check(identity, Verb::Consume, Resource::Queue, &queue.vhost, &queue.name).is_ok()
    }

    /// Whether the user may open one more channel, `open` being those it has on all its connections.
    ///
    /// # Errors
    /// 530 at the user's limit.
    pub fn may_open_channel(&self, identity: &Identity, open: usize) -> Result<(), Exception> {
        let limits = self.limits_of(identity);
        let Some(limit) = reached(limits.max_channels, open) else {
            return Ok(());
        };
        let user = identity.name();
        let text = format!(
            "number of channels opened for user '{user}' has reached the maximum allowed user limit of {limit}"
        );
        Err(Exception::connection(ReplyCode::NotAllowed, text))
    }

    /// Whether the user may publish to the exchange with that routing key: write permission, and for topic exchanges
    /// the topic permission. To be asked before [`Vhost::route`]; as long as [`Topology::version`] stays the answer
    /// stays.
    ///
    /// # Errors
    /// 403 in RabbitMQ's words. An exchange that does not exist is no error here; routing says so.
    pub fn may_publish(
        &self,
        identity: &Identity,
        vhost: &str,
        exchange: &str,
        routing_key: &str,
    ) -> Result<(), Exception> {
        self.check(identity, Verb::Publish, Resource::Exchange, vhost, exchange)?;
        self.check_topic(identity, Verb::Publish, vhost, exchange, routing_key)
    }

    /// The user's tags. Those of the node's own user are `administrator` alone.
    pub fn tags(&self, identity: &Identity) -> Vec<Arc<str>> {
        match identity {
            Identity::Node(_) => Vec::from([Arc::from("administrator")]),
            Identity::User(name) => self.user(name).map(|user| user.tags.clone()).unwrap_or_default(),
            Identity::Token(token) => token.tags().to_vec(),
        }
    }

    /// Whether the user has any right in the virtual host.
    pub fn may_enter(&self, identity: &Identity, vhost: &str) -> bool {
        self.check(identity, Verb::Open, Resource::Vhost, vhost, "").is_ok()
    }

    /// Whether the user may send messages whose `user-id` names somebody else (RabbitMQ's tag `impersonator`).
    pub fn may_impersonate(&self, identity: &Identity) -> bool {
        self.rights_of(identity).is_some_and(|rights| rights.has_tag("impersonator"))
    }

    /// Whether the user may do that to the resource of that name. For resources that are not in a virtual host, and
    /// for virtual hosts themselves, the name does not matter.
    ///
    /// # Errors
    /// 403, or 530 for a virtual host, in RabbitMQ's words.
    pub(super) fn check(
        &self,
        identity: &Identity,
        verb: Verb,
        resource: Resource,
        vhost: &str,
        name: &str,
    ) -> Result<(), Exception> {
        let name = if resource == Resource::Exchange && name.is_empty() { "amq.default" } else { name };
        let Some(need) = need(verb, resource) else {
            return Err(Exception::channel(ReplyCode::AccessRefused, "there is no such right"));
        };
        let allowed = matches!(identity, Identity::Node(_))
            || self.rights_of(identity).is_some_and(|rights| meets(&rights, need, vhost, name));
        if allowed { Ok(()) } else { Err(refused(identity.name(), need, resource, vhost, name)) }
    }

    /// Whether the user may use that routing or binding key with the exchange. Only topic exchanges limit them, and
    /// only where something is written down about the exchange.
    ///
    /// # Errors
    /// 403 in RabbitMQ's words.
    pub(super) fn check_topic(
        &self,
        identity: &Identity,
        verb: Verb,
        vhost: &str,
        exchange: &str,
        key: &str,
    ) -> Result<(), Exception> {
        let Some(Need::Permission(permission)) = need(verb, Resource::Topic) else {
            return Ok(());
        };
        let unlimited = match identity {
            Identity::Node(_) => true,
            Identity::User(name) => self.users.get(name).is_none_or(|user| user.topics.is_empty()),
            Identity::Token(_) => false,
        };
        if unlimited {
            return Ok(());
        }
        let found = self.vhost(vhost).and_then(|vhost| vhost.exchange(exchange));
        let Some(exchange) = found.filter(|exchange| exchange.kind == ExchangeKind::Topic) else {
            return Ok(());
        };
        let allowed = match identity {
            Identity::Token(token) => token.permits_topic(permission, vhost, &exchange.name, key),
            Identity::Node(name) | Identity::User(name) => {
                let place = (Arc::clone(&exchange.vhost), Arc::clone(&exchange.name));
                let rights = self.users.get(name).and_then(|user| user.topics.get(&place));
                rights.is_none_or(|rights| rights.allows(permission, key))
            }
        };
        if allowed {
            return Ok(());
        }
        let (permission, name, user) = (permission.name(), &exchange.name, identity.name());
        let text = format!(
            "{permission} access to topic '{key}' in exchange '{name}' in vhost '{vhost}' refused for user '{user}'"
        );
        Err(Exception::channel(ReplyCode::AccessRefused, text))
    }

    /// The limits of the user of that name, or those of users of whom nothing is said; the node's own has none.
    fn limits_of(&self, identity: &Identity) -> UserLimits {
        if matches!(identity, Identity::Node(_)) {
            return UserLimits::default();
        }
        let own = self.users.get(identity.name()).map(|user| user.record.limits).unwrap_or_default();
        UserLimits {
            max_connections: own.max_connections.or(Some(self.limits.user_connections)),
            max_channels: own.max_channels.or(Some(self.limits.user_channels)),
        }
    }

    /// `None`: it needs none, or has none.
    fn rights_of<'a>(&'a self, identity: &'a Identity) -> Option<Rights<'a>> {
        match identity {
            Identity::Node(_) => None,
            Identity::User(name) => self.users.get(name).map(Rights::User),
            Identity::Token(token) => Some(Rights::Token(token)),
        }
    }
}

/// The limit, if there is one and as many are there.
fn reached(limit: Option<u32>, count: usize) -> Option<u32> {
    limit.filter(|limit| usize::try_from(*limit).is_ok_and(|limit| count >= limit))
}

/// Where rights are written down.
enum Rights<'a> {
    User(&'a User),
    Token(&'a TokenIdentity),
}

impl Rights<'_> {
    fn has_tag(&self, tag: &str) -> bool {
        match self {
            Self::User(user) => user.record.has_tag(tag),
            Self::Token(token) => token.tags().iter().any(|own| **own == *tag),
        }
    }

    fn enters(&self, vhost: &str) -> bool {
        match self {
            Self::User(user) => user.permissions.contains_key(vhost),
            Self::Token(token) => token.enters(vhost),
        }
    }

    fn permits(&self, permission: Permission, vhost: &str, name: &str) -> bool {
        match self {
            Self::User(user) => {
                user.permissions.get(vhost).is_some_and(|rights| rights.pattern(permission).matches(name))
            }
            Self::Token(token) => token.permits(permission, vhost, name),
        }
    }
}

fn meets(rights: &Rights<'_>, need: Need, vhost: &str, name: &str) -> bool {
    let administrator = || rights.has_tag("administrator");
    match need {
        Need::Permission(permission) => rights.permits(permission, vhost, name),
        Need::Entry => rights.enters(vhost),
        Need::Administrator => administrator(),
        Need::Policymaker => administrator() || rights.has_tag("policymaker") && rights.enters(vhost),
    }
}

fn refused(user: &str, need: Need, resource: Resource, vhost: &str, name: &str) -> Exception {
    let text = match need {
        Need::Entry => {
            let text = format!("access to vhost '{vhost}' refused for user '{user}'");
            return Exception::connection(ReplyCode::NotAllowed, text);
        }
        Need::Permission(permission) => {
            let (permission, resource) =
                (permission.name(), if resource == Resource::Queue { "queue" } else { "exchange" });
            format!("{permission} access to {resource} '{name}' in vhost '{vhost}' refused for user '{user}'")
        }
        Need::Administrator => format!("user '{user}' has not the tag 'administrator'"),
        Need::Policymaker => format!("user '{user}' has not the tag 'policymaker' and rights in vhost '{vhost}'"),
    };
    Exception::channel(ReplyCode::AccessRefused, text)
}
