//! What clients know, what was promised to them and when, and whether a node that starts again keeps it.
//!
//! Time is counted in changes of the disk: what was promised after so many changes has to be kept by every disk that a
//! power cut after those changes, or later, may leave. The oracle numbers entries as the log does and so knows of every
//! message in which entry it came and in which it went; of the queues it only knows in which order things were asked.

use std::collections::{BTreeMap, BTreeSet};

use warren_core::ConsumerKey;
use warren_core::queue::Delivery;

use crate::message::{self, MessageId};
use crate::node::{QUEUES, SHARDS, shard_of};

/// One message in one queue.
#[derive(Debug, Clone)]
struct Queued {
    id: MessageId,
    len: usize,
    logged: bool,
    /// The entry that brings it.
    entry: Option<u64>,
    /// The entry that says it is done with.
    settled_in: Option<u64>,
    confirmed_at: Option<usize>,
    handed_out_at: Option<usize>,
    settled_at: Option<usize>,
    /// From then on it is gone for good, whatever the log says: a start did not find it.
    gone_at: Option<usize>,
    place: Place,
    /// It has to be flagged so when it is handed out next.
    redelivered: bool,
    /// The process found it flagged when it started.
    flagged_at_start: bool,
}

/// Where a message is in the life of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the queue; with its position, if that was seen.
    Waiting(Option<u64>),
    Held(u64, ConsumerKey),
    Done,
}

#[derive(Debug, Clone, Default)]
struct Queue {
    /// In the order in which they were published.
    copies: Vec<Queued>,
    /// When somebody asked this process for its messages for the first time.
    asked_at: Option<usize>,
}

/// What a start has found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// By shard, the last entry.
    pub(crate) last: BTreeMap<u16, u64>,
    /// By queue, its messages in order.
    pub(crate) queues: BTreeMap<u32, Vec<FoundMessage>>,
}

/// A message that was handed out by a node that had just started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FoundMessage {
    pub(crate) id: MessageId,
    /// Octets of its body, which were compared.
    pub(crate) len: usize,
    pub(crate) redelivered: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Oracle {
    queues: BTreeMap<u32, Queue>,
    /// By shard: after so many changes, so many entries were synced.
    synced: BTreeMap<u16, Vec<(usize, u64)>>,
    /// By shard, the last entry that was given to the log. A term begins with one that nobody proposed.
    proposed: BTreeMap<u16, u64>,
    /// What is to be confirmed, with the shard that has to.
    unconfirmed: BTreeSet<(u16, MessageId)>,
}

fn by(stamp: Option<usize>, changes: usize) -> bool {
    stamp.is_some_and(|stamp| stamp <= changes)
}

impl Oracle {
    pub(crate) fn new() -> Self {
        Self {
            queues: QUEUES.into_iter().map(|(queue, _)| (queue, Queue::default())).collect(),
            synced: SHARDS.into_iter().map(|shard| (shard, Vec::new())).collect(),
            proposed: SHARDS.into_iter().map(|shard| (shard, 1)).collect(),
            unconfirmed: BTreeSet::new(),
        }
    }

    fn queue(&mut self, queue: u32) -> &mut Queue {
        self.queues.get_mut(&queue).expect("it is one of the queues")
    }

    fn shard(&mut self, shard: u16) -> impl Iterator<Item = &mut Queued> {
        let queues = self.queues.iter_mut().filter(move |(queue, _)| shard_of(**queue) == shard);
        queues.flat_map(|(_, queue)| &mut queue.copies)
    }

    pub(crate) fn published(&mut self, queue: u32, id: MessageId, len: usize, logged: bool) {
        self.unconfirmed.insert((shard_of(queue), id));
        let queue = self.queue(queue);
        queue.copies.push(Queued {
            id,
            len,
            logged,
            entry: None,
            settled_in: None,
            confirmed_at: None,
            handed_out_at: None,
            settled_at: None,
            gone_at: None,
            place: Place::Waiting(None),
            redelivered: false,
            flagged_at_start: false,
        });
    }

