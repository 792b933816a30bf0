//! `conformance`: runs the tests of other projects' clients, and programs that use them, against our broker.
//!
//! Each suite has a broker, a network and process numbers of its own, so that `localhost:5672` is free and nothing that
//! it leaves behind meets the next. Versions are pinned; everything is fetched from package registries by name, once,
//! into the cache, and is no part of this repository.

mod broker;
mod case;
mod certificates;
mod gateway;
mod python;
mod report;
mod suite;
mod suites;
mod trial;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use warren_tests::programs::install_missing;
use warren_tests::rabbitmq::Chroot;
use warren_tests::release::{Release, workspace};
use warren_tests::sandbox;

use broker::Product;
use report::Report;
use suite::{Quick, Suite};
use trial::{Outcome, Trial};

/// Judge the broker by clients that we did not write. Needs root.
#[derive(Parser)]
struct Arguments {
    /// Only these suites.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Say which suites there are.
    #[arg(long)]
    list: bool,
    /// Only what `make test` has time for.
    #[arg(long)]
    quick: bool,
    /// Which broker is judged.
    #[arg(long, value_enum, default_value = "warren")]
    broker: Product,
    /// Our program, instead of a release build of this checkout.
    #[arg(long, env = "WARREN_BROKER")]
    warren: Option<PathBuf>,
    /// How many suites run side by side.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Where logs and results go.
    #[arg(long, default_value_os_t = workspace().join("target/conformance"))]
    results: PathBuf,
    /// Write docs/conformance.md. Takes a full run of our broker.
    #[arg(long)]
    publish: bool,
}

fn main() -> Result<ExitCode> {
    if sandbox::is_inside() {
        return Trial::run_inside();
    }
    let arguments = Arguments::parse();
    let mut out = std::io::stdout().lock();
    if arguments.list {
        for suite in suites::ALL {
            writeln!(out, "{:<12} {:<8} {}", suite.name, suite.version, suite.covers)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let suites = choose(&arguments)?;
    let report = Report::new(describe(arguments.broker)?, run(&arguments, &suites)?);
    write!(out, "{}", report.failures())?;
    std::fs::write(arguments.results.join("conformance.md"), report.page()).context("write the report")?;
    if arguments.publish {
        std::fs::write(workspace().join("docs/conformance.md"), report.page()).context("write docs/conformance.md")?;
    }
    let (passed, failed) = report.totals();
    writeln!(out, "{passed} passed, {failed} failed")?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The broker that is judged, as the report calls it.
fn describe(product: Product) -> Result<String> {
    if product == Product::Rabbitmq {
        return Ok(Chroot::of_rabbitmq()?.version);
    }
    let commit = Command::new("git").args(["describe", "--always", "--dirty"]).current_dir(workspace()).output();
    let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    Ok(format!("Warren {} (commit {commit})", env!("CARGO_PKG_VERSION")))
}

fn choose(arguments: &Arguments) -> Result<Vec<Suite>> {
    let Arguments { only, quick, broker, publish, .. } = arguments;
    let names = suites::ALL.map(|suite| suite.name);
    for name in only {
        ensure!(names.contains(&name.as_str()), "there is no suite {name:?}; there are: {}", names.join(", "));
    }
    ensure!(
        !publish || (only.is_empty() && !quick && *broker == Product::Warren),
        "what is published is a full run of our broker"
    );
    let mut suites = suites::ALL.to_vec();
    suites.retain(|suite| only.is_empty() || only.iter().any(|name| name == suite.name));
    suites.retain(|suite| !quick || suite.quick != Quick::Nothing);
    ensure!(!suites.is_empty(), "a quick run has none of these suites");
    Ok(suites)
}

/// Runs the suites, several at a time, in their order.
fn run(arguments: &Arguments, suites: &[Suite]) -> Result<Vec<Outcome>> {
    install_missing(&[("ip", "iproute2"), ("unshare", "util-linux")])?;
    std::fs::create_dir_all(&arguments.results).context("make a place for the results")?;
    let program = match (arguments.broker, &arguments.warren) {
        (Product::Warren, None) => Release::broker_program()?,
        (_, program) => program.clone().unwrap_or_default(),
    };
    let (next, outcomes) = (Mutex::new(suites.iter().enumerate()), Mutex::new(Vec::new()));
    let work = || {
        while let Some((at, suite)) = lock(&next).next() {
            let trial = Trial {
                suite: suite.name.to_owned(),
                product: arguments.broker,
                program: program.clone(),
                results: arguments.results.clone(),
                is_quick: arguments.quick,
            };
            let outcome = trial.run(suite);
            eprintln!("{}", outcome.line());
            lock(&outcomes).push((at, outcome));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(work);
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_default();
    outcomes.sort_by_key(|(at, _)| *at);
    Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
