//! A log as shards see it, in memory: records in small segments, which can be given up.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use warren_core::command::{Command, Reference, decode_command, encode_relocation};
use warren_core::queue::{Snapshot, Survivor};
use warren_core::{Bodies, Location, Message};

/// Octets after which a segment is full; the record that reaches it is its last.
const SEGMENT_BYTES: u32 = 2 << 10;
const ENTRY_HEADER_LEN: usize = 24;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The entry of that number; the first has 1.
    Entry(usize),
    Relocation,
}

#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    pub(crate) at: Location,
    pub(crate) payload: Bytes,
}

/// A place in the log between two records, and the last entry before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) records: usize,
    pub(crate) entries: usize,
}

/// A snapshot that is on disk, and what it has of the log.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoint {
    pub(crate) point: Point,
    pub(crate) octets: Vec<u8>,
}

#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Also those whose segments are given up: what is read of them is another matter.
    pub(crate) records: Vec<Record>,
    entries: usize,
    pub(crate) checkpoint: Option<Checkpoint>,
    end: (u32, u32),
    given_up: BTreeSet<u32>,
    /// Where each message is, by the number that its body is.
    places: BTreeMap<u64, Location>,
}

impl Log {
    pub(crate) fn append_entry(&mut self, payload: Bytes) -> Location {
        self.entries += 1;
        let at = self.append(Kind::Entry(self.entries), payload.clone());
        let mut rest = &payload[ENTRY_HEADER_LEN..];
        while !rest.is_empty() {
            let start = payload.len() - rest.len();
            let command = decode_command(&mut rest).expect("a shard writes what can be read");
            if let Command::Publish(publish) = command {
                self.place(at, start, publish.len());
            }
        }
        at
    }

    /// Where the next record will be.
    pub(crate) fn end(&self) -> Point {
        Point { records: self.records.len(), entries: self.entries }
    }

    fn append(&mut self, kind: Kind, payload: Bytes) -> Location {
        let (segment, offset) = self.end;
        let len = u32::try_from(payload.len()).expect("records are short");
        let at = Location { segment, offset, len };
        let end = offset + len + 40;
        self.end = if end < SEGMENT_BYTES { (segment, end) } else { (segment + 1, 4_096) };
        self.records.push(Record { kind, at, payload });
        at
    }

    /// Remembers where the message of a publish is.
    fn place(&mut self, record: Location, start: usize, len: usize) {
        let at = record.part(start as u32, len as u32).expect("a command is within its record");
        let id = id(&self.read(at));
        self.places.insert(id, at);
    }

    /// Writes a checkpoint, gives up what it does not need, and begins to move what lives in every second segment.
    /// Answers the relocation, for the shard to be told.
    pub(crate) fn write_checkpoint(&mut self, snapshot: &Snapshot, point: Point) -> Option<(Location, Bytes)> {
        self.checkpoint = Some(Checkpoint { point, octets: snapshot.encode() });
        let live = snapshot.live();
        let before: BTreeSet<u32> = (0..self.first_needed_segment()).collect();
        self.given_up.extend(before.iter().filter(|segment| !live.contains_key(segment)));
        let moved = snapshot.survivors(&before.into_iter().filter(|segment| segment % 2 == 0).collect());
        (!moved.is_empty()).then(|| self.relocate(&moved))
    }

    fn relocate(&mut self, survivors: &[Survivor]) -> (Location, Bytes) {
        let publishes: Vec<Bytes> = survivors.iter().map(|survivor| self.octets(survivor.location)).collect();
        let items = survivors.iter().zip(&publishes);
        let mut payload = Vec::new();
        encode_relocation(items.map(|(survivor, publish)| (&survivor.references[..], &publish[..])), &mut payload);
        let payload = Bytes::from(payload);
        let at = self.append(Kind::Relocation, payload.clone());
        let mut start = 4;
        for (survivor, publish) in survivors.iter().zip(&publishes) {
            start += 4 + 12 * survivor.references.len();
            self.place(at, start, publish.len());
            start += publish.len();
        }
        (at, payload)
    }

    /// What the checkpoint has.
    pub(crate) fn covered(&self) -> Point {
        self.checkpoint.as_ref().map(|checkpoint| checkpoint.point).unwrap_or_default()
    }

    /// The segment of the first record that the checkpoint does not have.
    fn first_needed_segment(&self) -> u32 {
        self.records.get(self.covered().records).map_or(self.end.0, |record| record.at.segment)
    }

    /// The first record that a recovery can begin with: all from there on are still on disk.
    pub(crate) fn first_possible(&self) -> usize {
        self.records.iter().rposition(|record| self.given_up.contains(&record.at.segment)).map_or(0, |last| last + 1)
    }

    /// What messages of these numbers take up, by segment.
    pub(crate) fn live(&self, ids: &BTreeSet<u64>) -> BTreeMap<u32, u64> {
        let mut live = BTreeMap::new();
        for id in ids {
            let Location { segment, len, .. } = self.places[id];
            *live.entry(segment).or_insert(0) += u64::from(len);
        }
        live
    }

    /// Which messages a snapshot has, as queue and number.
    pub(crate) fn contents(&mut self, snapshot: &Snapshot) -> BTreeSet<(u32, u64)> {
        let mut contents = BTreeSet::new();
        for Survivor { location, references } in snapshot.survivors(&(0..=self.end.0).collect()) {
            let id = id(&self.read(location));
            assert_eq!(self.places[&id], location, "message {id} is where it was written last");
            for Reference { queue, .. } in references {
                assert!(contents.insert((queue.0, id)), "message {id} is twice in queue {}", queue.0);
            }
        }
        contents
    }

    fn octets(&self, at: Location) -> Bytes {
        assert!(!self.given_up.contains(&at.segment), "{at:?} is read after it was given up");
        let behind =
            self.records.partition_point(|record| (record.at.segment, record.at.offset) <= (at.segment, at.offset));
        let record = &self.records[behind - 1];
        let start = (at.offset - record.at.offset) as usize;
        record.payload.slice(start..start + at.len as usize)
    }
}

impl Bodies for Log {
    fn read(&mut self, at: Location) -> Message {
        Message::from_publish(self.octets(at)).expect("it is the location of a publish")
    }
}

/// The number that a message's body is.
pub(crate) fn id(message: &Message) -> u64 {
    u64::from_be_bytes(message.body().try_into().expect("bodies are numbers"))
}
