//! One AMQP connection as a machine: octets and answers in, frames and requests out.
//!
//! ```text
//! protocol header ─▶ start ─▶ login ─▶ tune ─▶ open ─▶ running ─▶ closing ─▶ closed
//! ```
//!
//! Methods of a connection are carried out in the order they came. One that needs an answer from a shard or from the
//! metadata makes the session *wait*: it reads no further frame until the answer is there, while deliveries and
//! confirms go on. Publishes and acknowledgements need no answer and never wait.

mod acknowledge;
mod base64url;
mod blocked;
mod by_number;
mod census;
mod channel;
mod confirm;
mod consume;
mod credentials;
mod declare;
mod deduplication;
mod deliver;
mod direct_reply;
mod expiration;
mod handshake;
mod output;
mod prefetch;
mod properties;
mod publish;
mod routing;
mod sasl;
mod sender_selected;
mod statistics;
mod subscription;
mod touched;
mod trace;
mod transaction;
mod unacked;

#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use warren_amqp::limits::{FRAME_OVERHEAD, SHORT_STRING_MAX};
use warren_amqp::spec::method_name;
use warren_amqp::{Frame, ReplyCode, ToClient, ToServer, connection, decode_frame, decode_whole_publish};

pub use census::Census;
pub use credentials::LoggedIn;
pub use direct_reply::{DirectReply, ReplyAddress};
pub(crate) use expiration::parse_expiration;
pub use output::{Claim, Counts, Login, MESSAGE_SIZES, MetadataAnswer, MetadataRequest, Notice, SessionOutput};
pub(crate) use properties::attributes_for;
pub use statistics::{
    ChannelCounters, ChannelStatistics, ConnectionState, ExchangeCounts, SessionStatistics, SubscriberStatistics,
};

pub use trace::{TraceContext, TraceEvent, TraceOutcome, TracedMessage};

use crate::error::Exception;
use crate::identity::{ChannelKey, ConnectionId, ShardId};
use crate::limits::{CLOSE_MILLIS, FRAME_MAX_BEFORE_OPEN, HANDSHAKE_MILLIS, MESSAGE_BYTES, UNCONFIRMED_PUBLISHES};
use crate::queue::{Event, ShardInput};
use crate::time::Instant;
use crate::topology::{Action, Identity, Request, Topology};
use blocked::Alarm;
use by_number::ByNumber;
use channel::Channel;
use confirm::{ConfirmWatch, Confirms};
use consume::Consumer;
use handshake::Handshake;
use routing::RouteMemory;
use touched::Touched;
use trace::Tracing;

/// What a session sees of the world while it reads.
pub struct World<'a> {
    /// The time.
    pub now: Instant,
    /// The newest snapshot.
    pub topology: &'a Topology,
    /// 128 bits that nobody can guess, new at each call: for names that the server makes up.
    pub random: &'a mut dyn FnMut() -> u128,
    /// Whether somebody waits for replies at that address: what [`SessionOutput::reply_addresses`] of all connections
    /// that are there came to.
    pub takes_replies: &'a dyn Fn(&ReplyAddress) -> bool,
    /// Who else is connected, for limits.
    pub census: &'a mut dyn Census,
}

/// What a client could do at `connection.start-ok` (RabbitMQ's `capabilities` table).
#[derive(Debug, Clone, Copy, Default)]
struct Capabilities {
    authentication_failure_close: bool,
    consumer_cancel_notify: bool,
    connection_blocked: bool,
}

/// Where the connection is between accept and close.
#[derive(Debug)]
enum State {
    /// Before `connection.open-ok`.
    Opening(Handshake),
    /// Channels may be used.
    Running,
    /// We have sent `connection.close` and read nothing but its answer.
    Closing,
    /// Nothing more is read or sent.
    Closed,
    /// As [`Self::Closed`], at the client's wish.
    Left,
}

/// What the session waits for.
#[derive(Debug)]
enum Waiting {
    /// A login.
    Login,
    /// A login by a newer secret; then `connection.update-secret-ok`.
    Secret { origin: Origin },
    /// The metadata, on behalf of a method; then `reply`.
    Metadata { origin: Origin, reply: declare::Reply },
    /// A shard, on behalf of a method; then `reply`.
    Shard { origin: Origin, reply: consume::Reply },
    /// Shards, to say that they have applied what a channel commits; then `tx.commit-ok`.
    Commit { origin: Origin },
    /// The end of the exclusive queues, before `connection.close-ok`.
    Release,
}

