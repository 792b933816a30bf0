//! rabbitmqadmin: RabbitMQ's own command line for the API, and the client library that it is made of. Both crates have their
//! tests; the tool's run its commands as a person would type them.

use std::time::Duration;

use anyhow::Result;
use warren_tests::trial::case::{Case, Tally};
use warren_tests::trial::rust::{self, CargoTest};
use warren_tests::trial::suite::{Exception, Installation, Quick, Run, Suite};

pub(crate) const TOOL: Suite = Suite {
    name: "rabbitmqadmin",
    version: "2.35.0",
    covers: "its commands for queues, exchanges, bindings, users, rights, policies, definitions, limits, health checks",
    rabbitmq: Tally { passed: 0, failed: 0, skipped: 0 },
    left_out: LEFT_OUT_OF_TOOL,
    limit: Duration::from_secs(900),
    quick: Quick::All,
    manages: true,
    install: install_tool,
    recipe: &[],
    run: run_tool,
};

pub(crate) const LIBRARY: Suite = Suite {
    name: "rabbitmq_http_client",
    version: "0.93.0",
    covers: "the same by its client library, blocking and not: what it must find in each answer",
    rabbitmq: Tally { passed: 0, failed: 0, skipped: 0 },
    left_out: LEFT_OUT_OF_LIBRARY,
    limit: Duration::from_secs(900),
    quick: Quick::All,
    manages: true,
    install: install_library,
    recipe: &[],
    run: run_library,
};

const TOOL_TESTS: &[&str] = &["--test", "integration"];
const LIBRARY_TESTS: &[&str] = &["--features", "blocking,async", "--test", "integration"];

const LEFT_OUT_OF_TOOL: &[Exception] = &[];

const LEFT_OUT_OF_LIBRARY: &[Exception] = &[];

fn install_tool(installation: &Installation<'_>) -> Result<()> {
    rust::compile(&rust::source(installation, TOOL.name)?, TOOL_TESTS)
}

fn install_library(installation: &Installation<'_>) -> Result<()> {
    rust::compile(&rust::source(installation, LIBRARY.name)?, LIBRARY_TESTS)
}

fn run_tool(run: &Run<'_>) -> Result<Vec<Case>> {
    let environment = &[("TEST_STATS_DELAY", run.statistics_age())];
    let tests = CargoTest { arguments: TOOL_TESTS, left_out: LEFT_OUT_OF_TOOL, threads: 1, environment };
    tests.cases(run)
}

fn run_library(run: &Run<'_>) -> Result<Vec<Case>> {
    let environment = &[("TEST_STATS_DELAY", run.statistics_age())];
    let tests = CargoTest { arguments: LIBRARY_TESTS, left_out: LEFT_OUT_OF_LIBRARY, threads: 1, environment };
    tests.cases(run)
}
