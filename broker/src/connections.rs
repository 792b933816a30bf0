//! Who is connected: where a shard's events and direct replies go.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::debug;
use warren_core::queue::Event;
use warren_core::session::{DirectReply, ReplyAddress};
use warren_core::topology::OpenConnections;
use warren_core::{ConnectionId, ShardId};

use crate::limits::REPLY_BYTES;

/// What a connection is sent.
#[derive(Debug)]
pub(crate) enum Post {
    /// Events of one shard, in order.
    Events(ShardId, Vec<Event>),
    /// A reply of another connection, or of its own.
    Reply(Box<DirectReply>),
}

/// The live connections. Channels to them are unbounded because what goes through them is not: deliveries are bounded
/// by each consumer's window and the number of consumers, confirms by the publishes that may be unconfirmed at once,
/// answers by one question at a time (all in `warren_core::limits`), replies by [`REPLY_BYTES`].
#[derive(Debug, Default)]
pub(crate) struct Connections {
    live: RwLock<HashMap<ConnectionId, Peer>>,
    /// Where replies are waited for. Few connections have any.
    reply_addresses: RwLock<HashMap<ConnectionId, Vec<ReplyAddress>>>,
    opened: Mutex<OpenCounts>,
}

/// How many connections have logged in and opened a virtual host.
#[derive(Debug, Default)]
struct OpenCounts {
    by_user: HashMap<Arc<str>, usize>,
    by_vhost: HashMap<Arc<str>, usize>,
    channels_by_user: HashMap<Arc<str>, usize>,
}

/// A connection that counts among the open ones as long as the value lives.
#[derive(Debug)]
pub(crate) struct Opened {
    connections: Arc<Connections>,
    user: Arc<str>,
    vhost: Arc<str>,
    channels: usize,
}

/// How a connection is reached.
#[derive(Debug)]
struct Peer {
    posts: UnboundedSender<Post>,
    waiting: WaitingReplies,
}

/// The connection's end.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) posts: UnboundedReceiver<Post>,
    pub(crate) waiting: WaitingReplies,
}

/// Octets of replies that a connection has not taken yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct WaitingReplies(Arc<AtomicUsize>);

impl WaitingReplies {
    /// Takes room for a reply, if there is some: the one that reaches the bound is the last.
    fn add(&self, octets: usize) -> bool {
        let has_room = self.0.load(Ordering::Relaxed) < REPLY_BYTES;
        if has_room {
            self.0.fetch_add(octets, Ordering::Relaxed);
        }
        has_room
    }

    /// The connection has taken a reply.
    pub(crate) fn taken(&self, reply: &DirectReply) {
        self.0.fetch_sub(octets(reply), Ordering::Relaxed);
    }
}

/// About how much memory a reply takes.
fn octets(reply: &DirectReply) -> usize {
    size_of::<DirectReply>() + reply.message.size()
}

impl Connections {
    /// A connection that is there from now on.
    pub(crate) fn insert(&self, connection: ConnectionId) -> Mailbox {
        let (sender, posts) = unbounded_channel();
        let waiting = WaitingReplies::default();
        let peer = Peer { posts: sender, waiting: waiting.clone() };
        self.live.write().unwrap_or_else(PoisonError::into_inner).insert(connection, peer);
        Mailbox { posts, waiting }
    }

    pub(crate) fn remove(&self, connection: ConnectionId) {
        self.live.write().unwrap_or_else(PoisonError::into_inner).remove(&connection);
        let has_addresses = |addresses: &HashMap<_, _>| addresses.contains_key(&connection);
        if has_addresses(&self.reply_addresses.read().unwrap_or_else(PoisonError::into_inner)) {
            self.reply_addresses.write().unwrap_or_else(PoisonError::into_inner).remove(&connection);
        }
    }

    /// Sends events to a connection. One that is gone has sent, or is about to send, a detach that takes back what the
    /// events would have handed out.
    pub(crate) fn post(&self, shard: ShardId, connection: ConnectionId, events: Vec<Event>) {
        if let Some(peer) = self.live.read().unwrap_or_else(PoisonError::into_inner).get(&connection) {
            let _ = peer.posts.send(Post::Events(shard, events));
        }
    }

    /// Sends a reply to its connection. It is lost if that is gone, or does not take what waits for it: as in RabbitMQ,
    /// replies arrive at most once.
    pub(crate) fn reply(&self, reply: DirectReply) {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        let Some(peer) = live.get(&reply.address.connection) else { return };
        if peer.waiting.add(octets(&reply)) {
            let _ = peer.posts.send(Post::Reply(Box::new(reply)));
        } else {
            debug!(connection_id = reply.address.connection.0, "a reply is dropped: the client does not read");
        }
    }

