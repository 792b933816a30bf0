//! Which processors the broker and the load may use.

use anyhow::{Context, Result};
use clap::ValueEnum;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// How the processors of the machine are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sharing {
    /// The broker has the first half, the load the second: neither takes time from the other.
    Split,
    /// Both may use all.
    Shared,
}

/// Processor numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cores {
    /// The broker's.
    pub(crate) broker: Vec<usize>,
    /// Those of the load, whichever generator makes it.
    pub(crate) load: Vec<usize>,
}

impl Cores {
    /// Shares out what this process may use.
    ///
    /// # Errors
    /// The kernel does not say what that is.
    pub(crate) fn shared_out(sharing: Sharing) -> Result<Self> {
        let set = sched_getaffinity(None).context("ask for the processors")?;
        let all: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect();
        if sharing == Sharing::Shared || all.len() < 2 {
            return Ok(Self { broker: all.clone(), load: all });
        }
        let (broker, load) = all.split_at(all.len() / 2);
        Ok(Self { broker: broker.to_vec(), load: load.to_vec() })
    }

    /// The words that `taskset` takes before a broker's command.
    pub(crate) fn of_broker(&self) -> [String; 2] {
        ["--cpu-list".to_owned(), self.broker.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")]
    }
}

/// Keeps this thread, and the threads and processes that it starts from now on, on these processors.
///
/// # Errors
/// There are no such processors.
pub(crate) fn stay_on(cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    sched_setaffinity(None, &set).with_context(|| format!("stay on processors {cores:?}"))
}
