//! What a session wants done. The shell carries it out in order and decides nothing.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use warren_amqp::{ReplyCode, ToClient};

use super::direct_reply::{DirectReply, ReplyAddress};
use crate::batch::ShardBatches;
use crate::identity::{ConnectionId, ShardId};
use crate::queue::ShardInput;
use crate::secret::Secret;
use crate::topology::{Identity, Outcome, Request};

/// Credentials to be checked. The answer comes back through [`super::Session::login_checked`].
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
    /// Messages sent to the client, by consumers and gets.
    pub delivered: u64,
    /// Of these, flagged redelivered.
    pub redelivered: u64,
    /// Messages acknowledged by the client.
    pub acknowledged: u64,
    /// Gets that found nothing.
    pub get_empty: u64,
}

/// Effects of a session, collected over as many inputs as the shell likes to hand in at once.
#[derive(Debug, Default)]
pub struct SessionOutput {
    /// Frames for the client.
    pub octets: Vec<u8>,
    /// A question to the metadata; the session waits for [`super::Session::metadata_answered`].
    pub request: Option<MetadataRequest>,
    /// Credentials to check.
    pub login: Option<Login>,
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
    pub(super) shards: ShardBatches,
}

impl Counts {
    fn add(&mut self, other: Self) {
        let Self {
            received,
            received_confirm,
            confirmed,
            routed,
            unroutable_returned,
            unroutable_dropped,
            delivered,
            redelivered,
            acknowledged,
            get_empty,
        } = other;
        self.received += received;
        self.received_confirm += received_confirm;
        self.confirmed += confirmed;
        self.routed += routed;
        self.unroutable_returned += unroutable_returned;
        self.unroutable_dropped += unroutable_dropped;
        self.delivered += delivered;
        self.redelivered += redelivered;
        self.acknowledged += acknowledged;
        self.get_empty += get_empty;
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

    pub(super) fn count_delivery(&mut self, redelivered: bool) {
        self.counts.delivered += 1;
        self.counts.redelivered += u64::from(redelivered);
    }
}
