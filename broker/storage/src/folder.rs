//! What is in the folder: the open segments, shared by the log and its readers, and the spare files that coming
//! segments are made of.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::checkpoint::{self, Checkpoint};
use crate::disk::{Disk, Space, is_no_space};
use crate::log::{LogError, Options};
use crate::segment::{LogPoint, Salt, SegmentHeader, file_name};

/// An open segment file.
pub(crate) struct Segment<F> {
    pub(crate) seq: u32,
    /// Bytes of the whole file.
    pub(crate) len: u32,
    pub(crate) epoch: u64,
    pub(crate) salt: Salt,
    pub(crate) file: F,
}

impl<F> Segment<F> {
    pub(crate) fn new(header: &SegmentHeader, file: F) -> Self {
        let SegmentHeader { seq, segment_len, epoch, .. } = *header;
        Self { seq, len: segment_len, epoch, salt: Salt::new(seq, epoch), file }
    }
}

pub(crate) struct Folder<D: Disk> {
    pub(crate) disk: D,
    /// By sequence number. The last one is being written.
    segments: RwLock<BTreeMap<u32, Arc<Segment<D::File>>>>,
    spares: Mutex<Spares>,
    /// Held while a spare file is filled.
    filling: Mutex<()>,
    /// Bytes of a spare file.
    spare_len: u32,
    /// What new files leave free on the volume, at least.
    reserve: u64,
    /// Held while a checkpoint is made, so that they are made one at a time.
    checkpoints: Mutex<Checkpoints>,
    /// The length of the last checkpoint's file.
    checkpoint_len: AtomicU64,
    /// The end of what is synced: segment in the upper half, offset in the lower.
    synced: AtomicU64,
    /// Set when nobody needs spares any more: what is being filled is given up.
    closing: AtomicBool,
}

/// The checkpoints of a log so far.
#[derive(Default)]
pub(crate) struct Checkpoints {
    pub(crate) last: Option<Checkpoint>,
    /// A write or sync for one failed.
    pub(crate) failed: bool,
}

/// Files that are whole and hold nothing of value, for the next segments.
#[derive(Default)]
struct Spares {
    ready: Vec<Spare>,
    /// Numbers the names of new files.
    next: u64,
}

#[derive(Clone, PartialEq, Eq)]
struct Spare {
    name: String,
    len: u32,
}

/// Recycled files kept at hand; more of them are removed, which gives the space back.
const SPARES_MAX: usize = 2;

/// Bytes zero-filled between two syncs, so that the log's own sync never waits behind a whole segment of zeros.
const STEP: usize = 1 << 20;

