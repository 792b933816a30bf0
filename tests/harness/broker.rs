//! A `warren-broker` process of this machine.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::wait_until;
use crate::release::Release;

/// How long a broker may take to open its ports, or to end. Far more than it needs, for a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// A data folder that is removed with the value. Brokers may run in it one after the other.
#[derive(Debug)]
pub struct DataFolder(TempDir);

/// A running broker on ports of its own. It is killed when the value is dropped.
#[derive(Debug)]
pub struct Broker {
    process: Child,
    /// Where it takes AMQP.
    pub address: SocketAddr,
    /// Where it answers HTTP.
    pub metrics: SocketAddr,
    /// From the start of the process to the line that says that the ports are open.
    pub start_duration: Duration,
    said: Arc<Mutex<Vec<String>>>,
}

impl DataFolder {
    /// An empty folder.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new() -> Result<Self> {
        TempDir::with_prefix("warren-").map(Self).context("make a data folder")
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Broker {
    /// Starts a broker on `folder` and waits until its ports are open.
    ///
    /// # Errors
    /// There is no program, or it ends, or says nothing for 30 seconds; the error carries what it said.
    pub fn start(folder: &DataFolder) -> Result<Self> {
        raise_file_limit();
        let begin = Instant::now();
        let mut process = serve(folder)?
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start the broker")?;
        let errors = process.stderr.take().context("the broker has an output")?;
        let said = Arc::new(Mutex::new(Vec::new()));
        let ready = watch(errors, said.clone());
        let line = ready.recv_timeout(PATIENCE);
        let start_duration = begin.elapsed();
        let addresses = line.ok().and_then(|line| Some((address(&line, "amqp")?, address(&line, "metrics")?)));
        let Some((address, metrics)) = addresses else {
            process.kill().ok();
            process.wait().ok();
            bail!("the broker did not open its ports; it said:\n{}", lock(&said).join("\n"));
        };
        Ok(Self { process, address, metrics, start_duration, said })
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
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).context("a process has a number")?;
        kill_process(pid, Signal::TERM).context("send SIGTERM to the broker")
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
        Command::new(program()?).args(arguments).stdin(Stdio::null()).output().context("run the broker")
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

fn serve(folder: &DataFolder) -> Result<Command> {
    let mut command = Command::new(program()?);
    command.arg("serve").args(["--amqp", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--log-format", "json"]);
    command.arg("--data-dir").arg(folder.path()).env_remove("WARREN_CONFIG").env_remove("WARREN_LOG");
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
fn watch(errors: impl Read + Send + 'static, said: Arc<Mutex<Vec<String>>>) -> Receiver<Value> {
    let (sender, ready) = channel();
    std::thread::spawn(move || {
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
    ready
}

/// The first address in a field of a log line, which may be a list.
fn address(line: &Value, field: &str) -> Option<SocketAddr> {
    line[field].as_str()?.trim_matches(['[', ']']).split(", ").next()?.parse().ok()
}

fn lock(said: &Mutex<Vec<String>>) -> std::sync::MutexGuard<'_, Vec<String>> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thousand connections need as many descriptors, at both ends.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // A test that needs more will say so when it cannot connect.
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).ok();
}
