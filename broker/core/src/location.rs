//! Where octets lie in the node's log, and how the machines get them back from there.

use crate::message::Message;

/// Octets in the node's log: a payload, a command in it, or any other part. The log's own words, taken over as numbers:
/// the machines compare and cut locations and never look behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The segment's sequence number; segments are numbered in the order they are written.
    pub segment: u32,
    /// Octets from the start of the segment.
    pub offset: u32,
    /// How many octets.
    pub len: u32,
}

impl Location {
    /// The `len` octets that begin `from` octets into this location; `None` if they are not all in it.
    pub fn part(self, from: u32, len: u32) -> Option<Self> {
        let end = from.checked_add(len)?;
        let offset = self.offset.checked_add(from)?;
        (end <= self.len).then_some(Self { segment: self.segment, offset, len })
    }

    /// Where it ends, in octets from the start of the segment.
    pub(crate) fn end(self) -> u64 {
        u64::from(self.offset) + u64::from(self.len)
    }

    /// How far into this location `other` begins; `None` unless all of it lies within.
    pub(crate) fn offset_of(self, other: Self) -> Option<u32> {
        let within = self.segment == other.segment && other.end() <= self.end();
        other.offset.checked_sub(self.offset).filter(|_| within)
    }
}

/// Reads logged messages back. Handed to a machine with each call that may hand messages out.
pub trait Bodies {
    /// The message of the publish command at `at`, which an entry or a relocation had there: see
    /// [`Message::from_publish`]. There is no answer for octets that cannot be read or are not a publish: then nothing
    /// that the node says about its messages is known to be true, and the implementation ends the process.
    fn read(&mut self, at: Location) -> Message;
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Location = Location { segment: 3, offset: 100, len: 50 };

    #[test]
    fn a_part_lies_within_its_whole_or_is_refused() {
        assert_eq!(WHOLE.part(10, 40), Some(Location { segment: 3, offset: 110, len: 40 }));
        assert_eq!(WHOLE.part(50, 0), Some(Location { segment: 3, offset: 150, len: 0 }));
        assert_eq!(WHOLE.part(10, 41), None);
        assert_eq!(WHOLE.part(u32::MAX, 2), None);
    }

    #[test]
    fn a_part_is_found_where_it_was_cut() {
        let part = Location { segment: 3, offset: 110, len: 40 };
        assert_eq!(WHOLE.offset_of(part), Some(10));
        assert_eq!(WHOLE.offset_of(Location { segment: 4, ..part }), None);
        assert_eq!(WHOLE.offset_of(Location { len: 41, ..part }), None);
        assert_eq!(WHOLE.offset_of(Location { offset: 99, ..part }), None);
    }
}
