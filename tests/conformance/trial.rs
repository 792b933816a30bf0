//! One run of one suite: installed outside, run inside namespaces of its own with a fresh broker.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use warren_tests::command::tail;
use warren_tests::sandbox;

use crate::broker::{Broker, Product};
use crate::case::{Case, Tally, Verdict};
use crate::suite::{Run, Suite};
use crate::{certificates, suites};

/// In the environment of the process inside: the trial, as JSON.
const VARIABLE: &str = "WARREN_TRIAL";

/// What is run, and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Trial {
    /// Name of the suite.
    pub(crate) suite: String,
    /// Which broker.
    pub(crate) product: Product,
    /// Program of ours.
    pub(crate) program: PathBuf,
    /// Where logs and results go.
    pub(crate) results: PathBuf,
    /// Only what `make test` has time for.
    pub(crate) is_quick: bool,
}

/// What the process inside is told.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    trial: Trial,
    folder: PathBuf,
    scratch: PathBuf,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) suite: Suite,
    pub(crate) cases: Vec<Case>,
    /// Why there are no cases, or not all.
    pub(crate) error: Option<String>,
    pub(crate) duration: Duration,
    /// Only a part of the suite was asked for.
    pub(crate) is_quick: bool,
}

impl Trial {
    /// Installs the suite if needed, and runs it.
    pub(crate) fn run(&self, suite: &Suite) -> Outcome {
        let begin = Instant::now();
        let result = suite.installed().and_then(|folder| {
            let begin = Instant::now();
            self.cases(suite, &folder).map(|cases| (cases, begin.elapsed()))
        });
        let (cases, error, duration) = match result {
            Ok((cases, duration)) => (cases, None, duration),
            Err(error) => (Vec::new(), Some(format!("{error:#}")), begin.elapsed()),
        };
        Outcome { suite: *suite, cases, error, duration, is_quick: self.is_quick }
    }

    fn cases(&self, suite: &Suite, folder: &Path) -> Result<Vec<Case>> {
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
        let cases = std::fs::read(order.file_of_cases()).context("read what became of the cases")?;
        serde_json::from_slice(&cases).context("read what became of the cases")
    }

    /// What the process inside does.
    ///
    /// # Errors
    /// The broker does not start or does not live on, or the suite says nothing about any case.
    pub(crate) fn run_inside() -> Result<ExitCode> {
        let order: Order = serde_json::from_str(&std::env::var(VARIABLE).context("no trial was given")?)?;
        let result = sandbox::furnish().and_then(|()| order.carry_out());
        // The last lines of the log are what a person sees: this sentence, and no backtrace.
        let Err(error) = result else { return Ok(ExitCode::SUCCESS) };
        eprintln!("{error:#}");
        Ok(ExitCode::FAILURE)
    }
}

impl Order {
    fn file_of_cases(&self) -> PathBuf {
        self.scratch.join("cases.json")
    }

    fn carry_out(&self) -> Result<()> {
        let Self { trial, folder, scratch } = self;
        let Trial { suite, product, program, results, is_quick } = trial;
        let suite = suites::ALL.into_iter().find(|known| known.name == suite).context("there is no such suite")?;
        let (certificates, own) = (scratch.join("certificates"), scratch.join("own"));
        for folder in [&certificates, &own] {
            std::fs::create_dir(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        certificates::write(&certificates)?;
        let mut broker = Broker::start(*product, program, scratch, &certificates)?;
        let (product, is_quick) = (*product, *is_quick);
        let run = Run { folder, scratch: &own, product, broker: scratch, certificates: &certificates, is_quick };
        let cases = (suite.run)(&run);
        let kept = results.join(format!("{}.broker.log", suite.name));
        std::fs::copy(scratch.join("broker.log"), kept).context("keep the broker's log")?;
        let cases = cases?;
        broker.check()?;
        ensure!(!cases.is_empty(), "the suite ran no test");
        std::fs::write(self.file_of_cases(), serde_json::to_vec(&cases)?).context("write what became of the cases")
    }
}

impl Outcome {
    /// What became of the cases.
    pub(crate) fn tally(&self) -> Tally {
        Tally::of(&self.cases)
    }

    /// Cases that failed.
    pub(crate) fn failures(&self) -> impl Iterator<Item = &Case> {
        self.cases.iter().filter(|case| case.verdict == Verdict::Failed)
    }

    /// What else is wrong: the suite did not run to its end, or has fewer cases than it should.
    pub(crate) fn complaints(&self) -> Vec<String> {
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
    pub(crate) fn line(&self) -> String {
        let Suite { name, version, rabbitmq, .. } = self.suite;
        let (tally, seconds) = (self.tally(), self.duration.as_secs());
        match &self.error {
            Some(error) => format!("{name} {version}: {error}"),
            None => format!("{name} {version}: {tally} in {seconds} s (RabbitMQ: {rabbitmq})"),
        }
    }
}
