//! Writing checkpoints, and giving up what they make unnecessary.
//!
//! The order is what makes it safe. The new checkpoint is whole and synced before it takes the old one's name, and that
//! is durable before any segment is given up. So a crash leaves either checkpoint with all that it needs, and at worst
//! some segments that it does not need, which are never read.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::checkpoint::{self, Checkpoint, CheckpointPlan, Head, Reclaimed, Retained, Snapshot};
use crate::disk::{Disk, Space};
use crate::folder::{Checkpoints, Folder};
use crate::log::LogError;
use crate::segment::{Identity, SEGMENT_HEADER_LEN};

/// Bounds the log, from any thread, while it is being written. What is needed no more is for the caller to know: a
/// segment holds the records of all shards.
pub struct Retention<D: Disk> {
    folder: Arc<Folder<D>>,
    identity: Identity,
}

impl<D: Disk> Clone for Retention<D> {
    fn clone(&self) -> Self {
        Self { folder: Arc::clone(&self.folder), identity: self.identity }
    }
}

impl<D: Disk> Retention<D> {
    pub(crate) fn new(folder: Arc<Folder<D>>, identity: Identity) -> Self {
        Self { folder, identity }
    }

    /// The sequence numbers of all segments, oldest first. The last is the one being written.
    pub fn segments(&self) -> Vec<u32> {
        self.folder.segments().iter().map(|segment| segment.seq).collect()
    }

    /// Bytes of all segment files.
    pub fn segment_bytes(&self) -> u64 {
        self.folder.segments().iter().map(|segment| u64::from(segment.len)).sum()
    }

    /// Room on the log's volume. Spare segment files count as available.
    pub fn space(&self) -> io::Result<Space> {
        self.folder.space()
    }

    /// Makes a checkpoint durable, and then gives up every segment before the plan's `replay_from` that holds nothing
    /// live. Positions in those cannot be read any more. Up to two files become raw material for coming segments,
    /// which makes writing those cheaper; the others are removed.
    ///
    /// Checkpoints are made one at a time. Blocks on the disk: not for an async task.
    ///
    /// # Errors
    /// After [`LogError::NoSpace`] and [`LogError::Plan`] everything is as it was, and a later one may succeed. After
    /// any other error the process should end, as after one of the log; a crash at any moment leaves the old checkpoint
    /// or the new one, with all that it needs.
    pub fn checkpoint(&self, plan: CheckpointPlan) -> Result<Reclaimed, LogError> {
        let mut checkpoints = self.folder.checkpoints();
        if checkpoints.failed {
            return Err(LogError::Stopped);
        }
        let done = self.make(&mut checkpoints, &plan);
        checkpoints.failed = done.as_ref().is_err_and(LogError::is_final);
        done
    }

    fn make(&self, checkpoints: &mut Checkpoints, plan: &CheckpointPlan) -> Result<Reclaimed, LogError> {
        let head = self.head(checkpoints.last, plan)?;
        let len = head.file_len(&plan.snapshots);
        while let Err(error) = self.write(&head, len, &plan.snapshots) {
            let full = matches!(error, LogError::NoSpace { .. });
            // A spare segment is worth less than the segments that a checkpoint gives back.
            if !(full && self.folder.discard_spare()) {
                return Err(error);
            }
        }
        let checkpoint = Checkpoint { number: head.number, replay_from: head.replay_from, len };
        self.folder.set_checkpoint(checkpoints, checkpoint);
        let first = head.replay_from.segment;
        let given_up = self.folder.give_up(|seq| seq >= first || head.retained.contains_key(&seq))?;
        Ok(Reclaimed { checkpoint, given_up, retained: self.retained(first, &plan.live) })
    }

    /// What the checkpoint's head will say, if the plan fits the log.
    fn head(&self, last: Option<Checkpoint>, plan: &CheckpointPlan) -> Result<Head, LogError> {
        let replay_from = plan.replay_from;
        let refused = |reason: String| LogError::Plan { reason };
        let segment = self.folder.segment(replay_from.segment);
        let segment = segment.ok_or_else(|| refused(format!("there is no {replay_from:?}")))?;
        if replay_from.offset < SEGMENT_HEADER_LEN || !replay_from.offset.is_multiple_of(8) {
            return Err(refused(format!("{replay_from:?} is not between two records")));
        }
        if replay_from > self.folder.synced() {
            return Err(refused(format!("{replay_from:?} is not synced yet")));
        }
        if let Some(last) = last.filter(|last| last.replay_from > replay_from) {
            return Err(refused(format!("{replay_from:?} is before the last checkpoint, {:?}", last.replay_from)));
        }
        let mut retained = BTreeMap::new();
        for (seq, _) in plan.live.range(..replay_from.segment) {
            let segment = self.folder.segment(*seq);
            let segment = segment.ok_or_else(|| refused(format!("live segment {seq} was given up before")))?;
            retained.insert(*seq, segment.epoch);
        }
        let number = last.map_or(1, |last| last.number + 1);
        Ok(Head { identity: self.identity, number, replay_from, replay_epoch: segment.epoch, retained })
    }

    fn write(&self, head: &Head, len: u64, snapshots: &[Snapshot]) -> Result<(), LogError> {
        let (disk, unfinished) = (&self.folder.disk, checkpoint::UNFINISHED_NAME);
        let written = disk
            .create(unfinished, len)
            .and_then(|file| checkpoint::write(disk, &file, head, snapshots))
            .and_then(|()| disk.rename(unfinished, checkpoint::FILE_NAME));
        written.map_err(|source| {
            self.folder.discarded(unfinished, "write the checkpoint", checkpoint::FILE_NAME, source)
        })?;
        disk.sync_dir().map_err(LogError::io("sync the folder of", checkpoint::FILE_NAME))
    }

    fn retained(&self, first: u32, live: &BTreeMap<u32, u64>) -> Vec<Retained> {
        let older = self.folder.segments().into_iter().filter(|segment| segment.seq < first);
        let live = |seq: u32| live.get(&seq).copied().unwrap_or(0);
        older.map(|segment| Retained { segment: segment.seq, len: segment.len, live: live(segment.seq) }).collect()
    }
}
