//! A disk in memory that can lose power, tear blocks, refuse and run full. For the tests of this and other packages.
//!
//! It keeps apart what was synced and what only the page cache knows. [`FaultyDisk::crash`] makes, out of one history,
//! any of the disks that a power cut may leave: each unsynced block is old, new, any version in between, or torn; and
//! the folder's unsynced changes survive up to any one of them. [`FaultyDisk::at`] goes back to any earlier moment.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, Files, Space};

/// A disk in memory. Clones are the same disk; [`crash`](Self::crash), [`restart`](Self::restart) and [`at`](Self::at)
/// make others.
#[derive(Clone)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

/// The size that a disk without a capacity says it has: 1 TiB.
const UNBOUNDED: u64 = 1 << 40;

/// An open file of a [`FaultyDisk`].
#[derive(Debug)]
pub struct FaultyFile {
    inode: usize,
}

#[derive(Clone)]
struct State {
    block_len: usize,
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Changes of names since the folder was last synced.
    unsynced_names: Vec<NameChange>,
    faults: Faults,
    history: History,
}

#[derive(Clone, Default)]
struct Inode {
    /// By number; a missing block is all zeros.
    blocks: BTreeMap<u64, Block>,
    /// Bytes that count against the disk's capacity.
    len: u64,
    /// A sync failed: like Linux, the disk calls the pages clean now, and they may or may not have been written.
    sync_failed: bool,
}

#[derive(Clone, Default)]
struct Block {
    durable: Option<Vec<u8>>,
    /// What was written since the last sync, oldest first. The last is what reads see.
    unsynced: Vec<Vec<u8>>,
}

#[derive(Clone)]
enum NameChange {
    Link(String, usize),
    Rename(String, String),
    Remove(String),
}

#[derive(Clone, Default)]
struct Faults {
    /// Writes to let through before one fails, and how it fails.
    write: Option<(u64, ErrorKind)>,
    sync: Option<(u64, ErrorKind)>,
    capacity: Option<u64>,
    /// What kind of error running out of capacity is.
    full: Option<ErrorKind>,
    /// Nothing is in memory: every read waits for the device.
    uncached: bool,
}

/// What happened since the disk was made, to go back to any moment of it.
#[derive(Clone, Default)]
struct History {
    origin: Option<Arc<State>>,
    changes: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Create(String, u64),
    Write(usize, u64, Vec<u8>),
    Sync(usize),
    Rename(String, String),
    Remove(String),
    SyncDir,
}

impl FaultyDisk {
    /// An empty disk whose blocks, the unit in which unsynced writes are lost, are `block_len` bytes long (512 and 4096
    /// are what real disks do).
    pub fn new(block_len: usize) -> Self {
        Self::from_state(State {
            block_len,
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            faults: Faults::default(),
            history: History::default(),
        })
    }

    fn from_state(mut state: State) -> Self {
        state.history = History::default();
        state.history.origin = Some(Arc::new(state.clone()));
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// What a power cut at this moment leaves. For every unsynced thing `choose` is asked which of so many outcomes it
    /// gets: 0 is that nothing of it reached the disk. Faults that were set are gone.
    pub fn crash(&self, choose: &mut dyn FnMut(usize) -> usize) -> Self {
        let mut state = self.lock().clone();
        let kept = choose(state.unsynced_names.len() + 1);
        let mut names = state.durable_names.clone();
        for change in state.unsynced_names.drain(..).take(kept) {
            change.apply(&mut names);
        }
        state.durable_names = names.clone();
        state.names = names;
        for inode in &mut state.inodes {
            inode.crash(state.block_len, choose);
        }
        state.faults = Faults::default();
        Self::from_state(state)
    }

    /// What a killed process leaves: everything written is there, and what was unsynced still is unsynced.
    pub fn restart(&self) -> Self {
        let mut state = self.lock().clone();
        state.faults = Faults::default();
        Self::from_state(state)
    }

    /// How many changes (writes, syncs, changes of names) have happened.
    pub fn changes(&self) -> usize {
        self.lock().history.changes.len()
    }

    /// The disk as it was after the first `count` changes.
    pub fn at(&self, count: usize) -> Self {
        let state = self.lock();
        let mut then = state.history.origin.as_deref().unwrap_or(&state).clone();
        for change in &state.history.changes[..count] {
            then.apply(change);
        }
        Self::from_state(then)
    }

    /// Lets `count` more writes succeed; the one after them writes only its first half and fails.
    pub fn fail_write_after(&self, count: u64, kind: ErrorKind) {
        self.lock().faults.write = Some((count, kind));
    }

    /// Lets `count` more syncs of files succeed; the one after them fails.
    pub fn fail_sync_after(&self, count: u64, kind: ErrorKind) {
        self.lock().faults.sync = Some((count, kind));
    }

    /// Files may have `bytes` together; what needs more fails with `StorageFull`.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().faults.capacity = Some(bytes);
    }

