//! The broker under test, on the ports that clients expect: 5672, and 5671 for TLS.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::command::{output_of, tail};
use crate::rabbitmq::Chroot;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::certificates::{CA, SERVER};
use super::recorder::MANAGEMENT;

/// How long a broker may take until its ports are open.
const PATIENCE: Duration = Duration::from_secs(120);
/// The volume of its data: in memory, because what a disk does is judged elsewhere.
const VOLUME: &str = "size=2g";
/// How often we look.
const LOOK: Duration = Duration::from_millis(50);

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Product {
    /// Ours.
    Warren,
    /// RabbitMQ from Debian, as a measure.
    Rabbitmq,
}

/// A running broker. It is killed when the value is dropped.
#[derive(Debug)]
pub struct Broker {
    process: Child,
    log: PathBuf,
}

impl Broker {
    /// Starts a broker on an empty folder in `scratch` and waits until it takes connections.
    ///
    /// # Errors
    /// It does not open its ports; the error has the last lines of what it said.
    pub fn start(product: Product, program: &Path, scratch: &Path, certificates: &Path, manages: bool) -> Result<Self> {
        let (data, log) = (scratch.join("data"), scratch.join("broker.log"));
        std::fs::create_dir_all(&data).context("make a data folder")?;
        // In a mount namespace of our own: it goes with the run.
        output_of(Command::new("mount").args(["-t", "tmpfs", "-o", VOLUME, "tmpfs"]).arg(&data))?;
        let mut command = match product {
            Product::Warren => warren(program, &data, certificates)?,
            Product::Rabbitmq => rabbitmq(&data, certificates, manages)?,
        };
        let said = File::create(&log).context("make the broker's log")?;
        let command = command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let mut broker = Self { process: command.spawn().context("start the broker")?, log };
        for port in [5672, 5671] {
            broker.wait_for(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        }
        if manages {
            broker.wait_for(MANAGEMENT)?;
        }
        Ok(broker)
    }

    fn wait_for(&mut self, address: SocketAddr) -> Result<()> {
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if self.process.try_wait()?.is_some() || start.elapsed() > PATIENCE {
                bail!("the broker did not open {address}; it said:{}", tail(&self.log));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Fails if the broker has ended, or has said that a task of it panicked.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.process.try_wait()? {
            bail!("the broker has ended ({status}); it said:{}", tail(&self.log));
        }
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        match said.lines().find(|line| line.contains("panicked at")) {
            Some(line) => bail!("the broker said: {line}"),
            None => Ok(()),
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Either fails only if the process has ended, which is what is wanted.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Without a bound of requests: tests ask faster than people and tools do.
fn warren(program: &Path, data: &Path, certificates: &Path) -> Result<Command> {
    let file = data.with_file_name("warren.toml");
    let path = |file: &str| certificates.join(file);
    let config = format!(
        "max_message_bytes = 134217728\nlisteners.management = \"{MANAGEMENT}\"\n\
         management.requests_per_second = 0\n[tls]\n\
         certificate = {:?}\nkey = {:?}\nca = {:?}\nclient_certificates = \"optional\"\n",
        path(SERVER.certificate),
        path(SERVER.key),
        path(CA)
    );
    std::fs::write(&file, config).context("write the broker's settings")?;
    let mut command = Command::new(program);
    command.args(["serve", "--log", "info", "--data-dir"]).arg(data);
    command.arg("--config").arg(file);
    // What tells this process about its trial would be settings for the broker.
    command.env_clear();
    Ok(command)
}

/// Settings with which RabbitMQ does what these suites expect: TLS, large bodies, and what version 4 deprecates.
const RABBITMQ_CONFIG: &str = "\
    listeners.tcp.1 = 127.0.0.1:5672\nlisteners.tcp.2 = ::1:5672\n\
    listeners.ssl.1 = 127.0.0.1:5671\nlisteners.ssl.2 = ::1:5671\n\
    ssl_options.cacertfile = /mnt/data/ca.pem\nssl_options.certfile = /mnt/data/server.pem\n\
    ssl_options.keyfile = /mnt/data/server.key\nssl_options.verify = verify_peer\n\
    ssl_options.fail_if_no_peer_cert = false\nmax_message_size = 134217728\n\
    deprecated_features.permit.transient_nonexcl_queues = true\ndeprecated_features.permit.global_qos = true\n\
    deprecated_features.permit.queue_master_locator = true\nmanagement.tcp.ip = 127.0.0.2\n\
    management.tcp.request_timeout = 60000\n";
/// The plugins of RabbitMQ whose work our broker does by itself, management first.
const PLUGINS: &str = "[rabbitmq_management,rabbitmq_consistent_hash_exchange,rabbitmq_random_exchange].\n";

fn rabbitmq(data: &Path, certificates: &Path, manages: bool) -> Result<Command> {
    std::fs::write(data.join("rabbitmq.conf"), RABBITMQ_CONFIG).context("write RabbitMQ's settings")?;
    if manages {
        std::fs::write(data.join("enabled_plugins"), PLUGINS).context("write RabbitMQ's plugins")?;
    }
    for file in [CA, SERVER.certificate, SERVER.key] {
        std::fs::copy(certificates.join(file), data.join(file)).with_context(|| format!("copy {file}"))?;
    }
    let plugins = "RABBITMQ_ENABLED_PLUGINS_FILE=/mnt/data/enabled_plugins".to_owned();
    Ok(Chroot::of_rabbitmq()?.server(data, &[plugins]))
}

/// A program that does what `rabbitmqctl` does, for the RabbitMQ that runs.
///
/// # Errors
/// RabbitMQ is not installed.
pub fn rabbitmqctl() -> Result<String> {
    const SCRIPT: &str = r#"exec nsenter --target "$(pidof -s beam.smp)" --mount chroot ROOT env -i HOME=/mnt/data \
        LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin RABBITMQ_NODENAME=rabbit@localhost \
        /usr/lib/rabbitmq/bin/rabbitmqctl "$@""#;
    Ok(format!("#!/bin/sh\n{}\n", SCRIPT.replace("ROOT", &Chroot::of_rabbitmq()?.root.to_string_lossy())))
}
