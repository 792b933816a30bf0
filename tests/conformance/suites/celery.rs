//! Celery: real workers. Its source distribution has its tests; results go to Redis, as there.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use warren_tests::programs::install_missing;

use warren_tests::trial::case::{Case, Tally};
use warren_tests::trial::python::{self, Pytest};
use warren_tests::trial::suite::{Exception, Installation, Quick, Run, Suite};

pub(crate) const SUITE: Suite = Suite {
    name: "celery",
    version: "5.7.0",
    covers: "workers: late acknowledgement, revoked and postponed tasks, retries, remote control, events",
    rabbitmq: Tally { passed: 71, failed: 0, skipped: 3 },
    left_out: &LEFT_OUT,
    limit: Duration::from_secs(900),
    quick: Quick::Nothing,
    manages: false,
    install,
    recipe: PACKAGES,
    run,
};

const PACKAGES: &[&str] = &[
    "celery[redis]==5.7.0",
    "kombu==5.7.0",
    "amqp==5.4.2",
    "pytest==9.1.1",
    "pytest-celery==1.3.0",
    "pytest-rerunfailures==16.7",
    "pytest-subtests==0.15.0",
    "pytest-timeout==2.4.0",
    "pytest-click==1.1.0",
    "pytest-order==1.5.0",
    "pydantic==2.14.3",
    "django==5.2.19",
    "sqlalchemy==2.1.9",
    "msgpack==1.2.4",
    "pyyaml==6.0.3",
    "cryptography==50.0.2",
];

const LEFT_OUT: [Exception; 1] = [Exception {
    case: "t/integration/test_tasks.py::test_trace_log_arguments",
    reason: "it reads the log of a worker, and fails with every broker",
}];

fn install(installation: &Installation<'_>) -> Result<()> {
    install_missing(&[("redis-server", "redis-server")])?;
    python::environment(installation, PACKAGES)?;
    python::source(installation, "celery")
}

fn run(run: &Run<'_>) -> Result<Vec<Case>> {
    let _redis = Redis::start(run)?;
    let files = ["t/integration/test_tasks.py", "t/integration/test_inspect.py"];
    let pytest = Pytest::new(run)?.args(&files).args(&["-o", "addopts=", "--timeout=60"]);
    pytest.env("TEST_BROKER", "pyamqp://").env("TEST_BACKEND", "redis://").without(&LEFT_OUT).cases()
}

/// A Redis server on its usual port, without files.
#[derive(Debug)]
struct Redis(Child);

impl Redis {
    fn start(run: &Run<'_>) -> Result<Self> {
        let mut server = Command::new("redis-server");
        server.args(["--bind", "127.0.0.1", "::1", "--save", "", "--appendonly", "no"]).current_dir(run.scratch);
        let mut redis = Self(server.stdin(Stdio::null()).spawn().context("start redis-server")?);
        let start = Instant::now();
        while TcpStream::connect("127.0.0.1:6379").is_err() {
            if redis.0.try_wait()?.is_some() || start.elapsed() > Duration::from_secs(30) {
                bail!("redis-server does not open its port");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(redis)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Either fails only if the process has ended, which is what is wanted.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
