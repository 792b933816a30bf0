//! What carries messages on when they leave their queue: dead letters to where the queue sends them, and messages of a
//! delayed exchange whose time has come.
//!
//! ```text
//! shard of the queue ── Forward ──▶ Forwarder ── Publish ──▶ shards of the next queues
//!                   ◀── Settle ──           ◀── Confirmed, Refused ──
//! ```
//!
//! The queue keeps a message until it is settled here, and that happens only when all its next queues have confirmed it:
//! no crash in between loses it, though it may double it. What cannot go anywhere is dropped, or, if the queue
//! dead-letters at least once, given back to the queue, which sends it again after a while.

#[cfg(test)]
mod cycle_tests;
mod death;
mod letter;
mod partly;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod way;

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::vec::Vec;

use crate::batch::{Parts, RunKind, ShardBatches};
use crate::identity::{ChannelKey, ConnectionId, QueueId, ShardId};
use crate::queue::{Event, Forward, PositionRange, Receipt, Settlement, ShardInput};
use crate::topology::{Route, Routes, Topology};
use letter::Letter;
use partly::Partly;
use way::Ways;

/// What a forwarder sees of the world.
pub struct World<'a> {
    /// The newest snapshot.
    pub topology: &'a Topology,
    /// Random bits, new at each call: for exchanges that draw lots.
    pub random: &'a mut dyn FnMut() -> u128,
}

/// The machine of all messages that are between two queues. What it holds is bounded by what the shards let out of each
/// queue at once.
#[derive(Debug, Default)]
pub struct Forwarder {
    /// Messages on their way, each under a number of its own.
    flights: BTreeMap<u64, Flight>,
    last_flight: u64,
    /// What is not answered yet, by number.
    publishes: BTreeMap<u64, Publish>,
    last_publish: u64,
    partly: Partly,
    ways: Ways,
    shards: ShardBatches,
    /// Octets of publishes since they were last taken.
    published: u64,
    /// Empty between calls, kept for its memory.
    routes: Routes,
    /// What has happened since it was last taken.
    pub counts: ForwardCounts,
}

/// How often things happened, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ForwardCounts {
    /// Messages that have reached all their next queues, dead letters or not.
    pub confirmed: u64,
    /// Of these, those of queues with the strategy `at-least-once`.
    pub at_least_once: u64,
    /// Messages that no queue took, and that are gone.
    pub dropped: u64,
}

/// Where a message stays until it is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Source {
    shard: ShardId,
    queue: QueueId,
    position: u64,
}

/// A message whose next queues have not all answered.
#[derive(Debug)]
struct Flight {
    source: Source,
    at_least_once: bool,
    /// A queue has refused it before. Shards do not say which, so that each queue is asked for itself now.
    is_retry: bool,
    /// Publishes that are not answered.
    open: usize,
    refused: bool,
    /// Of a message that must arrive: the queues that have it.
    arrived: Vec<QueueId>,
}

/// A message for some queues of one shard.
#[derive(Debug)]
struct Publish {
    flight: u64,
    /// The queues, if it matters which of them have it.
    queues: Vec<QueueId>,
}

impl Forwarder {
    /// A forwarder that has nothing under way.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in an event of a shard; those that do not concern it are skipped.
    pub fn shard_event(&mut self, shard: ShardId, event: Event, world: &mut World<'_>) {
        match event {
            Event::Forward(forward) => self.forward(shard, &forward, world),
            Event::Confirmed { first, len, .. } => self.answered(first, len, true),
            Event::Refused { first, len, .. } => self.answered(first, len, false),
            _ => {}
        }
    }

    /// Takes what is for a shard, in order; `None`: there is no more for any.
    pub fn next_shard_inputs(&mut self) -> Option<(ShardId, Vec<ShardInput>)> {
        self.shards.take_next()
    }

    /// Messages that are on their way.
    pub fn under_way(&self) -> usize {
        self.flights.len()
    }

    /// Octets of the publishes that it has made since this was last called: of each message once for each shard that gets it.
    pub fn take_published(&mut self) -> u64 {
        core::mem::take(&mut self.published)
    }

