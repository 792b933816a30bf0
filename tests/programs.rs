//! The programs of Kubernetes, built once from their Go modules and kept in the cache.
//!
//! `cluster/programs/go.mod` says which versions. The cache folder is named after them, so a change of version builds
//! anew and an older checkout still finds its own.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::command::{is_installed, output_of, tail};

/// A folder with built programs.
#[derive(Debug, Clone)]
pub struct Programs {
    bin: PathBuf,
}

/// A program and the Go package it is built from.
#[derive(Debug, Clone, Copy)]
struct Program {
    name: &'static str,
    package: &'static str,
}

/// What a person needs to talk to any cluster. Both providers offer it.
const CLIENTS: [Program; 2] = [
    Program { name: "kubectl", package: "k8s.io/kubernetes/cmd/kubectl" },
    Program { name: "helm", package: "helm.sh/helm/v4/cmd/helm" },
];

/// What the local provider runs. The API server comes first: it shares most packages with the others and takes longest.
const CLUSTER: [Program; 12] = [
    Program { name: "kube-apiserver", package: "k8s.io/kubernetes/cmd/kube-apiserver" },
    Program { name: "kube-controller-manager", package: "k8s.io/kubernetes/cmd/kube-controller-manager" },
    Program { name: "kube-scheduler", package: "k8s.io/kubernetes/cmd/kube-scheduler" },
    Program { name: "kubelet", package: "k8s.io/kubernetes/cmd/kubelet" },
    Program { name: "kube-proxy", package: "k8s.io/kubernetes/cmd/kube-proxy" },
    Program { name: "containerd", package: "github.com/containerd/containerd/v2/cmd/containerd" },
    Program {
        name: "containerd-shim-runc-v2",
        package: "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
    },
    Program { name: "ctr", package: "github.com/containerd/containerd/v2/cmd/ctr" },
    Program { name: "etcd", package: "go.etcd.io/etcd/server/v3" },
    Program { name: "coredns", package: "./coredns" },
    Program { name: "provisioner", package: "./provisioner" },
    Program { name: "pause", package: "./pause" },
];

impl Programs {
    /// Finds kubectl and helm in the cache, or builds them.
    ///
    /// # Errors
    /// Go is missing, a module cannot be fetched or a program does not compile; the error shows the end of the build log.
    pub fn clients() -> Result<Self> {
        Self::build(&CLIENTS)
    }

    /// Finds all programs of the local cluster in the cache, or builds them: 10 to 15 minutes on two processors.
    ///
    /// # Errors
    /// As for [`Self::clients`].
    pub fn cluster() -> Result<Self> {
        Self::build(&[&CLUSTER[..], &CLIENTS[..]].concat())
    }

    /// The folder the programs are in.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// The path of the program `name`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    fn build(programs: &[Program]) -> Result<Self> {
        let sources = sources();
        let module = std::fs::read_to_string(sources.join("go.mod")).context("read cluster/programs/go.mod")?;
        let version = kubernetes_version(&module).context("cluster/programs/go.mod requires no k8s.io/kubernetes")?;
        let digest = digest_of_sources(&sources)?;
        let bin = cache_folder()?.join(format!("kubernetes-{version}-{}", &digest[..12])).join("bin");
        let missing = |program: &&Program| !bin.join(program.name).is_file();
        if programs.iter().any(|program| missing(&program)) {
            std::fs::create_dir_all(&bin).with_context(|| format!("create {}", bin.display()))?;
            let _lock = Lock::of(&bin.with_file_name("lock"), "another run builds the programs")?;
            let missing: Vec<_> = programs.iter().filter(missing).collect();
            for (index, program) in missing.iter().enumerate() {
                let of = format!("{} of {}", index + 1, missing.len());
                program.build(&sources, version, &bin, &of)?;
            }
        }
        Ok(Self { bin })
    }
}

