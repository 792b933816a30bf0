//! What a process has used of the machine, as proc(5) says it.

use std::ops::Sub;

use anyhow::{Context, Result};
use rustix::param::clock_ticks_per_second;

/// What a process has used until now, or, as a difference, meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Usage {
    /// Seconds of processor time, of the process and in the kernel for it.
    pub(crate) processor: f64,
    /// Octets that it caused to be written to disks.
    pub(crate) written: u64,
}

impl Usage {
    /// Of the process with this number. Needs root, for what was written.
    ///
    /// # Errors
    /// There is no such process.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("read what a process used")?;
        let io = std::fs::read_to_string(format!("/proc/{pid}/io")).context("read what a process wrote")?;
        let ticks = ticks(&stat).context("a process has processor times")?;
        let written = field(&io, "write_bytes:").context("a process has written or not")?;
        Ok(Self { processor: ticks as f64 / clock_ticks_per_second() as f64, written })
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { processor: self.processor - before.processor, written: self.written.saturating_sub(before.written) }
    }
}

/// Octets of memory that the process occupies.
///
/// # Errors
/// There is no such process.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("read what a process occupies")?;
    Ok(field(&status, "VmRSS:").context("a process occupies memory")? * 1024)
}

/// The number of the only process of this name that can be seen from here.
pub(crate) fn find(comm: &str) -> Option<u32> {
    let entries = std::fs::read_dir("/proc").ok()?;
    let mut pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.find(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == comm))
}

/// The first number of the machine's load average: how many threads wanted a processor in the last minute.
pub(crate) fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// The user and system times in a line of `/proc/<pid>/stat`. The name before them may hold anything but ends with the
/// last parenthesis.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(") ")?.1.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_times_are_found_behind_any_name() {
        let line = "42 (a) (b c)) S 7 42 42 0 -1 4194560 1 2 3 4 150 60 7 8 20 0 1 0 98765 0 0";
        assert_eq!(ticks(line), Some(210));
        assert_eq!(ticks("42 (sleep) S 7 42"), None);
    }

    #[test]
    fn this_process_has_used_something() {
        assert!(resident(std::process::id()).unwrap() > 100_000);
        assert_eq!(field("rchar: 5\nwrite_bytes: 77\n", "write_bytes:"), Some(77));
    }
}
