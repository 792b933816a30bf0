//! `management`: real tools against the management API of our broker.
//!
//! Each has a broker of its own, as in `conformance`. Every request is written down: the table of paths in
//! docs/management-tools.md is made of that, and nothing else.

mod amqpstorm;
mod keda;
mod paths;
mod rabbit_hole;
mod rabbitmqadmin;
mod shapes;
mod telegraf;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use warren_tests::release::workspace;
use warren_tests::sandbox;
use warren_tests::trial::broker::Product;
use warren_tests::trial::suite::Suite;
use warren_tests::trial::{Choice, Report, Trial};

/// All of them; the longest first, for runs of several at a time.
const SUITES: [Suite; 7] = [
    rabbitmqadmin::TOOL,
    rabbitmqadmin::LIBRARY,
    rabbit_hole::SUITE,
    keda::SUITE,
    telegraf::SUITE,
    amqpstorm::SUITE,
    shapes::SUITE,
];

const INTRODUCTION: &str = "\
# Tools that use the management API

Written by `make management PUBLISH=1`; not edited. All numbers of this page come from one run.

These are other people's programs, at the versions named here, against the API on port 15672 as they find it. Where their packages
carry tests, those run. The last column is what the same tests counted with RabbitMQ 4.3.6.
";

/// Judge the management API by tools that we did not write. Needs root.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    choice: Choice,
    /// Say which tools there are.
    #[arg(long)]
    list: bool,
    /// Write docs/management-tools.md. Takes a full run of our broker.
    #[arg(long)]
    publish: bool,
}

fn main() -> Result<ExitCode> {
    if sandbox::is_inside() {
        return Trial::run_inside(&SUITES);
    }
    let Arguments { choice, list, publish } = Arguments::parse();
    let mut out = std::io::stdout().lock();
    if list {
        for suite in SUITES {
            writeln!(out, "{:<20} {:<8} {}", suite.name, suite.version, suite.covers)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(!publish || choice.is_whole(), "what is published is a full run of our broker");
    let outcomes = choice.run("management", &SUITES)?;
    let report = Report { introduction: INTRODUCTION, broker: choice.judged()?, outcomes };
    write!(out, "{}", report.failures())?;
    let (passed, mut failed) = report.totals();
    let paths = paths::table(&report.outcomes);
    let page = report.page() + &paths;
    let file = choice.results_of("management").join("management-tools.md");
    std::fs::write(file, &page).context("write the report")?;
    let published = workspace().join("docs/management-tools.md");
    if publish {
        std::fs::write(published, page).context("write docs/management-tools.md")?;
    } else if choice.only.is_empty() && choice.broker == Product::Warren {
        // Everything else on the page differs from run to run.
        let is_current = std::fs::read_to_string(published).is_ok_and(|published| published.ends_with(&paths));
        if !is_current {
            writeln!(out, "failed: the paths in docs/management-tools.md are others now: make management PUBLISH=1")?;
            failed += 1;
        }
    }
    writeln!(out, "{passed} passed, {failed} failed")?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
