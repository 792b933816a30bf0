//! lapin: the client for Rust. Its crate has its tests.

use std::time::Duration;

use anyhow::Result;

use warren_tests::trial::case::{Case, Tally};
use warren_tests::trial::rust::{self, CargoTest};
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
    recipe: &[],
    run,
};

fn install(installation: &Installation<'_>) -> Result<()> {
    let source = rust::source(installation, "lapin")?;
    rust::compile(&source, &["--tests"])
}

fn run(run: &Run<'_>) -> Result<Vec<Case>> {
    let tests = CargoTest {
        arguments: &["--tests"],
        left_out: &[],
        threads: 1,
        // What the tests log would stand between the name of a test and its result.
        environment: &[("AMQP_ADDR", "amqp://127.0.0.1:5672/%2f"), ("RUST_LOG", "off")],
    };
    tests.cases(run)
}
