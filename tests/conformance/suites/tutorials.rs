//! Programs of ours with the clients for Go and Rust whose own tests are suites too: what every user starts with.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use warren_tests::command::output_of;
use warren_tests::programs::install_missing;

use warren_tests::trial::case::{Case, Tally};
use warren_tests::trial::rust::cargo;
use warren_tests::trial::suite::{Installation, Quick, Run, Suite, cases_of, put};

pub(crate) const GO: Suite = Suite {
    name: "amqp091-go-tutorials",
    version: "1.14.0",
    covers: "the six tutorials, confirms and returns, exceptions, dead letters, transactions, all field types",
    rabbitmq: Tally { passed: 13, failed: 0, skipped: 0 },
    left_out: &[],
    limit: Duration::from_secs(300),
    quick: Quick::All,
    manages: false,
    install: install_go,
    recipe: &[GO_MODULE, GO_PROGRAM],
    run: |run| launch(run, "tutorials"),
};

pub(crate) const RUST: Suite = Suite {
    name: "lapin-tutorials",
    version: "4.12.3",
    covers: "the six tutorials, confirms and returns, exceptions, dead letters",
    rabbitmq: Tally { passed: 10, failed: 0, skipped: 0 },
    left_out: &[],
    limit: Duration::from_secs(300),
    quick: Quick::All,
    manages: false,
    install: install_rust,
    recipe: &[RUST_MANIFEST, RUST_PROGRAM],
    run: |run| launch(run, "target/debug/tutorials"),
};

const GO_MODULE: &str = "module tutorials\n\ngo 1.22\n\nrequire github.com/rabbitmq/amqp091-go v1.14.0\n";
const GO_PROGRAM: &str = include_str!("../programs/tutorials.go");
const RUST_MANIFEST: &str = include_str!("../programs/lapin/Cargo.toml");
const RUST_PROGRAM: &str = include_str!("../programs/lapin/src/main.rs");

fn install_go(installation: &Installation<'_>) -> Result<()> {
    install_missing(&[("go", "golang-go")])?;
    put(installation.folder, "go.mod", GO_MODULE)?;
    put(installation.folder, "main.go", GO_PROGRAM)?;
    let build = ["build", "-mod=mod", "-o", "tutorials", "."];
    output_of(Command::new("go").args(build).current_dir(installation.folder)).map(drop)
}

fn install_rust(installation: &Installation<'_>) -> Result<()> {
    put(installation.folder, "Cargo.toml", RUST_MANIFEST)?;
    put(installation.folder, "src/main.rs", RUST_PROGRAM)?;
    output_of(cargo().args(["build", "--quiet"]).current_dir(installation.folder)).map(drop)
}

fn launch(run: &Run<'_>, program: &str) -> Result<Vec<Case>> {
    cases_of(&mut Command::new(run.folder.join(program)))
}
