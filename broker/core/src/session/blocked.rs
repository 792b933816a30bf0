//! `connection.blocked`: while the node is short of something, connections that publish are not read (RabbitMQ).
//!
//! A connection is blocked by its first publish during the alarm, which is left unread, and so is what is behind it.
//! Deliveries, confirms and heartbeats go on, and connections that only consume never notice.

use warren_amqp::{ToClient, connection};

use super::{Session, SessionOutput};

/// Whether the node takes publishes, and what that means here.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    /// Why the node takes no publishes now.
    reason: Option<&'static str>,
    /// The client has tried all the same.
    blocked: bool,
}

impl Alarm {
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.reason.is_some()
    }
}

impl Session {
    /// Takes in that the node takes no publishes from now on, and why (`low on disk`), or that it does again: then
    /// what is left to read has to be handed to [`Self::receive`] again.
    pub fn alarm(&mut self, reason: Option<&'static str>, out: &mut SessionOutput) {
        let was_blocked = self.is_blocked();
        self.alarm = Alarm { reason, blocked: was_blocked && reason.is_some() };
        if was_blocked && !self.is_blocked() && self.capabilities.connection_blocked {
            out.send(0, &ToClient::ConnectionUnblocked(connection::Unblocked));
        }
    }

    /// True while it reads no frames because the client publishes during an alarm. One that is closing is read: its
    /// publishes are dropped.
    #[inline]
    pub fn is_blocked(&self) -> bool {
        self.alarm.blocked && self.is_open()
    }

    /// The client publishes during an alarm, or the shell knows that it would: nothing more is read from it until that
    /// ends. Without an alarm, or twice, it does nothing.
    pub fn block(&mut self, out: &mut SessionOutput) {
        if !self.alarm.is_on() || self.is_blocked() || !self.is_open() {
            return;
        }
        self.alarm.blocked = true;
        if let (Some(reason), true) = (self.alarm.reason, self.capabilities.connection_blocked) {
            out.send(0, &ToClient::ConnectionBlocked(connection::Blocked { reason }));
        }
    }
}
