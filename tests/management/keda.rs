//! KEDA: its scaler for RabbitMQ, compiled from its module and called as its operator calls it.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use warren_tests::trial::case::Tally;
use warren_tests::trial::go;
use warren_tests::trial::suite::{Installation, Quick, Suite, cases_of, put};

pub(crate) const SUITE: Suite = Suite {
    name: "keda",
    version: "2.21.0",
    covers: "a queue's length over HTTP by name and by expression, over AMQP; rates, refusals",
    rabbitmq: Tally { passed: 21, failed: 0, skipped: 0 },
    left_out: &[],
    limit: Duration::from_secs(180),
    quick: Quick::All,
    manages: true,
    install,
    recipe: &[PROGRAM],
    run: |run| cases_of(&mut Command::new(run.folder.join("keda"))),
};

const MODULE: &str = "github.com/kedacore/keda/v2@v2.21.0";
const PROGRAM: &str = include_str!("programs/keda.go");
/// The files of the package of all scalers that the one for RabbitMQ needs. The others need a thousand packages.
const SCALER: [&str; 2] = ["scaler.go", "rabbitmq_scaler.go"];

fn install(installation: &Installation<'_>) -> Result<()> {
    let source = go::source(installation, MODULE)?;
    for file in fs::read_dir(source.join("pkg/scalers")).context("look at the scalers")? {
        let path = file?.path();
        let is_needed = path.file_name().is_some_and(|name| SCALER.iter().any(|needed| name == *needed));
        if path.is_file() && !is_needed {
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    put(&source, "cmd/warren/main.go", PROGRAM)?;
    eprintln!("compiling KEDA's scaler: about five minutes");
    go::go(&source, &["build", "-mod=mod", "-o", "../keda", "./cmd/warren"])
}
