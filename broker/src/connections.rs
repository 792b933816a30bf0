//! Who is connected: where a shard's events and direct replies go.

mod orders;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;
use tracing::debug;
use warren_core::queue::Event;
use warren_core::session::{DirectReply, ReplyAddress};
use warren_core::topology::OpenConnections;
use warren_core::{ConnectionId, Exception, ShardId};

use crate::limits::REPLY_BYTES;
use crate::rate::Rate;
use crate::statistics::connection::ConnectionFacts;
pub(crate) use orders::{Ended, Order, Orders};

/// What a connection is sent, and takes when its client has read enough of what came before.
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
    /// Octets that one user may send in a second.
    user_bytes_per_second: Option<u64>,
}

/// How many connections have logged in and opened a virtual host.
#[derive(Debug, Default)]
struct OpenCounts {
    by_user: HashMap<Arc<str>, usize>,
    by_vhost: HashMap<Arc<str>, usize>,
    channels_by_user: HashMap<Arc<str>, usize>,
    /// Of users with connections, if they have one.
    rates: HashMap<Arc<str>, Weak<Rate>>,
}

/// A connection that counts among the open ones, with its channels, as long as the value lives.
#[derive(Debug)]
pub(crate) struct Opened {
    connections: Arc<Connections>,
    user: Arc<str>,
    vhost: Arc<str>,
    channels: usize,
    /// What limits how fast it is read.
    pub(crate) rate: Option<Arc<Rate>>,
}

/// How a connection is reached.
#[derive(Debug)]
struct Peer {
    posts: UnboundedSender<Post>,
    orders: Arc<Orders>,
    waiting: WaitingReplies,
    /// `None`: it is the node itself.
    facts: Option<Arc<ConnectionFacts>>,
}

