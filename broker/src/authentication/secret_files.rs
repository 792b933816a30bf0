//! Files with secrets, which others may change at any time: a volume of Kubernetes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::LoginError;
use crate::limits::SECRET_TIMEOUT;

/// Files that are read together. A volume that does not answer holds one thread, and those who wait for it not for longer than
/// [`SECRET_TIMEOUT`].
pub(super) struct SecretFiles {
    files: Arc<[SecretFile]>,
    /// A reading that somebody has begun and not waited for to its end.
    reading: Mutex<Option<JoinHandle<Secrets>>>,
    #[cfg(test)]
    begun: std::sync::atomic::AtomicUsize,
}

/// A file, and whether it must be there.
pub(super) enum SecretFile {
    /// Without it nothing is known.
    Needed(PathBuf),
    /// While it is missing, or nobody names one, it counts as empty.
    Optional(Option<PathBuf>),
}

impl SecretFile {
    fn read(&self) -> Result<Vec<u8>, LoginError> {
        match self {
            Self::Needed(path) => read_secret(path),
            Self::Optional(None) => Ok(Vec::new()),
            Self::Optional(Some(path)) => match read_secret(path) {
                Err(LoginError::Secret { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
                read => read,
            },
        }
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Self::Needed(path) => Some(path),
            Self::Optional(path) => path.as_deref(),
        }
    }
}

/// What files hold, in their order.
type Secrets = Result<Vec<Vec<u8>>, LoginError>;

impl SecretFiles {
    pub(super) fn new(files: impl IntoIterator<Item = SecretFile>) -> Self {
        Self {
            files: files.into_iter().collect(),
            reading: Mutex::new(None),
            #[cfg(test)]
            begun: Default::default(),
        }
    }

    /// What is in them now. They are read in their order, one after the other: a volume may change in between.
    ///
    /// # Errors
    /// One of them cannot be read, or not in time.
    pub(super) async fn read(&self) -> Secrets {
        let read = async {
            let mut reading = self.reading.lock().await;
            if let Some(earlier) = &mut *reading {
                // It may have seen what the files were like before; until it ends there is no use in another one.
                let _ = earlier.await;
            }
            #[cfg(test)]
            self.begun.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let files = Arc::clone(&self.files);
            let read = reading.insert(spawn_blocking(move || files.iter().map(SecretFile::read).collect()));
            let secrets = read.await;
            *reading = None;
            secrets
        };
        let path =
            self.files.iter().find_map(SecretFile::path).map_or_else(String::new, |path| path.display().to_string());
        let trouble = |source| LoginError::Secret { path: path.clone(), source };
        let late = |_| trouble(io::Error::new(io::ErrorKind::TimedOut, "the volume does not answer"));
        timeout(SECRET_TIMEOUT, read).await.map_err(late)?.map_err(|error| trouble(io::Error::other(error)))?
    }
}

/// A secret's file without the line end that editors put behind it.
pub(super) fn read_secret(path: &Path) -> Result<Vec<u8>, LoginError> {
    let mut secret =
        std::fs::read(path).map_err(|source| LoginError::Secret { path: path.display().to_string(), source })?;
    while matches!(secret.last(), Some(b'\n' | b'\r')) {
        secret.pop();
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[tokio::test]
    async fn files_are_read_as_they_are_at_that_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = ["name", "password"].map(|name| folder.path().join(name));
        let [name, password] = paths.clone().map(SecretFile::Needed);
        let later = folder.path().join("later");
        let optional = [None, Some(later.clone())].map(SecretFile::Optional);
        let files = SecretFiles::new([name, password].into_iter().chain(optional));
        for text in ["first", "second"] {
            paths.iter().for_each(|path| std::fs::write(path, format!("{text}\r\n")).expect("written"));
            let expected = [text, text, "", ""].map(|text| text.as_bytes().to_vec());
            assert_eq!(files.read().await.expect("there"), expected);
        }
        std::fs::write(&later, "third").expect("written");
        assert_eq!(files.read().await.expect("there")[3], b"third");
        std::fs::remove_file(&paths[1]).expect("removed");
        assert!(matches!(files.read().await, Err(LoginError::Secret { path, .. }) if path.ends_with("password")));
    }

    /// Lets go who waits for a pipe, also when the test fails: the runtime waits for its threads.
    struct Pipe(PathBuf);

    impl Drop for Pipe {
        fn drop(&mut self) {
            // Whoever opens both ends waits for nobody.
            let _ = std::fs::OpenOptions::new().read(true).write(true).open(&self.0);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_volume_that_does_not_answer_holds_nobody_for_long_and_one_thread() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pipe");
        // Whoever reads it waits until somebody writes.
        mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).expect("a pipe");
        let _pipe = Pipe(path.clone());
        let files = SecretFiles::new([SecretFile::Needed(path.clone())]);
        let reads = futures::future::join_all((0..20).map(|_| files.read())).await;
        assert!(reads.iter().all(|read| matches!(read, Err(LoginError::Secret { .. }))), "{reads:?}");
        assert!(files.read().await.is_err(), "nor does it later");
        assert_eq!(files.begun.load(std::sync::atomic::Ordering::Relaxed), 1, "one thread waits for it");
        // It answers again, and what is read is what it says then, not what the one who waited got.
        let next = folder.path().join("next");
        std::fs::write(&next, "now").expect("written");
        let mut pipe = std::fs::OpenOptions::new().write(true).open(&path).expect("somebody reads it still");
        std::fs::rename(&next, &path).expect("renamed");
        pipe.write_all(b"earlier").expect("written");
        drop(pipe);
        assert_eq!(files.read().await.expect("it answers"), [b"now".to_vec()]);
    }
}
