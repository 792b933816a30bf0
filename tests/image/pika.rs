//! An image with Python and pika, from Debian packages, for clients that run in a pod.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{Architecture, Image, Layer, USER};
use crate::command::output_of;
use crate::programs::{Lock, cache_folder, install_missing};

/// Name of the image. Its entrypoint is `python3`, which can `import pika`; there is no shell.
pub const NAME: &str = "warrenmq/pika:test";

/// Archive in the cache. The number is that of the recipe below and rises with it.
const ARCHIVE: &str = "pika-1.tar";

/// The archive in the cache, made if it is not there: about a minute, with Debian's or Ubuntu's apt-get.
///
/// # Errors
/// The packages cannot be fetched or unpacked.
pub fn archive() -> Result<PathBuf> {
    let folder = cache_folder()?.join("pika");
    let archive = folder.join(ARCHIVE);
    let _lock = Lock::of(&folder.join("lock"), "another run makes the pika image")?;
    if !archive.is_file() {
        eprintln!("making the image {NAME} from Debian packages");
        install_missing(&[("apt-get", "apt"), ("dpkg-deb", "dpkg"), ("tar", "tar")])?;
        let (packages, root) = (folder.join("packages"), folder.join("root"));
        remove_if_there(&root)?;
        fetch(&packages)?;
        unpack(&packages, &root)?;
        image_of(&root)?.write(&archive)?;
        remove_if_there(&root)?;
        remove_if_there(&packages)?;
    }
    Ok(archive)
}

fn image_of(root: &Path) -> Result<Image> {
    let mut layer = Layer::default();
    layer.tree(root)?;
    layer.user(USER);
    layer.folder("tmp", 0o1777);
    Ok(Image {
        name: NAME.to_owned(),
        architecture: Architecture::host()?,
        entrypoint: vec!["/usr/bin/python3".to_owned()],
        env: vec!["PATH=/usr/bin".to_owned(), "PYTHONUNBUFFERED=1".to_owned(), "PYTHONDONTWRITEBYTECODE=1".to_owned()],
        labels: Vec::new(),
        layer,
    })
}

/// Fetches python3-pika and all it depends on, as if nothing were installed here.
fn fetch(packages: &Path) -> Result<()> {
    std::fs::create_dir_all(packages.join("partial")).with_context(|| format!("create {}", packages.display()))?;
    let status = packages.join("status");
    std::fs::write(&status, "").context("write an empty package status")?;
    output_of(Command::new("apt-get").arg("update"))?;
    output_of(
        Command::new("apt-get")
            .args(["install", "--yes", "--download-only", "--no-install-recommends", "python3-pika"])
            .args(["-o", &format!("Dir::State::status={}", status.display())])
            .args(["-o", &format!("Dir::Cache::archives={}", packages.display())])
            .args(["-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root"])
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )?;
    Ok(())
}

/// Unpacks the packages without running their scripts: what Python needs works from the files alone.
fn unpack(packages: &Path, root: &Path) -> Result<()> {
    // Some packages still ship files in /lib; as on a Debian machine, that is a link.
    for folder in ["bin", "lib", "lib64", "sbin"] {
        std::fs::create_dir_all(root.join("usr").join(folder)).with_context(|| format!("create {}", root.display()))?;
        std::os::unix::fs::symlink(format!("usr/{folder}"), root.join(folder)).context("link into usr")?;
    }
    let entries = std::fs::read_dir(packages).context("list the packages")?;
    let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "deb"));
    if files.is_empty() {
        bail!("apt-get fetched no packages into {}", packages.display());
    }
    for file in files {
        unpack_one(&file, root).with_context(|| format!("unpack {}", file.display()))?;
    }
    for unused in ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian", "var"] {
        remove_if_there(&root.join(unused))?;
    }
    Ok(())
}

fn unpack_one(file: &Path, root: &Path) -> Result<()> {
    let mut package = Command::new("dpkg-deb").arg("--fsys-tarfile").arg(file).stdout(Stdio::piped()).spawn()?;
    let files = package.stdout.take().context("dpkg-deb has an output")?;
    let tar = Command::new("tar")
        .args(["--extract", "--keep-directory-symlink", "--no-same-owner", "--directory"])
        .arg(root)
        .stdin(files)
        .status()?;
    if !package.wait()?.success() || !tar.success() {
        bail!("dpkg-deb or tar failed");
    }
    Ok(())
}

fn remove_if_there(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
