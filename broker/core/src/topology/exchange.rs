//! An exchange with its bindings, arranged so that routing touches only those that match.

use alloc::sync::Arc;
use core::iter::once;

use rpds::RedBlackTreeSetSync;
use warren_amqp::Table;

use super::binding::Binding;
use super::hash::{Hashed, Shares, hash_octets};
use super::headers::MessageHeaders;
use super::records::{ExchangeKind, ExchangeRecord};
use super::routes::Envelope;
use super::topic::TopicTree;
use super::trie::NameMap;

/// Some bindings of one exchange.
pub(super) type Bucket = RedBlackTreeSetSync<Arc<Binding>>;

/// One exchange of a virtual host.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    pub(super) record: Arc<ExchangeRecord>,
    /// The alternate exchange, read from the arguments once.
    pub(super) alternate: Option<Arc<str>>,
    /// The queue where messages wait, if the exchange is delayed.
    pub(super) store: Option<Arc<str>>,
    /// How many bindings lead from it.
    pub(super) bindings: usize,
    table: BindingTable,
}

#[derive(Debug, Clone)]
enum BindingTable {
    Direct(NameMap<KeyBindings>),
    Fanout(Bucket),
    Topic(TopicTree),
    Headers(Bucket),
    ConsistentHash(Shares),
    ModulusHash(Bucket),
    Random(Bucket),
}

impl Exchange {
    pub(super) fn new(record: Arc<ExchangeRecord>) -> Self {
        let table = match record.kind {
            ExchangeKind::Direct => BindingTable::Direct(NameMap::new()),
            ExchangeKind::Fanout => BindingTable::Fanout(Bucket::new_sync()),
            ExchangeKind::Topic => BindingTable::Topic(TopicTree::new()),
            ExchangeKind::Headers => BindingTable::Headers(Bucket::new_sync()),
            ExchangeKind::ConsistentHash => BindingTable::ConsistentHash(Shares::new(Hashed::of(&record.arguments))),
            ExchangeKind::ModulusHash => BindingTable::ModulusHash(Bucket::new_sync()),
            ExchangeKind::Random | ExchangeKind::LocalRandom => BindingTable::Random(Bucket::new_sync()),
        };
        Self { alternate: record.alternate(), store: record.store_name(), record, bindings: 0, table }
    }

    /// Adds a binding that is not there yet.
    pub(super) fn insert(&mut self, binding: Arc<Binding>) {
        self.bindings += 1;
        match &mut self.table {
            BindingTable::Direct(by_key) => match by_key.get_mut(&binding.routing_key) {
                Some(bindings) => bindings.insert(binding),
                None => by_key.insert(Arc::clone(&binding.routing_key), KeyBindings::One(binding)),
            },
            BindingTable::Fanout(bucket)
            | BindingTable::Headers(bucket)
            | BindingTable::ModulusHash(bucket)
            | BindingTable::Random(bucket) => bucket.insert_mut(binding),
            BindingTable::Topic(tree) => tree.insert(binding),
            BindingTable::ConsistentHash(shares) => shares.insert(binding),
        }
    }

    /// Removes a binding that is there.
    pub(super) fn remove(&mut self, binding: &Binding) {
        self.bindings -= 1;
        match &mut self.table {
            BindingTable::Direct(by_key) => {
                let bindings = by_key.get_mut(&binding.routing_key);
                if bindings.is_some_and(|bindings| bindings.remove(binding)) {
                    by_key.remove(&binding.routing_key);
                }
            }
            BindingTable::Fanout(bucket)
            | BindingTable::Headers(bucket)
            | BindingTable::ModulusHash(bucket)
            | BindingTable::Random(bucket) => {
                bucket.remove_mut(binding);
            }
            BindingTable::Topic(tree) => tree.remove(binding),
            BindingTable::ConsistentHash(shares) => shares.remove(binding),
        }
    }

    /// How many bindings one message may have to look at or match, if its routing key is `routing_key`.
    pub(super) fn reach(&self, routing_key: &str) -> usize {
        match &self.table {
            BindingTable::Direct(by_key) => by_key.get(routing_key).map_or(0, KeyBindings::count),
            _ => self.bindings,
        }
    }

