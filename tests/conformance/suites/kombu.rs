//! kombu: the messaging library of Celery. Its source distribution has its tests.

use std::time::Duration;

use anyhow::Result;

use warren_tests::trial::case::{Case, Tally};
use warren_tests::trial::python::{self, Pytest};
use warren_tests::trial::suite::{Installation, Quick, Run, Suite};

pub(crate) const SUITE: Suite = Suite {
    name: "kombu",
    version: "5.7.0",
    covers: "exchange types, order by priority and after a requeue, queues with a time to live, failover, SimpleQueue",
    rabbitmq: Tally { passed: 51, failed: 0, skipped: 0 },
    left_out: &[],
    limit: Duration::from_secs(300),
    quick: Quick::All,
    manages: false,
    install,
    recipe: PACKAGES,
    run,
};

const PACKAGES: &[&str] = &["kombu==5.7.0", "amqp==5.4.2", "pytest==8.4.2", "pytest-timeout==2.4.0"];

fn install(installation: &Installation<'_>) -> Result<()> {
    python::environment(installation, PACKAGES)?;
    python::source(installation, "kombu")
}

fn run(run: &Run<'_>) -> Result<Vec<Case>> {
    Pytest::new(run)?.args(&["t/integration/test_py_amqp.py", "--timeout=60"]).env("RABBITMQ_HOST", "localhost").cases()
}
