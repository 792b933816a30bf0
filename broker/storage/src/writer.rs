//! The log thread: group commit behind a bounded queue.
//!
//! While one `fdatasync` runs, whatever is appended gathers in the queue; the thread then takes all of it, writes it
//! with few calls and makes it durable with one sync. No timer is involved: a lone record is synced at once, and under
//! load batches grow by themselves. When lone records follow each other closely, the thread looks out for the next one
//! before it goes to sleep; when there are none, it sleeps.
//!
//! A full volume is not a failure: the log waits for space, and says so.
//!
//! A second thread prepares the next segment's file, so that rolling over is a rename.

use std::hint;
use std::io;
use std::mem;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::disk::Disk;
use crate::folder::Folder;
use crate::log::{Log, LogError, Record};
use crate::segment::{Kind, LogPoint, Position, Tag};

/// Bytes (as on disk) that may be waiting or under way before appending is refused.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// How long the log must have been idle before that is noted in it ([`Log::mark`]).
const IDLE: Duration = Duration::from_secs(1);

/// How long the log thread stays awake for the next record, when lone ones follow each other that closely: then each is
/// the answer to the one before, and going to sleep and being woken takes as long as a good part of a sync. Otherwise it
/// sleeps at once, so an idle log costs nothing.
const LOOK_OUT: Duration = Duration::from_micros(200);

/// Bytes of a batch (as on disk) up to which its records count as a lone one. Under load batches are larger, and the
/// processor has better things to do.
const LONE_BYTES_MAX: u64 = 4096;

/// A turn of looking out that took this long was interrupted by somebody who needed the processor.
const INTERRUPTED: Duration = Duration::from_micros(20);

/// How often the log looks for room for the next segment when there was none.
pub const SPACE_RETRY: Duration = Duration::from_millis(100);

/// Told what became of the records, in the order of appending. Called on the log thread: it must be quick and must not
/// append in a way that waits.
pub trait Completion: Send + 'static {
    /// These records are durable now.
    fn synced(&mut self, batch: Batch<'_>);

    /// A write or sync failed, or the log was closed while it was [out of space](Self::out_of_space). Called once, and
    /// nothing is called after it: no record that was not reported before is durable, and the log accepts nothing any
    /// more. The process should end.
    fn failed(&mut self, error: LogError);

    /// An append was refused before, and now there is room again (at least half of the bound).
    fn writable(&mut self) {}

    /// There is no room for the next segment (true), and later there is again (false). Meanwhile the log keeps what was
    /// appended, takes more until its queue is full, and tries again [every 100 ms](SPACE_RETRY). A checkpoint that
    /// gives up segments makes room.
    fn out_of_space(&mut self, _out: bool) {}
}

/// Records made durable by one sync.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The records in the order of appending, across all shards. Commit hints are not among them: nobody waits for them.
    pub records: &'a [Appended],
    /// Bytes the records take on disk, headers and padding included.
    pub bytes: u64,
    /// How long the sync took, without the writes before it.
    pub sync_duration: Duration,
    /// Everything before this point of the log is durable.
    pub end: LogPoint,
}

/// A record that became durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// What it says about its payload.
    pub tag: Tag,
    /// Where its payload is.
    pub position: Position,
}

/// Why a record was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The queue is full; the record comes back. [`Completion::writable`] will say when there is room.
    #[error("the log's queue is full: the disk is slower than what is published")]
    Full(Record),
    /// The log failed or was closed.
    #[error("the log is closed, or failed earlier, and accepts nothing any more")]
    Stopped,
}

/// Sums since the log thread began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Records handed to the disk.
    pub records: u64,
    /// Bytes of those records on disk, headers and padding included.
    pub bytes: u64,
    /// Finished syncs of batches.
    pub syncs: u64,
    /// Time spent in those syncs.
    pub sync_duration: Duration,
}

/// The log thread's owner. Dropping it without [`close`](Self::close) stops the thread as well, without waiting for it.
pub struct LogWriter {
    handle: LogHandle,
    thread: Option<JoinHandle<()>>,
}

