//! On what, of what and when results were made.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;
use sha2::{Digest, Sha256};
use warren_tests::command::output_of;
use warren_tests::rabbitmq::Chroot;
use warren_tests::release::workspace;

use crate::cores::Cores;

/// What a reader of results has to know.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// Year, month, day, hour and minute, UTC.
    pub(crate) date: String,
    /// Name and number of the processors.
    pub(crate) processor: String,
    /// Gigabytes.
    pub(crate) memory: f64,
    /// Release of the kernel.
    pub(crate) kernel: String,
    /// Type of the file system that has the data.
    pub(crate) file_system: String,
    /// Which processors the broker and the load were given.
    pub(crate) cores: String,
    /// The commit of this checkout, and whether it was changed.
    pub(crate) commit: String,
    /// SHA-256 of our program, the first 12 digits.
    pub(crate) program: String,
    /// Versions of RabbitMQ and Erlang.
    pub(crate) rabbitmq: String,
    /// Version of PerfTest.
    pub(crate) perf_test: Option<String>,
}

impl Machine {
    /// Asks the machine.
    ///
    /// # Errors
    /// It does not answer as Linux does.
    pub(crate) fn describe(
        warren: &Path,
        rabbitmq: &Chroot,
        perf_test: Option<String>,
        data: &Path,
        cores: &Cores,
    ) -> Result<Self> {
        let said = |words: &[&str]| {
            output_of(Command::new(words[0]).args(&words[1..]).current_dir(workspace()))
                .map(|text| text.trim().to_owned())
        };
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").context("ask for the processors")?;
        let name = |line: &str| Some(line.strip_prefix("model name")?.trim_start_matches([' ', '\t', ':']).to_owned());
        let count = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
        let model = cpuinfo.lines().find_map(name).unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        let meminfo = std::fs::read_to_string("/proc/meminfo").context("ask for the memory")?;
        let total = meminfo.split_whitespace().nth(1).and_then(|kibibytes| kibibytes.parse::<f64>().ok());
        let program = std::fs::read(warren).with_context(|| format!("read {}", warren.display()))?;
        let digest = Sha256::digest(&program);
        // A checkout without git is a fact about it, not an error.
        let commit = said(&["git", "describe", "--always", "--dirty", "--abbrev=10"]);
        Ok(Self {
            date: said(&["date", "--utc", "+%F %H:%M"])?,
            processor: format!("{count} × {model}"),
            memory: (total.context("a machine has memory")? * 1024.0 / 1e9).round(),
            kernel: said(&["uname", "-r"])?,
            file_system: said(&[
                "findmnt",
                "--noheadings",
                "--output=FSTYPE",
                "--target",
                &data.display().to_string(),
            ])?,
            cores: format!("broker on {:?}, load on {:?}", cores.broker, cores.load),
            commit: commit.unwrap_or_else(|_| "unknown".to_owned()),
            program: digest[..6].iter().map(|byte| format!("{byte:02x}")).collect(),
            rabbitmq: rabbitmq.version.clone(),
            perf_test,
        })
    }
}
