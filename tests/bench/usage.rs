//! What a process and a disk have done, as proc(5) and sysfs say it.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{major, minor, syncfs};
use rustix::param::clock_ticks_per_second;

/// Octets of a sector, whatever the disk calls one.
const SECTOR_LEN: u64 = 512;

/// The disk that holds a folder. Its counters are the only honest ones: those of a process count what it made dirty in
/// memory, which is up to a megabyte for one octet where the file system keeps files in large folios.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: File,
    counters: PathBuf,
}

impl Disk {
    /// The disk under `folder`; none if it is in memory, or of many disks.
    ///
    /// # Errors
    /// There is no such folder.
    pub(crate) fn under(folder: &Path) -> Result<Option<Self>> {
        let file = File::open(folder).with_context(|| format!("open {}", folder.display()))?;
        let device = file.metadata().context("ask for a folder's disk")?.dev();
        let counters = PathBuf::from(format!("/sys/dev/block/{}:{}/stat", major(device), minor(device)));
        Ok(counters.exists().then_some(Self { folder: file, counters }))
    }

    /// Octets that were written to it, by whomever, after everything that waits in memory is written too.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn written(&self) -> Result<u64> {
        syncfs(&self.folder).context("write what waits for the disk")?;
        let counters = std::fs::read_to_string(&self.counters).context("read the counters of a disk")?;
        let sectors: Option<u64> = counters.split_whitespace().nth(6).and_then(|sectors| sectors.parse().ok());
        Ok(sectors.context("a disk counts the sectors it writes")? * SECTOR_LEN)
    }
}

/// Seconds of processor time that a process has used, itself and the kernel for it.
///
/// # Errors
/// There is no such process.
pub(crate) fn processor_time(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("read what a process used")?;
    Ok(ticks(&stat).context("a process has processor times")? as f64 / clock_ticks_per_second() as f64)
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
        assert!(processor_time(std::process::id()).is_ok());
        assert_eq!(field("VmHWM: 5 kB\nVmRSS:\t77 kB\n", "VmRSS:"), Some(77));
    }
}