    /// Whether it goes by more than exchange and routing key.
    pub(super) fn looks_into_messages(&self) -> bool {
        match &self.table {
            BindingTable::Headers(_) | BindingTable::Random(_) => true,
            BindingTable::ConsistentHash(shares) => shares.hashed().is_in_the_message(),
            _ => false,
        }
    }

    /// Calls `found` with each binding that takes the message by any of its routing keys; with none twice if no key is there
    /// twice. `headers` is called by headers exchanges only, `random` by those that draw lots.
    pub(super) fn matches<'t, 'h, 'm: 'h>(
        &'t self,
        message: &Envelope<'_>,
        headers: impl FnOnce() -> &'h MessageHeaders<'m>,
        random: &mut dyn FnMut() -> u128,
        mut found: impl FnMut(&'t Arc<Binding>),
    ) {
        let routing_key = message.routing_key;
        match &self.table {
            BindingTable::Direct(by_key) => {
                for key in once(&routing_key).chain(message.further_keys) {
                    if let Some(bindings) = by_key.get(key) {
                        bindings.for_each(&mut found);
                    }
                }
            }
            BindingTable::Fanout(bucket) => bucket.iter().for_each(found),
            BindingTable::Topic(tree) if message.further_keys.is_empty() => tree.matches(routing_key, found),
            BindingTable::Topic(tree) => tree.matches_any(once(&routing_key).chain(message.further_keys), found),
            BindingTable::Headers(bucket) => {
                let headers = headers();
                for binding in bucket.iter() {
                    if headers.match_binding(binding.mode, Table::new(&binding.arguments)) {
                        found(binding);
                    }
                }
            }
            BindingTable::ConsistentHash(shares) => shares.pick(message).into_iter().for_each(found),
            BindingTable::ModulusHash(bucket) => {
                nth(bucket, hash_octets(routing_key.as_bytes()).into()).for_each(found)
            }
            BindingTable::Random(bucket) => nth(bucket, random()).for_each(found),
        }
    }

    /// All bindings from this exchange, through a callback.
    pub(super) fn for_each_binding<'t>(&'t self, mut each: impl FnMut(&'t Arc<Binding>)) {
        match &self.table {
            BindingTable::Direct(by_key) => {
                by_key.values().for_each(|bindings| bindings.for_each(&mut each));
            }
            BindingTable::Fanout(bucket)
            | BindingTable::Headers(bucket)
            | BindingTable::ModulusHash(bucket)
            | BindingTable::Random(bucket) => bucket.iter().for_each(each),
            BindingTable::Topic(tree) => tree.for_each(&mut each),
            BindingTable::ConsistentHash(shares) => shares.iter().for_each(each),
        }
    }
}

/// One binding of a bucket, if it has any: that at the place `number` modulo their count.
fn nth(bucket: &Bucket, number: u128) -> impl Iterator<Item = &Arc<Binding>> {
    let place = number.checked_rem(bucket.size() as u128).unwrap_or_default();
    bucket.iter().skip(place as usize).take(1)
}

/// The bindings of one key at a direct exchange. Most keys have one, and then it is one step away.
#[derive(Debug, Clone)]
enum KeyBindings {
    One(Arc<Binding>),
    Many(Bucket),
}

impl KeyBindings {
    fn count(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(bucket) => bucket.size(),
        }
    }

    fn insert(&mut self, binding: Arc<Binding>) {
        match self {
            Self::One(first) => {
                let bucket = Bucket::new_sync().insert(Arc::clone(first));
                *self = Self::Many(bucket.insert(binding));
            }
            Self::Many(bucket) => bucket.insert_mut(binding),
        }
    }

    /// Removes a binding that is there, and tells whether it was the last.
    fn remove(&mut self, binding: &Binding) -> bool {
        match self {
            Self::One(_) => true,
            Self::Many(bucket) => {
                bucket.remove_mut(binding);
                bucket.is_empty()
            }
        }
    }

    fn for_each<'t>(&'t self, mut each: impl FnMut(&'t Arc<Binding>)) {
        match self {
            Self::One(binding) => each(binding),
            Self::Many(bucket) => bucket.iter().for_each(each),
        }
    }
}