impl LogWriter {
    /// Moves the log to its thread.
    pub fn spawn<D: Disk>(log: Log<D>, completion: impl Completion) -> io::Result<Self> {
        Self::spawn_bounded(log, completion, QUEUE_BYTES_MAX)
    }

    /// As [`spawn`](Self::spawn), with another bound for the queue, in bytes. A queue that is
    /// at most half full takes a record whatever its size.
    pub fn spawn_bounded<D: Disk>(log: Log<D>, completion: impl Completion, bytes_max: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            bytes_max,
            queue: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
            news: AtomicBool::new(false),
            sums: Sums::default(),
        });
        let helper = Helper::spawn(Arc::clone(log.folder()))?;
        let worker = Worker {
            log,
            completion,
            helper,
            shared: Arc::clone(&shared),
            batch: Vec::new(),
            records: 0,
            bytes: 0,
            done: Vec::new(),
            soon: false,
            others_run: thread::available_parallelism().is_ok_and(|processors| processors.get() > 1),
            prepared_after: None,
        };
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || worker.run())?;
        Ok(Self { handle: LogHandle { shared }, thread: Some(thread) })
    }

    /// Appends to the log; clone it freely.
    pub fn handle(&self) -> LogHandle {
        self.handle.clone()
    }

    /// Takes no more records, waits until all that were taken are synced and reported, and ends the thread.
    pub fn close(mut self) {
        self.handle.shared.close();
        if let Some(thread) = self.thread.take() {
            // A panic in the completion has been printed by its thread; the log is closed either way.
            let _ = thread.join();
        }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.handle.shared.close();
    }
}

/// Appends records, from any thread.
#[derive(Clone)]
pub struct LogHandle {
    shared: Arc<Shared>,
}

impl LogHandle {
    /// Queues a record, or gives it back when the queue is full. Never waits for the disk.
    pub fn try_append(&self, record: Record) -> Result<(), AppendError> {
        let mut queue = self.shared.lock();
        if queue.stopped {
            return Err(AppendError::Stopped);
        }
        if !self.shared.fits(&queue, &record) {
            queue.refused = true;
            return Err(AppendError::Full(record));
        }
        self.shared.push(queue, record);
        Ok(())
    }

    /// Queues a record, waiting for room when the queue is full. Not for async tasks.
    pub fn append(&self, record: Record) -> Result<(), AppendError> {
        let mut queue = self.shared.lock();
        while !queue.stopped && !self.shared.fits(&queue, &record) {
            queue.waiting_for_room += 1;
            queue = self.shared.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.waiting_for_room -= 1;
        }
        if queue.stopped {
            return Err(AppendError::Stopped);
        }
        self.shared.push(queue, record);
        Ok(())
    }

    /// How long the oldest record that is not synced yet has been waiting. Grows when the disk stalls.
    pub fn unsynced_for(&self) -> Option<Duration> {
        let queue = self.shared.lock();
        queue.under_way_since.or(queue.waiting_since).map(|since| since.elapsed())
    }

    /// Bytes (as on disk) that are waiting or under way.
    pub fn queued_bytes(&self) -> usize {
        self.shared.lock().bytes
    }

    /// Sums for the metrics.
    pub fn statistics(&self) -> Statistics {
        self.shared.sums.load()
    }
}

struct Shared {
    bytes_max: usize,
    queue: Mutex<Queue>,
    /// There is something to write, or the queue was closed.
    work: Condvar,
    /// There is room, or the log stopped.
    room: Condvar,
    /// Something was queued, or the queue was closed, since the log thread last looked: to be seen without the lock.
    news: AtomicBool,
    sums: Sums,
}

#[derive(Default)]
struct Queue {
    records: Vec<Record>,
    /// Of the records waiting and under way.
    bytes: usize,
    waiting_since: Option<Instant>,
    under_way_since: Option<Instant>,
    /// Somebody was refused and wants to know when there is room.
    refused: bool,
    /// Closed or failed: nothing more is taken.
    stopped: bool,
    /// The log thread waits for `work`, and nobody has woken it yet. Waking costs a system call, even of a thread that
    /// is awake.
    asleep: bool,
    /// How many appenders wait for `room`.
    waiting_for_room: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fits(&self, queue: &Queue, record: &Record) -> bool {
        // Half is where the refused are told to come again: a record that is larger than all the room finds some then.
        queue.bytes <= self.bytes_max / 2 || queue.bytes + record.disk_len() as usize <= self.bytes_max
    }

