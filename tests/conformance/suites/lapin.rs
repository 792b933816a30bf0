//! lapin: the client for Rust. Its crate has its tests.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use warren_tests::command::output_of;

use warren_tests::trial::case::{Case, Tally};
use warren_tests::trial::suite::{Installation, Quick, Run, Suite};

pub(crate) const SUITE: Suite = Suite {
    name: "lapin",
    version: "4.12.3",
    covers: "connections refused, confirms, recovery, acknowledgements that race with the end of a channel",
    rabbitmq: Tally { passed: 34, failed: 0, skipped: 0 },
    left_out: &[],
    limit: Duration::from_secs(300),
    quick: Quick::All,
    manages: false,
    install,
    recipe: &[MANIFEST],
    run,
};

/// A package whose only purpose is that cargo fetches the crate.
const MANIFEST: &str =
    "[package]\nname = \"fetch\"\nedition = \"2024\"\n[workspace]\n[dependencies]\nlapin = \"=4.12.3\"\n";

/// Compiles the tests in a copy of the crate, with the versions of its own lock file.
fn install(installation: &Installation<'_>) -> Result<()> {
    let (fetch, source) = (installation.folder.join("fetch"), installation.folder.join("source"));
    std::fs::create_dir_all(fetch.join("src")).context("make a package")?;
    std::fs::write(fetch.join("src/lib.rs"), "").context("make a package")?;
    std::fs::write(fetch.join("Cargo.toml"), MANIFEST).context("make a package")?;
    let metadata = output_of(cargo().args(["metadata", "--format-version=1"]).current_dir(&fetch))?;
    let metadata: Value = serde_json::from_str(&metadata).context("read what cargo says about the crate")?;
    let packages = metadata["packages"].as_array().context("cargo lists packages")?;
    let manifest = packages.iter().find(|package| package["name"] == "lapin");
    let manifest = manifest.and_then(|package| package["manifest_path"].as_str()).context("cargo fetched the crate")?;
    let crate_folder = manifest.trim_end_matches("Cargo.toml");
    output_of(Command::new("cp").arg("--recursive").arg(crate_folder).arg(&source))?;
    output_of(cargo().args(["test", "--locked", "--quiet", "--tests", "--no-run"]).current_dir(&source)).map(drop)
}

fn run(run: &Run<'_>) -> Result<Vec<Case>> {
    let mut cargo = cargo();
    cargo.args(["test", "--locked", "--offline", "--tests", "--no-fail-fast", "--", "--test-threads=1"]);
    cargo.current_dir(run.folder.join("source")).env("AMQP_ADDR", "amqp://127.0.0.1:5672/%2f");
    // What the tests log would stand between the name of a test and its result.
    cargo.env("RUST_LOG", "off");
    let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("start cargo")?;
    let said = String::from_utf8_lossy(&output.stdout);
    eprintln!("{said}");
    let cases = Case::from_cargo(&said, "");
    ensure!(!cases.is_empty(), "cargo test ran no test: {}", output.status);
    Ok(cases)
}

/// cargo, with a target folder beside the sources whatever this build has.
pub(super) fn cargo() -> Command {
    let mut cargo = Command::new("cargo");
    cargo.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    cargo
}