    /// The shard has taken all that it had to log into this entry.
    pub(crate) fn proposed(&mut self, shard: u16, index: u64) {
        self.proposed.insert(shard, index);
        for copy in self.shard(shard).filter(|copy| copy.logged && copy.gone_at.is_none()) {
            if copy.entry.is_none() {
                copy.entry = Some(index);
            }
            if copy.settled_at.is_some() && copy.settled_in.is_none() {
                copy.settled_in = Some(index);
            }
        }
    }

    /// The log has synced this entry of the shard.
    pub(crate) fn synced(&mut self, shard: u16, index: u64, changes: usize) {
        self.synced.entry(shard).or_default().push((changes, index));
    }

    fn last_synced(&self, shard: u16, changes: usize) -> u64 {
        let synced = self.synced[&shard].iter().filter(|(at, _)| *at <= changes);
        synced.map(|(_, index)| *index).max().unwrap_or(0)
    }

    pub(crate) fn confirmed(&mut self, shard: u16, id: MessageId, changes: usize) {
        assert!(self.unconfirmed.remove(&(shard, id)), "{id:?} is confirmed by shard {shard} and was not to be");
        let synced = self.last_synced(shard, changes);
        for copy in self.shard(shard).filter(|copy| copy.id == id) {
            let durable = copy.entry.is_some_and(|entry| entry <= synced);
            assert!(durable || !copy.logged, "{id:?} is confirmed before it is synced");
            copy.confirmed_at = Some(changes);
        }
    }

    /// Everything that a publisher waits for was confirmed.
    pub(crate) fn check_all_confirmed(&self) {
        assert!(self.unconfirmed.is_empty(), "never confirmed: {:?}", self.unconfirmed);
    }

    /// Somebody will be handed messages of the queue.
    pub(crate) fn asked(&mut self, queue: u32, changes: usize) {
        self.queue(queue).asked_at.get_or_insert(changes);
    }

    /// A message has come; without acknowledgement it is done with.
    pub(crate) fn delivered(&mut self, delivery: &Delivery, holder: ConsumerKey, no_ack: bool, changes: usize) {
        let Delivery { queue: id, position, redelivered, message, .. } = delivery;
        let synced = self.last_synced(shard_of(id.0), changes);
        let queue = self.queue(id.0);
        let next = queue.copies.iter_mut().find(|copy| matches!(copy.place, Place::Waiting(_)));
        let came = message::id(message);
        let copy = next.unwrap_or_else(|| panic!("{came:?} comes from {id:?}, where nothing is left"));
        assert_eq!(came, copy.id, "{id:?} hands out another message than the first that waits");
        message::check(message, copy.len);
        if let Place::Waiting(Some(before)) = copy.place {
            assert_eq!(*position, before, "{came:?} is not where it was");
        }
        assert_eq!(*redelivered, copy.redelivered, "{came:?} of {id:?}: the flag `redelivered`");
        let durable = copy.entry.is_some_and(|entry| entry <= synced);
        assert!(durable || !copy.logged, "{came:?} is handed out before it is synced");
        copy.handed_out_at.get_or_insert(changes);
        copy.place = Place::Held(*position, holder);
        if no_ack {
            copy.place = Place::Done;
            copy.settled_at = Some(changes);
        }
        copy.redelivered = true;
    }

    /// The positions of messages of a queue that are held.
    pub(crate) fn held(&self, queue: u32) -> Vec<(ConsumerKey, u64)> {
        let position = |copy: &Queued| match copy.place {
            Place::Held(position, by) => Some((by, position)),
            _ => None,
        };
        self.queues[&queue].copies.iter().filter_map(position).collect()
    }

    pub(crate) fn settled(&mut self, queue: u32, positions: &[u64], requeue: bool, changes: usize) {
        for copy in &mut self.queue(queue).copies {
            if let Place::Held(position, _) = copy.place
                && positions.contains(&position)
            {
                copy.settle(position, requeue, changes);
            }
        }
    }

    /// What a consumer or channel holds goes back.
    pub(crate) fn left(&mut self, holder: ConsumerKey, changes: usize) {
        for copy in self.queues.values_mut().flat_map(|queue| &mut queue.copies) {
            match copy.place {
                Place::Held(position, by) if by == holder => copy.settle(position, true, changes),
                _ => {}
            }
        }
    }

