//! pika, the client that RabbitMQ's tutorials for Python use. Its package has no tests, so programs of ours use it.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use warren_tests::trial::case::{Case, Tally};
use warren_tests::trial::python;
use warren_tests::trial::suite::{Installation, Quick, Run, Suite, cases_of};

pub(crate) const SUITE: Suite = Suite {
    name: "pika",
    version: "1.3.2",
    covers: "the six tutorials, exceptions, dead letters, expiry, priorities, length limits, transactions, streams",
    rabbitmq: Tally { passed: 20, failed: 0, skipped: 0 },
    left_out: &[],
    limit: Duration::from_secs(300),
    quick: Quick::All,
    manages: false,
    install,
    recipe: PACKAGES,
    run,
};

const PACKAGES: &[&str] = &["pika==1.3.2"];

fn install(installation: &Installation<'_>) -> Result<()> {
    python::environment(installation, PACKAGES)
}

fn run(run: &Run<'_>) -> Result<Vec<Case>> {
    const PROGRAM: &str = include_str!("../programs/tutorials.py");
    cases_of(Command::new(run.folder.join("python/bin/python")).args(["-c", PROGRAM]))
}
