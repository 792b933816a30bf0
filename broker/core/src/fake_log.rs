//! A log for tests: payloads in memory, each a segment of its own.

use std::vec::Vec;

use bytes::Bytes;

use crate::location::{Bodies, Location};
use crate::message::Message;

#[derive(Debug, Clone, Default)]
pub(crate) struct FakeLog {
    payloads: Vec<Bytes>,
    reads: usize,
}

impl FakeLog {
    /// Takes what a shard wants logged.
    pub(crate) fn append(&mut self, slices: &[Bytes]) -> Location {
        self.payloads.push(Bytes::from(slices.concat()));
        self.place(self.payloads.len() - 1)
    }

    pub(crate) fn len(&self) -> usize {
        self.payloads.len()
    }

    /// Every payload, with where it lies.
    pub(crate) fn payloads(&self) -> impl Iterator<Item = (Location, &Bytes)> {
        self.payloads.iter().enumerate().map(|(at, payload)| (self.place(at), payload))
    }

    /// How many messages were read.
    pub(crate) fn reads(&self) -> usize {
        self.reads
    }

    pub(crate) fn octets(&self, at: Location) -> Bytes {
        self.payloads[at.segment as usize].slice(at.offset as usize..(at.offset + at.len) as usize)
    }

    fn place(&self, at: usize) -> Location {
        Location { segment: at as u32, offset: 0, len: self.payloads[at].len() as u32 }
    }
}

impl Bodies for FakeLog {
    fn read(&mut self, at: Location) -> Message {
        self.reads += 1;
        Message::from_publish(self.octets(at)).expect("it is the location of a publish")
    }
}
