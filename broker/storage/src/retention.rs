//! Which segments there are, and giving up the oldest.

use std::sync::Arc;

use crate::disk::Disk;
use crate::folder::Folder;
use crate::log::LogError;

/// Lists and gives up segments, from any thread, while the log is being written. Which of them are needed no more is
/// for the caller to know: a segment holds the records of all shards.
pub struct Retention<D: Disk> {
    folder: Arc<Folder<D>>,
    segment_len: u32,
}

impl<D: Disk> Clone for Retention<D> {
    fn clone(&self) -> Self {
        Self { folder: Arc::clone(&self.folder), segment_len: self.segment_len }
    }
}

impl<D: Disk> Retention<D> {
    pub(crate) fn new(folder: Arc<Folder<D>>, segment_len: u32) -> Self {
        Self { folder, segment_len }
    }

    /// The sequence numbers of all segments, oldest first. The last is the one being written.
    pub fn segments(&self) -> Vec<u32> {
        self.folder.sequence_numbers()
    }

    /// Gives up all segments before `seq`, oldest first, and says how many; the one being written always stays. Their
    /// positions cannot be read any more. Up to two files become raw material for coming segments, which makes
    /// writing those cheaper; the others are removed. Blocks on the disk: not for an async task.
    ///
    /// A crash in between leaves the newer part of them, which the next start reads again.
    pub fn remove_segments_before(&self, seq: u32) -> Result<u32, LogError> {
        self.folder.remove_segments_before(seq, self.segment_len)
    }
}