    fn push(&self, mut queue: MutexGuard<'_, Queue>, record: Record) {
        if queue.records.is_empty() {
            queue.waiting_since = Some(Instant::now());
            self.news.store(true, Release);
        }
        queue.bytes += record.disk_len() as usize;
        queue.records.push(record);
        let asleep = mem::take(&mut queue.asleep);
        drop(queue);
        if asleep {
            self.work.notify_one();
        }
    }

    fn close(&self) {
        self.lock().stopped = true;
        self.news.store(true, Release);
        self.work.notify_one();
        self.room.notify_all();
    }
}

#[derive(Default)]
struct Sums {
    records: AtomicU64,
    bytes: AtomicU64,
    syncs: AtomicU64,
    sync_nanos: AtomicU64,
}

impl Sums {
    fn load(&self) -> Statistics {
        Statistics {
            records: self.records.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            syncs: self.syncs.load(Relaxed),
            sync_duration: Duration::from_nanos(self.sync_nanos.load(Relaxed)),
        }
    }
}

/// What the log thread owns.
struct Worker<D: Disk, C> {
    log: Log<D>,
    completion: C,
    helper: Helper,
    shared: Arc<Shared>,
    batch: Vec<Record>,
    /// What was appended and not yet reported: how many records, their bytes on disk, and those to report.
    records: u64,
    bytes: u64,
    done: Vec<Appended>,
    /// The last record was a lone one and came within [`LOOK_OUT`], so it is worth staying awake for the next.
    soon: bool,
    /// There is another processor for those who append. On the only one, staying awake would keep them from it.
    others_run: bool,
    /// The segment during which the helper was last asked to prepare the next one.
    prepared_after: Option<u32>,
}

enum Work {
    Batch,
    Idle,
    Closed,
}

impl<D: Disk, C: Completion> Worker<D, C> {
    fn run(mut self) {
        let result = loop {
            let done = match self.take() {
                Work::Batch => self.commit(),
                Work::Idle => self.log.mark(),
                Work::Closed => break self.log.mark(),
            };
            if done.is_err() {
                break done;
            }
        };
        self.shared.close();
        if let Err(error) = result {
            self.completion.failed(error);
        }
    }

