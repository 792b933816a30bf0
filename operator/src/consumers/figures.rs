//! What the broker says about one queue at one moment.

use serde::Deserialize;

/// A queue as the broker sees it. The counters only grow, until the broker starts anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// When the broker looked: milliseconds since the Unix epoch, by its clock.
    pub at_ms: u64,
    /// Since when its counters count, by the same clock. Another value: the broker has started anew.
    pub since_ms: u64,
    /// Messages that wait for a consumer.
    pub ready: u64,
    /// Messages that consumers have and did not settle.
    pub unacked: u64,
    /// How many were routed to the queue.
    pub published: u64,
    /// How many were handed out.
    pub delivered: u64,
    /// Of these, how many had been handed out before.
    pub redelivered: u64,
    /// How many consumers acknowledged.
    pub acknowledged: u64,
    /// For how long consumers have had messages, all together: the integral of `unacked`, in message-milliseconds.
    pub unacked_message_ms: u64,
    /// The queue gives its messages to one consumer at a time, however many there are.
    pub single_active_consumer: bool,
    /// The queue's consumers by the address that they come from, which is a pod's.
    pub peers: Vec<Peer>,
}

/// All consumers of a queue that come from one address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Peer {
    /// Its IP address, as text.
    pub address: String,
    /// How many consumers it has on the queue.
    pub consumers: u64,
    /// How many messages it may have at a time; 0: as many as there are.
    pub prefetch: u64,
    /// How many it has.
    pub unacked: u64,
}

impl Figures {
    /// Messages that are not done with.
    pub fn depth(&self) -> u64 {
        self.ready + self.unacked
    }

    /// How many addresses hold messages.
    pub fn busy_peers(&self) -> u64 {
        self.peers.iter().filter(|peer| peer.unacked > 0).count() as u64
    }
}
