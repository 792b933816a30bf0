//! A disk that two threads use: whenever one of them calls, the other may have come first.

use std::cell::RefCell;
use std::io::{self, IoSlice};

use warren_storage::faulty::FaultyFile;
use warren_storage::{Disk, FaultyDisk, Files, Space};

thread_local! {
    /// What comes before each call that changes the disk.
    static BETWEEN: RefCell<Option<Box<dyn FnMut()>>> = const { RefCell::new(None) };
}

/// Does `deed`; `between` comes before each change that it makes to a [`SharedDisk`], with changes of its own.
pub(crate) fn interleaved<R>(between: impl FnMut() + 'static, deed: impl FnOnce() -> R) -> R {
    BETWEEN.set(Some(Box::new(between)));
    let done = deed();
    BETWEEN.set(None);
    done
}

/// What comes in between is not interrupted itself.
fn come_between() {
    if let Some(mut between) = BETWEEN.take() {
        between();
        BETWEEN.set(Some(between));
    }
}

/// A [`FaultyDisk`] for which [`interleaved`] works.
#[derive(Clone)]
pub(crate) struct SharedDisk(pub(crate) FaultyDisk);

impl Files for SharedDisk {
    type File = FaultyFile;

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn open(&self, name: &str) -> io::Result<FaultyFile> {
        self.0.open(name)
    }

    fn len(&self, file: &FaultyFile) -> io::Result<u64> {
        self.0.len(file)
    }

    fn read_at(&self, file: &FaultyFile, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(file, buf, offset)
    }
}

impl Disk for SharedDisk {
    fn create(&self, name: &str, len: u64) -> io::Result<FaultyFile> {
        come_between();
        self.0.create(name, len)
    }

    fn read_cached_at(&self, file: &FaultyFile, buf: &mut [u8], offset: u64) -> io::Result<bool> {
        self.0.read_cached_at(file, buf, offset)
    }

    fn write_at(&self, file: &FaultyFile, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        come_between();
        self.0.write_at(file, slices, offset)
    }

    fn sync_data(&self, file: &FaultyFile) -> io::Result<()> {
        come_between();
        self.0.sync_data(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        come_between();
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        come_between();
        self.0.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        come_between();
        self.0.sync_dir()
    }

    fn space(&self) -> io::Result<Space> {
        self.0.space()
    }
}