    /// Waits for something to do. All records that are waiting become the batch.
    fn take(&mut self) -> Work {
        let begun = Instant::now();
        let alone = self.look_out(begun);
        let mut queue = self.shared.lock();
        while queue.records.is_empty() {
            if queue.stopped {
                return Work::Closed;
            }
            queue.asleep = true;
            if self.log.wants_mark() {
                let (reacquired, timeout) =
                    self.shared.work.wait_timeout(queue, IDLE).unwrap_or_else(PoisonError::into_inner);
                queue = reacquired;
                if timeout.timed_out() && queue.records.is_empty() {
                    queue.asleep = false;
                    return Work::Idle;
                }
            } else {
                queue = self.shared.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
        queue.asleep = false;
        mem::swap(&mut queue.records, &mut self.batch);
        queue.under_way_since = queue.waiting_since.take();
        self.shared.news.store(false, Relaxed);
        drop(queue);
        self.soon = alone && begun.elapsed() <= LOOK_OUT;
        Work::Batch
    }

    /// Stays awake for a moment, if a lone record came soon the last time. It is over, with false, when somebody else
    /// needed the processor.
    fn look_out(&self, begun: Instant) -> bool {
        let (mut last, end) = (begun, begun + LOOK_OUT);
        while self.soon && self.others_run && last < end && !self.shared.news.load(Acquire) {
            hint::spin_loop();
            let now = Instant::now();
            if now - last > INTERRUPTED {
                return false;
            }
            last = now;
        }
        true
    }

    fn commit(&mut self) -> Result<(), LogError> {
        self.prepare_next_segment();
        let mut batch = mem::take(&mut self.batch);
        for record in batch.drain(..) {
            let position = match self.log.append(&record) {
                Err(LogError::NoSpace { .. }) => self.append_when_there_is_space(&record)?,
                done => done?,
            };
            self.records += 1;
            self.bytes += u64::from(record.disk_len());
            if record.tag.kind != Kind::CommitHint {
                self.done.push(Appended { tag: record.tag, position });
            }
        }
        self.batch = batch;
        self.soon &= self.bytes <= LONE_BYTES_MAX;
        self.report()?;
        self.shared.lock().under_way_since = None;
        Ok(())
    }

    /// Makes durable and reports what was appended so far.
    fn report(&mut self) -> Result<(), LogError> {
        self.log.write()?;
        if self.done.is_empty() {
            self.release();
            return Ok(());
        }
        let begun = Instant::now();
        self.log.sync()?;
        let sync_duration = begun.elapsed();
        self.count(sync_duration);
        let bytes = self.release();
        let end = self.log.end();
        self.completion.synced(Batch { records: &self.done, bytes, sync_duration, end });
        self.done.clear();
        Ok(())
    }

    /// The records before `record` are reported first: they may be what a checkpoint waits for to make room.
    fn append_when_there_is_space(&mut self, record: &Record) -> Result<Position, LogError> {
        self.report()?;
        self.completion.out_of_space(true);
        loop {
            let queue = self.shared.lock();
            let waited = self.shared.work.wait_timeout_while(queue, SPACE_RETRY, |queue| !queue.stopped);
            let closed = !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out();
            match self.log.append(record) {
                Err(LogError::NoSpace { .. }) if !closed => {}
                Err(error) => return Err(error),
                Ok(position) => {
                    self.completion.out_of_space(false);
                    return Ok(position);
                }
            }
        }
    }

    /// Asks once per segment, from the first record on, so that an idle log stays small.
    fn prepare_next_segment(&mut self) {
        let active = self.log.active_segment();
        if self.prepared_after != Some(active) && self.helper.prepare() {
            self.prepared_after = Some(active);
        }
    }

    fn count(&self, sync_duration: Duration) {
        let sums = &self.shared.sums;
        sums.records.fetch_add(self.records, Relaxed);
        sums.bytes.fetch_add(self.bytes, Relaxed);
        sums.syncs.fetch_add(1, Relaxed);
        sums.sync_nanos.fetch_add(sync_duration.as_nanos() as u64, Relaxed);
    }

    /// Makes the room of what was appended available again, and says how much that was, in bytes.
    fn release(&mut self) -> u64 {
        let bytes = mem::take(&mut self.bytes);
        self.records = 0;
        let mut queue = self.shared.lock();
        queue.bytes -= bytes as usize;
        let tell = queue.refused && queue.bytes <= self.shared.bytes_max / 2;
        if tell {
            queue.refused = false;
        }
        let waited_for = queue.waiting_for_room > 0;
        drop(queue);
        if waited_for {
            self.shared.room.notify_all();
        }
        if tell {
            self.completion.writable();
        }
        bytes
    }
}

impl<D: Disk, C> Drop for Worker<D, C> {
    /// Also when the completion panics: nobody may wait for a thread that is gone.
    fn drop(&mut self) {
        self.shared.close();
        self.log.folder().close();
    }
}

/// The thread that prepares the next segment's file.
struct Helper {
    requests: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Helper {
    fn spawn<D: Disk>(folder: Arc<Folder<D>>) -> io::Result<Self> {
        let (requests, received): (_, Receiver<()>) = sync_channel(1);
        let thread = thread::Builder::new().name("log-prepare".to_owned()).spawn(move || {
            for () in received {
                // Without a prepared file the log makes one when it needs it, and reports what fails then.
                let _ = folder.prepare_spare();
            }
        })?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    /// False if it is busy and should be asked again.
    fn prepare(&self) -> bool {
        self.requests.as_ref().is_some_and(|requests| requests.try_send(()).is_ok())
    }
}

impl Drop for Helper {
    /// Waits for the thread, which holds the folder: once the log is closed the folder can be opened again.
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            // It has printed its panic, and the log is closed either way.
            let _ = thread.join();
        }
    }
}
