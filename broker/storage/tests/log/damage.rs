//! Damage to what was synced is told from the torn tail of a crash: refused, never silently cut.

use warren_storage::segment::file_name;
use warren_storage::{FaultyDisk, Identity, OpenError, Options, Random};

use crate::world::{Item, item, open, record, small};

const SEGMENT_LEN: u32 = 16 << 10;

/// Five synced batches of three records, each in its place; then the mark of an idle log.
struct Sound {
    disk: FaultyDisk,
    items: Vec<Item>,
    /// Where each record's header begins in the only segment.
    offsets: Vec<usize>,
}

fn sound() -> Sound {
    let disk = FaultyDisk::new(512);
    let (mut log, _) = open(disk.clone(), small(SEGMENT_LEN, 1)).unwrap();
    let (mut items, mut offsets) = (Vec::new(), Vec::new());
    for batch in 0..5 {
        for number in 0..3 {
            let next = item(batch * 3 + number, 10 + 37 * number as usize);
            offsets.push(log.append(&record(&next)).unwrap().offset as usize - 40);
            items.push(next);
        }
        log.sync().unwrap();
    }
    log.mark().unwrap();
    Sound { disk, items, offsets }
}

impl Sound {
    fn with(&self, change: impl FnOnce(&mut Vec<u8>)) -> FaultyDisk {
        let mut bytes = self.disk.contents(&file_name(0)).unwrap();
        change(&mut bytes);
        let disk = FaultyDisk::new(512);
        disk.set_contents(&file_name(0), &bytes);
        disk
    }
}

fn refused_as_damaged(disk: FaultyDisk, what: &str) {
    match open(disk, small(SEGMENT_LEN, 2)) {
        Err(OpenError::Corrupt { .. }) => {}
        Err(other) => panic!("{what}: refused for another reason: {other}"),
        Ok((_, found)) => panic!("{what}: opened with {} records", found.len()),
    }
}

#[test]
fn every_flipped_bit_of_a_record_header_is_refused() {
    let sound = sound();
    for (record, offset) in sound.offsets.iter().enumerate() {
        for bit in 0..40 * 8 {
            let disk = sound.with(|bytes| bytes[offset + bit / 8] ^= 1 << (bit % 8));
            refused_as_damaged(disk, &format!("record {record}, bit {bit}"));
        }
    }
}

#[test]
fn every_flipped_bit_of_a_payload_is_refused() {
    let sound = sound();
    for (item, offset) in sound.items.iter().zip(&sound.offsets) {
        for bit in 0..item.1.len() * 8 {
            let disk = sound.with(|bytes| bytes[offset + 40 + bit / 8] ^= 1 << (bit % 8));
            refused_as_damaged(disk, &format!("record {}, payload bit {bit}", item.0.index));
        }
    }
}

#[test]
fn every_damaged_byte_of_a_segment_header_is_refused() {
    let sound = sound();
    for offset in 0..4096 {
        let disk = sound.with(|bytes| bytes[offset] ^= 1 << (offset % 8));
        refused_as_damaged(disk, &format!("segment header, byte {offset}"));
    }
}

#[test]
fn the_refusal_names_file_place_and_remedy() {
    let sound = sound();
    let disk = sound.with(|bytes| bytes[sound.offsets[1] + 40] ^= 1);
    let text = open(disk, small(SEGMENT_LEN, 2)).err().unwrap().to_string();
    assert!(text.contains("wal-00000000 at byte 4152"), "{text}");
    assert!(text.contains("restore a backup"), "{text}");
}

#[test]
fn tail_cut_at_every_byte_keeps_every_whole_record_before_it() {
    let sound = sound();
    let end = sound.offsets.last().unwrap() + 40 + sound.items.last().unwrap().1.len() + 64;
    for cut in 4096..end {
        let whole = |(item, offset): &(&Item, &usize)| **offset + 40 + item.1.len() <= cut;
        let kept: Vec<Item> =
            sound.items.iter().zip(&sound.offsets).take_while(whole).map(|(item, _)| item.clone()).collect();
        for disk in [sound.with(|bytes| bytes.truncate(cut)), sound.with(|bytes| bytes[cut..].fill(0))] {
            let (mut log, found) = open(disk.clone(), small(SEGMENT_LEN, 2)).unwrap();
            // A record whose last bytes happen to be zeros is whole without them.
            assert!(found.len() >= kept.len(), "cut at {cut}");
            assert_eq!(found, sound.items[..found.len()], "cut at {cut}");
            log.append(&record(&item(99, 50))).unwrap();
            log.sync().unwrap();
            drop(log);
            let (_, again) = open(disk.restart(), small(SEGMENT_LEN, 3)).unwrap();
            assert_eq!(again.len(), found.len() + 1, "cut at {cut}");
        }
    }
}

