//! py-amqp: the client under kombu and Celery. Its source distribution has its tests.

use std::time::Duration;

use anyhow::{Context, Result};

use warren_tests::trial::case::{Case, Tally};
use warren_tests::trial::certificates::{CA, CLIENT};
use warren_tests::trial::python::{self, Pytest};
use warren_tests::trial::suite::{Exception, Installation, Quick, Run, Suite};

pub(crate) const SUITE: Suite = Suite {
    name: "py-amqp",
    version: "5.4.2",
    covers: "plain and TLS connections, broken certificates, publish, get and consume, confirms",
    rabbitmq: Tally { passed: 61, failed: 0, skipped: 0 },
    left_out: &LEFT_OUT,
    limit: Duration::from_secs(120),
    quick: Quick::All,
    manages: false,
    install,
    recipe: PACKAGES,
    run,
};

const PACKAGES: &[&str] = &["amqp==5.4.2", "pytest==8.4.2", "pytest-timeout==2.4.0"];

const LEFT_OUT: [Exception; 2] = [
    Exception {
        case: "t/integration/test_rmq.py::test_tls_default_certs",
        reason: "it connects to a site of the Internet and to no broker",
    },
    Exception {
        case: "t/integration/test_rmq.py::test_tls_no_default_certs_fails",
        reason: "it connects to a site of the Internet and to no broker",
    },
];

fn install(installation: &Installation<'_>) -> Result<()> {
    python::environment(installation, PACKAGES)?;
    python::source(installation, "amqp")
}

fn run(run: &Run<'_>) -> Result<Vec<Case>> {
    let theirs = run.folder.join("source/t/certs");
    std::fs::create_dir_all(&theirs).context("make a folder for certificates")?;
    let copy = |from: &str, to: &str| {
        std::fs::copy(run.certificates.join(from), theirs.join(to)).with_context(|| format!("copy {from}"))
    };
    copy(CA, "ca_certificate.pem")?;
    copy(CLIENT.certificate, "client_certificate.pem")?;
    copy(CLIENT.key, "client_key.pem")?;
    // A certificate beside a key that is not its own.
    copy(CA, "client_certificate_broken.pem")?;
    copy(CLIENT.key, "client_key_broken.pem")?;
    let pytest = Pytest::new(run)?.args(&["t/integration", "--timeout=60"]).env("RABBITMQ_HOST", "localhost");
    pytest.without(&LEFT_OUT).cases()
}
