//! Suites in Go: a copy of a module, which has its tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::suite::Installation;
use crate::command::output_of;
use crate::programs::install_missing;

/// Copies `module`, a path with its version, into the folder `source`. Go keeps what it has fetched read-only.
///
/// # Errors
/// There is no Go and none can be installed, or the module cannot be fetched or copied.
pub fn source(installation: &Installation<'_>, module: &str) -> Result<PathBuf> {
    install_missing(&[("go", "golang-go")])?;
    let source = installation.folder.join("source");
    let download = ["mod", "download", "-json", module];
    let described = output_of(Command::new("go").args(download).current_dir(installation.folder))?;
    let described: Value = serde_json::from_str(&described).context("read what go says about the module")?;
    let module = described["Dir"].as_str().context("go says where the module is")?;
    output_of(Command::new("cp").args(["--recursive", "--no-preserve=mode", module]).arg(&source))?;
    Ok(source)
}

/// Runs go in `source`.
///
/// # Errors
/// It fails.
pub fn go(source: &Path, arguments: &[&str]) -> Result<()> {
    output_of(Command::new("go").args(arguments).current_dir(source)).map(drop)
}
