//! `conformance`: runs the tests of other projects' clients, and programs that use them, against our broker.
//!
//! Each suite has a broker, a network and process numbers of its own, so that `localhost:5672` is free and nothing that
//! it leaves behind meets the next. Versions are pinned; everything is fetched from package registries by name, once,
//! into the cache, and is no part of this repository.

mod gateway;
mod suites;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use warren_tests::release::workspace;
use warren_tests::sandbox;
use warren_tests::trial::{Choice, Report, Trial};

const INTRODUCTION: &str = "\
# Conformance

Written by `make conformance PUBLISH=1`; not edited. All numbers of this page come from one run.

Code that works with RabbitMQ works with Warren: that is the bar, and the judges are clients that we did not write. Where their
packages carry their own tests, those run; where not, programs of ours use them as anybody would. Each suite meets a fresh broker in
a network namespace of its own. Versions are pinned, and everything is installed from the package registries by name.

The last column is what the same program counted with RabbitMQ 4.3.6 when it was asked by `make conformance CONFORMANCE=\"--broker rabbitmq\"`.
";

/// Judge the broker by clients that we did not write. Needs root.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    choice: Choice,
    /// Say which suites there are.
    #[arg(long)]
    list: bool,
    /// Write docs/conformance.md. Takes a full run of our broker.
    #[arg(long)]
    publish: bool,
}

fn main() -> Result<ExitCode> {
    if sandbox::is_inside() {
        return Trial::run_inside(&suites::ALL);
    }
    let Arguments { choice, list, publish } = Arguments::parse();
    let mut out = std::io::stdout().lock();
    if list {
        for suite in suites::ALL {
            writeln!(out, "{:<12} {:<8} {}", suite.name, suite.version, suite.covers)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(!publish || choice.is_whole(), "what is published is a full run of our broker");
    let outcomes = choice.run("conformance", &suites::ALL)?;
    let report = Report { introduction: INTRODUCTION, broker: choice.judged()?, outcomes };
    write!(out, "{}", report.failures())?;
    let page = choice.results_of("conformance").join("conformance.md");
    std::fs::write(page, report.page()).context("write the report")?;
    if publish {
        std::fs::write(workspace().join("docs/conformance.md"), report.page()).context("write docs/conformance.md")?;
    }
    let (passed, failed) = report.totals();
    writeln!(out, "{passed} passed, {failed} failed")?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
