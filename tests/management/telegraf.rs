//! Telegraf: its input plugin for RabbitMQ, compiled from its module and gathered from as its agent does.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use warren_tests::programs::install_missing;
use warren_tests::trial::case::Tally;
use warren_tests::trial::go;
use warren_tests::trial::suite::{Installation, Quick, Suite, cases_of, put};

pub(crate) const SUITE: Suite = Suite {
    name: "telegraf",
    version: "1.37.2",
    covers: "what its plugin makes of overview, nodes, memory, queues and exchanges",
    rabbitmq: Tally { passed: 26, failed: 0, skipped: 0 },
    left_out: &[],
    limit: Duration::from_secs(600),
    quick: Quick::All,
    manages: true,
    install,
    recipe: &[MODULE, PROGRAM],
    run: |run| cases_of(&mut Command::new(run.folder.join("telegraf"))),
};

const MODULE: &str = "module telegraf\n\ngo 1.25\n\nrequire (\n\tgithub.com/influxdata/telegraf v1.37.2\n\
                      \tgithub.com/rabbitmq/amqp091-go v1.10.0\n)\n";
const PROGRAM: &str = include_str!("programs/telegraf.go");

fn install(installation: &Installation<'_>) -> Result<()> {
    install_missing(&[("go", "golang-go")])?;
    put(installation.folder, "go.mod", MODULE)?;
    put(installation.folder, "main.go", PROGRAM)?;
    eprintln!("compiling Telegraf's plugin: about two minutes");
    go::go(installation.folder, &["build", "-mod=mod", "-o", "telegraf", "."])
}
