//! What is in the folder: the open segments, shared by the log and its readers, and the spare files that coming
//! segments are made of.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::disk::Disk;
use crate::log::LogError;
use crate::segment::{Salt, SegmentHeader, file_name};

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
    /// Held while segments are taken away, so that they go one at a time.
    removal: Mutex<()>,
    /// Set when nobody needs spares any more: what is being filled is given up.
    closing: AtomicBool,
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
const FILL_STEP: usize = 1 << 20;

impl<D: Disk> Folder<D> {
    /// Takes stock of the folder. Unfinished files are removed, spare ones kept.
    pub(crate) fn open(disk: D) -> Result<(Self, Vec<String>), LogError> {
        let mut names = disk.list().map_err(LogError::io("list the files of", "the log folder"))?;
        names.sort_unstable();
        let mut spares = Spares::default();
        for name in &names {
            if name.starts_with("new-") {
                disk.remove(name).map_err(LogError::io("remove the unfinished file", name))?;
            } else if let Some(spare) = Spare::parse(name) {
                spares.next = spares.next.max(spare.number() + 1);
                spares.ready.push(spare);
            }
        }
        let segments = RwLock::default();
        Ok((
            Self {
                disk,
                segments,
                spares: Mutex::new(spares),
                removal: Mutex::default(),
                closing: AtomicBool::new(false),
            },
            names,
        ))
    }

    pub(crate) fn segment(&self, seq: u32) -> Option<Arc<Segment<D::File>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).get(&seq).cloned()
    }

    pub(crate) fn insert(&self, segment: Segment<D::File>) -> Arc<Segment<D::File>> {
        let segment = Arc::new(segment);
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        segments.insert(segment.seq, Arc::clone(&segment));
        segment
    }

    pub(crate) fn sequence_numbers(&self) -> Vec<u32> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// Makes a durable, empty segment file out of a spare one or a new one. The name appears last: a `wal` file always
    /// has a whole header.
    pub(crate) fn begin_segment(&self, header: &SegmentHeader) -> Result<Arc<Segment<D::File>>, LogError> {
        let (old_name, file) = match self.take_spare(header.segment_len) {
            Some(name) => {
                let file = self.disk.open(&name).map_err(LogError::io("open the spare file", &name))?;
                (name, file)
            }
            None => self.new_file(header.segment_len)?,
        };
        let name = file_name(header.seq);
        let bytes = header.encode();
        let written = self.disk.write_at(&file, &mut [IoSlice::new(&bytes)], 0);
        written.map_err(LogError::io("write the header of", &name))?;
        self.disk.sync_data(&file).map_err(LogError::io("sync the header of", &name))?;
        self.disk.rename(&old_name, &name).map_err(LogError::io("give its name to", &name))?;
        self.disk.sync_dir().map_err(LogError::io("sync the folder of", &name))?;
        Ok(self.insert(Segment::new(header, file)))
    }

    /// A file for a segment that is begun while the log waits: only a short one is filled, for the sake of its syncs.
    fn new_file(&self, len: u32) -> Result<(String, D::File), LogError> {
        let name = format!("new-{}", self.spares().next_number());
        let file = self.disk.create(&name, u64::from(len)).map_err(LogError::io("create the file", &name))?;
        if len as usize <= FILL_STEP {
            let zeros = vec![0; len as usize];
            let filled = self.disk.write_at(&file, &mut [IoSlice::new(&zeros)], 0);
            filled.map_err(LogError::io("fill the file", &name))?;
        }
        Ok((name, file))
    }

    /// Makes sure that a spare file of `len` bytes is at hand, and zero-fills one if not. Overwriting a filled file is
    /// several times cheaper than writing to a new one: no blocks to allocate, no metadata in the sync.
    pub(crate) fn prepare_spare(&self, len: u32) -> io::Result<()> {
        if self.spares().ready.iter().any(|spare| spare.len == len) {
            return Ok(());
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
        let zeros = vec![0; FILL_STEP.min(len as usize)];
        for offset in (0..len as usize).step_by(FILL_STEP) {
            if self.closing.load(Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let step = &zeros[..FILL_STEP.min(len as usize - offset)];
            self.disk.write_at(&file, &mut [IoSlice::new(step)], offset as u64)?;
            self.disk.sync_data(&file)?;
        }
        Ok(())
    }

    /// Takes away every segment before `seq`, oldest first, except the one being written. A segment of length
    /// `spare_len` that nobody is reading becomes a spare file, as long as few are at hand; others are removed.
    pub(crate) fn remove_segments_before(&self, seq: u32, spare_len: u32) -> Result<u32, LogError> {
        let _one_at_a_time = self.removal.lock().unwrap_or_else(PoisonError::into_inner);
        let mut removed = 0;
        while let Some(segment) = self.take_oldest_before(seq) {
            self.retire(segment, spare_len)?;
            removed += 1;
        }
        Ok(removed)
    }

    fn take_oldest_before(&self, seq: u32) -> Option<Arc<Segment<D::File>>> {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        let oldest = *segments.keys().next()?;
        (oldest < seq && segments.len() > 1).then(|| segments.remove(&oldest)).flatten()
    }

    fn retire(&self, segment: Arc<Segment<D::File>>, spare_len: u32) -> Result<(), LogError> {
        let name = file_name(segment.seq);
        let len = segment.len;
        // A reader that still holds the segment must not see the file's next life.
        let unread = Arc::into_inner(segment).is_some();
        let few = self.spares().ready.len() < SPARES_MAX;
        if !(unread && few && len == spare_len) {
            self.disk.remove(&name).map_err(LogError::io("remove the file", &name))?;
            return self.disk.sync_dir().map_err(LogError::io("sync the folder of", &name));
        }
        let spare = Spare { name: Spare::name(self.spares().next_number(), len), len };
        self.disk.rename(&name, &spare.name).map_err(LogError::io("rename the file", &name))?;
        // Only a file that is a segment no more, for good, may be overwritten.
        self.disk.sync_dir().map_err(LogError::io("sync the folder of", &name))?;
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
