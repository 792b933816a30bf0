//! What was committed a moment ago, still in memory: consumers that keep up never wait for the disk.

use alloc::collections::VecDeque;

use bytes::Bytes;

use crate::command::Publish;
use crate::limits::RECENT_BYTES;
use crate::location::Location;
use crate::message::Message;

/// What a run costs beside its octets, roughly, so that many small ones are bounded too.
const RUN_COST: usize = 64;

/// The last runs of publishes that came back from the log.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// In the order of the log.
    runs: VecDeque<(Location, Bytes)>,
    bytes: usize,
    /// The run that was asked for last: the next question is about the same or the one behind it.
    last: usize,
}

impl Recent {
    /// Keeps a run that lies `at`, whatever its size, until the next [`Self::trim`].
    pub(super) fn push(&mut self, at: Location, commands: Bytes) {
        self.bytes += commands.len() + RUN_COST;
        self.runs.push_back((at, commands));
    }

    /// Forgets the oldest runs until the rest is within its bound.
    pub(super) fn trim(&mut self) {
        while self.bytes > RECENT_BYTES
            && let Some((_, commands)) = self.runs.pop_front()
        {
            self.bytes -= commands.len() + RUN_COST;
            self.last = self.last.saturating_sub(1);
        }
    }

    /// The message of the publish command at `location`, if it is still here.
    pub(super) fn message(&mut self, location: Location) -> Option<Message> {
        let (run, from) = self.find(location)?;
        let publish = Publish::decode(&run[from..]).ok()?;
        Some(Message::within(run, from, &publish))
    }

    fn find(&mut self, location: Location) -> Option<(&Bytes, usize)> {
        let has = |at: usize| self.runs.get(at).is_some_and(|(run, _)| run.offset_of(location).is_some());
        let at = [self.last, self.last + 1].into_iter().find(|at| has(*at)).unwrap_or_else(|| {
            let behind = |run: &Location| (run.segment, run.offset) <= (location.segment, location.offset);
            self.runs.partition_point(|(run, _)| behind(run)).saturating_sub(1)
        });
        self.last = at;
        let (run, commands) = self.runs.get(at)?;
        Some((commands, run.offset_of(location)? as usize))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;
    use crate::QueueId;
    use crate::command::{Attributes, encode_publish_head};

    /// A run of `count` publishes whose bodies are their numbers, and where each begins.
    fn run(count: u8) -> (Bytes, Vec<u32>) {
        let (mut commands, mut starts) = (vec![], vec![]);
        for number in 0..count {
            starts.push(commands.len() as u32);
            encode_publish_head((1, [QueueId(1)].into_iter()), 0, 0, 0, 1, &Attributes::default(), &mut commands);
            commands.push(number);
        }
        (Bytes::from(commands), starts)
    }

    #[test]
    fn each_message_is_found_at_its_place_and_nothing_beside_it() {
        let (commands, starts) = run(3);
        let mut recent = Recent::default();
        let places = [(1, 500), (1, 900), (2, 24)];
        for (segment, offset) in places {
            recent.push(Location { segment, offset, len: commands.len() as u32 }, commands.clone());
        }
        let asked = places.iter().rev().flat_map(|place| starts.iter().enumerate().map(move |start| (place, start)));
        for ((segment, offset), (number, start)) in asked {
            let location = Location { segment: *segment, offset: offset + start, len: 21 };
            let message = recent.message(location).expect("it was pushed");
            assert_eq!(message.body(), [number as u8]);
        }
        for missing in [(1, 400), (1, 1_500), (3, 24), (0, 900)] {
            let location = Location { segment: missing.0, offset: missing.1, len: 21 };
            assert_eq!(recent.message(location), None, "{missing:?}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_newest_stay() {
        let mut recent = Recent::default();
        let commands = Bytes::from(vec![0; 100 << 10]);
        for segment in 0..50 {
            recent.push(Location { segment, offset: 0, len: commands.len() as u32 }, commands.clone());
            recent.trim();
            assert!(recent.bytes <= RECENT_BYTES);
        }
        assert_eq!(recent.runs.len(), RECENT_BYTES / (commands.len() + RUN_COST));
        assert_eq!(recent.runs.back().map(|(run, _)| run.segment), Some(49));
        let huge = Bytes::from(vec![0; RECENT_BYTES + 1]);
        recent.push(Location { segment: 50, offset: 0, len: huge.len() as u32 }, huge);
        recent.trim();
        assert_eq!((recent.runs.len(), recent.bytes), (0, 0));
    }
}