impl Program {
    /// Builds beside the final place and then renames, so that a program that is there is whole.
    fn build(&self, sources: &Path, version: &str, bin: &Path, of: &str) -> Result<()> {
        if !is_installed("go") {
            bail!("Go is needed to build {} and is not installed: see https://go.dev/dl, 1.26 or later", self.name);
        }
        let log = bin.with_file_name("build.log");
        let unfinished = bin.join(format!(".{}", self.name));
        let output = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let mut go = Command::new("go")
            .args(["build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags"])
            .arg(format!("-s -w -X k8s.io/component-base/version.gitVersion={version}"))
            .arg("-o")
            .arg(&unfinished)
            .arg(self.package)
            .current_dir(sources)
            .env("CGO_ENABLED", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .context("cannot start go")?;
        if !self.watch(&mut go, of)? {
            bail!("building {} failed:{}", self.name, tail(&log));
        }
        std::fs::rename(&unfinished, bin.join(self.name)).with_context(|| format!("keep {}", self.name))
    }

    /// Waits for the build and says every few seconds that it goes on. Returns whether it succeeded.
    fn watch(&self, go: &mut Child, of: &str) -> Result<bool> {
        const REPORT: Duration = Duration::from_secs(5);
        let start = Instant::now();
        let mut reported = start;
        eprintln!("building {} ({of})", self.name);
        loop {
            if let Some(status) = go.try_wait().context("wait for go")? {
                eprintln!("built {} in {} s", self.name, start.elapsed().as_secs());
                return Ok(status.success());
            }
            if reported.elapsed() >= REPORT {
                reported = Instant::now();
                eprintln!("building {} ({of}): {} s", self.name, start.elapsed().as_secs());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Where everything is kept that outlives a run: `$WARREN_CACHE`, else `warren` in `$XDG_CACHE_HOME` or `~/.cache`.
///
/// # Errors
/// None of the three variables is set, or the folder is one that the nodes of the local cluster cover with their own.
pub fn cache_folder() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = variable("WARREN_CACHE")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("warren")))
        .or_else(|| Some(variable("HOME")?.join(".cache/warren")))
        .context("no place for the cache: set WARREN_CACHE to a folder")?;
    for covered in ["/run", "/var/run", "/var/lib", "/var/log", "/proc", "/sys", "/dev"] {
        if folder.starts_with(covered) {
            bail!(
                "the cache cannot be in {covered}, which every node has for itself: set WARREN_CACHE to another folder"
            );
        }
    }
    std::path::absolute(&folder).with_context(|| format!("find {}", folder.display()))
}

/// Installs the Debian packages that hold `commands`, pairs of a program and its package, where a program is missing.
///
/// # Errors
/// The machine has no apt-get, or it fails; the error names the programs that are missing.
pub fn install_missing(commands: &[(&str, &str)]) -> Result<()> {
    let has =
        |program: &str| if program.starts_with('/') { Path::new(program).exists() } else { is_installed(program) };
    let missing: Vec<_> = commands.iter().filter(|(program, _)| !has(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let programs = missing.iter().map(|(program, _)| *program).collect::<Vec<_>>().join(", ");
    if !is_installed("apt-get") {
        bail!("these programs are missing and there is no apt-get to install them: {programs}");
    }
    eprintln!("installing what has {programs}");
    let packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    install_packages(&packages)
}

/// Installs these Debian packages.
///
/// # Errors
/// The machine has no apt-get, or it fails.
pub fn install_packages(packages: &[&str]) -> Result<()> {
    let apt_get = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet");
        command
    };
    output_of(apt_get().arg("update"))?;
    output_of(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(packages)).map(drop)
}

/// Holds a file locked, among all processes of the machine, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// Waits for the lock and says so, with `reason`, if another process has it.
    pub fn of(path: &Path, reason: &str) -> Result<Self> {
        let failed = || format!("lock {}", path.display());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(failed)?;
        }
        loop {
            let file = File::options().create(true).append(true).open(path).with_context(failed)?;
            if file.try_lock().is_err() {
                eprintln!("waiting: {reason}");
                file.lock().with_context(failed)?;
            }
            let lock = Self { path: path.to_owned(), file };
            if lock.is_current().with_context(failed)? {
                return Ok(lock);
            }
        }
    }

    /// Removes the file. Whoever waits for it makes a new one.
    pub fn remove(self) -> Result<()> {
        std::fs::remove_file(&self.path).with_context(|| format!("remove {}", self.path.display()))
    }

    /// Whether the locked file still has its name: the process that had it before may have removed it.
    fn is_current(&self) -> std::io::Result<bool> {
        let held = self.file.metadata()?;
        match std::fs::metadata(&self.path) {
            Ok(named) => Ok((held.dev(), held.ino()) == (named.dev(), named.ino())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/programs")
}

/// The version that the `require` line of `module`, the text of a go.mod, names.
fn kubernetes_version(module: &str) -> Option<&str> {
    let mut lines = module.lines().map(|line| line.trim().trim_start_matches("require "));
    lines.find_map(|line| line.strip_prefix("k8s.io/kubernetes ")?.split_whitespace().next())
}

/// SHA-256, in hexadecimal, over the names and contents of all files the programs are built from.
fn digest_of_sources(sources: &Path) -> Result<String> {
    let mut digest = Sha256::new();
    for name in ["go.mod", "go.sum", "coredns/main.go", "pause/main.go", "provisioner/main.go"] {
        let source = std::fs::read(sources.join(name)).with_context(|| format!("read cluster/programs/{name}"))?;
        digest.update(format!("{name} {}\n", source.len()));
        digest.update(source);
    }
    Ok(hexadecimal(&digest.finalize()))
}

/// Lower-case hexadecimal digits of `bytes`.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_either_form_of_require() {
        assert_eq!(kubernetes_version("require k8s.io/kubernetes v1.2.3\n"), Some("v1.2.3"));
        assert_eq!(kubernetes_version("require (\n\tk8s.io/kubernetes v1.2.3 // indirect\n)\n"), Some("v1.2.3"));
        assert_eq!(kubernetes_version("tool k8s.io/kubernetes/cmd/kubectl\n"), None);
    }

    #[test]
    fn a_lock_is_held_by_one_even_if_its_file_is_removed_and_made_again() {
        let path = std::env::temp_dir().join(format!("warren-lock-{}", std::process::id()));
        let first = Lock::of(&path, "another test").unwrap();
        let (entered, waiting) = (std::sync::atomic::AtomicU8::new(0), path.clone());
        std::thread::scope(|scope| {
            let enter = || {
                let lock = Lock::of(&waiting, "the first holder").unwrap();
                entered.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                lock.remove().unwrap();
            };
            let threads = [scope.spawn(enter), scope.spawn(enter)];
            assert_eq!(entered.load(std::sync::atomic::Ordering::SeqCst), 0);
            first.remove().unwrap();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
        assert_eq!(entered.into_inner(), 2);
        assert!(!path.exists());
    }

    #[test]
    fn the_checked_in_module_names_a_version() {
        let module = std::fs::read_to_string(sources().join("go.mod")).unwrap();
        assert!(kubernetes_version(&module).unwrap().starts_with("v1."));
    }
}