/// Zeros written at a time. The page cache keeps what one call wrote in one piece, and every later write into a piece, and
/// its sync, takes the longer the larger the piece is: with 1 MiB a lone record's write took 10 µs, with this 5 µs.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl<D: Disk> Folder<D> {
    /// Takes stock of the folder. Unfinished files are removed, and spare ones kept as far as they are of use.
    pub(crate) fn open(disk: D, options: &Options) -> Result<(Self, Vec<String>), LogError> {
        let mut names = disk.list().map_err(LogError::io("list the files of", "the log folder"))?;
        names.sort_unstable();
        let mut spares = Spares::default();
        for name in &names {
            if name.starts_with("new-") || name == checkpoint::UNFINISHED_NAME {
                disk.remove(name).map_err(LogError::io("remove the unfinished file", name))?;
            } else if let Some(spare) = Spare::parse(name) {
                spares.next = spares.next.max(spare.number() + 1);
                if spare.len == options.segment_len && spares.ready.len() < SPARES_MAX {
                    spares.ready.push(spare);
                } else {
                    disk.remove(name).map_err(LogError::io("remove the file", name))?;
                }
            }
        }
        let folder = Self {
            disk,
            segments: RwLock::default(),
            spares: Mutex::new(spares),
            filling: Mutex::default(),
            spare_len: options.segment_len,
            reserve: options.reserve,
            checkpoints: Mutex::default(),
            checkpoint_len: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            closing: AtomicBool::new(false),
        };
        Ok((folder, names))
    }

    pub(crate) fn segment(&self, seq: u32) -> Option<Arc<Segment<D::File>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).get(&seq).cloned()
    }

    /// All segments, oldest first.
    pub(crate) fn segments(&self) -> Vec<Arc<Segment<D::File>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn insert(&self, segment: Segment<D::File>) -> Arc<Segment<D::File>> {
        let segment = Arc::new(segment);
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        segments.insert(segment.seq, Arc::clone(&segment));
        segment
    }

    pub(crate) fn synced(&self) -> LogPoint {
        let synced = self.synced.load(Acquire);
        LogPoint { segment: (synced >> 32) as u32, offset: synced as u32 }
    }

    pub(crate) fn set_synced(&self, end: LogPoint) {
        self.synced.store(u64::from(end.segment) << 32 | u64::from(end.offset), Release);
    }

    pub(crate) fn checkpoints(&self) -> MutexGuard<'_, Checkpoints> {
        self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_checkpoint(&self, checkpoints: &mut Checkpoints, checkpoint: Checkpoint) {
        self.checkpoint_len.store(checkpoint.len, Relaxed);
        checkpoints.last = Some(checkpoint);
    }

    /// Room on the volume; spare files are as good as room.
    pub(crate) fn space(&self) -> io::Result<Space> {
        let spares = self.spares().ready.iter().map(|spare| u64::from(spare.len)).sum::<u64>();
        let space = self.disk.space()?;
        Ok(Space { available: space.available.saturating_add(spares), ..space })
    }

    /// Makes a durable, empty segment file out of a spare one or a new one. The name appears last: a `wal` file always
    /// has a whole header. Where there is no room for it, nothing has happened.
    pub(crate) fn begin_segment(&self, header: &SegmentHeader) -> Result<Arc<Segment<D::File>>, LogError> {
        let name = file_name(header.seq);
        let (unfinished, file) = self.raw_file(header.segment_len)?;
        let begun = self
            .disk
            .write_at(&file, &mut [IoSlice::new(&header.encode())], 0)
            .and_then(|()| self.disk.sync_data(&file))
            .and_then(|()| self.disk.rename(&unfinished, &name));
        begun.map_err(|source| self.discarded(&unfinished, "begin the segment", &name, source))?;
        self.disk.sync_dir().map_err(LogError::io("sync the folder of", &name))?;
        Ok(self.insert(Segment::new(header, file)))
    }

    /// A file to make a segment of: a spare one, or a new one.
    fn raw_file(&self, len: u32) -> Result<(String, D::File), LogError> {
        if let Some(spare) = self.take_spare(len) {
            return self.open_spare(spare);
        }
        match self.new_file(len) {
            Err(full @ LogError::NoSpace { .. }) => {
                // What is missing may be in the spare file that is being filled.
                drop(self.filling.lock());
                self.take_spare(len).map_or(Err(full), |spare| self.open_spare(spare))
            }
            done => done,
        }
    }

    fn open_spare(&self, name: String) -> Result<(String, D::File), LogError> {
        let file = self.disk.open(&name).map_err(LogError::io("open the spare file", &name))?;
        Ok((name, file))
    }

    /// A file for a segment that is begun while the log waits: only a short one is filled, for the sake of its syncs.
    fn new_file(&self, len: u32) -> Result<(String, D::File), LogError> {
        let name = format!("new-{}", self.spares().next_number());
        while !self.leaves_reserve(len) {
            if !self.discard_spare() {
                return Err(LogError::NoSpace { action: "create the file", file: name, source: full() });
            }
        }
        let created = self.disk.create(&name, u64::from(len)).and_then(|file| {
            if len as usize <= STEP {
                self.zero(&file, 0, len as usize)?;
            }
            Ok(file)
        });
        match created {
            Ok(file) => Ok((name, file)),
            Err(source) => Err(self.discarded(&name, "create the file", &name, source)),
        }
    }

    /// Why making a file failed. What was reserved so far goes back; if that fails too, the next start removes it.
    pub(crate) fn discarded(&self, unfinished: &str, action: &'static str, file: &str, source: io::Error) -> LogError {
        let _ = self.disk.remove(unfinished);
        let file = file.to_owned();
        if is_no_space(&source) {
            LogError::NoSpace { action, file, source }
        } else {
            LogError::Io { action, file, source }
        }
    }

    /// Whether a new file of `len` bytes leaves room for the next checkpoint, without which no segment could be given
    /// up any more. The next one may have grown to twice the last one's size.
    fn leaves_reserve(&self, len: u32) -> bool {
        let reserve = self.reserve.max(2 * self.checkpoint_len.load(Relaxed));
        // Where the volume does not say, trying is the only way to know.
        self.disk.space().map_or(true, |space| space.available >= reserve.saturating_add(u64::from(len)))
    }

    /// Gives the space of a spare file back, and says whether there was one.
    pub(crate) fn discard_spare(&self) -> bool {
        let spare = self.spares().ready.pop();
        spare.is_some_and(|spare| self.disk.remove(&spare.name).is_ok())
    }

    /// Makes sure that a spare file is at hand, and zero-fills one if not. Overwriting a filled file is several times
    /// cheaper than writing to a new one: no blocks to allocate, no metadata in the sync.
    pub(crate) fn prepare_spare(&self) -> io::Result<()> {
        let len = self.spare_len;
        let _filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.spares().ready.is_empty() {
            return Ok(());
        }
        if !self.leaves_reserve(len) {
            return Err(full());
        }
        let number = self.spares().next_number();
        let unfinished = format!("new-{number}");
        let spare = Spare { name: Spare::name(number, len), len };
        let made = self.fill(&unfinished, len).and_then(|()| self.disk.rename(&unfinished, &spare.name));
        if let Err(error) = made {
            // What was reserved so far goes back; if that fails too, the next start removes it.
            let _ = self.disk.remove(&unfinished);
            return Err(error);
        }
        self.spares().ready.push(spare);
        Ok(())
    }

    /// Ends [`prepare_spare`](Self::prepare_spare) early, for good.
    pub(crate) fn close(&self) {
        self.closing.store(true, Relaxed);
    }

    fn fill(&self, name: &str, len: u32) -> io::Result<()> {
        let file = self.disk.create(name, u64::from(len))?;
        for offset in (0..len as usize).step_by(STEP) {
            if self.closing.load(Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            self.zero(&file, offset, STEP.min(len as usize - offset))?;
            self.disk.sync_data(&file)?;
        }
        Ok(())
    }

    fn zero(&self, file: &D::File, offset: usize, len: usize) -> io::Result<()> {
        for at in (offset..offset + len).step_by(ZEROS.len()) {
            let zeros = &ZEROS[..ZEROS.len().min(offset + len - at)];
            self.disk.write_at(file, &mut [IoSlice::new(zeros)], at as u64)?;
        }
        Ok(())
    }

    /// Takes away every segment that `needed` does not want, and says how many those were. Those that nobody is reading
    /// become spare files, as long as few are at hand; others are removed.
    pub(crate) fn give_up(&self, needed: impl Fn(u32) -> bool) -> Result<u32, LogError> {
        let given_up: Vec<_> = {
            let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
            segments.extract_if(.., |seq, _| !needed(*seq)).map(|(_, segment)| segment).collect()
        };
        let count = given_up.len() as u32;
        given_up.into_iter().try_for_each(|segment| self.retire(segment))?;
        // The folder need not be synced: should a crash bring a name back, even with new contents, the checkpoint says that
        // nobody needs it.
        Ok(count)
    }

    fn retire(&self, segment: Arc<Segment<D::File>>) -> Result<(), LogError> {
        let name = file_name(segment.seq);
        let len = segment.len;
        // A reader that still holds the segment must not see the file's next life.
        let unread = Arc::into_inner(segment).is_some();
        let few = self.spares().ready.len() < SPARES_MAX;
        if !(unread && few && len == self.spare_len) {
            return self.disk.remove(&name).map_err(LogError::io("remove the file", &name));
        }
        let spare = Spare { name: Spare::name(self.spares().next_number(), len), len };
        self.disk.rename(&name, &spare.name).map_err(LogError::io("rename the file", &name))?;
        self.spares().ready.push(spare);
        Ok(())
    }

    fn take_spare(&self, len: u32) -> Option<String> {
        let mut spares = self.spares();
        let index = spares.ready.iter().position(|spare| spare.len == len)?;
        Some(spares.ready.swap_remove(index).name)
    }

    fn spares(&self) -> MutexGuard<'_, Spares> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

impl Spares {
    fn next_number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }
}

