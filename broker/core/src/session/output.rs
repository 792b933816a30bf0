//! What a session wants done. The shell carries it out in order and decides nothing.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use warren_amqp::{ReplyCode, ToClient};

use super::ChannelCounters;
use super::direct_reply::{DirectReply, ReplyAddress};
use super::trace::TraceEvent;
use crate::batch::ShardBatches;
use crate::identity::{ConnectionId, ShardId};
use crate::queue::ShardInput;
use crate::secret::Secret;
use crate::topology::{Identity, Outcome, Request};

/// Who a client says it is, to be checked. The answer comes back through [`super::Session::login_checked`].
#[derive(Debug, Clone)]
pub enum Claim {
    /// By name and password.
    Password(Login),
    /// By its certificate, which TLS has verified: the user that [`super::Session::with_certified_user`] named.
    Certificate(Arc<str>),
}

/// A name and a password.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The password, as the client sent it. A token may stand in its place.
    pub password: Secret,
}

/// Something that somebody who looks after the broker would want to read in its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What happened, in words.
    pub text: String,
    /// If the session ended a channel or the connection over a method: the method's name and the reply code.
    pub over: Option<(&'static str, ReplyCode)>,
}

impl From<&str> for Notice {
    fn from(text: &str) -> Self {
        Self { text: String::from(text), over: None }
    }
}

/// A question to the metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataRequest {
    /// Something that the topology decides alone.
    Topology(Request),
    /// `queue.delete`: the queue's shard has a say in it.
    DeleteQueue {
        /// Who asks.
        connection: ConnectionId,
        /// The user of that connection, whose rights count.
        identity: Identity,
        /// In which virtual host.
        vhost: Arc<str>,
        /// The queue's name.
        name: String,
        /// Refuse if it has consumers.
        if_unused: bool,
        /// Refuse if it has ready messages.
        if_empty: bool,
    },
}

/// The metadata's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataAnswer {
    /// To a [`MetadataRequest::Topology`].
    Outcome(Outcome),
    /// The queue is gone, or was not there: how many ready messages went with it.
    Deleted(u64),
}

/// How often things happened, for metrics. Named after RabbitMQ's `rabbitmq_global_messages_…_total`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Channels that were opened, and those that were closed.
    pub channels_opened: u64,
    /// See [`Self::channels_opened`].
    pub channels_closed: u64,
    /// Messages published by the client.
    pub received: u64,
    /// Of these, on channels with confirms.
    pub received_confirm: u64,
    /// Confirms sent, counted in messages.
    pub confirmed: u64,
    /// Copies handed to queues.
    pub routed: u64,
    /// Messages that no queue wanted, sent back.
    pub unroutable_returned: u64,
    /// Messages that no queue wanted, dropped.
    pub unroutable_dropped: u64,
    /// Messages sent to consumers.
    pub delivered: u64,
    /// Of these, to consumers that do not acknowledge.
    pub delivered_no_ack: u64,
    /// Messages that the client got, to be acknowledged.
    pub got: u64,
    /// Messages that the client got without acknowledgement.
    pub got_no_ack: u64,
    /// Of all these, flagged redelivered.
    pub redelivered: u64,
    /// Messages acknowledged by the client.
    pub acknowledged: u64,
    /// Gets that found nothing.
    pub get_empty: u64,
    /// Octets of the bodies of what was received.
    pub received_bytes: u64,
    /// Messages received by the size of their body: each counts at the first of [`MESSAGE_SIZES`] that it does not exceed,
    /// those beyond the last one behind them.
    pub sizes: [u64; MESSAGE_SIZES.len() + 1],
}

/// Octets of a body, as RabbitMQ's `rabbitmq_message_size_bytes` groups them.
pub const MESSAGE_SIZES: [u64; 8] = [100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 50_000_000, 100_000_000];