    /// Somebody waits for replies there from now on, or does not any more.
    pub(crate) fn set_reply_address(&self, address: ReplyAddress, waits: bool) {
        let mut all = self.reply_addresses.write().unwrap_or_else(PoisonError::into_inner);
        let addresses = all.entry(address.connection).or_default();
        addresses.retain(|other| *other != address);
        if waits {
            addresses.push(address);
        }
    }

    /// How many connections a user has, and how many there are in a virtual host.
    pub(crate) fn open_count(&self, user: &str, vhost: &str) -> OpenConnections {
        let OpenCounts { by_user, by_vhost, .. } = &*self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |counts: &HashMap<Arc<str>, usize>, name| counts.get(name).copied().unwrap_or_default();
        OpenConnections { of_user: count(by_user, user), in_vhost: count(by_vhost, vhost) }
    }

    /// How many channels a user has.
    pub(crate) fn open_channels(&self, user: &str) -> usize {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.channels_by_user.get(user).copied().unwrap_or_default()
    }

    /// One more connection is open.
    pub(crate) fn opened(connections: &Arc<Self>, user: Arc<str>, vhost: Arc<str>) -> Opened {
        let mut opened = connections.opened.lock().unwrap_or_else(PoisonError::into_inner);
        *opened.by_user.entry(user.clone()).or_default() += 1;
        *opened.by_vhost.entry(vhost.clone()).or_default() += 1;
        Opened { connections: connections.clone(), user, vhost, channels: 0 }
    }

    /// Whether somebody waits for replies there.
    pub(crate) fn takes_replies(&self, address: &ReplyAddress) -> bool {
        let all = self.reply_addresses.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&address.connection).is_some_and(|addresses| addresses.contains(address))
    }
}

impl Opened {
    /// Its channels, as last said.
    pub(crate) fn channels(&self) -> usize {
        self.channels
    }

    /// It has so many channels now.
    pub(crate) fn set_channels(&mut self, channels: usize) {
        if channels != self.channels {
            let opened = &mut *self.connections.opened.lock().unwrap_or_else(PoisonError::into_inner);
            *opened.channels_by_user.entry(self.user.clone()).or_default() += channels;
            less(&mut opened.channels_by_user, &self.user, self.channels);
            self.channels = channels;
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let opened = &mut *self.connections.opened.lock().unwrap_or_else(PoisonError::into_inner);
        less(&mut opened.by_user, &self.user, 1);
        less(&mut opened.by_vhost, &self.vhost, 1);
        less(&mut opened.channels_by_user, &self.user, self.channels);
    }
}

/// Takes `less` off a count; none is kept that is 0.
fn less(counts: &mut HashMap<Arc<str>, usize>, name: &Arc<str>, less: usize) {
    if let Some(count) = counts.get_mut(name) {
        *count -= less;
        if *count == 0 {
            counts.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_that_a_connection_does_not_take_are_bounded() {
        let waiting = WaitingReplies::default();
        assert!(waiting.add(REPLY_BYTES - 1));
        assert!(waiting.add(1_000), "there was room for an octet");
        assert!(!waiting.add(1), "one too many");
        waiting.0.fetch_sub(1_000, Ordering::Relaxed);
        assert!(waiting.add(1));
    }

    #[test]
    fn open_connections_are_counted_by_user_and_by_vhost_until_they_end() {
        let connections = Arc::new(Connections::default());
        let open = |user: &str, vhost: &str| Connections::opened(&connections, Arc::from(user), Arc::from(vhost));
        let mut first = open("alice", "a");
        let mut second = open("alice", "b");
        let third = open("bob", "b");
        let counts = |user, vhost| {
            let OpenConnections { of_user, in_vhost } = connections.open_count(user, vhost);
            (of_user, in_vhost)
        };
        assert_eq!((counts("alice", "b"), counts("bob", "a"), counts("carol", "c")), ((2, 2), (1, 1), (0, 0)));
        first.set_channels(3);
        second.set_channels(2);
        first.set_channels(1);
        assert_eq!((connections.open_channels("alice"), connections.open_channels("bob")), (3, 0));
        drop((first, third));
        assert_eq!(connections.open_channels("alice"), 2);
        assert_eq!((counts("alice", "b"), counts("bob", "a")), ((1, 1), (0, 0)));
        drop(second);
        let OpenCounts { by_user, by_vhost, channels_by_user } = &*connections.opened.lock().expect("not poisoned");
        assert!(by_user.is_empty() && by_vhost.is_empty() && channels_by_user.is_empty(), "nothing is kept");
    }
}