#[test]
fn opening_again_changes_nothing() {
    let sound = sound();
    let disk = sound.with(|bytes| bytes[sound.offsets[14]..].fill(0x5a));
    let (_, found) = open(disk.clone(), small(SEGMENT_LEN, 2)).unwrap();
    assert_eq!(found, sound.items[..14]);
    let once = disk.contents(&file_name(0));
    let (_, again) = open(disk.clone(), small(SEGMENT_LEN, 3)).unwrap();
    assert_eq!(again, found);
    assert_eq!(disk.contents(&file_name(0)), once);
}

/// A log of at least four segments.
fn long(seed: u64) -> (FaultyDisk, usize) {
    let disk = FaultyDisk::new(512);
    let (mut log, _) = open(disk.clone(), small(SEGMENT_LEN, seed)).unwrap();
    let mut count = 0;
    while log.active_segment() < 3 {
        log.append(&record(&item(count, 1000))).unwrap();
        count += 1;
    }
    log.sync().unwrap();
    (disk, count as usize)
}

#[test]
fn damage_anywhere_in_a_finished_segment_is_refused() {
    let (disk, _) = long(1);
    let sound = disk.contents(&file_name(1)).unwrap();
    let mut random = Random(7);
    // Eleven records of 1040 bytes and the seal.
    let used = 4096 + 11 * 1040 + 40;
    for _ in 0..300 {
        let (offset, bit) = (random.below(used), random.below(8));
        let mut bytes = sound.clone();
        bytes[offset] ^= 1 << bit;
        disk.set_contents(&file_name(1), &bytes);
        refused_as_damaged(disk.restart(), &format!("byte {offset}, bit {bit}"));
    }
    for cut in [0, 100, 4096, 9000, used - 20] {
        disk.set_contents(&file_name(1), &sound[..cut]);
        refused_as_damaged(disk.restart(), &format!("cut at {cut}"));
    }
}

#[test]
fn missing_segment_in_the_middle_is_refused() {
    let (disk, _) = long(1);
    warren_storage::Disk::remove(&disk, &file_name(1)).unwrap();
    refused_as_damaged(disk, "a missing segment");
}

#[test]
fn segment_of_another_log_is_refused() {
    let (disk, _) = long(1);
    let (other, _) = long(2);
    disk.set_contents(&file_name(1), &other.contents(&file_name(1)).unwrap());
    refused_as_damaged(disk, "a segment from elsewhere");
}

#[test]
fn folder_of_another_node_is_refused() {
    let (disk, _) = long(1);
    let identity = Identity { cluster_id: 7, node_id: 2 };
    let options = Options { identity, ..small(SEGMENT_LEN, 2) };
    let error = open(disk, options).err().unwrap();
    assert!(matches!(error, OpenError::Foreign { expected, .. } if expected == identity), "{error}");
}

#[test]
fn payload_that_looks_like_records_is_only_a_payload() {
    // A segment file of this very log inside a payload whose record is torn: its images are not taken for records.
    let sound = sound();
    let image = sound.disk.contents(&file_name(0)).unwrap()[4096..6000].to_vec();
    let (mut log, _) = open(sound.disk.clone(), small(SEGMENT_LEN, 2)).unwrap();
    let torn = (item(15, 0).0, image.into());
    let offset = log.append(&record(&torn)).unwrap().offset as usize - 40;
    log.sync().unwrap();
    drop(log);
    let disk = sound.with(|bytes| bytes[offset] ^= 1);
    let (_, found) = open(disk, small(SEGMENT_LEN, 3)).unwrap();
    assert_eq!(found, sound.items);
}
