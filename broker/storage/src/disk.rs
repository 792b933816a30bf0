//! The few calls the log makes on a folder of files, as traits, and the real folder: [`FileDisk`] for a log, and
//! [`ReadOnlyFolder`] for who only looks at one.
//!
//! Nothing else in this package touches the file system. The other implementation is
//! [`FaultyDisk`](crate::faulty::FaultyDisk), which tests use to lose power at any moment.

use std::fs::TryLockError;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;
use rustix::io::{Errno, ReadWriteFlags};

#[expect(clippy::disallowed_types, reason = "this is the one file that opens files")]
type File = std::fs::File;

/// A folder of files that is only read.
pub trait Files: Send + Sync + 'static {
    /// An open file. Closed when dropped.
    type File: Send + Sync + 'static;

    /// The names of all files in the folder, in no particular order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens an existing file.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Bytes of the file.
    fn len(&self, file: &Self::File) -> io::Result<u64>;

    /// Fills `buf` from `offset`. Bytes past the end of the file read as zeros.
    fn read_at(&self, file: &Self::File, buf: &mut [u8], offset: u64) -> io::Result<()>;
}

/// A folder of files, as far as a log needs one. Files are opened to be written, too.
///
/// Durability follows POSIX and promises no more: bytes written are durable after [`sync_data`](Self::sync_data) of
/// their file; names created, renamed or removed are durable after [`sync_dir`](Self::sync_dir). After any failed
/// write or sync the state of the file is unknown and must not be relied on.
pub trait Disk: Files {
    /// Creates a file of `len` bytes that reads as zeros, replacing a file of that name. Space is reserved where the
    /// file system can do so, so that later writes inside `len` do not run out of it. Where there is not enough, the
    /// error says so ([`is_no_space`]), and a file of that name may be left behind.
    fn create(&self, name: &str, len: u64) -> io::Result<Self::File>;

    /// As [`read_at`](Files::read_at), if that can be done without waiting for the device. False if not: `buf` then
    /// holds nothing of use. A disk that cannot tell reads plainly.
    fn read_cached_at(&self, file: &Self::File, buf: &mut [u8], offset: u64) -> io::Result<bool>;

    /// Writes all the slices, one after the other, from `offset`.
    fn write_at(&self, file: &Self::File, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Makes every earlier write to the file durable (`fdatasync`).
    fn sync_data(&self, file: &Self::File) -> io::Result<()>;

    /// Gives a file another name, replacing a file that has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file's name. Open files stay readable.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes every earlier create, rename and remove durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// Room on the volume that the folder is on.
    fn space(&self) -> io::Result<Space>;
}

/// Room on a volume, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What can still be written by us.
    pub available: u64,
    /// The volume's size.
    pub total: u64,
}

/// Whether an error says that the volume, or our share of it, is full (`ENOSPC`, `EDQUOT`).
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process, or another log in this one, holds the folder.
    #[error(
        "the data folder {} is in use by another broker: two brokers on one folder would destroy it. \
         Stop the other one, or give this one its own folder", path.display()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The folder cannot be created, opened or locked.
    #[error("cannot {action} {}: {source}. The broker needs a folder it can write to", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The folder or file it was tried on.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A real folder. Holds a lock on it (`flock` on the file `lock`) until dropped; the kernel gives the lock back when the
/// process ends in any way.
///
/// Messages are nobody else's: what it makes only its owner may read, and what it finds there it keeps from others too, as far
/// as the process owns it.
#[derive(Debug)]
pub struct FileDisk {
    path: PathBuf,
    folder: File,
    _lock: File,
}