/// The method that is being carried out: where an exception goes and what it names.
#[derive(Debug, Clone, Copy)]
struct Origin {
    channel: u16,
    class_id: u16,
    method_id: u16,
}

impl Origin {
    /// Says that a channel or the connection ends over the method.
    fn notice(self, text: String, code: ReplyCode) -> Notice {
        let method = method_name(self.class_id, self.method_id).unwrap_or_default();
        Notice { text, over: Some((method, code)) }
    }
}

/// The machine of one connection.
#[derive(Debug)]
pub struct Session {
    id: ConnectionId,
    state: State,
    waiting: Option<Waiting>,
    deadline: Instant,
    capabilities: Capabilities,
    /// As the client sent them.
    client_properties: Box<[u8]>,
    mechanism: String,
    /// As whom its certificate lets the client in.
    certified_user: Option<Arc<str>>,
    identity: Identity,
    /// When the credentials run out.
    expires: Option<Instant>,
    vhost: Arc<str>,
    channel_max: u16,
    frame_max: u32,
    /// In force from `connection.open` on.
    negotiated_frame_max: u32,
    /// Milliseconds; 0 is off.
    heartbeat_millis: u64,
    next_heartbeat: Instant,
    channels: ByNumber<u16, Channel>,
    consumers: ByNumber<u32, Consumer>,
    last_serial: u32,
    /// Octets of bodies that have begun and not ended, on all channels.
    unfinished_bytes: u64,
    /// Octets that a message's body may have.
    message_bytes: u64,
    /// Publishes that wait for their confirm, on all channels.
    unconfirmed: u64,
    /// Octets of publishes that wait for `tx.commit`, on all channels.
    uncommitted_bytes: u64,
    alarm: Alarm,
    /// Channels so far that have asked for confirms or transactions.
    confirm_generation: u64,
    /// Consumers that have enough passed on to be worth a grant.
    grants_due: Vec<u32>,
    /// Channels that may have confirms to send.
    confirms_due: Vec<u16>,
    /// Queues that may hold something of this connection.
    touched: Touched,
    owns_queues: bool,
    /// Channels that have published.
    publishers: usize,
    confirm_watch: ConfirmWatch,
    routes: RouteMemory,
    /// Messages that belong to traces; `None`: nobody asks.
    tracing: Option<Box<Tracing>>,
}

impl Session {
    /// A session for a connection that was accepted at `now`.
    pub fn new(id: ConnectionId, now: Instant) -> Self {
        Self {
            id,
            state: State::Opening(Handshake::Header),
            waiting: None,
            deadline: now.after_millis(HANDSHAKE_MILLIS),
            capabilities: Capabilities::default(),
            client_properties: Box::default(),
            mechanism: String::new(),
            certified_user: None,
            identity: Identity::User(Arc::from("")),
            expires: None,
            vhost: Arc::from(""),
            channel_max: 0,
            frame_max: FRAME_MAX_BEFORE_OPEN,
            negotiated_frame_max: FRAME_MAX_BEFORE_OPEN,
            heartbeat_millis: 0,
            next_heartbeat: now,
            channels: ByNumber::new(),
            consumers: ByNumber::new(),
            last_serial: 0,
            unfinished_bytes: 0,
            message_bytes: MESSAGE_BYTES,
            unconfirmed: 0,
            uncommitted_bytes: 0,
            alarm: Alarm::default(),
            confirm_generation: 0,
            grants_due: Vec::new(),
            confirms_due: Vec::new(),
            touched: Touched::default(),
            owns_queues: false,
            publishers: 0,
            confirm_watch: ConfirmWatch::Off,
            routes: RouteMemory::new(),
            tracing: None,
        }
    }

    /// The user that logged in; empty before.
    pub fn user(&self) -> &str {
        self.identity.name()
    }

    /// The virtual host that it has opened; empty before.
    pub fn vhost(&self) -> &Arc<str> {
        &self.vhost
    }

    /// The same session, which takes messages with bodies of at most so many octets. By default it is
    /// [`crate::limits::MESSAGE_BYTES`].
    #[must_use]
    pub fn with_message_bytes(self, message_bytes: u64) -> Self {
        Self { message_bytes, ..self }
    }

