//! Cargo's helpers that the tests use, installed once into the cache.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use warren_tests::programs::cache_folder;

/// The program of this crate and version, installed if it is missing. Built without optimisation: it starts sooner than
/// it would run faster.
pub(crate) fn cargo_tool(name: &str, version: &str) -> Result<PathBuf> {
    let root = cache_folder()?.join("tools").join(format!("{name}-{version}"));
    let program = root.join("bin").join(name);
    if !program.exists() {
        let mut install = Command::new("cargo");
        install.args(["install", name, "--version", version, "--locked", "--debug", "--root"]).arg(&root);
        install.env("CARGO_TARGET_DIR", root.join("build"));
        let status = install.status().context("start cargo install")?;
        ensure!(status.success(), "{name} {version} cannot be installed: cargo install ended with {status}");
        std::fs::remove_dir_all(root.join("build")).context("remove the build folder")?;
    }
    Ok(program)
}
