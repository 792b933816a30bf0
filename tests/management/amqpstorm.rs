//! AMQPStorm: a client for Python with the API beside AMQP. Its source distribution has its tests.

use std::time::Duration;

use anyhow::Result;
use warren_tests::trial::case::{Case, Tally};
use warren_tests::trial::python::{self, Pytest};
use warren_tests::trial::suite::{Exception, Installation, Quick, Run, Suite};

pub(crate) const SUITE: Suite = Suite {
    name: "amqpstorm",
    version: "3.1.4",
    covers: "publish and get over HTTP, queues, exchanges, bindings, users, virtual hosts, connections, channels",
    rabbitmq: Tally { passed: 53, failed: 0, skipped: 0 },
    left_out: LEFT_OUT,
    limit: Duration::from_secs(300),
    quick: Quick::All,
    manages: true,
    install,
    recipe: PACKAGES,
    run,
};

const LEFT_OUT: &[Exception] = &[
    Exception {
        case: "amqpstorm/tests/functional/management/test_api.py::ApiFunctionalTests::test_api_cluster_name",
        reason: "expects the name of the cluster that its authors test with",
    },
    Exception {
        case: "amqpstorm/tests/functional/management/test_healthcheck.py",
        reason: "asks for a health check that RabbitMQ has given up, and for the contexts of Erlang's web server",
    },
];
const PACKAGES: &[&str] = &["amqpstorm[management]==3.1.4", "pytest==8.4.2"];

fn install(installation: &Installation<'_>) -> Result<()> {
    python::environment(installation, PACKAGES)?;
    python::source(installation, "amqpstorm")
}

fn run(run: &Run<'_>) -> Result<Vec<Case>> {
    Pytest::new(run)?
        .args(&["amqpstorm/tests/functional/management"])
        .without(LEFT_OUT)
        .env("AMQP_HOST", "localhost")
        .env("AMQP_USERNAME", "guest")
        .env("AMQP_PASSWORD", "guest")
        .env("AMQP_URI", "amqp://guest:guest@localhost:5672/%2F")
        .env("AMQP_HTTP_URL", "http://localhost:15672")
        .cases()
}