    /// The same session, of a client whose certificate lets it in as that user by EXTERNAL, if there is such a user.
    #[must_use]
    pub fn with_certified_user(self, user: Option<Arc<str>>) -> Self {
        Self { certified_user: user, ..self }
    }

    /// The same session, which tells by [`SessionOutput::traces`] what becomes of messages that belong to traces, of one in so
    /// many traces. By default it does not.
    #[must_use]
    pub fn with_tracing(self, one_in: Option<NonZeroU32>) -> Self {
        Self { tracing: one_in.map(|one_in| Box::new(Tracing::new(one_in))), ..self }
    }

    /// True while it reads no frames because an answer is due.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// True while it reads frames: no answer is due, the node takes what the client publishes, and not too many
    /// publishes wait for their confirm.
    #[inline]
    pub fn is_reading(&self) -> bool {
        !self.is_held() && !self.is_blocked() && !self.is_waiting() && !self.is_closed()
    }

    /// True while too many publishes wait for their confirm.
    #[inline]
    fn is_held(&self) -> bool {
        self.is_open() && self.unconfirmed >= UNCONFIRMED_PUBLISHES
    }

    /// True once the socket can go, after what is left to send.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed | State::Left)
    }

    /// True once the client has been told that the connection is closed, as it wished: it will close the socket.
    pub fn has_client_left(&self) -> bool {
        matches!(self.state, State::Left)
    }

    /// True once the client has logged in and opened a virtual host.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Running)
    }

    /// Open channels.
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// Open channels that have published something.
    pub fn publisher_count(&self) -> usize {
        self.publishers
    }

    /// When [`Self::tick`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let beats = self.is_open() && self.heartbeat_millis > 0;
        match self.state {
            State::Closed | State::Left => None,
            State::Running => {
                let beat = beats.then(|| self.deadline.min(self.next_heartbeat));
                beat.into_iter().chain(self.expires).min()
            }
            State::Opening(_) | State::Closing => Some(self.deadline),
        }
    }

    /// Acts on as many frames of `octets` as it can and answers how many octets it took. The rest has to come again,
    /// with more behind it or, if the session waits, after the answer.
    pub fn receive(&mut self, world: &mut World<'_>, octets: &[u8], out: &mut SessionOutput) -> usize {
        if self.is_open() && self.heartbeat_millis > 0 && !octets.is_empty() {
            // RabbitMQ gives a silent client up after a bit more than two heartbeat timeouts.
            self.deadline = world.now.after_millis(self.heartbeat_millis.saturating_mul(3));
        }
        out.expect(octets.len());
        let mut taken = 0;
        while self.is_reading() {
            let rest = &octets[taken..];
            let step = match self.state {
                State::Opening(Handshake::Header) => self.protocol_header(rest, out),
                State::Running => match self.next_publish(world, rest, out) {
                    Some(octets) => octets,
                    None => self.next_frame(world, rest, out),
                },
                State::Opening(_) | State::Closing | State::Closed | State::Left => self.next_frame(world, rest, out),
            };
            match step {
                0 => break,
                octets => taken += octets,
            }
        }
        taken
    }

    /// Acts on the publish at the front of `octets`, if it is there as a whole; answers how many octets it took.
    #[inline]
    fn next_publish(&mut self, world: &mut World<'_>, octets: &[u8], out: &mut SessionOutput) -> Option<usize> {
        let (publish, len) = decode_whole_publish(octets, self.frame_max + FRAME_OVERHEAD)?;
        self.whole_publish(&publish, world, out).then_some(len)
    }

    /// Acts on the frame at the front of `octets`; 0: it is not complete, can never be, or is left for later.
    fn next_frame(&mut self, world: &mut World<'_>, octets: &[u8], out: &mut SessionOutput) -> usize {
        // RabbitMQ counts a frame's payload against frame-max, not the eight octets around it.
        match decode_frame(octets, self.frame_max + FRAME_OVERHEAD) {
            Ok(None) => 0,
            Ok(Some((frame, len))) => {
                self.frame(world, frame, out);
                if self.is_blocked() { 0 } else { len }
            }
            Err(_) if matches!(self.state, State::Closing) => {
                self.state = State::Closed;
                0
            }
            Err(error) => {
                let exception = Exception::connection(error.reply_code(), format!("{error}"));
                self.fail(Origin::none(0), exception, out);
                0
            }
        }
    }

    fn frame(&mut self, world: &mut World<'_>, frame: Frame<'_>, out: &mut SessionOutput) {
        if matches!(self.state, State::Closing) {
            return self.closing_frame(frame, out);
        }
        let mut origin = Origin::none(frame.channel());
        let result = match frame {
            Frame::Heartbeat { channel: 0 } => Ok(()),
            Frame::Heartbeat { channel } => Err(Exception::connection(
                ReplyCode::UnexpectedFrame,
                format!("heartbeat frame on channel {channel}; heartbeats belong on channel 0"),
            )),
            Frame::Method { channel, payload } => match ToServer::decode(payload) {
                Ok(method) => {
                    origin = Origin::of(channel, &method);
                    self.method(world, origin, method, out)
                }
                Err(error) => {
                    origin = Origin::of_undecodable(channel, payload);
                    Err(Exception::connection(error.reply_code(), format!("{error}")))
                }
            },
            Frame::Header { channel, payload } => {
                origin = self.content_origin(channel);
                self.content_header(channel, payload, world, out)
            }
            Frame::Body { channel, payload } => {
                origin = self.content_origin(channel);
                self.content_body(channel, payload, world, out)
            }
        };
        if let Err(exception) = result {
            self.fail(origin, exception, out);
        }
    }

    fn method(
        &mut self,
        world: &mut World<'_>,
        origin: Origin,
        method: ToServer<'_>,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        match self.state {
            State::Opening(_) => self.handshake_method(world, origin, method, out),
            State::Running if origin.channel == 0 => self.connection_method(origin, method, out),
            State::Running => self.channel_method(world, origin, method, out),
            State::Closing | State::Closed | State::Left => Ok(()),
        }
    }

    /// Whatever the client had under way when we sent `connection.close` is dropped, right or wrong (spec 1.4.2.6).
    fn closing_frame(&mut self, frame: Frame<'_>, out: &mut SessionOutput) {
        let Frame::Method { channel: 0, payload } = frame else {
            return;
        };
        match ToServer::decode(payload) {
            Ok(ToServer::ConnectionCloseOk(_)) => self.state = State::Closed,
            Ok(ToServer::ConnectionClose(_)) => self.say_goodbye(out),
            _ => {}
        }
    }

    fn connection_method(
        &mut self,
        origin: Origin,
        method: ToServer<'_>,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        match method {
            ToServer::ConnectionClose(_) => {
                self.leave_queues(out);
                if self.owns_queues {
                    out.request = Some(self.release());
                    self.waiting = Some(Waiting::Release);
                } else {
                    self.say_goodbye(out);
                }
                Ok(())
            }
            ToServer::ConnectionCloseOk(_) => {
                self.state = State::Closed;
                Ok(())
            }
            ToServer::ConnectionUpdateSecret(update) => {
                self.update_secret(origin, &update, out);
                Ok(())
            }
            _ => Err(Exception::connection(ReplyCode::ChannelError, "unexpected method in connection state running")),
        }
    }

    fn say_goodbye(&mut self, out: &mut SessionOutput) {
        out.send(0, &ToClient::ConnectionCloseOk(connection::CloseOk));
        self.state = State::Left;
    }

    /// Ends a channel or the connection over a client's mistake.
    fn fail(&mut self, origin: Origin, exception: Exception, out: &mut SessionOutput) {
        match exception {
            Exception::Channel { code, text } if self.channels.contains(origin.channel) => {
                self.close_channel(origin, code, &text, out);
            }
            Exception::Channel { code, text } | Exception::Connection { code, text } => {
                self.close(origin, code, &text, out);
            }
        }
    }

    /// Sends `connection.close`; from now on only its answer counts.
    fn close(&mut self, origin: Origin, code: ReplyCode, text: &str, out: &mut SessionOutput) {
        self.leave_queues(out);
        let text = reply_text(code, text);
        out.notices.push(origin.notice(format!("connection closed: {text}"), code));
        let close = connection::Close {
            reply_code: code.code(),
            reply_text: &text,
            class_id: origin.class_id,
            method_id: origin.method_id,
        };
        out.send(0, &ToClient::ConnectionClose(close));
        self.waiting = None;
        self.state = State::Closing;
        // The clock is not at hand where answers are taken in; `tick` sets the time.
        self.deadline = Instant(0);
    }

    /// Closes from the server's side, for `code` [`ReplyCode::ConnectionForced`] and the like.
    pub fn shut_down(&mut self, code: ReplyCode, text: &str, out: &mut SessionOutput) {
        match self.state {
            State::Running => self.close(Origin::none(0), code, text, out),
            State::Opening(_) => {
                // Whoever waits for the end of its login is not let in any more.
                self.waiting = None;
                self.state = State::Closed;
            }
            State::Closing | State::Closed | State::Left => {}
        }
    }

    /// Takes in an event of a shard.
    pub fn shard_event(&mut self, shard: ShardId, event: Event, out: &mut SessionOutput) {
        match event {
            Event::Deliver(key, delivery) => self.deliver(shard, key, delivery, out),
            Event::Confirmed { channel, first, len } => {
                self.confirmed(channel, |confirms| confirms.applied(first, len))
            }
            Event::Refused { channel, first, len } => self.confirmed(channel, |confirms| confirms.refused(first, len)),
            Event::ConsumerTimedOut(key, queue) => self.timed_out(shard, queue, key, out),
            Event::Recalled(key) => self.recalled(key, out),
            Event::Forward(_) => {}
            Event::ConsumerCancelled(key) => self.consumer_cancelled(key.serial, out),
            answer => {
                let waits_for_it = |waiting: &mut Waiting| match waiting {
                    Waiting::Shard { reply, .. } => reply.expects(&answer),
                    _ => false,
                };
                let Some(Waiting::Shard { origin, reply }) = self.waiting.take_if(waits_for_it) else {
                    // Of a consumer that ended with its channel.
                    return;
                };
                if self.channel(origin.channel).is_none() {
                    return self.answered_too_late(origin, &reply, &answer, out);
                }
                if let Err(exception) = self.shard_answered(origin, reply, answer, out) {
                    self.fail(origin, exception, out);
                }
            }
        }
    }

    /// Takes in the metadata's answer to [`SessionOutput::request`].
    pub fn metadata_answered(&mut self, answer: Result<MetadataAnswer, Exception>, out: &mut SessionOutput) {
        match self.waiting.take() {
            Some(Waiting::Release) => self.say_goodbye(out),
            // We have closed the channel meanwhile, and say no more on it.
            Some(Waiting::Metadata { origin, .. }) if self.channel(origin.channel).is_none() => {}
            Some(Waiting::Metadata { origin, reply }) => {
                let result = answer.and_then(|answer| self.declared(origin, reply, answer, out));
                if let Err(exception) = result {
                    self.fail(origin, exception, out);
                }
            }
            other => self.waiting = other,
        }
    }

    /// Sends what has come due: confirms for all that was applied since the last call. The shell calls it after each
    /// batch of events.
    pub fn finish_batch(&mut self, out: &mut SessionOutput) {
        while let Some(number) = self.confirms_due.pop() {
            let Some(channel) = self.channels.get_mut(number) else { continue };
            while let Some(answer) = channel.confirm_due() {
                let confirmed = if answer.refused { 0 } else { answer.count };
                out.counts.confirmed += confirmed;
                channel.counters.confirmed += confirmed;
                let next = channel.confirms.as_ref().map_or(0, Confirms::oldest);
                self.confirm_watch.answered(number, next);
                if let Some(tracing) = &mut self.tracing {
                    tracing.answered(number, next, answer.refused, out);
                }
                self.unconfirmed -= answer.count;
                out.send(number, &answer.method());
            }
            self.finish_commit(number, out);
        }
    }

    /// All octets so far have left for the socket: consumers may be sent more.
    pub fn flushed(&mut self, out: &mut SessionOutput) {
        while let Some(serial) = self.grants_due.pop() {
            if let Some(consumer) = self.consumers.get_mut(serial) {
                let (shard, grant) = consumer.grant(self.id, serial);
                out.tell(shard, grant);
            }
        }
    }

    /// It is the shell that does not read: the client's silence is no fault of its own.
    pub fn excuse(&mut self, now: Instant) {
        if self.is_open() && self.heartbeat_millis > 0 {
            self.deadline = self.deadline.max(now.after_millis(self.heartbeat_millis));
        }
    }

    /// Acts on time: heartbeats, and deadlines that have passed.
    pub fn tick(&mut self, now: Instant, out: &mut SessionOutput) {
        if matches!(self.state, State::Closing) && self.deadline == Instant(0) {
            self.deadline = now.after_millis(CLOSE_MILLIS);
        }
        self.expire(now, out);
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        if now >= self.deadline && self.is_open() && !self.is_reading() {
            // It is we who do not read. The client has another chance to be heard.
            self.deadline = now.after_millis(self.heartbeat_millis);
        } else if now >= self.deadline {
            // A last frame would not be read either.
            out.notices.push(Notice::from(match self.state {
                State::Opening(_) => "the client did not finish its handshake in time",
                State::Running => "the client sent nothing for three heartbeat intervals",
                State::Closing | State::Closed | State::Left => "the client did not answer connection.close",
            }));
            if matches!(self.state, State::Opening(_)) {
                self.waiting = None;
            }
            self.leave_queues(out);
            self.state = State::Closed;
        } else {
            out.octets.extend_from_slice(&warren_amqp::frame::HEARTBEAT);
            self.next_heartbeat = now.after_millis(self.heartbeat_millis / 2);
        }
    }

    /// The socket is gone or about to go: gives back all that the connection holds. Exclusive queues are released by
    /// a [`Action::ReleaseConnection`] in `out` if there are any; nobody waits for its answer.
    pub fn disconnect(&mut self, out: &mut SessionOutput) {
        self.leave_queues(out);
        self.state = State::Closed;
        if core::mem::take(&mut self.owns_queues) {
            out.request = Some(self.release());
        }
    }

    fn release(&self) -> MetadataRequest {
        MetadataRequest::Topology(Request {
            connection: self.id,
            identity: self.identity.clone(),
            vhost: self.vhost.clone(),
            action: Action::ReleaseConnection,
        })
    }

    /// Gives back messages and consumers on every queue that the connection has used.
    fn leave_queues(&mut self, out: &mut SessionOutput) {
        let consumers = &self.consumers;
        for aside in self.channels.values_mut().flat_map(|channel| channel.aside.drain(..)) {
            if let Some(consumer) = consumers.get(aside.serial) {
                let holder = ChannelKey { connection: self.id, channel: consumer.channel };
                deliver::give_back(aside.shard, holder, &aside.delivery, out);
            }
        }
        for (shard, queue) in core::mem::take(&mut self.touched).into_parts() {
            out.tell(shard, ShardInput::Detach { connection: self.id, queue });
        }
        out.counts.channels_closed += self.channels.iter().filter(|(_, channel)| channel.is_open()).count() as u64;
        if let Some(tracing) = &mut self.tracing {
            tracing.abandon(None, out);
        }
        self.channels.clear();
        self.publishers = 0;
        self.confirm_watch = ConfirmWatch::Off;
        self.unfinished_bytes = 0;
        self.unconfirmed = 0;
        self.uncommitted_bytes = 0;
        self.consumers.clear();
    }
}

impl Origin {
    /// No method: a content frame, or nothing that the client sent.
    const fn none(channel: u16) -> Self {
        Self { channel, class_id: 0, method_id: 0 }
    }

    /// The method that could not be read, as far as it is known which it is.
    fn of_undecodable(channel: u16, payload: &[u8]) -> Self {
        let Some(&[class1, class0, method1, method0]) = payload.first_chunk() else {
            return Self::none(channel);
        };
        let (class_id, method_id) = (u16::from_be_bytes([class1, class0]), u16::from_be_bytes([method1, method0]));
        Self { channel, class_id, method_id }
    }

    fn of(channel: u16, method: &ToServer<'_>) -> Self {
        let (class_id, method_id) = method.method_id();
        Self { channel, class_id, method_id }
    }
}

/// `NOT_FOUND - no queue …`, at most 255 octets as a short string takes; what is longer ends in three dots (RabbitMQ).
fn reply_text(code: ReplyCode, text: &str) -> String {
    const DOTS: &str = "...";
    let mut text = format!("{} - {text}", code.name());
    if text.len() > SHORT_STRING_MAX {
        text.truncate(text.floor_char_boundary(SHORT_STRING_MAX - DOTS.len()));
        text.push_str(DOTS);
    }
    text
}
