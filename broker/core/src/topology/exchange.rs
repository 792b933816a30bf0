//! An exchange with its bindings, arranged so that routing touches only those that match.

use alloc::sync::Arc;

use rpds::RedBlackTreeSetSync;
use warren_amqp::Table;

use super::binding::Binding;
use super::headers::MessageHeaders;
use super::names::NameMap;
use super::records::{ExchangeKind, ExchangeRecord};
use super::topic::TopicTree;

/// Some bindings of one exchange.
pub(super) type Bucket = RedBlackTreeSetSync<Arc<Binding>>;

/// One exchange of a virtual host.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    pub(super) record: Arc<ExchangeRecord>,
    /// The alternate exchange, read from the arguments once.
    pub(super) alternate: Option<Arc<str>>,
    /// How many bindings lead from it.
    pub(super) bindings: usize,
    table: BindingTable,
}

#[derive(Debug, Clone)]
enum BindingTable {
    Direct(NameMap<Bucket>),
    Fanout(Bucket),
    Topic(TopicTree),
    Headers(Bucket),
}

impl Exchange {
    pub(super) fn new(record: Arc<ExchangeRecord>) -> Self {
        let table = match record.kind {
            ExchangeKind::Direct => BindingTable::Direct(NameMap::new()),
            ExchangeKind::Fanout => BindingTable::Fanout(Bucket::new_sync()),
            ExchangeKind::Topic => BindingTable::Topic(TopicTree::new()),
            ExchangeKind::Headers => BindingTable::Headers(Bucket::new_sync()),
        };
        Self { alternate: record.alternate(), record, bindings: 0, table }
    }

    /// Adds a binding that is not there yet.
    pub(super) fn insert(&mut self, binding: Arc<Binding>) {
        self.bindings += 1;
        match &mut self.table {
            BindingTable::Direct(by_key) => by_key.update(&binding.routing_key.clone(), |bucket| {
                let mut bucket = bucket.cloned().unwrap_or_else(Bucket::new_sync);
                bucket.insert_mut(binding);
                Some(bucket)
            }),
            BindingTable::Fanout(bucket) | BindingTable::Headers(bucket) => bucket.insert_mut(binding),
            BindingTable::Topic(tree) => tree.insert(binding),
        }
    }

    /// Removes a binding that is there.
    pub(super) fn remove(&mut self, binding: &Binding) {
        self.bindings -= 1;
        match &mut self.table {
            BindingTable::Direct(by_key) => by_key.update(&binding.routing_key, |bucket| {
                let mut bucket = bucket.cloned()?;
                bucket.remove_mut(binding);
                (!bucket.is_empty()).then_some(bucket)
            }),
            BindingTable::Fanout(bucket) | BindingTable::Headers(bucket) => {
                bucket.remove_mut(binding);
            }
            BindingTable::Topic(tree) => tree.remove(binding),
        }
    }

    /// How many bindings one message may have to look at or match, if its routing key is `routing_key`.
    pub(super) fn reach(&self, routing_key: &str) -> usize {
        match &self.table {
            BindingTable::Direct(by_key) => by_key.get(routing_key).map_or(0, Bucket::size),
            BindingTable::Fanout(_) | BindingTable::Headers(_) | BindingTable::Topic(_) => self.bindings,
        }
    }

    /// Calls `found` with each binding that takes the message. `headers` is called by headers exchanges only.
    pub(super) fn matches<'t, 'h, 'm: 'h>(
        &'t self,
        routing_key: &str,
        headers: impl FnOnce() -> &'h MessageHeaders<'m>,
        mut found: impl FnMut(&'t Arc<Binding>),
    ) {
        match &self.table {
            BindingTable::Direct(by_key) => match by_key.get(routing_key) {
                // An iterator allocates; most keys have one binding.
                Some(bucket) if bucket.size() == 1 => bucket.first().into_iter().for_each(found),
                Some(bucket) => bucket.iter().for_each(found),
                None => {}
            },
            BindingTable::Fanout(bucket) => bucket.iter().for_each(found),
            BindingTable::Topic(tree) => tree.matches(routing_key, found),
            BindingTable::Headers(bucket) => {
                let headers = headers();
                for binding in bucket.iter() {
                    if headers.match_binding(Table::new(&binding.arguments)) {
                        found(binding);
                    }
                }
            }
        }
    }

    /// All bindings from this exchange, through a callback.
    pub(super) fn for_each_binding<'t>(&'t self, mut each: impl FnMut(&'t Arc<Binding>)) {
        match &self.table {
            BindingTable::Direct(by_key) => by_key.values().flat_map(Bucket::iter).for_each(each),
            BindingTable::Fanout(bucket) | BindingTable::Headers(bucket) => bucket.iter().for_each(each),
            BindingTable::Topic(tree) => tree.for_each(&mut each),
        }
    }
}
