//! Other projects' programs against a broker: [`Suite`]s, each pinned to a version, installed once into the cache, and run
//! inside namespaces of its own with a fresh broker on the usual ports.
//!
//! A program that runs suites calls [`Trial::run_inside`] when it finds itself [inside](crate::sandbox::is_inside), and
//! [`Choice::run`] otherwise.

pub mod api;
pub mod broker;
pub mod case;
pub mod certificates;
mod choice;
pub mod go;
pub mod python;
pub mod recorder;
mod report;
pub mod rust;
pub mod suite;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::command::tail;
use crate::sandbox;

use broker::{Broker, Product};
use case::{Case, Tally, Verdict};
use recorder::{Recorder, Request};
use suite::{Run, Suite};

pub use choice::Choice;
pub use report::Report;

/// In the environment of the process inside: the trial, as JSON.
const VARIABLE: &str = "WARREN_TRIAL";

/// What is run, and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trial {
    /// Name of the suite.
    pub suite: String,
    /// Which broker.
    pub product: Product,
    /// Program of ours.
    pub program: PathBuf,
    /// Where logs and results go.
    pub results: PathBuf,
    /// Only what `make test` has time for.
    pub is_quick: bool,
}

/// What the process inside is told.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    trial: Trial,
    folder: PathBuf,
    scratch: PathBuf,
}

/// What the process inside reports.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Findings {
    cases: Vec<Case>,
    requests: BTreeSet<Request>,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// What was run.
    pub suite: Suite,
    /// What became of its cases.
    pub cases: Vec<Case>,
    /// What it asked the management API, if that is what it tests.
    pub requests: BTreeSet<Request>,
    /// Why there are no cases, or not all.
    pub error: Option<String>,
    /// Without its installation.
    pub duration: Duration,
    /// Only a part of the suite was asked for.
    pub is_quick: bool,
}

impl Trial {
    /// Installs the suite if needed, and runs it.
    pub fn run(&self, suite: &Suite) -> Outcome {
        let begin = Instant::now();
        let result = suite.installed().and_then(|folder| {
            let begin = Instant::now();
            self.findings(suite, &folder).map(|findings| (findings, begin.elapsed()))
        });
        let (Findings { cases, requests }, error, duration) = match result {
            Ok((findings, duration)) => (findings, None, duration),
            Err(error) => (Findings::default(), Some(format!("{error:#}")), begin.elapsed()),
        };
        Outcome { suite: *suite, cases, requests, error, duration, is_quick: self.is_quick }
    }

    fn findings(&self, suite: &Suite, folder: &Path) -> Result<Findings> {
        let log = self.results.join(format!("{}.log", suite.name));
        let output = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let scratch = TempDir::with_prefix("warren-conformance-").context("make a scratch folder")?;
        let order = Order { trial: self.clone(), folder: folder.to_owned(), scratch: scratch.path().to_owned() };
        let this = std::env::current_exe().context("find this program")?;
        let mut inside = sandbox::inside(this.as_os_str())
            .env(VARIABLE, serde_json::to_string(&order)?)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("make namespaces: this needs root and util-linux")?;
        let start = Instant::now();
        let status = loop {
            if let Some(status) = inside.try_wait().context("wait for the suite")? {
                break status;
            }
            if start.elapsed() > suite.limit {
                inside.kill().context("end the suite")?;
                inside.wait().context("wait for the suite")?;
                bail!("it took longer than {} s and was killed:{}", suite.limit.as_secs(), tail(&log));
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        ensure!(status.success(), "the run failed:{}", tail(&log));
        let findings = std::fs::read(order.file_of_findings()).context("read what became of the cases")?;
        serde_json::from_slice(&findings).context("read what became of the cases")
    }

    /// What the process inside does, with a suite of these.
    ///
    /// # Errors
    /// It was not told what to do.
    pub fn run_inside(suites: &[Suite]) -> Result<ExitCode> {
        let order: Order = serde_json::from_str(&std::env::var(VARIABLE).context("no trial was given")?)?;
        let result = sandbox::furnish().and_then(|()| order.carry_out(suites));
        // The last lines of the log are what a person sees: this sentence, and no backtrace.
        let Err(error) = result else { return Ok(ExitCode::SUCCESS) };
        eprintln!("{error:#}");
        Ok(ExitCode::FAILURE)
    }
}

impl Order {
    fn file_of_findings(&self) -> PathBuf {
        self.scratch.join("findings.json")
    }

    /// Fails if the broker does not start or does not live on, or the suite says nothing about any case.
    fn carry_out(&self, suites: &[Suite]) -> Result<()> {
        let Self { trial, folder, scratch } = self;
        let Trial { suite, product, program, results, is_quick } = trial;
        let suite = suites.iter().find(|known| known.name == suite).context("there is no such suite")?;
        let (certificates, own) = (scratch.join("certificates"), scratch.join("own"));
        for folder in [&certificates, &own] {
            std::fs::create_dir(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        certificates::write(&certificates)?;
        let mut broker = Broker::start(*product, program, scratch, &certificates, suite.manages)?;
        let recorder = suite.manages.then(Recorder::open).transpose()?;
        let (product, is_quick) = (*product, *is_quick);
        let (certificates, scratch, results) = (certificates.as_path(), own.as_path(), results.as_path());
        let run = Run { folder, scratch, product, results, broker: &self.scratch, certificates, is_quick };
        let cases = (suite.run)(&run);
        let kept = results.join(format!("{}.broker.log", suite.name));
        std::fs::copy(self.scratch.join("broker.log"), kept).context("keep the broker's log")?;
        let cases = cases?;
        broker.check()?;
        ensure!(!cases.is_empty(), "the suite ran no test");
        let findings = Findings { cases, requests: recorder.map(|recorder| recorder.requests()).unwrap_or_default() };
        std::fs::write(self.file_of_findings(), serde_json::to_vec(&findings)?)
            .context("write what became of the cases")
    }
}

impl Outcome {
    /// What became of the cases.
    pub fn tally(&self) -> Tally {
        Tally::of(&self.cases)
    }

    /// Cases that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Case> {
        self.cases.iter().filter(|case| case.verdict == Verdict::Failed)
    }

    /// What else is wrong: the suite did not run to its end, or has fewer cases than it should.
    pub fn complaints(&self) -> Vec<String> {
        if let Some(error) = &self.error {
            return vec![error.clone()];
        }
        let expected = self.suite.rabbitmq.passed + self.suite.rabbitmq.failed;
        let Tally { passed, failed, skipped } = self.tally();
        if !self.is_quick && passed + failed < expected {
            return vec![format!("{} cases ran, {skipped} were skipped, but there are {expected}", passed + failed)];
        }
        Vec::new()
    }

    /// A line for people who wait.
    pub fn line(&self) -> String {
        let Suite { name, version, rabbitmq, .. } = self.suite;
        let (tally, seconds) = (self.tally(), self.duration.as_secs());
        match &self.error {
            Some(error) => format!("{name} {version}: {error}"),
            None => format!("{name} {version}: {tally} in {seconds} s (RabbitMQ: {rabbitmq})"),
        }
    }
}