    fn forward(&mut self, shard: ShardId, forward: &Forward, world: &mut World<'_>) {
        let source = Source { shard, queue: forward.queue, position: forward.position };
        let Some(way) = self.ways.find(forward.queue, world.topology) else {
            return self.end(source);
        };
        let letter = Letter::new(forward, &way);
        self.routes.clear();
        letter.route(world, &mut self.routes);
        let leads_on = |route: &&Route| !letter.is_cycle(route, world.topology);
        let mut targets: Vec<Route> = self.routes.as_slice().iter().filter(leads_on).copied().collect();
        if targets.is_empty() && way.at_least_once {
            return self.give_back(source);
        }
        self.counts.dropped += u64::from(targets.is_empty());
        let arrived = self.partly.take(source);
        targets.retain(|target| !arrived.iter().flatten().any(|queue| *queue == target.queue));
        if targets.is_empty() {
            return self.end(source);
        }
        let parts = letter.parts(&self.routes);
        self.publish(Flight::new(source, way.at_least_once, arrived), &targets, letter.is_persistent(), parts);
    }

    /// Sends the message to the shards of its next queues.
    fn publish(&mut self, mut flight: Flight, targets: &[Route], persistent: bool, parts: Parts<'_>) {
        self.last_flight += 1;
        for group in targets.chunk_by(|a, b| !flight.is_retry && a.shard == b.shard) {
            for (kind, (count, queues)) in RunKind::split(group, persistent) {
                self.last_publish += 1;
                self.published += parts.len() as u64;
                flight.open += 1;
                let connection = ConnectionId::FORWARDER;
                let receipt = Receipt { connection, channel: 0, first: self.last_publish, len: 1, index: 0 };
                let queues: Vec<QueueId> = queues.collect();
                let to = (count, queues.iter().copied());
                self.shards.publish(group[0].shard, kind, to, parts, Some(receipt));
                let queues = if flight.at_least_once { queues } else { Vec::new() };
                self.publishes.insert(self.last_publish, Publish { flight: self.last_flight, queues });
            }
        }
        self.flights.insert(self.last_flight, flight);
    }

    /// A shard has answered these publishes: it has applied them, or a queue has refused them.
    fn answered(&mut self, first: u64, len: u64, confirmed: bool) {
        for number in first..first.saturating_add(len) {
            let Some(publish) = self.publishes.remove(&number) else { return };
            let Entry::Occupied(mut entry) = self.flights.entry(publish.flight) else { return };
            let flight = entry.get_mut();
            flight.open -= 1;
            flight.refused |= !confirmed;
            flight.arrived.extend(publish.queues.iter().filter(|_| confirmed));
            if flight.open == 0 {
                let flight = entry.remove();
                self.landed(flight);
            }
        }
    }

    /// All next queues have answered.
    fn landed(&mut self, flight: Flight) {
        if flight.refused && flight.at_least_once {
            self.partly.insert(flight.source, flight.arrived);
            return self.give_back(flight.source);
        }
        self.counts.dropped += u64::from(flight.refused);
        self.counts.confirmed += u64::from(!flight.refused);
        self.counts.at_least_once += u64::from(!flight.refused && flight.at_least_once);
        self.end(flight.source);
    }

    /// The queue keeps the message and sends it again later.
    fn give_back(&mut self, source: Source) {
        self.settle(source, Settlement::Return);
    }

    fn end(&mut self, source: Source) {
        self.settle(source, Settlement::Done);
    }

    fn settle(&mut self, source: Source, settlement: Settlement) {
        let range = PositionRange { first: source.position, len: 1 };
        self.shards.settle(source.shard, source.queue, ChannelKey::FORWARDER, range, settlement);
    }
}

impl Flight {
    /// `arrived`: which queues have it, if this is not the first attempt.
    fn new(source: Source, at_least_once: bool, arrived: Option<Vec<QueueId>>) -> Self {
        let (is_retry, arrived) = (arrived.is_some(), arrived.unwrap_or_default());
        Self { source, at_least_once, is_retry, open: 0, refused: false, arrived }
    }
}
