//! A log for tests: payloads in memory, each a segment of its own.

use std::vec::Vec;

use bytes::Bytes;

use crate::location::{Bodies, Location};
use crate::message::Message;

#[derive(Debug, Clone, Default)]
pub(crate) struct FakeLog(Vec<Bytes>);

impl FakeLog {
    /// Takes what a shard wants logged.
    pub(crate) fn append(&mut self, slices: &[Bytes]) -> Location {
        self.0.push(Bytes::from(slices.concat()));
        self.place(self.0.len() - 1)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Every payload, with where it lies.
    pub(crate) fn payloads(&self) -> impl Iterator<Item = (Location, &Bytes)> {
        self.0.iter().enumerate().map(|(at, payload)| (self.place(at), payload))
    }

    fn place(&self, at: usize) -> Location {
        Location { segment: at as u32, offset: 0, len: self.0[at].len() as u32 }
    }
}

impl Bodies for FakeLog {
    fn read(&mut self, at: Location) -> Message {
        let octets = self.0[at.segment as usize].slice(at.offset as usize..(at.offset + at.len) as usize);
        Message::from_publish(octets).expect("it is the location of a publish")
    }
}