    /// As [`set_capacity`](Self::set_capacity), but the bound is a quota: what needs more fails with `QuotaExceeded`.
    pub fn set_quota(&self, bytes: u64) {
        let mut state = self.lock();
        state.faults.capacity = Some(bytes);
        state.faults.full = Some(ErrorKind::QuotaExceeded);
    }

    /// Whether reads would have to wait for the device, as when the page cache has forgotten everything.
    pub fn set_uncached(&self, uncached: bool) {
        self.lock().faults.uncached = uncached;
    }

    /// The names of the files, in alphabetical order.
    pub fn names(&self) -> Vec<String> {
        self.lock().names.keys().cloned().collect()
    }

    /// A file's bytes, or `None` if there is no such file.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        let inode = &state.inodes[*state.names.get(name)?];
        let mut bytes = vec![0; inode.len as usize];
        inode.read(state.block_len, &mut bytes, 0);
        Some(bytes)
    }

    /// Sets a file's bytes, durably: damage, or a folder made by hand. Creates the file if there is none.
    pub fn set_contents(&self, name: &str, bytes: &[u8]) {
        let mut state = self.lock();
        let mut inode = Inode { len: bytes.len() as u64, ..Inode::default() };
        inode.write(state.block_len, bytes, 0);
        inode.sync();
        if let Some(number) = state.names.get(name).copied() {
            state.inodes[number] = inode;
        } else {
            let number = state.inodes.len();
            state.inodes.push(inode);
            state.names.insert(name.to_owned(), number);
            state.durable_names.insert(name.to_owned(), number);
        }
        let origin = State { history: History::default(), ..state.clone() };
        state.history = History { origin: Some(Arc::new(origin)), changes: Vec::new() };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files for FaultyDisk {
    type File = FaultyFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn open(&self, name: &str) -> io::Result<FaultyFile> {
        let inode = *self.lock().names.get(name).ok_or(ErrorKind::NotFound)?;
        Ok(FaultyFile { inode })
    }

    fn read_at(&self, file: &FaultyFile, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.lock();
        state.inodes[file.inode].read(state.block_len, buf, offset);
        Ok(())
    }

    fn len(&self, file: &FaultyFile) -> io::Result<u64> {
        Ok(self.lock().inodes[file.inode].len)
    }
}

impl Disk for FaultyDisk {
    fn create(&self, name: &str, len: u64) -> io::Result<FaultyFile> {
        let mut state = self.lock();
        state.check_capacity(len)?;
        state.change(Change::Create(name.to_owned(), len));
        Ok(FaultyFile { inode: state.inodes.len() - 1 })
    }

    fn read_cached_at(&self, file: &FaultyFile, buf: &mut [u8], offset: u64) -> io::Result<bool> {
        if self.lock().faults.uncached {
            return Ok(false);
        }
        self.read_at(file, buf, offset).map(|()| true)
    }

    fn write_at(&self, file: &FaultyFile, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut state = self.lock();
        let mut bytes = Vec::new();
        for slice in slices.iter() {
            bytes.extend_from_slice(slice);
        }
        let end = offset + bytes.len() as u64;
        state.check_capacity(end.saturating_sub(state.inodes[file.inode].len))?;
        let fails = due(&mut state.faults.write);
        if fails.is_some() {
            bytes.truncate(bytes.len() / 2);
        }
        state.change(Change::Write(file.inode, offset, bytes));
        fails.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn sync_data(&self, file: &FaultyFile) -> io::Result<()> {
        let mut state = self.lock();
        if let Some(kind) = due(&mut state.faults.sync) {
            state.inodes[file.inode].sync_failed = true;
            return Err(kind.into());
        }
        state.change(Change::Sync(file.inode));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.names.get(from).ok_or(ErrorKind::NotFound)?;
        state.change(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.names.get(name).ok_or(ErrorKind::NotFound)?;
        state.change(Change::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.lock().change(Change::SyncDir);
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        let state = self.lock();
        let total = state.faults.capacity.unwrap_or(UNBOUNDED);
        Ok(Space { available: total.saturating_sub(state.used()), total })
    }
}

/// Counts a fault down and says whether it is due now.
fn due(fault: &mut Option<(u64, ErrorKind)>) -> Option<ErrorKind> {
    let (left, kind) = fault.as_mut()?;
    if *left == 0 {
        let kind = *kind;
        *fault = None;
        return Some(kind);
    }
    *left -= 1;
    None
}

impl State {
    fn check_capacity(&self, more: u64) -> io::Result<()> {
        match self.faults.capacity {
            Some(capacity) if self.used() + more > capacity && more > 0 => {
                Err(self.faults.full.unwrap_or(ErrorKind::StorageFull).into())
            }
            _ => Ok(()),
        }
    }

    fn used(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[*inode].len).sum()
    }

    fn change(&mut self, change: Change) {
        self.apply(&change);
        self.history.changes.push(change);
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Create(name, len) => {
                self.inodes.push(Inode { len: *len, ..Inode::default() });
                self.change_name(NameChange::Link(name.clone(), self.inodes.len() - 1));
            }
            Change::Write(inode, offset, bytes) => self.inodes[*inode].write(self.block_len, bytes, *offset),
            Change::Sync(inode) => self.inodes[*inode].sync(),
            Change::Rename(from, to) => self.change_name(NameChange::Rename(from.clone(), to.clone())),
            Change::Remove(name) => self.change_name(NameChange::Remove(name.clone())),
            Change::SyncDir => {
                self.durable_names = self.names.clone();
                self.unsynced_names.clear();
            }
        }
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl Inode {
    fn read(&self, block_len: usize, buf: &mut [u8], offset: u64) {
        for (number, at, piece) in blocks(block_len, offset, buf.len()) {
            match self.blocks.get(&number).and_then(Block::current) {
                Some(block) => buf[piece.clone()].copy_from_slice(&block[at..at + piece.len()]),
                None => buf[piece].fill(0),
            }
        }
    }

    fn write(&mut self, block_len: usize, bytes: &[u8], offset: u64) {
        self.len = self.len.max(offset + bytes.len() as u64);
        for (number, at, piece) in blocks(block_len, offset, bytes.len()) {
            let block = self.blocks.entry(number).or_default();
            let old = block.current().map_or_else(|| vec![0; block_len], <[u8]>::to_vec);
            let mut new = old.clone();
            new[at..at + piece.len()].copy_from_slice(&bytes[piece]);
            if new != old {
                block.unsynced.push(new);
            }
        }
    }

    fn sync(&mut self) {
        if self.sync_failed {
            return;
        }
        for block in self.blocks.values_mut() {
            if let Some(last) = block.unsynced.pop() {
                block.durable = Some(last);
                block.unsynced.clear();
            }
        }
    }

    fn crash(&mut self, block_len: usize, choose: &mut dyn FnMut(usize) -> usize) {
        self.sync_failed = false;
        for block in self.blocks.values_mut() {
            if !block.unsynced.is_empty() {
                block.crash(block_len, choose);
            }
        }
    }
}

impl Block {
    fn current(&self) -> Option<&[u8]> {
        self.unsynced.last().or(self.durable.as_ref()).map(Vec::as_slice)
    }

    /// Outcomes: as it was, each version since, and the last version torn either way.
    fn crash(&mut self, block_len: usize, choose: &mut dyn FnMut(usize) -> usize) {
        let old = self.durable.take().unwrap_or_else(|| vec![0; block_len]);
        let versions = std::mem::take(&mut self.unsynced);
        let new = &versions[versions.len() - 1];
        let half = block_len / 2;
        let outcome = choose(versions.len() + 3);
        self.durable = Some(match outcome.checked_sub(1) {
            None => old,
            Some(version) if version < versions.len() => versions[version].clone(),
            Some(version) if version == versions.len() => [&new[..half], &old[half..]].concat(),
            Some(_) => [&old[..half], &new[half..]].concat(),
        });
    }
}

/// The blocks that `len` bytes from `offset` touch: number, where in the block, which of the bytes.
fn blocks(block_len: usize, offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let now = offset + done as u64;
        let (number, at) = (now / block_len as u64, (now % block_len as u64) as usize);
        let piece = done..len.min(done + block_len - at);
        done = piece.end;
        Some((number, at, piece))
    })
}
