//! aio-pika: the client for asyncio. Its source distribution has its tests, which want a broker in a container; a plugin
//! hands them the one that runs.

use std::time::Duration;

use anyhow::{Context, Result};

use warren_tests::trial::case::{Case, Tally};
use warren_tests::trial::python::{self, Pytest};
use warren_tests::trial::suite::{Exception, Installation, Quick, Run, Suite};

pub(crate) const SUITE: Suite = Suite {
    name: "aio-pika",
    version: "10.2.1",
    covers: "robust connections behind a proxy that cuts them, RPC, masters and workers, iterators, TLS, memory leaks",
    rabbitmq: Tally { passed: 1_076, failed: 0, skipped: 28 },
    left_out: &LEFT_OUT,
    limit: Duration::from_secs(1800),
    quick: Quick::Nothing,
    manages: false,
    install,
    recipe: PACKAGES,
    run,
};

const LEFT_OUT: [Exception; 3] = [
    Exception {
        case: "tests/test_robust_recovery.py::test_restore_topology_and_consumers[stop_app]",
        reason: "it runs rabbitmqctl in a container",
    },
    Exception {
        case: "tests/test_robust_recovery.py::test_restore_topology_and_consumers[kill]",
        reason: "it kills the container that it started its broker in",
    },
    Exception {
        case: "tests/test_robust_recovery.py::test_pool_consumer_survives_broker_restart",
        reason: "it runs rabbitmqctl in a container",
    },
];

const PACKAGES: &[&str] = &[
    "aio-pika==10.2.1",
    "aiormq==7.2.4",
    "pytest==8.4.2",
    "pytest-timeout==2.4.0",
    "pytest-rst==0.1.5",
    "aiomisc==18.0.37",
    "aiomisc-pytest==2.0.0",
    "shortuuid==1.0.13",
    "setuptools==80.9.0",
];

fn install(installation: &Installation<'_>) -> Result<()> {
    python::environment(installation, PACKAGES)?;
    python::source(installation, "aio-pika")
}

fn run(run: &Run<'_>) -> Result<Vec<Case>> {
    const PLUGIN: &str = include_str!("../programs/docker.py");
    std::fs::write(run.scratch.join("warren_docker.py"), PLUGIN).context("write a plugin")?;
    Pytest::new(run)?
        .args(&["-p", "warren_docker", "-o", "log_cli=false", "tests", "--timeout=120"])
        .without(&LEFT_OUT)
        .cases()
}