    /// What a start has found on a disk that lost power after so many changes is what it has to be.
    pub(crate) fn check(&self, found: &Found, changes: usize) {
        for shard in SHARDS {
            let (last, synced) = (found.last[&shard], self.last_synced(shard, changes));
            assert!(last >= synced, "shard {shard} has entries up to {last}, and {synced} was synced");
            let proposed = self.proposed[&shard];
            assert!(last <= proposed, "shard {shard} has entries up to {last}, and {proposed} was proposed");
        }
        for (id, queue) in &self.queues {
            queue.check(*id, &found.queues[id], found.last[&shard_of(*id)], changes);
        }
    }

    /// Goes on from what a start has found after so many changes. What was found is durable after `durable_at` changes
    /// of the new life.
    pub(crate) fn restart(&mut self, found: &Found, changes: usize, durable_at: usize) {
        for shard in SHARDS {
            let kept = self.last_synced(shard, changes);
            self.synced.insert(shard, vec![(0, kept), (durable_at, found.last[&shard])]);
            self.proposed.insert(shard, found.last[&shard] + 1);
        }
        self.unconfirmed.clear();
        for (id, queue) in &mut self.queues {
            queue.restart(&found.queues[id], found.last[&shard_of(*id)], changes, durable_at);
        }
    }
}

impl Queued {
    fn settle(&mut self, position: u64, requeue: bool, changes: usize) {
        self.place = if requeue { Place::Waiting(Some(position)) } else { Place::Done };
        if !requeue {
            self.settled_at = Some(changes);
        }
    }
}

impl Queue {
    fn check(&self, id: u32, found: &[FoundMessage], last: u64, changes: usize) {
        let mut found = found.iter().peekable();
        for copy in &self.copies {
            let confirmed = by(copy.confirmed_at, changes);
            let logged = copy.entry.is_some_and(|entry| entry <= last);
            assert!(
                logged || !copy.logged || !confirmed,
                "{:?} of queue {id} is confirmed and not in the log",
                copy.id
            );
            let settled = copy.settled_in.is_some_and(|entry| entry <= last);
            let gone = !logged || settled || by(copy.gone_at, changes);
            let may_be_gone = gone || by(copy.settled_at, changes) || copy.gone_at.is_some();
            match found.next_if(|next| next.id == copy.id) {
                Some(FoundMessage { len, redelivered, .. }) => {
                    assert_eq!(*len, copy.len, "{:?} has another length", copy.id);
                    assert!(!gone, "queue {id} has {copy:?}, with entries up to {last}");
                    let handed_out = by(copy.handed_out_at, changes);
                    assert!(*redelivered || !handed_out, "queue {id}: handed out before, and not flagged: {copy:?}");
                    let asked = by(self.asked_at, changes);
                    // One that the last start did not find had no flag that could be seen.
                    let may_be_flagged = asked || copy.flagged_at_start || copy.gone_at.is_some();
                    assert!(!*redelivered || may_be_flagged, "queue {id}: nobody asked, and it is flagged: {copy:?}");
                }
                None => assert!(may_be_gone, "queue {id} has lost {copy:?}, with entries up to {last}"),
            }
        }
        assert_eq!(found.next(), None, "queue {id} has this, twice or out of order, or nobody published it");
    }

    fn restart(&mut self, found: &[FoundMessage], last: u64, changes: usize, durable_at: usize) {
        let found: BTreeMap<MessageId, bool> = found.iter().map(|one| (one.id, one.redelivered)).collect();
        let rebase = |stamp: &mut Option<usize>| *stamp = stamp.filter(|at| *at <= changes).map(|_| 0);
        self.copies.retain(|copy| copy.entry.is_some_and(|entry| entry <= last));
        for copy in &mut self.copies {
            [&mut copy.confirmed_at, &mut copy.handed_out_at, &mut copy.settled_at].into_iter().for_each(rebase);
            copy.settled_in = copy.settled_in.filter(|entry| *entry <= last);
            if let Some(redelivered) = found.get(&copy.id) {
                copy.place = Place::Waiting(None);
                (copy.redelivered, copy.flagged_at_start) = (*redelivered, *redelivered);
                (copy.settled_at, copy.settled_in, copy.gone_at) = (None, None, None);
            } else {
                copy.place = Place::Done;
                copy.gone_at = Some(if by(copy.gone_at, changes) { 0 } else { durable_at });
            }
        }
        self.asked_at = None;
    }
}
