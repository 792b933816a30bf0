//! Suites in Rust: a crate from crates.io, which has its tests, and the versions of its own lock file.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::case::Case;
use super::suite::{Exception, Installation, Run};
use crate::command::output_of;

/// Copies the crate `name` into the folder `source`.
///
/// # Errors
/// It cannot be fetched or copied.
pub fn source(installation: &Installation<'_>, name: &str) -> Result<PathBuf> {
    let (fetch, source) = (installation.folder.join("fetch"), installation.folder.join("source"));
    std::fs::create_dir_all(fetch.join("src")).context("make a package")?;
    std::fs::write(fetch.join("src/lib.rs"), "").context("make a package")?;
    // A package whose only purpose is that cargo fetches the crate.
    let version = installation.version;
    let manifest = format!(
        "[package]\nname = \"fetch\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n{name} = \"={version}\"\n"
    );
    std::fs::write(fetch.join("Cargo.toml"), manifest).context("make a package")?;
    let metadata = output_of(cargo().args(["metadata", "--format-version=1"]).current_dir(&fetch))?;
    let metadata: Value = serde_json::from_str(&metadata).context("read what cargo says about the crate")?;
    let packages = metadata["packages"].as_array().context("cargo lists packages")?;
    let manifest = packages.iter().find(|package| package["name"] == name);
    let manifest = manifest.and_then(|package| package["manifest_path"].as_str()).context("cargo fetched the crate")?;
    let crate_folder = manifest.trim_end_matches("Cargo.toml");
    output_of(Command::new("cp").arg("--recursive").arg(crate_folder).arg(&source))?;
    Ok(source)
}

/// Compiles the tests in `source`; `arguments` say which.
///
/// # Errors
/// They do not compile.
pub fn compile(source: &Path, arguments: &[&str]) -> Result<()> {
    let test = ["test", "--locked", "--quiet", "--no-run"];
    output_of(cargo().args(test).args(arguments).current_dir(source)).map(drop)
}

/// A run of `cargo test` in the sources of a suite.
#[derive(Debug)]
pub struct CargoTest<'a> {
    /// Which tests: what [`compile`] got.
    pub arguments: &'a [&'a str],
    /// Cases that are not run, by the beginning of their names.
    pub left_out: &'a [Exception],
    /// How many run at a time.
    pub threads: usize,
    /// Variables of the environment.
    pub environment: &'a [(&'a str, &'a str)],
}

impl CargoTest<'_> {
    /// Runs it.
    ///
    /// # Errors
    /// It ends without a case.
    pub fn cases(&self, run: &Run<'_>) -> Result<Vec<Case>> {
        let mut cargo = cargo();
        cargo.args(["test", "--locked", "--offline", "--no-fail-fast"]).args(self.arguments).arg("--");
        cargo.arg(format!("--test-threads={}", self.threads));
        cargo.args(self.left_out.iter().flat_map(|exception| ["--skip", exception.case]));
        cargo.current_dir(run.folder.join("source")).envs(self.environment.iter().copied());
        let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("start cargo")?;
        let said = String::from_utf8_lossy(&output.stdout);
        eprintln!("{said}");
        let cases = Case::from_cargo(&said, "");
        ensure!(!cases.is_empty(), "cargo test ran no test: {}", output.status);
        Ok(cases)
    }
}

/// cargo, with a target folder beside the sources whatever this build has.
#[must_use]
pub fn cargo() -> Command {
    let mut cargo = Command::new("cargo");
    cargo.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    cargo
}
