//! Processes of this machine, told apart for good: a number alone is given to another process sooner or later.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// One process and no other: its number and when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessId {
    pid: u32,
    /// Clock ticks from the start of the machine to the start of the process.
    start_time: u64,
}

/// The fields of `/proc/<pid>/stat` that matter here (proc(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    pid: u32,
    /// Name of the program, at most 15 bytes.
    comm: String,
    state: char,
    parent: u32,
    start_time: u64,
}

impl ProcessId {
    /// The process that wrote `line`, its own `/proc/self/stat`, to a file.
    pub(crate) fn from_stat_line(line: &str) -> Option<Self> {
        let stat = Stat::parse(line)?;
        Some(Self { pid: stat.pid, start_time: stat.start_time })
    }

    /// The process that has this number now.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        read_stat(pid).map(|stat| Self { pid: stat.pid, start_time: stat.start_time })
    }

    pub(crate) fn pid(self) -> u32 {
        self.pid
    }

    /// Whether it has not ended. A process that ended and waits for its parent to ask counts as ended.
    pub(crate) fn is_running(self) -> bool {
        read_stat(self.pid).is_some_and(|stat| stat.start_time == self.start_time && !matches!(stat.state, 'Z' | 'X'))
    }

    /// The child of this process that runs the program `comm`, once there is one.
    pub(crate) fn child(self, comm: &str) -> Option<Self> {
        let entries = std::fs::read_dir("/proc").ok()?;
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter_map(read_stat)
            .find(|stat| stat.parent == self.pid && stat.comm == comm)
            .map(|stat| Self { pid: stat.pid, start_time: stat.start_time })
    }

    /// Ends the process at once. One that ended already, also if its number is in use again, is left alone.
    pub(crate) fn kill(self) -> Result<()> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Ok(());
        };
        // The descriptor is opened before the start time is compared, so both speak of the same process.
        let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else {
            return Ok(());
        };
        if !self.is_running() {
            return Ok(());
        }
        match pidfd_send_signal(&descriptor, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("end process {}", self.pid)),
        }
    }

    /// Waits until the process has ended.
    pub(crate) fn wait_until_ended(self, limit: Duration) -> Result<()> {
        wait_until(limit, || Ok(!self.is_running()))
            .with_context(|| format!("process {} was told to end and goes on", self.pid))
    }
}

/// Asks `is_so` again and again until it says yes. An error from it ends the wait.
///
/// # Errors
/// It says no for as long as `limit`; or what it said.
pub fn wait_until(limit: Duration, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(100);
    let start = Instant::now();
    while !is_so()? {
        if start.elapsed() >= limit {
            bail!("waited {} s in vain", limit.as_secs());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

impl Stat {
    /// The name is in parentheses and may itself contain spaces and parentheses; the last one closes it.
    fn parse(line: &str) -> Option<Self> {
        let (pid, rest) = line.split_once(" (")?;
        let (comm, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        Some(Self {
            pid: pid.parse().ok()?,
            comm: comm.to_owned(),
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            start_time: fields.get(19)?.parse().ok()?,
        })
    }
}

fn read_stat(pid: u32) -> Option<Stat> {
    Stat::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn now(pid: u32) -> ProcessId {
        ProcessId::from_stat_line(&std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap()).unwrap()
    }

    fn sleeper() -> Child {
        Command::new("sleep").arg("600").spawn().unwrap()
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line = "42 (a) (b c)) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 0 0";
        let expected = Stat { pid: 42, comm: "a) (b c)".into(), state: 'S', parent: 7, start_time: 98765 };
        assert_eq!(Stat::parse(line), Some(expected));
    }

    #[test]
    fn a_truncated_line_is_refused() {
        assert_eq!(Stat::parse("42 (sleep) S 7 42"), None);
    }

    #[test]
    fn kill_ends_the_process_it_names() {
        let mut child = sleeper();
        let process = now(child.id());
        assert!(process.is_running());
        process.kill().unwrap();
        process.wait_until_ended(Duration::from_secs(10)).unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn kill_leaves_a_process_with_a_recycled_number_alone() {
        let mut child = sleeper();
        let process = now(child.id());
        let earlier = ProcessId { start_time: process.start_time - 1, ..process };
        assert!(!earlier.is_running());
        earlier.kill().unwrap();
        assert!(process.is_running());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_child_is_found_by_its_program() {
        let mut child = sleeper();
        let this = now(std::process::id());
        assert!(this.child("sleep").is_some());
        assert_eq!(this.child("warren-none"), None);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
