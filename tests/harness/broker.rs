//! A `warren-broker` process of this machine.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit, setrlimit};
use serde_json::Value;
use tempfile::TempDir;

use super::memory_group::MemoryGroup;
use crate::process::wait_until;
use crate::release::Release;

/// How long a broker may take to open its ports, or to end. Far more than it needs, for a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// A data folder that is removed with the value. Brokers may run in it one after the other.
#[derive(Debug)]
pub struct DataFolder {
    folder: TempDir,
    /// A volume of its own is mounted there.
    is_volume: bool,
}

/// How a broker is started, where that is not as usual.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings<'a> {
    /// Text of its configuration file, without data folder and ports.
    pub config: &'a str,
    /// What it logs; empty is as usual.
    pub log: &'a str,
    /// What [`Broker::limit_file_size`] forbids is an error for it, and not its end by a signal.
    pub takes_file_limit: bool,
    /// Where its memory is limited.
    pub memory: Option<&'a MemoryGroup>,
}

/// A running broker on ports of its own. It is killed when the value is dropped.
#[derive(Debug)]
pub struct Broker {
    process: Child,
    /// Where it takes AMQP.
    pub address: SocketAddr,
    /// Where it takes AMQP over TLS, if it does.
    pub tls_address: Option<SocketAddr>,
    /// Where it answers HTTP.
    pub metrics: SocketAddr,
    /// Where it answers the same over HTTPS, if it does.
    pub metrics_https: Option<SocketAddr>,
    /// Where it answers the management API.
    pub management: SocketAddr,
    /// From the start of the process to the line that says that the ports are open.
    pub start_duration: Duration,
    said: Arc<Mutex<Vec<String>>>,
    /// Ends when the broker does.
    reader: Option<JoinHandle<()>>,
}

impl DataFolder {
    /// An empty folder.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new() -> Result<Self> {
        let folder = TempDir::with_prefix("warren-").context("make a data folder")?;
        Ok(Self { folder, is_volume: false })
    }

    /// An empty volume of this size, in memory.
    ///
    /// # Errors
    /// It cannot be mounted: that takes root.
    pub fn on_volume(mebibytes: u32) -> Result<Self> {
        let mut folder = Self::new()?;
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).status();
        ensure!(
            mounted.context("start mount")?.success(),
            "a volume of {mebibytes} MiB cannot be mounted: are you root?"
        );
        folder.is_volume = true;
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Octets that its files occupy.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn occupied_bytes(&self) -> Result<u64> {
        fn of(folder: &Path) -> std::io::Result<u64> {
            std::fs::read_dir(folder)?.try_fold(0, |sum, entry| {
                let entry = entry?;
                // What is there may be gone when it is looked at.
                let bytes = if entry.file_type()?.is_dir() { of(&entry.path())? } else { occupied(&entry.path()) };
                Ok(sum + bytes)
            })
        }
        fn occupied(file: &Path) -> u64 {
            use std::os::unix::fs::MetadataExt;
            std::fs::metadata(file).map_or(0, |metadata| metadata.blocks() * 512)
        }
        of(self.path()).context("measure the data folder")
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        if self.is_volume {
            // It fails only if somebody has unmounted it already.
            Command::new("umount").arg("--lazy").arg(self.path()).status().ok();
        }
    }
}

impl Broker {
    /// Starts a broker on `folder` and waits until its ports are open.
    ///
    /// # Errors
    /// There is no program, or it ends, or says nothing for 30 seconds; the error carries what it said.
    pub fn start(folder: &DataFolder) -> Result<Self> {
        Self::start_with(folder, Settings::default())
    }

