//! A virtual host: its exchanges, queues and bindings, and the way of a message through them.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::OnceCell;
use core::iter::once;

use bytes::Bytes;
use rpds::RedBlackTreeMapSync;
use warren_amqp::Value;

use super::arguments::QueueType;
use super::binding::{Binding, Hop};
use super::exchange::{Bucket, Exchange};
use super::headers::MessageHeaders;
use super::policy::Policies;
use super::records::{BindingRecord, ExchangeKind, ExchangeRecord, QueueRecord, VhostRecord};
use super::routes::{Envelope, Logging, Route, RouteError, Routes};
use super::trie::NameMap;
use crate::limits;

/// The exchanges that every virtual host begins with. All are durable, and none can be deleted.
const PREDECLARED: [(&str, ExchangeKind); 6] = [
    ("", ExchangeKind::Direct),
    ("amq.direct", ExchangeKind::Direct),
    ("amq.fanout", ExchangeKind::Fanout),
    ("amq.topic", ExchangeKind::Topic),
    ("amq.headers", ExchangeKind::Headers),
    ("amq.match", ExchangeKind::Headers),
];

/// One virtual host. As immutable as the [`super::Topology`] it was taken from.
#[derive(Debug, Clone)]
pub struct Vhost {
    record: Arc<VhostRecord>,
    pub(super) policies: Policies,
    exchanges: NameMap<Exchange>,
    queues: NameMap<Arc<QueueRecord>>,
    by_destination: RedBlackTreeMapSync<Hop, Bucket>,
    bindings: usize,
}

/// The exchanges that a message comes to, each once. Nothing is allocated before one leads to another.
#[derive(Default)]
struct Way<'t> {
    seen: BTreeSet<&'t Arc<str>>,
    pending: Vec<&'t Arc<str>>,
}

impl<'t> Way<'t> {
    /// The message goes on from an exchange that it has come to.
    fn go_on(&mut self, from: &'t Exchange, to: &'t Arc<str>) {
        self.seen.insert(&from.record.name);
        if self.seen.insert(to) {
            self.pending.push(to);
        }
    }
}

impl Vhost {
    /// A virtual host with the predeclared exchanges and nothing else.
    pub(super) fn new(record: Arc<VhostRecord>) -> Self {
        let name = &record.name;
        let mut exchanges = NameMap::new();
        for (exchange, kind) in PREDECLARED {
            let record = ExchangeRecord {
                vhost: Arc::clone(name),
                name: Arc::from(exchange),
                kind,
                delayed: false,
                durable: true,
                auto_delete: false,
                internal: false,
                arguments: Bytes::new(),
            };
            exchanges.insert(Arc::clone(&record.name), Exchange::new(Arc::new(record)));
        }
        let by_destination = RedBlackTreeMapSync::new_sync();
        Self { record, policies: Policies::default(), exchanges, queues: NameMap::new(), by_destination, bindings: 0 }
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.record.name
    }

    /// What was said about it, and how much it may hold.
    pub fn record(&self) -> &Arc<VhostRecord> {
        &self.record
    }

    /// The queue of that name.
    pub fn queue(&self, name: &str) -> Option<&Arc<QueueRecord>> {
        self.queues.get(name)
    }

    /// All queues, in no order.
    pub fn queues(&self) -> impl Iterator<Item = &Arc<QueueRecord>> {
        self.queues.values()
    }

    /// The type of queues that are declared without one.
    pub(super) fn default_queue_type(&self) -> QueueType {
        let name = self.record.default_queue_type.as_deref();
        name.and_then(QueueType::from_name).unwrap_or(QueueType::Classic)
    }

    /// How many queues.
    pub fn queue_count(&self) -> usize {
        self.queues.len()
    }

    /// The exchange of that name; the default exchange is `""`.
    pub fn exchange(&self, name: &str) -> Option<&Arc<ExchangeRecord>> {
        self.exchanges.get(name).map(|exchange| &exchange.record)
    }

    /// All exchanges, the predeclared ones included, in no order.
    pub fn exchanges(&self) -> impl Iterator<Item = &Arc<ExchangeRecord>> {
        self.exchanges.values().map(|exchange| &exchange.record)
    }

    /// All bindings that were made, sorted by destination. The default exchange's implicit ones are not among them.
    pub fn bindings(&self) -> impl Iterator<Item = BindingRecord> {
        self.by_destination.values().flat_map(Bucket::iter).map(|binding| binding.record(&self.record.name))
    }