/// The connection's end.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) posts: UnboundedReceiver<Post>,
    pub(crate) orders: Arc<Orders>,
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
    /// Of a node where one user may send so many octets in a second.
    pub(crate) fn with_rate(user_bytes_per_second: Option<u64>) -> Self {
        Self { user_bytes_per_second, ..Self::default() }
    }

    /// A connection that is there from now on.
    pub(crate) fn insert(&self, connection: ConnectionId, facts: Option<Arc<ConnectionFacts>>) -> Mailbox {
        let (sender, posts) = unbounded_channel();
        let (orders, waiting) = (Arc::<Orders>::default(), WaitingReplies::default());
        let peer = Peer { posts: sender, orders: Arc::clone(&orders), waiting: waiting.clone(), facts };
        self.live.write().unwrap_or_else(PoisonError::into_inner).insert(connection, peer);
        Mailbox { posts, orders, waiting }
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

    /// Tells a client's connection to do something, if it is still there.
    pub(crate) fn order(&self, connection: ConnectionId, order: Order) {
        if let Some(peer) = self.live.read().unwrap_or_else(PoisonError::into_inner).get(&connection) {
            peer.orders.give(order);
        }
    }

    /// The client's end of a connection; `None`: it is gone, or no client's.
    pub(crate) fn peer(&self, connection: ConnectionId) -> Option<SocketAddr> {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        Some(live.get(&connection)?.facts.as_ref()?.peer)
    }

    /// Clients' connections from an address.
    pub(crate) fn from(&self, address: IpAddr) -> Vec<ConnectionId> {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        let is_from = |facts: &Arc<ConnectionFacts>| facts.peer.ip().to_canonical() == address;
        let theirs = live.iter().filter(|(_, peer)| peer.facts.as_ref().is_some_and(is_from));
        theirs.map(|(connection, _)| *connection).collect()
    }

    /// Clients' connections, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<ConnectionFacts>> {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        live.values().filter_map(|peer| peer.facts.clone()).collect()
    }

    /// Tells all clients' connections what is no more.
    pub(crate) fn ended(&self, ended: Ended) {
        if ended.users.is_empty() && ended.vhosts.is_empty() {
            return;
        }
        let ended = Arc::new(ended);
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        // The node itself takes no orders.
        for peer in live.values().filter(|peer| peer.facts.is_some()) {
            peer.orders.give(Order::Ended(Arc::clone(&ended)));
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

    /// Counts one more connection of that user and that virtual host, if `check` agrees with how many there are. Nobody
    /// else is counted in between.
    ///
    /// # Errors
    /// What `check` said.
    pub(crate) fn open(
        connections: &Arc<Self>,
        user: &str,
        vhost: &str,
        check: &mut dyn FnMut(OpenConnections) -> Result<(), Exception>,
    ) -> Result<Opened, Exception> {
        let mut counts = connections.counts();
        let of = |counts: &HashMap<Arc<str>, usize>, name| counts.get(name).copied().unwrap_or_default();
        check(OpenConnections { of_user: of(&counts.by_user, user), in_vhost: of(&counts.by_vhost, vhost) })?;
        let (user, vhost) = (Arc::from(user), Arc::from(vhost));
        *counts.by_user.entry(Arc::clone(&user)).or_default() += 1;
        *counts.by_vhost.entry(Arc::clone(&vhost)).or_default() += 1;
        let rate = connections.user_bytes_per_second.map(|per_second| counts.rate(&user, per_second));
        Ok(Opened { connections: Arc::clone(connections), user, vhost, channels: 0, rate })
    }

    fn counts(&self) -> MutexGuard<'_, OpenCounts> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody waits for replies there.
    pub(crate) fn takes_replies(&self, address: &ReplyAddress) -> bool {
        let all = self.reply_addresses.read().unwrap_or_else(PoisonError::into_inner);
        all.get(&address.connection).is_some_and(|addresses| addresses.contains(address))
    }
}

impl Opened {
    /// Counts one more channel if `check` agrees with how many its user has on all connections, of which `own` are its.
    ///
    /// # Errors
    /// What `check` said.
    pub(crate) fn open_channel(
        &mut self,
        own: usize,
        check: &mut dyn FnMut(usize) -> Result<(), Exception>,
    ) -> Result<(), Exception> {
        let mut counts = self.connections.counts();
        let all = counts.channels_by_user.get(&self.user).copied().unwrap_or_default();
        check(all - self.channels + own)?;
        counts.set_channels(&self.user, self.channels, own + 1);
        drop(counts);
        self.channels = own + 1;
        Ok(())
    }

    /// It has so many channels now, and not more than before.
    pub(crate) fn keep_channels(&mut self, channels: usize) {
        if channels != self.channels {
            self.connections.counts().set_channels(&self.user, self.channels, channels);
            self.channels = channels;
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let counts = &mut *self.connections.counts();
        less(&mut counts.by_user, &self.user, 1);
        less(&mut counts.by_vhost, &self.vhost, 1);
        counts.set_channels(&self.user, self.channels, 0);
    }
}

impl OpenCounts {
    /// The user's, which all its connections share.
    fn rate(&mut self, user: &Arc<str>, per_second: u64) -> Arc<Rate> {
        self.rates.retain(|_, rate| rate.strong_count() > 0);
        let shared = self.rates.get(user).and_then(Weak::upgrade);
        shared.unwrap_or_else(|| {
            let rate = Arc::new(Rate::new(per_second, Instant::now()));
            self.rates.insert(Arc::clone(user), Arc::downgrade(&rate));
            rate
        })
    }

    /// A connection of the user has another number of channels.
    fn set_channels(&mut self, user: &Arc<str>, before: usize, now: usize) {
        *self.channels_by_user.entry(Arc::clone(user)).or_default() += now;
        less(&mut self.channels_by_user, user, before);
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
        let open = |user, vhost| Connections::open(&connections, user, vhost, &mut |_| Ok(())).expect("no limit");
        let mut first = open("alice", "a");
        let mut second = open("alice", "b");
        let third = open("bob", "b");
        let counts = |user, vhost| {
            let mut found = OpenConnections::default();
            let refusal = Connections::open(&connections, user, vhost, &mut |open| {
                found = open;
                Err(refused())
            });
            assert!(refusal.is_err());
            (found.of_user, found.in_vhost)
        };
        assert_eq!((counts("alice", "b"), counts("bob", "a"), counts("carol", "c")), ((2, 2), (1, 1), (0, 0)));
        let channels = |user| connections.counts().channels_by_user.get(user).copied();
        (0..3).for_each(|own| first.open_channel(own, &mut |_| Ok(())).expect("no limit"));
        (0..2).for_each(|own| second.open_channel(own, &mut |_| Ok(())).expect("no limit"));
        first.keep_channels(1);
        assert_eq!((channels("alice"), channels("bob")), (Some(3), None));
        drop((first, third));
        assert_eq!(channels("alice"), Some(2));
        assert_eq!((counts("alice", "b"), counts("bob", "a")), ((1, 1), (0, 0)));
        drop(second);
        let OpenCounts { by_user, by_vhost, channels_by_user, rates: _ } = &*connections.counts();
        assert!(by_user.is_empty() && by_vhost.is_empty() && channels_by_user.is_empty(), "nothing is kept");
    }

    const LIMIT: usize = 10;

    fn refused() -> Exception {
        Exception::connection(warren_amqp::ReplyCode::NotAllowed, "the limit is reached")
    }

    /// Agrees while there are less than [`LIMIT`], and takes its time.
    fn below_limit(open: usize) -> Result<(), Exception> {
        std::thread::yield_now();
        if open < LIMIT { Ok(()) } else { Err(refused()) }
    }

    /// What so many threads came to that begin together.
    fn at_once<T: Send>(threads: usize, open: impl Fn() -> T + Sync) -> Vec<T> {
        let barrier = std::sync::Barrier::new(threads);
        let run = || {
            barrier.wait();
            open()
        };
        std::thread::scope(|scope| {
            let started: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
            started.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        })
    }

    #[test]
    fn of_connections_that_open_at_once_as_many_as_the_limit_says_do() {
        let connections = Arc::new(Connections::default());
        let mut by_user = |open: OpenConnections| below_limit(open.of_user);
        let attempts = at_once(64, || Connections::open(&connections, "bob", "/", &mut by_user.clone()));
        assert_eq!(attempts.iter().flatten().count(), LIMIT);
        assert!(Connections::open(&connections, "bob", "/", &mut by_user).is_err());
        drop(attempts);
        assert!(Connections::open(&connections, "bob", "/", &mut by_user).is_ok(), "those that ended give room");
    }

    #[test]
    fn of_channels_that_open_at_once_as_many_as_the_limit_says_do() {
        let connections = Arc::new(Connections::default());
        let attempts = at_once(32, || {
            let mut opened = Connections::open(&connections, "bob", "/", &mut |_| Ok(())).expect("no limit");
            let channels = (0..4).take_while(|own| opened.open_channel(*own, &mut below_limit).is_ok()).count();
            (opened, channels)
        });
        assert_eq!(attempts.iter().map(|(_, channels)| channels).sum::<usize>(), LIMIT);
        let has_one = attempts.into_iter().find(|(_, channels)| *channels > 0);
        let (mut opened, channels) = has_one.expect("ten channels are open");
        let mut others = None;
        let closed = opened.open_channel(channels - 1, &mut |open| {
            others = Some(open);
            Ok(())
        });
        assert_eq!((closed, others), (Ok(()), Some(channels - 1)), "a channel that was closed counts no more");
    }
}
