//! aiormq: the asynchronous client under aio-pika. Its source distribution has its tests.

use std::time::Duration;

use anyhow::{Context, Result};

use warren_tests::trial::case::{Case, Tally};
use warren_tests::trial::certificates::{CA, CLIENT};
use warren_tests::trial::python::{self, Pytest};
use warren_tests::trial::suite::{Installation, Quick, Run, Suite};

pub(crate) const SUITE: Suite = Suite {
    name: "aiormq",
    version: "6.9.3",
    covers: "plain, TLS and client certificates, each with and without confirms; bodies of 22 MB; memory leaks",
    rabbitmq: Tally { passed: 418, failed: 0, skipped: 0 },
    left_out: &[],
    limit: Duration::from_secs(900),
    quick: Quick::Nothing,
    manages: false,
    install,
    recipe: PACKAGES,
    run,
};

const PACKAGES: &[&str] = &[
    "aiormq==6.9.3",
    "pytest==8.4.2",
    "pytest-timeout==2.4.0",
    "pytest-rst==0.1.5",
    "aiomisc==18.0.37",
    "aiomisc-pytest==2.0.0",
    "setuptools==80.9.0",
];

fn install(installation: &Installation<'_>) -> Result<()> {
    python::environment(installation, PACKAGES)?;
    python::source(installation, "aiormq")
}

fn run(run: &Run<'_>) -> Result<Vec<Case>> {
    let theirs = run.folder.join("source/tests/certs");
    for file in [CA, CLIENT.certificate, CLIENT.key] {
        std::fs::copy(run.certificates.join(file), theirs.join(file)).with_context(|| format!("copy {file}"))?;
    }
    Pytest::new(run)?.args(&["tests", "--timeout=120"]).env("AMQP_URL", "amqp://guest:guest@localhost:5672/").cases()
}