    /// Adds the queues that a message goes to, to those that are in `routes` already; each is there once.
    ///
    /// Exchanges bound to exchanges and alternate exchanges are followed, each exchange is visited once. `random` has
    /// new bits at each call; exchanges that draw lots call it.
    ///
    /// # Errors
    /// The exchange named in `basic.publish` does not exist or is internal.
    pub fn route(
        &self,
        message: &Envelope<'_>,
        random: &mut dyn FnMut() -> u128,
        routes: &mut Routes,
    ) -> Result<(), RouteError> {
        if message.exchange.is_empty() {
            self.route_by_queue_name(message, routes);
        } else {
            let first = self.exchanges.get(message.exchange).ok_or(RouteError::NoSuchExchange)?;
            if first.record.internal {
                return Err(RouteError::Internal);
            }
            self.route_through(first, message, random, routes);
        }
        routes.settle();
        Ok(())
    }

    /// [`Self::route`] for a message that the broker itself publishes, a dead letter or one whose delay has passed:
    /// internal exchanges take it too, and an exchange that is not there takes nothing.
    pub fn route_forwarded(&self, message: &Envelope<'_>, random: &mut dyn FnMut() -> u128, routes: &mut Routes) {
        if message.exchange.is_empty() {
            self.route_by_queue_name(message, routes);
        } else if let Some(first) = self.exchanges.get(message.exchange) {
            self.route_through(first, message, random, routes);
        }
        routes.settle();
    }

    fn route_by_queue_name(&self, message: &Envelope<'_>, routes: &mut Routes) {
        for name in once(&message.routing_key).chain(message.further_keys) {
            // The store of a delayed exchange is filled by its exchange alone.
            if let Some(queue) = self.queues.get(name).filter(|queue| queue.delayed_exchange().is_none()) {
                routes.push(route_to(queue));
            }
        }
    }

    fn route_through(
        &self,
        first: &Exchange,
        message: &Envelope<'_>,
        random: &mut dyn FnMut() -> u128,
        routes: &mut Routes,
    ) {
        let decoded = OnceCell::new();
        let decode = || decoded.get_or_init(|| message.headers.map(MessageHeaders::new).unwrap_or_default());
        let mut way = Way::default();
        let mut next = Some(first);
        while let Some(exchange) = next {
            let mut matched = self.delay(exchange, message, routes);
            if !matched {
                exchange.matches(message, decode, random, |binding| {
                    matched = true;
                    match &binding.hop {
                        Hop::Queue(route) => routes.push(*route),
                        Hop::Exchange(name) => way.go_on(exchange, name),
                    }
                });
            }
            if !matched {
                self.alternate_of(exchange).into_iter().for_each(|name| way.go_on(exchange, name));
            }
            if exchange.looks_into_messages() {
                routes.depend_on_message();
            }
            // As an alternate exchange the default exchange has no bindings, in RabbitMQ too: it routes by queues' names
            // only what is published to itself. Its own alternate exchange, by policy, is followed.
            next = self.next_exchange(&mut way);
        }
    }

    /// The exchange that gets what this one routes nowhere: its argument says which, or else a policy.
    fn alternate_of<'t>(&'t self, exchange: &'t Exchange) -> Option<&'t Arc<str>> {
        if exchange.alternate.is_some() || self.policies.len() == 0 {
            return exchange.alternate.as_ref();
        }
        let policy = self.policy_of_exchange(&exchange.record.name);
        let name = policy.get("alternate-exchange")?.as_str()?;
        self.exchange(name).map(|record| &record.name)
    }

    /// Whether the message has to wait before this exchange picks destinations; then it goes to the exchange's store.
    fn delay(&self, exchange: &Exchange, message: &Envelope<'_>, routes: &mut Routes) -> bool {
        let Some(store) = &exchange.store else {
            return false;
        };
        routes.depend_on_message();
        let (Some(millis), Some(queue)) = (delay_of(message), self.queues.get(store)) else {
            return false;
        };
        routes.push(route_to(queue));
        routes.wait(millis);
        true
    }

    fn next_exchange<'t>(&'t self, way: &mut Way<'t>) -> Option<&'t Exchange> {
        while let Some(name) = way.pending.pop() {
            if let Some(exchange) = self.exchanges.get(name) {
                return Some(exchange);
            }
        }
        None
    }

    // What follows changes the virtual host. Every one of these is total: what is not there is not removed.

    pub(super) fn describe(&mut self, record: Arc<VhostRecord>) {
        self.record = record;
    }