impl FileDisk {
    /// Opens the folder, creating it and its parents where missing, and locks it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, FolderError> {
        let path = path.into();
        create_folder(&path)?;
        let lock = lock(&path)?;
        let me = lock.metadata().map_err(failed("look at the lock file of", &path))?.uid();
        for name in list(&path).map_err(failed("list the files of", &path))? {
            keep_private(&path.join(name), me);
        }
        keep_private(&path, me);
        let folder = File::open(&path).map_err(failed("open the folder", &path))?;
        Ok(Self { path, folder, _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether nobody but its owner may look into the folder.
    ///
    /// # Errors
    /// The system does not say.
    pub fn is_private(&self) -> io::Result<bool> {
        Ok(self.folder.metadata()?.mode() & OTHERS == 0)
    }
}

/// What everybody but the owner may do.
const OTHERS: u32 = 0o077;

/// Takes what is ours from everybody else. Where that cannot be done, it stays as it is: some volumes know no modes, and a
/// volume of Kubernetes may belong to somebody else and be the process's by its group.
fn keep_private(path: &Path, me: u32) {
    let Ok(found) = path.symlink_metadata() else { return };
    if !found.is_symlink()
        && let Some(mode) = private_mode(found.uid(), found.mode(), me)
    {
        let _ = std::fs::set_permissions(path, PermissionsExt::from_mode(mode));
    }
}

/// The mode that it should have, if it is ours and others may do something with it.
fn private_mode(owner: u32, mode: u32, me: u32) -> Option<u32> {
    (owner == me && mode & OTHERS != 0).then_some(mode & 0o7777 & !OTHERS)
}

/// Creates the folder durably: its name, too, must be there after a power cut.
#[expect(clippy::disallowed_types, reason = "this is the one file that makes folders")]
fn create_folder(path: &Path) -> Result<(), FolderError> {
    let missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.exists()).collect();
    let created = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    created.map_err(failed("create the folder", path))?;
    for parent in missing.iter().filter_map(|folder| folder.parent()) {
        let parent = if parent == Path::new("") { Path::new(".") } else { parent };
        let synced = File::open(parent).and_then(|parent| parent.sync_all());
        synced.map_err(failed("sync the folder", parent))?;
    }
    Ok(())
}

fn lock(folder: &Path) -> Result<File, FolderError> {
    let path = folder.join("lock");
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(failed("open the lock file", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(FolderError::InUse { path: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed("lock the file", &path)(source)),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |source| FolderError::Io { action, path, source }
}

/// A real folder that is only read. It takes no lock and opens nothing to be written, so a broker may be running in it.
#[derive(Debug)]
pub struct ReadOnlyFolder {
    path: PathBuf,
}

impl ReadOnlyFolder {
    /// The folder, which has to be there.
    ///
    /// # Errors
    /// It is not there, is no folder, or may not be read.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let folder = Self { path: path.into() };
        folder.list().map(|_| folder)
    }
}

impl Files for ReadOnlyFolder {
    type File = File;

    fn list(&self) -> io::Result<Vec<String>> {
        list(&self.path)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        File::open(self.path.join(name))
    }

    fn len(&self, file: &File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    fn read_at(&self, file: &File, buf: &mut [u8], offset: u64) -> io::Result<()> {
        read_at(file, buf, offset)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one file that lists folders")]
fn list(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        // A name that is not UTF-8 is not one of ours.
        names.extend(entry?.file_name().into_string());
    }
    Ok(names)
}

fn read_at(file: &File, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buf.is_empty() {
        match file.read_at(buf, offset) {
            Ok(0) => {
                buf.fill(0);
                break;
            }
            Ok(count) => {
                buf = &mut buf[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The kernel takes at most this many slices in one `pwritev` (`IOV_MAX`).
const SLICES_PER_WRITE: usize = 1024;

impl Files for FileDisk {
    type File = File;

    fn list(&self) -> io::Result<Vec<String>> {
        list(&self.path)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        File::options().read(true).write(true).open(self.path.join(name))
    }

    fn len(&self, file: &File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    fn read_at(&self, file: &File, buf: &mut [u8], offset: u64) -> io::Result<()> {
        read_at(file, buf, offset)
    }
}

impl Disk for FileDisk {
    fn create(&self, name: &str, len: u64) -> io::Result<File> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(self.path.join(name))?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len) {
            Ok(()) => {}
            // Some file systems (NFS before 4.2) cannot reserve space; the log works there, only slower.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(len)?,
            Err(error) => return Err(error.into()),
        }
        Ok(file)
    }

    fn read_cached_at(&self, file: &File, buf: &mut [u8], offset: u64) -> io::Result<bool> {
        let mut done = 0;
        while done < buf.len() {
            let slices = &mut [IoSliceMut::new(&mut buf[done..])];
            match rustix::io::preadv2(file, slices, offset + done as u64, ReadWriteFlags::NOWAIT) {
                Ok(0) => {
                    buf[done..].fill(0);
                    break;
                }
                Ok(count) => done += count,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                // Not every file system can say what it has in memory.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return self.read_at(file, buf, offset).map(|()| true),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    fn write_at(&self, file: &File, mut slices: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let now = &slices[..slices.len().min(SLICES_PER_WRITE)];
            match rustix::io::pwritev(file, now, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    IoSlice::advance_slices(&mut slices, count);
                    offset += count as u64;
                }
                // A signal before anything was written is not a failed write.
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one file that renames files")]
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one file that removes files")]
    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.folder.sync_all()
    }

    fn space(&self) -> io::Result<Space> {
        let volume = rustix::fs::fstatvfs(&self.folder)?;
        let bytes = |blocks: u64| blocks.saturating_mul(volume.f_frsize);
        Ok(Space { available: bytes(volume.f_bavail), total: bytes(volume.f_blocks) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_taken_from_others_and_what_is_not_stays_as_it_is() {
        for (owner, mode, expected) in [
            (7, 0o100_644, Some(0o600)),
            (7, 0o040_755, Some(0o700)),
            // As Kubernetes leaves a folder of ours after it has given the volume to a group.
            (7, 0o042_770, Some(0o2700)),
            (7, 0o100_601, Some(0o600)),
            (7, 0o100_600, None),
            (7, 0o100_400, None),
            (0, 0o042_775, None),
        ] {
            assert_eq!(private_mode(owner, mode, 7), expected, "{owner} {mode:o}");
        }
    }
}
