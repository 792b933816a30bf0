//! The processes of a pod, for tests that do harm to them. A container engine's nodes and ours have them on this machine.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Cluster;
use crate::command::output_of;
use crate::process::ProcessId;

/// The container of a pod that has one.
#[derive(Debug)]
pub struct Container {
    /// As the container engine numbers it.
    id: String,
    processes: Vec<ProcessId>,
}

impl Container {
    /// Finds the running container of `pod`.
    ///
    /// # Errors
    /// The pod runs none, or not on this machine.
    pub fn of(cluster: &Cluster, namespace: &str, pod: &str) -> Result<Self> {
        const ID: &str = "jsonpath={.status.containerStatuses[0].containerID}";
        let said = cluster.kubectl(&["-n", namespace, "get", "pod", pod, "-o", ID])?;
        let (_, id) = said.split_once("://").with_context(|| format!("the pod {pod} has no container: {said:?}"))?;
        let entries = std::fs::read_dir("/proc").context("list the processes")?;
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let is_inside =
            |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| groups.contains(id));
        let processes: Vec<_> = pids.filter(is_inside).filter_map(ProcessId::of).collect();
        ensure!(!processes.is_empty(), "no process of this machine belongs to the pod {pod}");
        Ok(Self { id: id.to_owned(), processes })
    }

    /// As the container engine numbers it: another one, when it was started again.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Ends all its processes at once, by a signal that they cannot see.
    ///
    /// # Errors
    /// This process may not.
    pub fn kill(&self) -> Result<()> {
        self.processes.iter().try_for_each(|process| process.kill())
    }

    /// Has nothing that it sends to `address` arrive, until that is dropped.
    ///
    /// # Errors
    /// nft is not there or may not.
    pub fn cut_off(&self, address: &str) -> Result<Cut> {
        let process = *self.processes.first().context("a container has a process")?;
        let cut = Cut(process);
        cut.nft(&format!(
            "table inet {TABLE} {{ chain out {{ type filter hook output priority 0; ip daddr {address} drop; }}; }}"
        ))?;
        Ok(cut)
    }
}

/// Name of the table of rules that cuts a container off.
const TABLE: &str = "warren_cut";

/// An address that a container does not reach.
#[derive(Debug)]
pub struct Cut(ProcessId);

impl Cut {
    fn nft(&self, rules: &str) -> Result<()> {
        let target = format!("--target={}", self.0.pid());
        output_of(Command::new("nsenter").args([&target, "--net", "--", "nft", rules])).map(drop)
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        // What has ended has no network any more.
        if self.0.is_running()
            && let Err(error) = self.nft(&format!("delete table inet {TABLE}"))
        {
            eprintln!("a pod stays cut off: {error:#}");
        }
    }
}
