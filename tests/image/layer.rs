//! The files of an image.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tar::{Builder, EntryType, Header};

/// Files, folders and links by their path, without a leading slash.
#[derive(Debug, Default)]
pub struct Layer {
    entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Debug)]
enum Entry {
    Folder { mode: u32 },
    File { mode: u32, contents: Contents },
    Link { target: PathBuf },
}

/// Large trees are not held in memory.
#[derive(Debug)]
enum Contents {
    Bytes(Vec<u8>),
    At(PathBuf),
}

impl Layer {
    /// Adds a file with the permissions `mode`. A folder above it that was not added exists for everyone to read.
    pub fn file(&mut self, path: &str, mode: u32, contents: Vec<u8>) {
        self.insert(PathBuf::from(path), Entry::File { mode, contents: Contents::Bytes(contents) });
    }

    /// Adds an empty folder with the permissions `mode`.
    pub fn folder(&mut self, path: &str, mode: u32) {
        self.insert(PathBuf::from(path), Entry::Folder { mode });
    }

    /// Adds the files by which programs find the name of the user with number `id`.
    pub fn user(&mut self, id: u32) {
        self.file("etc/passwd", 0o644, format!("root:x:0:0::/:/\nwarren:x:{id}:{id}::/:/\n").into_bytes());
        self.file("etc/group", 0o644, format!("root:x:0:\nwarren:x:{id}:\n").into_bytes());
    }

    /// Adds everything below `root`, which must not change until the layer is written.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn tree(&mut self, root: &Path) -> Result<()> {
        self.tree_below(root, Path::new(""))
    }

    fn tree_below(&mut self, root: &Path, folder: &Path) -> Result<()> {
        let here = root.join(folder);
        for entry in std::fs::read_dir(&here).with_context(|| format!("list {}", here.display()))? {
            let entry = entry?;
            let (path, source) = (folder.join(entry.file_name()), entry.path());
            let metadata = entry.metadata().with_context(|| format!("look at {}", source.display()))?;
            let mode = metadata.permissions().mode() & 0o7777;
            if metadata.is_dir() {
                self.insert(path.clone(), Entry::Folder { mode });
                self.tree_below(root, &path)?;
            } else if metadata.is_symlink() {
                self.insert(path, Entry::Link { target: std::fs::read_link(&source)? });
            } else if metadata.is_file() {
                self.insert(path, Entry::File { mode, contents: Contents::At(source) });
            }
        }
        Ok(())
    }

    fn insert(&mut self, path: PathBuf, entry: Entry) {
        for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            self.entries.entry(above.to_owned()).or_insert(Entry::Folder { mode: 0o755 });
        }
        self.entries.insert(path, entry);
    }

    pub(super) fn to_tar(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write_tar(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn write_tar(&self, writer: &mut impl Write) -> Result<()> {
        let mut archive = Builder::new(writer);
        for (path, entry) in &self.entries {
            entry.append(&mut archive, path).with_context(|| format!("put {} into the archive", path.display()))?;
        }
        archive.finish().context("end the archive")
    }
}

impl Entry {
    fn append(&self, archive: &mut Builder<&mut impl Write>, path: &Path) -> Result<()> {
        let mut header = Header::new_gnu();
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        match self {
            Self::Folder { mode } => {
                header.set_entry_type(EntryType::Directory);
                header.set_mode(*mode);
                header.set_size(0);
                archive.append_data(&mut header, path, std::io::empty())?;
            }
            Self::File { mode, contents } => {
                header.set_mode(*mode);
                let bytes = match contents {
                    Contents::Bytes(bytes) => bytes,
                    Contents::At(source) => {
                        &std::fs::read(source).with_context(|| format!("read {}", source.display()))?
                    }
                };
                header.set_size(u64::try_from(bytes.len())?);
                archive.append_data(&mut header, path, bytes.as_slice())?;
            }
            Self::Link { target } => {
                header.set_entry_type(EntryType::Symlink);
                header.set_mode(0o777);
                header.set_size(0);
                archive.append_link(&mut header, path, target)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_before_what_is_in_them() {
        let mut layer = Layer::default();
        layer.file("usr/share/z", 0o644, b"z".to_vec());
        layer.folder("tmp", 0o1777);
        let bytes = layer.to_tar().unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 0));
                (entry.path().unwrap().display().to_string(), header.mode().unwrap())
            })
            .collect();
        let expected = [("tmp", 0o1777), ("usr", 0o755), ("usr/share", 0o755), ("usr/share/z", 0o644)];
        assert_eq!(entries, expected.map(|(path, mode)| (path.to_owned(), mode)));
    }
}