/// `spare-<number>-<len>`, the length in bytes, both in decimal.
impl Spare {
    fn name(number: u64, len: u32) -> String {
        format!("spare-{number}-{len}")
    }

    fn parse(name: &str) -> Option<Self> {
        let (number, len) = name.strip_prefix("spare-")?.split_once('-')?;
        let (number, len) = (number.parse().ok()?, len.parse().ok()?);
        (Self::name(number, len) == name && number < u64::MAX / 2).then(|| Self { name: name.to_owned(), len })
    }

    fn number(&self) -> u64 {
        self.name.split('-').nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faulty::FaultyDisk;

    const LEN: u32 = 8192;

    /// A folder with segments 0 to 4.
    fn five() -> Folder<FaultyDisk> {
        let options = Options { segment_len: LEN, first_segment_len: LEN, ..Options::default() };
        let folder = Folder::open(FaultyDisk::new(512), &options).unwrap().0;
        for seq in 0..5 {
            folder.begin_segment(&options.header(seq, 0, 0)).unwrap();
        }
        folder
    }

    #[test]
    fn segment_that_is_being_read_is_not_used_again() {
        let folder = five();
        let read = folder.segment(0).unwrap();
        assert_eq!(folder.give_up(|seq| seq != 0).unwrap(), 1);
        assert!(folder.spares().ready.is_empty());
        assert_eq!(folder.disk.names().len(), 4);
        assert_eq!(read.len, LEN);
        assert_eq!(folder.give_up(|seq| seq != 1).unwrap(), 1);
        assert_eq!(folder.spares().ready.len(), 1);
    }

    #[test]
    fn no_more_than_two_files_are_kept_for_later() {
        let folder = five();
        assert_eq!(folder.give_up(|seq| seq == 4).unwrap(), 4);
        assert_eq!(folder.disk.names(), ["spare-5-8192", "spare-6-8192", "wal-00000004"]);
        assert_eq!(folder.give_up(|seq| seq == 4).unwrap(), 0);
    }
}
