//! A shard's logged state: built from the log, and put together for it.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::admission::Arrival;
use super::duplicates::Duplicates;
use super::levels::Levels;
use super::shard::Shard;
use super::snapshot::{QueueSnapshot, Reader, Snapshot, SnapshotError};
use super::store::{Body, Logged};
use super::{Queue, QueueSettings};
use crate::command::{self, Command, EntryError, EntryHeader, SequenceRange};
use crate::identity::QueueId;
use crate::location::Location;

/// The settings of a queue of which the log says no more than that it is there.
fn logged() -> QueueSettings {
    QueueSettings { logged: true, ..QueueSettings::default() }
}

impl Shard {
    /// What a snapshot says. The entries behind it are still to be replayed.
    ///
    /// # Errors
    /// `octets` are not a snapshot that this version can read.
    pub fn restore(octets: &[u8]) -> Result<Self, SnapshotError> {
        let mut reader = Reader::new(octets)?;
        let mut shard = Self::new();
        shard.epoch = reader.epoch();
        while let Some(head) = reader.queue()? {
            let mut queue = Queue::new(head.id, head.settings.clone(), 0);
            queue.attached = head.attached;
            match &mut queue.stream {
                Some(stream) => stream.messages = reader.stream(&head)?,
                None => {
                    queue.store = Levels::restored(head.next_sequence, head.redelivered_below);
                    queue.store.expect(queue.level(None));
                    reader.messages(&head, |priority, message| queue.restore(priority, message))?;
                }
            }
            if let Some(rules) = queue.rules.as_mut().filter(|_| !head.keys.is_empty()) {
                rules.duplicates = Some(Box::new(Duplicates::restored(head.keys)));
            }
            shard.queues.insert(head.id, Box::new(queue));
        }
        Ok(shard)
    }

    /// The logged state as it is now, cheaply.
    pub fn snapshot(&self) -> Snapshot {
        let logged = self.queues.values().filter(|queue| queue.settings.logged);
        let queues = logged.map(|queue| queue.share()).collect();
        Snapshot { epoch: self.epoch, queues }
    }

    /// The log holds messages again at `at`, the payload of a relocation (see [`command`]). Those that are still live
    /// are read from there from now on.
    ///
    /// # Errors
    /// `payload` is not a relocation.
    pub fn relocated(&mut self, at: Location, payload: &[u8]) -> Result<(), EntryError> {
        let mut in_streams: BTreeMap<QueueId, Vec<(u64, Location)>> = BTreeMap::new();
        command::decode_relocation(payload, |reference, publish| {
            let location = at.part(publish.start as u32, publish.len() as u32);
            let (Some(queue), Some(location)) = (self.queues.get_mut(&reference.queue), location) else {
                return;
            };
            if queue.stream.is_some() {
                in_streams.entry(reference.queue).or_default().push((reference.sequence, location));
            } else {
                queue.store.relocate(reference.sequence, location);
            }
        })?;
        for (id, mut moved) in in_streams {
            moved.sort_unstable();
            if let Some(stream) = self.queues.get_mut(&id).and_then(|queue| queue.stream.as_mut()) {
                stream.messages.relocate(&moved);
            }
        }
        Ok(())
    }

    /// Applies `entry`, the payload of a log record at `at`. Only before the first [`Self::handle`].
    ///
    /// # Errors
    /// `entry` is not an entry that this version can read; the shard is of no further use.
    pub fn replay(&mut self, at: Location, entry: &[u8]) -> Result<(), EntryError> {
        let mut rest = entry;
        let header = EntryHeader::decode(&mut rest)?;
        self.epoch = header.epoch;
        if header.epoch_start {
            self.queues.values_mut().for_each(|queue| queue.start_epoch());
        }
        for _ in 0..header.commands {
            let start = entry.len() - rest.len();
            let command = command::decode_command(&mut rest)?;
            let len = entry.len() - rest.len() - start;
            let location = at.part(start as u32, len as u32).ok_or(EntryError::Truncated)?;
            self.replay_command(command, location, header.now_ms)?;
        }
        if rest.is_empty() { Ok(()) } else { Err(EntryError::Trailing) }
    }

    fn replay_command(&mut self, command: Command<'_>, location: Location, time_ms: u64) -> Result<(), EntryError> {
        match command {
            Command::Publish(publish) => {
                publish.check_names()?;
                let shared = publish.only_queue().is_none();
                for id in publish.queues() {
                    if let Some(queue) = self.queues.get_mut(&id) {
                        queue.replay(Arrival { publish, body: Body::Log { location, shared }, time_ms });
                    }
                }
            }
            Command::Settle { queue, ranges } => {
                if let Some(queue) = self.queues.get_mut(&queue) {
                    ranges.into_iter().for_each(|range| queue.forget(range));
                }
            }
            Command::Create(id) => {
                self.queues.entry(id).or_insert_with(|| Box::new(Queue::new(id, logged(), 0)));
            }
            Command::Delete(id) => drop(self.queues.remove(&id)),
            Command::Failed { queue, ranges } => {
                if let Some(queue) = self.queues.get_mut(&queue) {
                    ranges.into_iter().for_each(|failed| queue.store.raise_count(failed.range, failed.count));
                }
            }
            Command::Unlearn { queue, key, sequence } => {
                if let Some(queue) = self.queues.get_mut(&queue) {
                    queue.unlearn(key);
                    sequence.into_iter().for_each(|first| queue.forget(SequenceRange { first, len: 1 }));
                }
            }
            Command::Configure(id, settings) => {
                if let Some(queue) = self.queues.get_mut(&id) {
                    queue.configure(settings, 0);
                }
            }
            Command::Attach(id) => {
                if let Some(queue) = self.queues.get_mut(&id) {
                    queue.attached = true;
                }
            }
        }
        Ok(())
    }
}

impl Queue {
    fn next_sequence(&self) -> u64 {
        self.stream.as_ref().map_or_else(|| self.store.next_sequence(), |stream| stream.messages.next_offset())
    }

    /// Messages are done with, as the log says.
    fn forget(&mut self, range: SequenceRange) {
        match &mut self.stream {
            None => self.store.forget(range),
            Some(stream) => stream.messages.forget(range),
        }
    }

    fn share(&self) -> QueueSnapshot {
        let duplicates = self.rules.as_ref().and_then(|rules| rules.duplicates.as_ref());
        QueueSnapshot {
            id: self.id,
            attached: self.attached,
            next_sequence: self.next_sequence(),
            redelivered_below: self.store.redelivered_below(),
            settings: QueueSettings::clone(&self.settings),
            keys: duplicates.map(|duplicates| duplicates.logged()).unwrap_or_default(),
            levels: self.store.share(),
            stream: self.stream.as_ref().map(|stream| stream.messages.share()),
        }
    }

    /// Takes in a message of a snapshot. Its own time makes rules necessary.
    fn restore(&mut self, priority: u8, message: Logged) {
        if message.extra.time_ms != 0 && self.rules.is_none() {
            self.rules = Some(Box::default());
        }
        self.store.restore(priority, message);
    }
}