    /// [`Self::start`] with settings.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub fn start_with(folder: &DataFolder, settings: Settings<'_>) -> Result<Self> {
        raise_file_limit();
        let mut command = serve(folder, settings)?;
        let begin = Instant::now();
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start the broker")?;
        let errors = process.stderr.take().context("the broker has an output")?;
        let said = Arc::new(Mutex::new(Vec::new()));
        let (reader, ready) = watch(errors, said.clone());
        let line = ready.recv_timeout(PATIENCE);
        let start_duration = begin.elapsed();
        let addresses = line.ok().and_then(|line| {
            let over_tls = (address(&line, "amqps"), address(&line, "metrics_https"));
            let http = (address(&line, "metrics")?, address(&line, "management")?);
            Some((address(&line, "amqp")?, over_tls, http))
        });
        let Some((address, (tls_address, metrics_https), (metrics, management))) = addresses else {
            process.kill().ok();
            process.wait().ok();
            bail!("the broker did not open its ports; it said:\n{}", lock(&said).join("\n"));
        };
        Ok(Self {
            process,
            address,
            tls_address,
            metrics,
            metrics_https,
            management,
            start_duration,
            said,
            reader: Some(reader),
        })
    }

    /// Starts a broker on `folder` and kills it after that time, whatever it is doing then.
    ///
    /// # Errors
    /// There is no program.
    pub fn kill_while_it_starts(folder: &DataFolder, settings: Settings<'_>, after: Duration) -> Result<()> {
        let mut command = serve(folder, settings)?;
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(after);
        process.kill().context("kill the broker")?;
        process.wait().context("wait for the broker")?;
        Ok(())
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// The process cannot be waited for.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill().context("kill the broker")?;
        self.process.wait().context("wait for the broker")?;
        Ok(())
    }

    /// Asks it to end, as Kubernetes does: SIGTERM.
    ///
    /// # Errors
    /// The process is not there any more.
    pub fn terminate(&self) -> Result<()> {
        kill_process(self.pid()?, Signal::TERM).context("send SIGTERM to the broker")
    }

    fn pid(&self) -> Result<Pid> {
        i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).context("a process has a number")
    }

    /// From now on no write succeeds beyond so many octets of a file, as if the disk failed there.
    ///
    /// # Errors
    /// The process is not there any more.
    pub fn limit_file_size(&self, bytes: u64) -> Result<()> {
        let limit = Rlimit { current: Some(bytes), maximum: None };
        prlimit(Some(self.pid()?), Resource::Fsize, limit).context("limit the broker's files").map(drop)
    }

    /// Waits for the end of a broker that was asked to end.
    ///
    /// # Errors
    /// It runs on for 30 seconds.
    pub fn wait(mut self) -> Result<ExitStatus> {
        let mut status = None;
        wait_until(PATIENCE, || {
            status = self.process.try_wait().context("wait for the broker")?;
            Ok(status.is_some())
        })?;
        status.context("the broker runs on")
    }

    /// Waits for the end of a broker that ends by itself; with what it said.
    ///
    /// # Errors
    /// It runs on for 30 seconds.
    pub fn wait_for_last_words(mut self) -> Result<(ExitStatus, String)> {
        let (said, reader) = (self.said.clone(), self.reader.take());
        let status = self.wait()?;
        if reader.is_some_and(|reader| reader.join().is_err()) {
            bail!("the thread that reads what the broker says panicked");
        }
        let words = lock(&said).join("\n");
        Ok((status, words))
    }

    /// The lines that it has said so far, as JSON.
    pub fn said(&self) -> Vec<Value> {
        lock(&self.said).iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until it has said a line of this kind, and answers with the first.
    ///
    /// # Errors
    /// It does not for 30 seconds.
    pub fn wait_for_line(&self, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
        let find = || self.said().into_iter().find(|line| is_it(line));
        wait_until(PATIENCE, || Ok(find().is_some())).context("the broker says no such line")?;
        find().context("it was there")
    }

    /// True if it has said a line with these words.
    pub fn has_said(&self, words: &str) -> bool {
        lock(&self.said).iter().any(|line| line.contains(words))
    }

    /// False once it has ended, however that came.
    ///
    /// # Errors
    /// The process cannot be asked.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.process.try_wait().context("look at the broker")?.is_none())
    }

    /// Octets of memory that it occupies now (`VmRSS` in proc(5)).
    ///
    /// # Errors
    /// The process is not there any more.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).context("read VmRSS")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process has a VmRSS")?;
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS is a number")?;
        Ok(kibibytes * 1024)
    }

    /// How long its threads have run on a processor: less than a microsecond is lost of it, unlike of what `times` counts.
    ///
    /// # Errors
    /// The kernel does not say (proc_pid_schedstat: the first number of each thread, in nanoseconds).
    pub fn processor_time(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.process.id())).context("list threads")? {
            // A thread may have ended since it was listed.
            let Ok(text) = std::fs::read_to_string(thread?.path().join("schedstat")) else { continue };
            let run = text.split(' ').next().context("a thread has a time")?;
            nanoseconds += run.parse::<u64>().context("a time is a number")?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// The status line and the body that its HTTP port answers to a GET of `path`.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn http(&self, path: &str) -> Result<(String, String)> {
        let mut stream = TcpStream::connect(self.metrics)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("half an answer")?;
        Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
    }

    /// Runs the program to its end with these arguments, for what it says when something is wrong.
    ///
    /// # Errors
    /// There is no program, or it cannot be started.
    pub fn output(arguments: &[&OsStr]) -> Result<Output> {
        Self::command(arguments)?.output().context("run the broker")
    }

    /// The program with these arguments, without input and without settings of its environment.
    ///
    /// # Errors
    /// There is no program.
    pub fn command(arguments: &[impl AsRef<OsStr>]) -> Result<Command> {
        let mut command = Command::new(program()?);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("WARREN_")) {
                command.env_remove(name);
            }
        }
        command.args(arguments).stdin(Stdio::null());
        Ok(command)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Either fails only if the process has ended, which is what is wanted.
        self.process.kill().ok();
        self.process.wait().ok();
        if std::thread::panicking() {
            eprintln!("the broker said:\n{}", lock(&self.said).join("\n"));
        }
    }
}

