//! amqp091-go: RabbitMQ's client for Go. Its module has its tests.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::gateway::{self, GATEWAY_PORT};
use warren_tests::trial::broker::{Product, rabbitmqctl};
use warren_tests::trial::case::{Case, Tally};
use warren_tests::trial::go;
use warren_tests::trial::suite::{Installation, Quick, Run, Suite};

pub(crate) const SUITE: Suite = Suite {
    name: "amqp091-go",
    version: "1.14.0",
    covers: "negotiation, all channels in use, transactions, all field types, blocked connections, recovery",
    rabbitmq: Tally { passed: 247, failed: 0, skipped: 0 },
    left_out: &[],
    limit: Duration::from_secs(600),
    quick: Quick::Part,
    manages: false,
    install,
    recipe: &[MODULE],
    run,
};

const MODULE: &str = "github.com/rabbitmq/amqp091-go@v1.14.0";

/// These take seconds each because they wait for time to pass.
const SLOW: &str = "Recovery|Reconnect|Alarm|Heartbeat";

fn install(installation: &Installation<'_>) -> Result<()> {
    let source = go::source(installation, MODULE)?;
    go::go(&source, &["test", "-c", "-tags", "integration", "-o", "../amqp091.test", "."])
}

fn run(run: &Run<'_>) -> Result<Vec<Case>> {
    let mut tests = Command::new(run.folder.join("amqp091.test"));
    tests.args(["-test.v", "-test.timeout=9m"]).current_dir(run.folder.join("source"));
    if run.is_quick {
        tests.args(["-test.skip", SLOW]);
    }
    gateway::open()?;
    tests.env("AMQP_URL", format!("amqp://guest:guest@127.0.0.1:{GATEWAY_PORT}/"));
    tests.env("RABBITMQ_RABBITMQCTL_PATH", alarm(run)?);
    tests.env("DATA", run.broker.join("data")).env("SAID", run.broker.join("broker.log"));
    let said = tests.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("start the tests")?.stdout;
    let said = String::from_utf8_lossy(&said);
    eprintln!("{said}");
    Ok(Case::from_go(&said))
}

/// The program that raises an alarm, and ends it.
fn alarm(run: &Run<'_>) -> Result<std::path::PathBuf> {
    let program = run.scratch.join("rabbitmqctl");
    let text = match run.product {
        Product::Warren => include_str!("../programs/alarm.sh").to_owned(),
        Product::Rabbitmq => rabbitmqctl()?,
    };
    std::fs::write(&program, text).context("write a program that raises an alarm")?;
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).context("make it a program")?;
    Ok(program)
}
