//! What a suite is: somebody else's tests, or programs of our own that use somebody else's client.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::programs::{Lock, cache_folder};
use anyhow::{Context, Result, ensure};

use super::broker::Product;
use super::case::{Case, Tally};

/// A suite, pinned to a version.
#[derive(Debug, Clone, Copy)]
pub struct Suite {
    /// As it is called on the command line and in the table.
    pub name: &'static str,
    /// Version of the client that it tests with.
    pub version: &'static str,
    /// What it exercises.
    pub covers: &'static str,
    /// What RabbitMQ 4.3.6 made of it, asked by this program. If fewer cases run in a whole run, it is a failure.
    pub rabbitmq: Tally,
    /// Cases that are not run at all, with neither broker.
    pub left_out: &'static [Exception],
    /// How long it may take before it is killed.
    pub limit: Duration,
    /// What of it belongs to `make test`.
    pub quick: Quick,
    /// It asks the management API, through a [recorder](super::recorder) on `localhost:15672`.
    pub manages: bool,
    /// What has to be there before it runs. Everything that comes from a registry comes here.
    pub install: fn(&Installation<'_>) -> Result<()>,
    /// Changes when `install` would install something else.
    pub recipe: &'static [&'static str],
    /// Runs it against the broker on the usual ports and says what became of its cases.
    pub run: fn(&Run<'_>) -> Result<Vec<Case>>,
}

/// What of a suite is worth its time in `make test`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quick {
    /// All of it.
    All,
    /// Nothing.
    Nothing,
    /// A part, which [`Suite::run`] chooses by [`Run::is_quick`].
    Part,
}

/// A case that is left out, or that fails and may.
#[derive(Debug, Clone, Copy)]
pub struct Exception {
    /// Name of the case, or the beginning of several names.
    pub case: &'static str,
    /// Why, as a sentence for the docs.
    pub reason: &'static str,
}

/// Where a suite is installed.
#[derive(Debug)]
pub struct Installation<'a> {
    /// A folder of its own in the cache.
    pub folder: &'a Path,
    /// As in [`Suite`].
    pub version: &'a str,
}

/// One run of a suite.
#[derive(Debug)]
pub struct Run<'a> {
    /// Where it is installed.
    pub folder: &'a Path,
    /// An empty folder.
    pub scratch: &'a Path,
    /// Which broker is judged.
    pub product: Product,
    /// Where logs and results go.
    pub results: &'a Path,
    /// Where it keeps its `data`, and what it says in `broker.log`.
    pub broker: &'a Path,
    /// Certificates for TLS: `certificates.rs` says which.
    pub certificates: &'a Path,
    /// Only what `make test` has time for.
    pub is_quick: bool,
}

impl Run<'_> {
    /// How long what happens takes to be in the answers of the management API, in milliseconds: RabbitMQ collects it now
    /// and then.
    #[must_use]
    pub fn statistics_age(&self) -> &'static str {
        match self.product {
            Product::Warren => "100",
            Product::Rabbitmq => "5500",
        }
    }
}

impl Suite {
    /// The folder it is installed in. Installs it if it is not there, or was installed by another recipe.
    ///
    /// # Errors
    /// Something cannot be fetched or built.
    pub fn installed(&self) -> Result<PathBuf> {
        let folder = cache_folder()?.join("conformance").join(format!("{}-{}", self.name, self.version));
        let lock = folder.with_file_name(format!("{}-{}.lock", self.name, self.version));
        let _lock = Lock::of(&lock, "another run installs the suite")?;
        // It is written last, so a folder that has it is whole.
        let (marker, recipe) = (folder.join("installed"), self.recipe.join("\n"));
        if std::fs::read_to_string(&marker).is_ok_and(|installed| installed == recipe) {
            return Ok(folder);
        }
        eprintln!("installing {} {}", self.name, self.version);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).context("remove what an earlier run left")?;
        }
        std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let installation = Installation { folder: &folder, version: self.version };
        (self.install)(&installation).with_context(|| format!("install {} {}", self.name, self.version))?;
        std::fs::write(&marker, recipe).context("note what is installed")?;
        Ok(folder)
    }
}

/// Runs a command to its end, with its output in the log of the suite; returns whether it succeeded.
///
/// # Errors
/// It cannot be started.
pub fn succeeds(command: &mut Command) -> Result<bool> {
    eprintln!("+ {command:?}");
    Ok(command.status().with_context(|| format!("start {}", command.get_program().display()))?.success())
}

/// Runs programs of ours to their end and reads the lines they print about their cases.
///
/// # Errors
/// It cannot be started, or ends before its last case.
pub fn cases_of(program: &mut Command) -> Result<Vec<Case>> {
    eprintln!("+ {program:?}");
    let output = program.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("start {}", program.get_program().display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    eprintln!("{said}");
    ensure!(
        output.status.success(),
        "the program failed ({}) after: {}",
        output.status,
        said.lines().last().unwrap_or("")
    );
    Ok(Case::from_lines(&said))
}

/// Writes a file of a program that is built where it is installed.
///
/// # Errors
/// It cannot be written.
pub fn put(folder: &Path, file: &str, text: &str) -> Result<()> {
    let path = folder.join(file);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}
