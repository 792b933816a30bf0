//! A control group that limits memory, of version 1 or 2.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};

/// A control group of its own. It is removed with the value, for which its processes must have ended.
#[derive(Debug)]
pub struct MemoryGroup {
    folder: PathBuf,
    limit_file: &'static str,
}

impl MemoryGroup {
    /// A group whose processes may have so much memory together, without swap.
    ///
    /// # Errors
    /// It cannot be made: that takes root, and a machine with control groups for memory.
    pub fn new(limit_bytes: u64) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("warren-test-{}-{number}", std::process::id());
        let version_1 = Path::new("/sys/fs/cgroup/memory");
        let version_2 = Path::new("/sys/fs/cgroup");
        let (parent, limit_file) = if version_1.join("memory.limit_in_bytes").exists() {
            (version_1, "memory.limit_in_bytes")
        } else {
            // The groups below may be limited only if this one says so; it may say so already.
            std::fs::write(version_2.join("cgroup.subtree_control"), "+memory").ok();
            (version_2, "memory.max")
        };
        let group = Self { folder: parent.join(name), limit_file };
        std::fs::create_dir(&group.folder)
            .with_context(|| format!("make the control group {}: are you root?", group.folder.display()))?;
        ensure!(group.folder.join(limit_file).exists(), "this machine does not limit the memory of control groups");
        group.limit(limit_bytes)?;
        Ok(group)
    }

    /// Changes how much memory its processes may have together.
    ///
    /// # Errors
    /// They have more already.
    pub fn limit(&self, bytes: u64) -> Result<()> {
        std::fs::write(self.folder.join(self.limit_file), bytes.to_string()).context("limit the memory of a group")
    }

    /// A command whose process is in the group from its beginning.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"echo $$ > "$1/cgroup.procs" && shift && exec "$@""#, "sh"]).arg(&self.folder).arg(program);
        shell
    }

    /// How often the kernel has ended one of its processes for want of memory.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn kills(&self) -> Result<u64> {
        let read = |file: &str| std::fs::read_to_string(self.folder.join(file));
        let text = read("memory.events").or_else(|_| read("memory.oom_control")).context("read what was killed")?;
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.context("the kernel counts what it kills")?.trim().parse().context("a number")
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // The kernel counts a process out a moment after it has ended.
        let gone = |_: &()| std::fs::remove_dir(&self.folder).is_ok();
        let pause = || std::thread::sleep(std::time::Duration::from_millis(10));
        let _last = std::iter::repeat_with(pause).take(200).find(gone);
    }
}