/// Effects of a session, collected over as many inputs as the shell likes to hand in at once.
#[derive(Debug, Default)]
pub struct SessionOutput {
    /// Frames for the client.
    pub octets: Vec<u8>,
    /// A question to the metadata; the session waits for [`super::Session::metadata_answered`].
    pub request: Option<MetadataRequest>,
    /// Credentials to check.
    pub login: Option<Claim>,
    /// What happened since the shell last took it.
    pub counts: Counts,
    /// Why channels and connections were closed.
    pub notices: Vec<Notice>,
    /// Replies for consumers of this or another connection, which takes each by [`super::Session::direct_reply`]. They may
    /// be lost on the way.
    pub replies: Vec<DirectReply>,
    /// Addresses of this connection where somebody waits for replies from now on, or (false) does not any more. The end
    /// of the connection ends all of them without saying so.
    pub reply_addresses: Vec<(ReplyAddress, bool)>,
    /// What became of messages that belong to traces, if the session tells ([`super::Session::with_tracing`]).
    pub traces: Vec<TraceEvent>,
    pub(super) shards: ShardBatches,
}

impl Counts {
    fn add(&mut self, other: Self) {
        let Self {
            channels_opened,
            channels_closed,
            received,
            received_confirm,
            confirmed,
            routed,
            unroutable_returned,
            unroutable_dropped,
            delivered,
            delivered_no_ack,
            got,
            got_no_ack,
            redelivered,
            acknowledged,
            get_empty,
            received_bytes,
            sizes,
        } = other;
        self.channels_opened += channels_opened;
        self.channels_closed += channels_closed;
        self.received += received;
        self.received_confirm += received_confirm;
        self.confirmed += confirmed;
        self.routed += routed;
        self.unroutable_returned += unroutable_returned;
        self.unroutable_dropped += unroutable_dropped;
        self.delivered += delivered;
        self.delivered_no_ack += delivered_no_ack;
        self.got += got;
        self.got_no_ack += got_no_ack;
        self.redelivered += redelivered;
        self.acknowledged += acknowledged;
        self.get_empty += get_empty;
        self.received_bytes += received_bytes;
        self.sizes.iter_mut().zip(sizes).for_each(|(size, more)| *size += more);
    }

    /// Counts a message with a body of so many octets.
    #[inline]
    pub(super) fn received(&mut self, body_len: usize) {
        let size = MESSAGE_SIZES.iter().position(|most| body_len as u64 <= *most).unwrap_or(MESSAGE_SIZES.len());
        self.received += 1;
        self.received_bytes += body_len as u64;
        self.sizes[size] += 1;
    }
}

impl SessionOutput {
    /// Adds what publishes have come to that were kept back: frames, replies, and what goes to the shards.
    pub(super) fn absorb(&mut self, kept: Self) {
        self.octets.extend_from_slice(&kept.octets);
        self.counts.add(kept.counts);
        self.replies.extend(kept.replies);
        self.shards.absorb(kept.shards);
    }

    /// Takes what is for a shard, in order; `None`: there is no more for any.
    pub fn next_shard_inputs(&mut self) -> Option<(ShardId, Vec<ShardInput>)> {
        self.shards.take_next()
    }

    /// The session is about to read this many octets: the runs that they become get their memory at once.
    pub(super) fn expect(&mut self, octets: usize) {
        self.shards.expect(octets);
    }

    pub(super) fn send(&mut self, channel: u16, method: &ToClient<'_>) {
        method.encode(channel, &mut self.octets);
    }

    pub(super) fn tell(&mut self, shard: ShardId, input: ShardInput) {
        self.shards.tell(shard, input);
    }

    /// Counts a message that is sent to a consumer.
    #[inline]
    pub(super) fn count_delivery(&mut self, redelivered: bool, no_ack: bool, channel: &mut ChannelCounters) {
        self.counts.delivered += 1;
        self.counts.delivered_no_ack += u64::from(no_ack);
        self.counts.redelivered += u64::from(redelivered);
        channel.delivered += u64::from(!no_ack);
        channel.delivered_no_ack += u64::from(no_ack);
        channel.redelivered += u64::from(redelivered);
    }

    /// Counts a message that the client got.
    pub(super) fn count_get(&mut self, redelivered: bool, no_ack: bool, channel: &mut ChannelCounters) {
        self.counts.got += u64::from(!no_ack);
        self.counts.got_no_ack += u64::from(no_ack);
        self.counts.redelivered += u64::from(redelivered);
        channel.got += u64::from(!no_ack);
        channel.got_no_ack += u64::from(no_ack);
        channel.redelivered += u64::from(redelivered);
    }
}
