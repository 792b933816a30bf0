//! Prometheus and promtool, from Debian's package of them: fetched into the cache, not installed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::command::output_of;
use crate::programs::{Lock, cache_folder, install_missing};

/// How long a server may take to start, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often we look whether it answers.
const LOOK: Duration = Duration::from_millis(50);

/// The two programs.
#[derive(Debug, Clone)]
pub struct Programs {
    folder: PathBuf,
}

/// A Prometheus that scrapes one address. It is killed when the value is dropped.
#[derive(Debug)]
pub struct Server {
    process: Child,
    address: String,
    _folder: TempDir,
}

impl Programs {
    /// In the cache, fetched if they are not there.
    ///
    /// # Errors
    /// This is no Debian or Ubuntu machine, or the package cannot be fetched.
    pub fn of_debian() -> Result<Self> {
        let folder = cache_folder()?.join("prometheus");
        let _lock = Lock::of(&folder.with_extension("lock"), "another run fetches Prometheus")?;
        if !folder.is_dir() {
            eprintln!("fetching Prometheus into {}", folder.display());
            install_missing(&[("dpkg-deb", "dpkg"), ("apt-get", "apt")])?;
            let unfinished = folder.with_extension("unfinished");
            std::fs::remove_dir_all(&unfinished).ok();
            fetch(&unfinished)?;
            std::fs::rename(&unfinished, &folder).context("keep Prometheus")?;
        }
        Ok(Self { folder })
    }

    /// A command that runs promtool.
    #[must_use]
    pub fn promtool(&self) -> Command {
        Command::new(self.folder.join("usr/bin/promtool"))
    }

    /// What promtool has to complain about in metrics; empty: nothing.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn check_metrics(&self, text: &str) -> Result<String> {
        let mut command = self.promtool();
        command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().context("start promtool")?;
        process.stdin.take().context("promtool's input")?.write_all(text.as_bytes())?;
        let output = process.wait_with_output()?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        if !output.status.success() && said.is_empty() {
            bail!("promtool ended with {}", output.status);
        }
        Ok(said)
    }

    /// Starts a Prometheus that scrapes the paths of `target`, `ADDRESS:PORT`, each second.
    ///
    /// # Errors
    /// It ends, or does not answer for a minute.
    pub fn serve(&self, target: &str, paths: &[&str]) -> Result<Server> {
        let folder = TempDir::with_prefix("prometheus-").context("make a folder for Prometheus")?;
        let config = folder.path().join("prometheus.yml");
        std::fs::write(&config, configuration(target, paths)).context("write Prometheus' configuration")?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let said = std::fs::File::create(folder.path().join("said"))?;
        let mut command = Command::new(self.folder.join("usr/bin/prometheus"));
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let started = Instant::now();
        let mut server = Server { process: command.spawn().context("start Prometheus")?, address, _folder: folder };
        while server.get("/-/ready").is_err() {
            if started.elapsed() > PATIENCE || server.process.try_wait()?.is_some() {
                let said = std::fs::read_to_string(server._folder.path().join("said"))?;
                bail!("Prometheus does not answer; it said:\n{said}");
            }
            std::thread::sleep(LOOK);
        }
        Ok(server)
    }
}

impl Server {
    /// Asks until `is_it` likes the value that a query has, and answers it.
    ///
    /// # Errors
    /// That takes longer than a minute; the error has the last answer.
    pub fn wait_for_value(&self, query: &str, is_it: impl Fn(f64) -> bool) -> Result<f64> {
        let started = Instant::now();
        let mut last = String::new();
        while started.elapsed() < PATIENCE {
            last = self.get(&format!("/api/v1/query?query={query}"))?;
            let answer: serde_json::Value = serde_json::from_str(&last).context("Prometheus answers in JSON")?;
            let value = answer.pointer("/data/result/0/value/1").and_then(|value| value.as_str()?.parse().ok());
            if let Some(value) = value.filter(|value| is_it(*value)) {
                return Ok(value);
            }
            std::thread::sleep(LOOK);
        }
        bail!("{query} is still {last}")
    }

    fn get(&self, path: &str) -> Result<String> {
        let url = format!("http://{}{path}", self.address);
        output_of(Command::new("curl").args(["-sfg", "--max-time", "10"]).arg(url))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn configuration(target: &str, paths: &[&str]) -> String {
    let job = |(number, path): (usize, &&str)| {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let family = |pair: &str| pair.split_once('=').map_or_else(String::new, |(_, family)| format!("{family:?}"));
        let families: Vec<_> = query.split('&').filter(|pair| !pair.is_empty()).map(family).collect();
        format!(
            "  - job_name: warren-{number}\n    metrics_path: {path}\n    params: {{family: [{}]}}\n    \
             static_configs: [{{targets: [\"{target}\"]}}]\n",
            families.join(", ")
        )
    };
    let jobs: String = paths.iter().enumerate().map(job).collect();
    format!("global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n{jobs}")
}

fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
    Ok(listener.local_addr()?.port())
}

fn fetch(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).context("make a folder for Prometheus")?;
    output_of(Command::new("apt-get").args(["download", "--quiet", "prometheus"]).current_dir(folder))?;
    let packages = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let package = packages.iter().find(|path| path.extension().is_some_and(|end| end == "deb"));
    let package = package.context("apt-get download brought no package")?;
    output_of(Command::new("dpkg-deb").arg("--extract").arg(package).arg(folder))?;
    std::fs::remove_file(package).context("remove the package")
}
