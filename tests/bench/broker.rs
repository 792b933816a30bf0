//! The brokers that are compared, each started alone, on an empty folder, on the same processors and the same port.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use warren_tests::command::output_of;
use warren_tests::harness::Connection;
use warren_tests::rabbitmq::Chroot;

use crate::cores::Cores;
use crate::usage::{find, processor_time, resident};

/// How long a broker may take until its port is open.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often we look whether the port is open. A look costs some microseconds.
const LOOK: Duration = Duration::from_millis(1);

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Product {
    /// Ours.
    Warren,
    /// RabbitMQ.
    RabbitMq,
}

/// Where the brokers are installed and what they may use.
#[derive(Debug)]
pub(crate) struct Installation {
    /// Our program.
    pub(crate) warren: PathBuf,
    /// RabbitMQ's root folder.
    pub(crate) rabbitmq: Chroot,
    /// Where the data folders go.
    pub(crate) data: PathBuf,
    /// On which processors.
    pub(crate) cores: Cores,
}

/// Name of the process that RabbitMQ is, in its namespaces.
const RABBITMQ_COMM: &str = "beam.smp";

/// A running broker.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) product: Product,
    /// What we started: our broker, or the namespaces that RabbitMQ runs in.
    process: Child,
    /// The number of the broker's own process.
    pid: u32,
    /// When it was started.
    pub(crate) started: Instant,
    /// From its start to the first connection that it took.
    pub(crate) start_duration: Duration,
    data: PathBuf,
}

impl Product {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Warren, Self::RabbitMq];

    /// As it is called in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Warren => "warren",
            Self::RabbitMq => "rabbitmq",
        }
    }
}

impl Broker {
    /// Where both listen. They run in a network namespace of our own, one at a time.
    pub(crate) const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5672);

    /// Starts a broker on an empty folder.
    ///
    /// # Errors
    /// It does not open its port within a minute.
    pub(crate) fn start(product: Product, installation: &Installation) -> Result<Self> {
        let data = installation.data.join(product.name());
        if data.exists() {
            std::fs::remove_dir_all(&data).with_context(|| format!("empty {}", data.display()))?;
        }
        std::fs::create_dir_all(&data).with_context(|| format!("make {}", data.display()))?;
        // What an earlier broker wrote is not to be written back while this one is measured.
        output_of(&mut Command::new("sync"))?;
        Self::start_in(product, installation, data)
    }

    /// Ends the broker and starts it again on its data.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub(crate) fn restart(mut self, installation: &Installation) -> Result<Self> {
        self.end()?;
        Self::start_in(self.product, installation, std::mem::take(&mut self.data))
    }

    fn start_in(product: Product, installation: &Installation, data: PathBuf) -> Result<Self> {
        let said = File::create(installation.data.join("said")).context("make a file for what the broker says")?;
        let mut command = match product {
            Product::Warren => warren(installation, &data),
            Product::RabbitMq => rabbitmq(installation, &data),
        };
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let started = Instant::now();
        let process = command.spawn().with_context(|| format!("start {}", product.name()))?;
        let mut broker = Self { product, process, pid: 0, started, start_duration: Duration::ZERO, data };
        while TcpStream::connect(Self::ADDRESS).is_err() {
            if started.elapsed() > PATIENCE || broker.process.try_wait()?.is_some() {
                let said = std::fs::read_to_string(installation.data.join("said")).unwrap_or_default();
                bail!("{} did not open its port; it said:\n{said}", product.name());
            }
            std::thread::sleep(LOOK);
        }
        broker.start_duration = started.elapsed();
        broker.pid = match product {
            Product::Warren => broker.process.id(),
            Product::RabbitMq => find(RABBITMQ_COMM).context("RabbitMQ has no process")?,
        };
        // An open port is not yet a broker that answers.
        Connection::with_channel(Self::ADDRESS)?;
        Ok(broker)
    }

    /// Seconds of processor time that it has used until now.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn processor_time(&self) -> Result<f64> {
        processor_time(self.pid)
    }

    /// Octets of memory that it occupies.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn resident(&self) -> Result<u64> {
        resident(self.pid)
    }

    /// Ends it at once. Its data stays.
    fn end(&mut self) -> Result<()> {
        self.process.kill().context("end the broker")?;
        self.process.wait().context("wait for the broker")?;
        let begin = Instant::now();
        while self.product == Product::RabbitMq && find(RABBITMQ_COMM).is_some() {
            if begin.elapsed() > PATIENCE {
                bail!("{} was told to end and goes on", self.product.name());
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // One that has ended already is what is wanted; a folder that stays is emptied before the next start.
        self.end().ok();
        if !self.data.as_os_str().is_empty() {
            std::fs::remove_dir_all(&self.data).ok();
        }
    }
}

fn pinned(installation: &Installation) -> Command {
    let mut command = Command::new("taskset");
    command.args(installation.cores.of_broker());
    command
}

fn warren(installation: &Installation, data: &Path) -> Command {
    let mut command = pinned(installation);
    command.arg(&installation.warren).arg("serve").arg("--data-dir").arg(data);
    command.args([
        "--amqp",
        &Broker::ADDRESS.to_string(),
        "--metrics",
        "127.0.0.1:15692",
        "--management",
        "127.0.0.1:0",
        "--log",
        "warn",
    ]);
    command.env_remove("WARREN_CONFIG").env_remove("WARREN_LOGGING_FILTER");
    command
}

fn rabbitmq(installation: &Installation, data: &Path) -> Command {
    let server = installation.rabbitmq.server(data, &[]);
    let mut command = pinned(installation);
    command.arg(server.get_program()).args(server.get_args());
    command
}
