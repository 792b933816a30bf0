//! amqplib, the client for Node. Its package has no tests, so programs of ours use it.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use warren_tests::command::output_of;
use warren_tests::programs::install_missing;

use warren_tests::trial::case::{Case, Tally};
use warren_tests::trial::suite::{Installation, Quick, Run, Suite, cases_of, put};

pub(crate) const SUITE: Suite = Suite {
    name: "amqplib",
    version: "2.3.1",
    covers: "the six tutorials, confirms and returns, exceptions, dead letters, priorities, headers, a megabyte",
    rabbitmq: Tally { passed: 15, failed: 0, skipped: 0 },
    left_out: &[],
    limit: Duration::from_secs(300),
    quick: Quick::All,
    manages: false,
    install,
    recipe: &[PACKAGE, PROGRAM],
    run,
};

const PACKAGE: &str = "amqplib@2.3.1";
const PROGRAM: &str = include_str!("../programs/tutorials.mjs");

fn install(installation: &Installation<'_>) -> Result<()> {
    install_missing(&[("node", "nodejs"), ("npm", "npm")])?;
    put(installation.folder, "tutorials.mjs", PROGRAM)?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", PACKAGE]).current_dir(installation.folder);
    output_of(&mut npm).map(drop)
}

fn run(run: &Run<'_>) -> Result<Vec<Case>> {
    cases_of(Command::new("node").arg("tutorials.mjs").current_dir(run.folder))
}
