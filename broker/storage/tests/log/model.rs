//! The log against its model, a list of records.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use warren_storage::{FaultyDisk, Kind, Record, Tag};

use crate::world::{Item, open, small};

#[derive(Debug, Clone)]
enum Step {
    /// A record whose payload comes in these parts.
    Append(Kind, u16, u64, u64, Vec<Vec<u8>>),
    Write,
    Sync,
    Mark,
    /// Close and open.
    Reopen,
    /// Kill the process: what is staged in it is lost, what was written is not.
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        Just(Kind::Entry),
        Just(Kind::Vote),
        Just(Kind::Truncate),
        Just(Kind::CommitHint),
        Just(Kind::Purge),
        Just(Kind::Relocation)
    ];
    let payload = vec(vec(any::<u8>(), 0..900), 0..4);
    let append = (kind, any::<u16>(), any::<u64>(), any::<u64>(), payload)
        .prop_map(|(kind, shard, term, index, payload)| Step::Append(kind, shard, term, index, payload));
    prop_oneof![8 => append, 1 => Just(Step::Write), 2 => Just(Step::Sync), 1 => Just(Step::Mark),
        1 => Just(Step::Reopen), 1 => Just(Step::Kill)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_appended_comes_back_in_order(steps in vec(step(), 1..60), segment_pages in 2u32..6) {
        let mut disk = FaultyDisk::new(512);
        let segment_len = 4096 * segment_pages;
        let (mut log, _) = open(disk.clone(), small(segment_len, 0)).unwrap();
        let mut model: Vec<Item> = Vec::new();
        let mut places = Vec::new();
        let mut written = 0;
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Append(kind, shard, term, index, parts) => {
                    let tag = Tag { kind, shard, term, index };
                    let parts: Vec<Bytes> = parts.into_iter().map(Bytes::from).collect();
                    let record = Record::new(tag, parts.clone()).unwrap();
                    let segment = log.active_segment();
                    places.push(log.append(&record).unwrap());
                    if log.active_segment() != segment {
                        written = model.len();
                    }
                    model.push((tag, parts.concat().into()));
                }
                Step::Write => {
                    log.write().unwrap();
                    written = model.len();
                }
                Step::Sync => {
                    log.sync().unwrap();
                    written = model.len();
                }
                Step::Mark => log.mark().unwrap(),
                Step::Reopen | Step::Kill => {
                    if matches!(step, Step::Reopen) {
                        log.write().unwrap();
                        written = model.len();
                    }
                    drop(log);
                    model.truncate(written);
                    places.truncate(written);
                    disk = disk.restart();
                    let (reopened, found) = open(disk.clone(), small(segment_len, 1 + number as u64)).unwrap();
                    prop_assert_eq!(&found, &model);
                    log = reopened;
                }
            }
        }
        log.sync().unwrap();
        for (place, (_, payload)) in places.iter().zip(&model) {
            prop_assert_eq!(&log.reader().read(*place).unwrap(), payload);
        }
    }
}
