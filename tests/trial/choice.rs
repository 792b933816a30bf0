//! Which suites a program runs, and how.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::broker::Product;
use super::suite::{Quick, Suite};
use super::{Outcome, Trial};
use crate::programs::install_missing;
use crate::rabbitmq::Chroot;
use crate::release::{Release, workspace};

/// What the programs that run suites are told on their command lines.
#[derive(Debug, Args)]
pub struct Choice {
    /// Only these suites.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// Only what `make test` has time for.
    #[arg(long)]
    pub quick: bool,
    /// Which broker is judged.
    #[arg(long, value_enum, default_value = "warren")]
    pub broker: Product,
    /// Our program, instead of a release build of this checkout.
    #[arg(long, env = "WARREN_BROKER")]
    pub warren: Option<PathBuf>,
    /// How many suites run side by side.
    #[arg(long, default_value_t = 1)]
    pub jobs: usize,
    /// Where logs and results go, instead of a folder of cargo's target folder.
    #[arg(long)]
    pub results: Option<PathBuf>,
}

impl Choice {
    /// True if everything is run, against our broker: only that may be published.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.only.is_empty() && !self.quick && self.broker == Product::Warren
    }

    /// Where logs and results of the program `name` go.
    #[must_use]
    pub fn results_of(&self, name: &str) -> PathBuf {
        self.results.clone().unwrap_or_else(|| workspace().join("target").join(name))
    }

    /// The broker that is judged, as a report calls it.
    ///
    /// # Errors
    /// RabbitMQ is to be judged and cannot be installed.
    pub fn judged(&self) -> Result<String> {
        if self.broker == Product::Rabbitmq {
            return Ok(Chroot::of_rabbitmq()?.version);
        }
        let commit = Command::new("git").args(["describe", "--always", "--dirty"]).current_dir(workspace()).output();
        let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
        Ok(format!("Warren {} (commit {commit})", env!("CARGO_PKG_VERSION")))
    }

    /// Runs those of `all` suites that are chosen, several at a time, for the program `name`.
    ///
    /// # Errors
    /// A suite is named that does not exist, or our broker cannot be built. What is wrong with a suite is in its outcome.
    pub fn run(&self, name: &str, all: &[Suite]) -> Result<Vec<Outcome>> {
        let suites = self.choose(all)?;
        install_missing(&[("ip", "iproute2"), ("unshare", "util-linux")])?;
        let results = self.results_of(name);
        std::fs::create_dir_all(&results).context("make a place for the results")?;
        let program = match (self.broker, &self.warren) {
            (Product::Warren, None) => Release::broker_program()?,
            (_, program) => program.clone().unwrap_or_default(),
        };
        let (next, outcomes) = (Mutex::new(suites.iter().enumerate()), Mutex::new(Vec::new()));
        // A function, so that the lock is not held while the suite runs.
        let take = || lock(&next).next();
        let work = || {
            while let Some((at, suite)) = take() {
                let trial = Trial {
                    suite: suite.name.to_owned(),
                    product: self.broker,
                    program: program.clone(),
                    results: results.clone(),
                    is_quick: self.quick,
                };
                let outcome = trial.run(suite);
                eprintln!("{}", outcome.line());
                lock(&outcomes).push((at, outcome));
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(work);
            }
        });
        let mut outcomes = outcomes.into_inner().unwrap_or_default();
        outcomes.sort_by_key(|(at, _)| *at);
        Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
    }

    fn choose(&self, all: &[Suite]) -> Result<Vec<Suite>> {
        for name in &self.only {
            let names: Vec<_> = all.iter().map(|suite| suite.name).collect();
            ensure!(names.contains(&name.as_str()), "there is no suite {name:?}; there are: {}", names.join(", "));
        }
        let mut suites = all.to_vec();
        suites.retain(|suite| self.only.is_empty() || self.only.iter().any(|name| name == suite.name));
        suites.retain(|suite| !self.quick || suite.quick != Quick::Nothing);
        ensure!(!suites.is_empty(), "a quick run has none of these suites");
        Ok(suites)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
