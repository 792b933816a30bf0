//! What a shard reads back from the log, on any octets: a snapshot, then an entry and a relocation behind it. Nothing
//! may panic or take memory that the octets do not warrant, and a snapshot that can be read encodes to one that says
//! the same.
//!
//! From `broker/core`: `RUSTC_BOOTSTRAP=1 cargo fuzz run snapshot -- -max_total_time=60`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use warren_core::command::{EntryHeader, encode_create};
use warren_core::queue::Shard;
use warren_core::{Location, Message, QueueId};

fuzz_target!(|octets: &[u8]| {
    let at = Location { segment: 1, offset: 24, len: 1 << 20 };
    let _ = Message::from_publish(octets.to_vec().into());
    // An entry needs queues to be about; the first octet says how many there are.
    let Some((count, rest)) = octets.split_first() else { return };
    let mut shard = Shard::new();
    for queue in 0..u32::from(count % 4) {
        let header = EntryHeader { commands: 1, epoch_start: false, now_ms: 0, epoch: 0 };
        let mut create = header.encode().to_vec();
        encode_create(QueueId(queue), &mut create);
        shard.replay(at, &create).expect("it is an entry");
    }
    let _ = shard.relocated(at, rest);
    let _ = shard.replay(at, rest);
    look_at(&shard);
    if let Ok(mut shard) = Shard::restore(octets) {
        look_at(&shard);
        shard.lead();
    }
});

fn look_at(shard: &Shard) {
    let snapshot = shard.snapshot();
    let encoded = snapshot.encode();
    let again = Shard::restore(&encoded).expect("what was encoded can be read");
    assert_eq!(again.snapshot().encode(), encoded);
    assert_eq!(again.totals().ready, shard.totals().ready);
    let live = snapshot.live();
    let survivors = snapshot.survivors(&live.keys().copied().collect());
    assert_eq!(survivors.iter().map(|survivor| survivor.references.len() as u64).sum::<u64>(), shard.totals().ready);
}
