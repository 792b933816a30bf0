//! Real folders, and segments that are given up and used again.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use warren_storage::{FaultyDisk, FileDisk, FolderError, Options, ReadError};

use crate::world::{item, open, record, small};

/// A folder of its own for a test, removed afterwards.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        Self(path)
    }
}

impl Drop for Scratch {
    #[expect(clippy::disallowed_methods, reason = "the test's own folder")]
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn second_broker_on_one_folder_is_refused() {
    let folder = Scratch::new("second_broker");
    let first = FileDisk::open(&folder.0).unwrap();
    let error = FileDisk::open(&folder.0).unwrap_err();
    assert!(matches!(error, FolderError::InUse { .. }));
    assert!(error.to_string().contains("in use by another broker"), "{error}");
    drop(first);
    FileDisk::open(&folder.0).unwrap();
}

#[test]
fn closed_log_can_be_opened_again_at_once() {
    struct Deaf;
    impl warren_storage::Completion for Deaf {
        fn synced(&mut self, _: warren_storage::Batch<'_>) {}
        fn failed(&mut self, error: warren_storage::LogError) {
            panic!("{error}");
        }
    }
    let folder = Scratch::new("closed_log");
    for index in 0..5 {
        let (log, found) = open(FileDisk::open(&folder.0).unwrap(), Options::default()).unwrap();
        assert_eq!(found.len(), index);
        let writer = warren_storage::LogWriter::spawn(log, Deaf).unwrap();
        writer.handle().append(record(&item(index as u64, 10))).unwrap();
        writer.close();
    }
}

#[test]
fn folder_that_cannot_be_made_is_refused_with_its_path() {
    let error = FileDisk::open("/proc/warren/data").unwrap_err();
    assert!(error.to_string().contains("/proc/warren/data"), "{error}");
}

/// The modes of a folder and of what is in it, without duplicates.
#[expect(clippy::disallowed_methods, reason = "the test's own folder")]
fn modes(folder: &Path) -> (u32, Vec<u32>) {
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
    let files = std::fs::read_dir(folder).unwrap().map(|entry| mode(&entry.unwrap().path()));
    let mut files: Vec<_> = files.collect();
    files.sort_unstable();
    files.dedup();
    (mode(folder), files)
}

#[test]
fn only_its_owner_may_look_into_a_new_folder() {
    let folder = Scratch::new("private");
    let inner = folder.0.join("data/log");
    let (mut log, _) = open(FileDisk::open(&inner).unwrap(), small(8192, 1)).unwrap();
    for index in 0..20 {
        log.append(&record(&item(index, 1_000))).unwrap();
    }
    log.sync().unwrap();
    assert_eq!(modes(&inner), (0o700, vec![0o600]), "segments and lock");
    assert_eq!(modes(&folder.0.join("data")), (0o700, vec![0o700]), "the folders above it that were missing");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test's own folder")]
fn a_folder_that_others_could_read_is_taken_from_them() {
    let folder = Scratch::new("open_to_all");
    let (mut log, _) = open(FileDisk::open(&folder.0).unwrap(), small(8192, 1)).unwrap();
    log.append(&record(&item(0, 1_000))).unwrap();
    log.sync().unwrap();
    drop(log);
    let open_to_all = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    for entry in std::fs::read_dir(&folder.0).unwrap() {
        open_to_all(&entry.unwrap().path(), 0o644);
    }
    open_to_all(&folder.0, 0o755);
    let elsewhere = Scratch::new("not_ours_to_change");
    std::fs::write(&elsewhere.0, "somebody's").unwrap();
    open_to_all(&elsewhere.0, 0o644);
    std::os::unix::fs::symlink(&elsewhere.0, folder.0.join("link")).unwrap();
    let disk = FileDisk::open(&folder.0).unwrap();
    assert!(disk.is_private().unwrap());
    assert_eq!(std::fs::metadata(&elsewhere.0).unwrap().mode() & 0o777, 0o644, "where a link leads is another matter");
    std::fs::remove_file(folder.0.join("link")).unwrap();
    std::fs::remove_file(&elsewhere.0).unwrap();
    assert_eq!(modes(&folder.0), (0o700, vec![0o600]));
}

#[test]
fn records_of_all_sizes_come_back_from_a_real_folder() {
    let folder = Scratch::new("all_sizes");
    let options = || Options { segment_len: 64 << 20, ..Options::default() };
    let mut items = Vec::new();
    {
        let (mut log, found) = open(FileDisk::open(&folder.0).unwrap(), options()).unwrap();
        assert_eq!(found, []);
        let reader = log.reader();
        for (index, len) in [0, 1, 7, 8, 4095, 4096, 4097, 900_000, 16 << 20, 24 << 20, 3].into_iter().enumerate() {
            let next = item(index as u64, len);
            let position = log.append(&record(&next)).unwrap();
            log.sync().unwrap();
            assert_eq!(reader.read(position).unwrap(), next.1);
            items.push(next);
        }
        assert_eq!(log.retention().segments(), [0, 1]);
    }
    let (_, found) = open(FileDisk::open(&folder.0).unwrap(), options()).unwrap();
    assert!(found == items, "what came back differs");
}

#[test]
fn more_parts_than_one_write_call_takes_are_written_whole() {
    let folder = Scratch::new("many_parts");
    let (mut log, _) = open(FileDisk::open(&folder.0).unwrap(), Options::default()).unwrap();
    let whole = item(0, 1500 * 5000).1;
    let parts = (0..1500).map(|part| whole.slice(part * 5000..(part + 1) * 5000)).collect();
    let position = log.append(&warren_storage::Record::new(item(0, 0).0, parts).unwrap()).unwrap();
    log.sync().unwrap();
    assert!(log.reader().read(position).unwrap() == whole, "what came back differs");
    let part = log.reader().read_part(position.part(7_000_003, 64).unwrap()).unwrap();
    assert_eq!(part, whole.slice(7_000_003..7_000_067));
    assert_eq!(position.part(1500 * 5000, 1), None);
}

#[test]
fn position_from_elsewhere_is_refused() {
    let (mut log, _) = open(FaultyDisk::new(512), small(8192, 1)).unwrap();
    let good = log.append(&record(&item(0, 100))).unwrap();
    log.sync().unwrap();
    for position in [
        warren_storage::Position { offset: 0, ..good },
        warren_storage::Position { offset: u32::MAX, ..good },
        warren_storage::Position { len: 5000, ..good },
    ] {
        assert!(matches!(log.reader().read(position), Err(ReadError::Outside { .. })), "{position:?}");
    }
    let shifted = warren_storage::Position { offset: good.offset + 8, len: good.len - 8, ..good };
    assert!(matches!(log.reader().read(shifted), Err(ReadError::Corrupt { .. })));
}
