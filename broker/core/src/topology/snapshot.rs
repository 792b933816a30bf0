//! The logged part of the topology as octets, so that the log before them can be given up.
//!
//! A snapshot is a sequence of changes in the form that the metadata's log has ([`Change::encode`]): first the queue ids
//! that are used up, then the exchanges, the queues and the bindings. A log entry of the metadata is such a sequence
//! too, so one function reads both.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Topology;
use super::change::{Change, ChangeError};
use super::vhost::Vhost;

impl Topology {
    /// Everything that is logged, and nothing else: [`Topology::replay`] makes of it, in an empty topology, what the
    /// log up to here would have made. Equal topologies give equal octets.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut octets = Vec::new();
        self.logged_changes().for_each(|change| change.encode(&mut octets));
        octets
    }

    /// Makes the changes true that a snapshot or an entry of the metadata's log holds.
    ///
    /// # Errors
    /// The octets are not changes. Those before the damage are true already.
    pub fn replay(&mut self, mut octets: &[u8]) -> Result<(), ChangeError> {
        while !octets.is_empty() {
            let (change, len) = Change::decode(octets)?;
            self.apply(&change);
            octets = &octets[len..];
        }
        Ok(())
    }

    /// In an order that depends on nothing but what there is; what a change needs comes before it.
    pub(super) fn logged_changes(&self) -> impl Iterator<Item = Change> {
        let exchanges = self.vhosts().flat_map(|vhost| {
            let logged = vhost.exchanges().filter(|record| record.durable && !Vhost::is_predeclared(&record.name));
            let mut records: Vec<_> = logged.map(Arc::clone).collect();
            records.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            records.into_iter().map(Change::CreateExchange)
        });
        let mut queues: Vec<_> = self.queues().filter(|record| record.is_logged()).map(Arc::clone).collect();
        queues.sort_unstable_by_key(|record| record.id);
        let queues = queues.into_iter().map(Change::CreateQueue);
        let bindings = self.vhosts().flat_map(Vhost::bindings).filter(|record| record.logged).map(Change::Bind);
        let ids = Change::QueueIds { next: self.next_logged_id };
        core::iter::once(ids).chain(exchanges).chain(queues).chain(bindings)
    }
}
