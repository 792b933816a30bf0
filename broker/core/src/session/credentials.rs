//! Credentials that run out or are taken away, and their renewal while the client stays connected
//! (`connection.update-secret`).

use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use warren_amqp::{ReplyCode, ToClient, connection};

use super::output::{Claim, Login};
use super::routing::RouteMemory;
use super::{Origin, Session, SessionOutput, State, Waiting};
use crate::error::Exception;
use crate::queue::ShardInput;
use crate::secret::Secret;
use crate::time::Instant;
use crate::topology::{Identity, Topology};

/// Somebody whose credentials were found to be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedIn {
    /// Whose rights count.
    pub identity: Identity,
    /// When the credentials run out, and the connection with them unless it has newer ones by then.
    pub expires: Option<Instant>,
}

impl Session {
    /// Takes in the answer to [`SessionOutput::login`]: who it is, or `None` if the credentials are wrong. `topology`: the
    /// newest snapshot.
    pub fn login_checked(&mut self, login: Option<LoggedIn>, topology: &Topology, out: &mut SessionOutput) {
        match self.waiting.take() {
            Some(Waiting::Login) => self.logged_in(login, out),
            Some(Waiting::Secret { origin }) => match self.renew(login, topology, out) {
                Ok(()) => out.send(0, &ToClient::ConnectionUpdateSecretOk(connection::UpdateSecretOk)),
                Err(exception) => self.fail(origin, exception, out),
            },
            other => self.waiting = other,
        }
    }

    /// Passwords do not run out, so that there is nothing to renew; RabbitMQ takes any secret in their place too.
    pub(super) fn update_secret(
        &mut self,
        origin: Origin,
        update: &connection::UpdateSecret<'_>,
        out: &mut SessionOutput,
    ) {
        if self.expires.is_none() {
            return out.send(0, &ToClient::ConnectionUpdateSecretOk(connection::UpdateSecretOk));
        }
        let password = Secret::from(update.new_secret);
        out.login = Some(Claim::Password(Login { user: self.identity.name().to_string(), password }));
        self.waiting = Some(Waiting::Secret { origin });
    }

    /// Goes on with newer credentials. Everything that was allowed by the older ones is looked at again: a consumer that may
    /// not read its queue any more ends with `basic.cancel` (RabbitMQ 4.3).
    fn renew(
        &mut self,
        login: Option<LoggedIn>,
        topology: &Topology,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        let refused = |text| Err(Exception::connection(ReplyCode::NotAllowed, text));
        let Some(LoggedIn { identity, expires }) = login else {
            return refused("Secret update failed");
        };
        if identity.name() != self.identity.name() {
            return refused("New secret was refused by one of the backends");
        }
        topology.may_stay(&identity, &self.vhost)?;
        (self.identity, self.expires) = (identity, expires);
        self.routes = RouteMemory::new();
        let may_read = |queue| {
            let queue = topology.queue_by_id(queue);
            queue.is_none_or(|queue| topology.may_consume(&self.identity, queue))
        };
        let lost = self.consumers.iter().filter(|(_, consumer)| !may_read(consumer.queue));
        let lost: Vec<_> = lost.map(|(serial, _)| serial).collect();
        lost.into_iter().for_each(|serial| self.revoke(serial, out));
        Ok(())
    }

    /// Ends a consumer, whatever its client thinks of that.
    fn revoke(&mut self, serial: u32, out: &mut SessionOutput) {
        let Some(consumer) = self.end_consumer(serial, out) else { return };
        let key = consumer.key(self.id, serial);
        out.tell(consumer.shard, ShardInput::Unsubscribe { queue: consumer.queue, consumer: key });
        self.notify_of_cancel(&consumer, out);
    }

    /// Closes the connection if it is of one of these users, or in one of these virtual hosts, which are deleted (RabbitMQ). A
    /// token's holder is not the user of that name.
    pub fn deleted(&mut self, users: &[Arc<str>], vhosts: &[Arc<str>], out: &mut SessionOutput) {
        if !matches!(self.state, State::Running) {
            return;
        }
        let of_user = matches!(&self.identity, Identity::User(user) | Identity::Node(user) if users.contains(user));
        let text = if of_user {
            format!("user '{}' is deleted", self.identity.name())
        } else if vhosts.contains(&self.vhost) {
            format!("vhost '{}' is deleted", self.vhost)
        } else {
            return;
        };
        self.close(Origin::none(0), ReplyCode::ConnectionForced, &text, out);
    }

    /// Closes the connection once its credentials have run out, in RabbitMQ's words. To be called when
    /// [`Session::next_deadline`] has passed, however busy the socket is.
    pub fn expire(&mut self, now: Instant, out: &mut SessionOutput) {
        if matches!(self.state, State::Running) && self.expires.is_some_and(|expires| now >= expires) {
            self.close(Origin::none(0), ReplyCode::ConnectionForced, "credential expired", out);
        }
    }
}
