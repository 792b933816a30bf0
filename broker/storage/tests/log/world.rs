//! What the tests share: small logs, records that know their own content, a repeatable source of randomness.

use bytes::Bytes;
use warren_storage::{Disk, Kind, Log, OpenError, Options, Random, Record, Recovered, Tag};

/// A record without its place: what must come back.
pub(crate) type Item = (Tag, Bytes);

/// A log of small segments. `seed` must differ between openings of one folder, as it does in life.
pub(crate) fn small(segment_len: u32, seed: u64) -> Options {
    Options { segment_len, first_segment_len: segment_len, reserve: 0, epoch_seed: seed, ..Options::default() }
}

pub(crate) fn open<D: Disk>(disk: D, options: Options) -> Result<(Log<D>, Vec<Item>), OpenError> {
    let mut found = Vec::new();
    let log = Log::open(disk, options, |recovered| match recovered {
        Recovered::Record { tag, payload, .. } => found.push((tag, payload)),
        Recovered::Snapshot(snapshot) => panic!("a log without checkpoints gave {snapshot:?}"),
    })?;
    Ok((log, found))
}

/// The record number `index`, with a payload of `len` bytes that no other number has.
pub(crate) fn item(index: u64, len: usize) -> Item {
    let tag = Tag { kind: Kind::Entry, shard: (index % 3) as u16, term: 1 + index / 10, index };
    let mut random = Random(index);
    let mut payload = Vec::with_capacity(len + 8);
    while payload.len() < len {
        payload.extend_from_slice(&random.next_u64().to_le_bytes());
    }
    payload.truncate(len);
    (tag, payload.into())
}

pub(crate) fn record(item: &Item) -> Record {
    Record::new(item.0, vec![item.1.clone()]).unwrap()
}

/// The seeds to run: `count` of them, or the one in `WARREN_SEED`.
pub(crate) fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("WARREN_SEED") {
        Ok(seed) => vec![seed.parse().expect("WARREN_SEED is a number")],
        Err(_) => (0..count).collect(),
    }
}

/// Runs a test for each seed and says how to repeat the one that fails.
pub(crate) fn for_each_seed(count: u64, test: &str, run: impl Fn(u64) + std::panic::RefUnwindSafe) {
    for seed in seeds(count) {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            println!("seed {seed} fails; replay: WARREN_SEED={seed} cargo test -p warren-storage --test log {test}");
            std::panic::resume_unwind(panic);
        }
    }
}