    pub(super) fn insert_exchange(&mut self, record: Arc<ExchangeRecord>) {
        if self.exchanges.get(&record.name).is_none() {
            self.exchanges.insert(Arc::clone(&record.name), Exchange::new(record));
        }
    }

    pub(super) fn remove_exchange(&mut self, name: &Arc<str>) {
        let Some(exchange) = self.exchanges.get(name) else {
            return;
        };
        let mut leaving = Vec::new();
        exchange.for_each_binding(|binding| leaving.push(Arc::clone(binding)));
        for binding in leaving {
            self.remove_binding(&binding);
        }
        self.remove_bindings_to(&Hop::Exchange(Arc::clone(name)));
        self.exchanges.remove(name);
    }

    pub(super) fn insert_queue(&mut self, record: Arc<QueueRecord>) {
        self.queues.insert(Arc::clone(&record.name), record);
    }

    pub(super) fn remove_queue(&mut self, record: &QueueRecord) {
        self.remove_bindings_to(&Hop::Queue(route_to(record)));
        self.queues.remove(&record.name);
    }

    pub(super) fn insert_binding(&mut self, binding: Binding) {
        if self.has_binding(&binding) {
            return;
        }
        let Some(exchange) = self.exchanges.get_mut(&binding.source) else {
            return;
        };
        let binding = Arc::new(binding);
        exchange.insert(Arc::clone(&binding));
        match self.by_destination.get_mut(&binding.hop) {
            Some(bucket) => bucket.insert_mut(binding),
            None => {
                let hop = binding.hop.clone();
                self.by_destination.insert_mut(hop, Bucket::new_sync().insert(binding));
            }
        }
        self.bindings += 1;
    }

    pub(super) fn remove_binding(&mut self, binding: &Binding) {
        let Some(bucket) = self.by_destination.get_mut(&binding.hop) else {
            return;
        };
        if !bucket.remove_mut(binding) {
            return;
        }
        if bucket.is_empty() {
            self.by_destination.remove_mut(&binding.hop);
        }
        if let Some(exchange) = self.exchanges.get_mut(&binding.source) {
            exchange.remove(binding);
        }
        self.bindings -= 1;
    }

    fn remove_bindings_to(&mut self, hop: &Hop) {
        for binding in self.bindings_to(hop) {
            self.remove_binding(&binding);
        }
    }

    pub(super) fn bindings_to(&self, hop: &Hop) -> Vec<Arc<Binding>> {
        self.by_destination.get(hop).map_or_else(Vec::new, |bucket| bucket.iter().cloned().collect())
    }

    pub(super) fn has_binding(&self, binding: &Binding) -> bool {
        self.by_destination.get(&binding.hop).is_some_and(|bucket| bucket.contains(binding))
    }

    pub(super) fn exchange_table(&self, name: &str) -> Option<&Exchange> {
        self.exchanges.get(name)
    }

    pub(super) fn exchange_count(&self) -> usize {
        self.exchanges.len()
    }

    pub(super) fn binding_count(&self) -> usize {
        self.bindings
    }

    pub(super) fn is_predeclared(name: &str) -> bool {
        PREDECLARED.iter().any(|(predeclared, _)| *predeclared == name)
    }
}

/// Milliseconds that a message asks to wait (header `x-delay`: an integer, or one written in digits). As in the plugin
/// it does not wait if there is none above 0; that of a message whose time has come is negative.
fn delay_of(message: &Envelope<'_>) -> Option<u64> {
    let value = message.headers?.get("x-delay").ok()??;
    let millis = value.as_integer().or_else(|| value.as_str()?.parse().ok())?;
    u64::try_from(millis).ok().filter(|millis| *millis > 0).map(|millis| millis.min(limits::EXPIRATION_MILLIS))
}

/// The way to a queue.
pub(super) fn route_to(queue: &QueueRecord) -> Route {
    let queue_type = QueueType::of(&queue.arguments);
    let logging = match queue_type {
        _ if !queue.is_logged() => Logging::Nothing,
        _ if queue.delayed_exchange().is_some() => Logging::Everything,
        QueueType::Classic => Logging::Persistent,
        QueueType::Quorum | QueueType::Stream => Logging::Everything,
    };
    Route {
        shard: queue.shard,
        queue: queue.id,
        logging,
        deduplicates: queue.argument("x-message-deduplication") == Some(Value::Bool(true)),
        stream: queue_type == QueueType::Stream,
    }
}