fn serve(folder: &DataFolder, settings: Settings<'_>) -> Result<Command> {
    let mut command = if settings.takes_file_limit {
        let mut shell = Command::new("sh");
        // What is ignored stays ignored in the program that takes the shell's place.
        shell.args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#]).arg(program()?);
        shell
    } else if let Some(group) = settings.memory {
        group.command(program()?)
    } else {
        Command::new(program()?)
    };
    command.arg("serve").args(["--amqp", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--management", "127.0.0.1:0"]);
    command
        .args(["--log-format", "json", "--data-dir"])
        .arg(folder.path())
        .env_remove("WARREN_CONFIG")
        .env_remove("WARREN_LOGGING_FILTER");
    if !settings.log.is_empty() {
        command.args(["--log", settings.log]);
    }
    if !settings.config.is_empty() {
        let file = folder.path().join("warren.toml");
        std::fs::write(&file, settings.config).with_context(|| format!("write {}", file.display()))?;
        command.arg("--config").arg(file);
    }
    Ok(command)
}

/// The program: `$WARREN_BROKER`, else the one of the release, which cargo builds if it is outdated.
fn program() -> Result<&'static Path> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| match std::env::var_os("WARREN_BROKER") {
        Some(program) => Ok(program.into()),
        None => Release::broker_program().map_err(|error| format!("{error:#}")),
    });
    program.as_deref().map_err(|error| anyhow::anyhow!("no broker to test: {error}"))
}

/// Reads the log in a thread of its own, and hands on the line that says that the ports are open.
fn watch(errors: impl Read + Send + 'static, said: Arc<Mutex<Vec<String>>>) -> (JoinHandle<()>, Receiver<Value>) {
    let (sender, ready) = channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(errors).lines().map_while(Result::ok) {
            if let Ok(value) = serde_json::from_str::<Value>(&line)
                && value["message"] == "ready"
            {
                // Whoever waited may have given up.
                sender.send(value).ok();
            }
            lock(&said).push(line);
        }
    });
    (reader, ready)
}

/// The first address in a field of a log line, which may be a list.
fn address(line: &Value, field: &str) -> Option<SocketAddr> {
    line[field].as_str()?.trim_matches(['[', ']']).split(", ").next()?.parse().ok()
}

fn lock(said: &Mutex<Vec<String>>) -> std::sync::MutexGuard<'_, Vec<String>> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Thousands of connections need as many descriptors, at both ends.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // A test that needs more will say so when it cannot connect.
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).ok();
}
