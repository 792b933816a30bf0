//! A group of programs with mounts, processes, network and host name of their own.
//!
//! Its first process is `pause`; when that ends, the kernel ends all others of the group and removes its mounts and
//! interfaces. So one recorded process is all that `down` has to find, also after a crash.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command::{output_of, output_with_input, tail};
use crate::process::{ProcessId, wait_until};

/// A running group.
#[derive(Debug)]
pub(super) struct Namespace {
    /// Logs, and `holder`: the stat line of the process that started the group.
    folder: PathBuf,
    /// The group's first process.
    init: ProcessId,
}

/// How long the kernel may take to set up or to remove a group.
const LIMIT: Duration = Duration::from_secs(20);

impl Namespace {
    /// Starts a group that keeps its logs in `folder` and calls itself `hostname`; `pause` is the path of that program.
    pub(super) fn start(folder: &Path, hostname: &str, pause: &Path) -> Result<Self> {
        // The shell records itself before it becomes `unshare`: there is no moment in which a group has no record.
        const SCRIPT: &str = r#"read -r stat < /proc/$$/stat && echo "$stat" > "$0" &&
            exec unshare --mount --uts --ipc --net --pid --fork --kill-child --mount-proc -- "$@""#;
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let (record, log) = (folder.join("holder"), folder.join("holder.log"));
        let output = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        Command::new("setsid")
            .args(["sh", "-c", SCRIPT])
            .args([&record, pause])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start setsid")?;
        let mut started = None;
        wait_until(LIMIT, || {
            started = Self::find(folder);
            Ok(started.is_some())
        })
        .with_context(|| format!("the namespaces of {hostname} were not set up:{}", tail(&log)))?;
        let namespace = started.context("a namespace that was found is gone")?;
        namespace.run(&["mount", "--make-rshared", "/"])?;
        namespace.run(&["sh", "-c", "echo \"$0\" > /proc/sys/kernel/hostname", hostname])?;
        Ok(namespace)
    }

    /// The group that has its record in `folder`, if it runs.
    pub(super) fn find(folder: &Path) -> Option<Self> {
        let init = recorded_holder(folder)?.child("pause")?;
        Some(Self { folder: folder.to_owned(), init })
    }

    /// Ends the group that has its record in `folder`, if it runs, and waits until all its processes are gone.
    pub(super) fn end(folder: &Path) -> Result<()> {
        let Some(holder) = recorded_holder(folder) else {
            return Ok(());
        };
        if let Some(init) = holder.child("pause") {
            init.kill()?;
        } else {
            holder.kill()?;
        }
        // The first process of a group is gone only when all others are, and the holder waits for it.
        holder.wait_until_ended(LIMIT)
    }

    /// Number of the first process, in the machine's counting.
    pub(super) fn pid(&self) -> u32 {
        self.init.pid()
    }

    /// Runs a command in the group to its end.
    pub(super) fn run(&self, words: &[&str]) -> Result<String> {
        output_of(self.command().args(words))
    }

    /// Like [`Self::run`], with the contents of `input` as standard input.
    pub(super) fn run_with_input(&self, words: &[&str], input: File) -> Result<String> {
        output_with_input(self.command().args(words), input)
    }

    /// Runs `ip` in the group's network, with the process numbers of the machine.
    pub(super) fn ip(&self, arguments: &[&str]) -> Result<()> {
        let target = format!("--target={}", self.pid());
        output_of(Command::new("nsenter").args([&target, "--net", "--", "ip"]).args(arguments)).map(drop)
    }

    /// Starts a program that goes on when this process ends. What it prints goes to `<name>.log`.
    pub(super) fn spawn(&self, program: &Path, arguments: &[String]) -> Result<()> {
        const SCRIPT: &str = r#"log=$1 record=$2; shift 2
            PATH="${1%/*}:$PATH" "$@" > "$log" 2>&1 < /dev/null & echo $! > "$record""#;
        let name = program.file_name().context("a program has a name")?;
        let (log, record) = (self.folder.join(name).with_extension("log"), self.record_of(Path::new(name)));
        output_of(self.command().args(["sh", "-c", SCRIPT, "sh"]).args([&log, &record]).arg(program).args(arguments))
            .map(drop)
            .with_context(|| format!("start {}", program.display()))
    }

    /// Fails, with the end of its log, if the program `name` was started and has ended.
    pub(super) fn check(&self, name: &str) -> Result<()> {
        let record = self.record_of(Path::new(name));
        let pid = std::fs::read_to_string(&record).with_context(|| format!("{name} was not started"))?;
        // The group numbers its processes itself; its own /proc knows them.
        let status = format!("/proc/{}/root/proc/{}/comm", self.pid(), pid.trim());
        let comm = std::fs::read_to_string(status).unwrap_or_default();
        // For a moment after its start it is still the shell that becomes the program.
        let is_there = matches!(comm.trim(), "sh") || name.starts_with(comm.trim());
        if comm.is_empty() || !is_there {
            bail!("{name} has ended; the last lines of its log:{}", self.tail(name));
        }
        Ok(())
    }

    /// The last lines of what the program `name` printed.
    pub(super) fn tail(&self, name: &str) -> String {
        tail(&self.folder.join(name).with_extension("log"))
    }

    fn record_of(&self, name: &Path) -> PathBuf {
        self.folder.join(name).with_extension("pid")
    }

    fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.pid()));
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--"]);
        command
    }
}

fn recorded_holder(folder: &Path) -> Option<ProcessId> {
    let line = std::fs::read_to_string(folder.join("holder")).ok()?;
    ProcessId::from_stat_line(&line).filter(|holder| holder.is_running())
}
