//! RabbitMQ from Debian's newest packages, in a folder of its own: nothing is installed on the machine itself.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::command::output_of;
use crate::harness::Connection;
use crate::programs::{Lock, cache_folder, install_missing};

/// How long it may take to start, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often we look whether it answers.
const LOOK: Duration = Duration::from_millis(20);

/// The release with the newest packages. The folder in the cache is named after it; remove that to get newer ones.
const RELEASE: &str = "sid";

/// A root folder with a RabbitMQ server in it.
#[derive(Debug, Clone)]
pub struct Chroot {
    /// The folder.
    pub root: PathBuf,
    /// Versions of RabbitMQ and Erlang.
    pub version: String,
}

impl Chroot {
    /// The folder in the cache, made if it is not there: about four minutes.
    ///
    /// # Errors
    /// This is no Debian or Ubuntu machine, or the packages cannot be fetched or installed.
    pub fn of_rabbitmq() -> Result<Self> {
        let root = cache_folder()?.join(format!("rabbitmq-{RELEASE}"));
        let _lock = Lock::of(&root.with_extension("lock"), "another run installs RabbitMQ")?;
        if !root.is_dir() {
            eprintln!("installing RabbitMQ from Debian {RELEASE} into {}: about four minutes", root.display());
            install_missing(&[("debootstrap", "debootstrap"), ("unshare", "util-linux")])?;
            let unfinished = root.with_extension("unfinished");
            if unfinished.exists() {
                std::fs::remove_dir_all(&unfinished).context("remove what an earlier run left")?;
            }
            install(&unfinished)?;
            std::fs::rename(&unfinished, &root).context("keep RabbitMQ")?;
        }
        let query = ["dpkg-query", "--show", "--showformat=${Package} ${Version}, ", "rabbitmq-server", "erlang-base"];
        let version = output_of(Command::new("chroot").arg(&root).args(query))?;
        Ok(Self { root, version: version.trim_end_matches(", ").to_owned() })
    }

    /// What runs RabbitMQ on the folder `data`, with its defaults but for what is in a `rabbitmq.conf` there, and without
    /// the busy waiting that would count as use of the processor. `variables` are `NAME=value`. Its mounts, and the helper
    /// processes that it leaves behind, end with the namespaces, and these with the command.
    #[must_use]
    pub fn server(&self, data: &Path, variables: &[String]) -> Command {
        const SCRIPT: &str = r#"root="$0" data="$1" && shift && mount -t proc proc "$root/proc" &&
            mount --rbind /dev "$root/dev" && mkdir -p "$root/mnt/data" && mount --bind "$data" "$root/mnt/data" &&
            cd / && exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/mnt/data LANG=C.UTF-8 \
            ERL_EPMD_ADDRESS=127.0.0.1 RABBITMQ_NODENAME=rabbit@localhost RABBITMQ_CONFIG_FILE=/mnt/data/rabbitmq.conf \
            RABBITMQ_MNESIA_BASE=/mnt/data/mnesia RABBITMQ_LOG_BASE=/mnt/data/log \
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+sbwt none" "$@" chroot "$root" /usr/lib/rabbitmq/bin/rabbitmq-server"#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--", "sh", "-c", SCRIPT]);
        command.arg(&self.root).arg(data).args(variables);
        command
    }
}

/// A running RabbitMQ with its defaults, on ports of its own. It is killed when the value is dropped.
#[derive(Debug)]
pub struct Server {
    /// The namespaces that it runs in.
    process: Child,
    /// Where it takes AMQP.
    pub address: SocketAddr,
    _folder: TempDir,
}

impl Server {
    /// Starts it on an empty folder, and waits until it answers. `config` is text for its `rabbitmq.conf`.
    ///
    /// # Errors
    /// It ends, or does not answer for two minutes; the error carries what it said.
    pub fn start(chroot: &Chroot, config: &str) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder for RabbitMQ's data")?;
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).context("open the data folder")?;
        let [epmd, node, dist] = free_ports()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, node));
        let config = format!("listeners.tcp.default = {address}\n{config}\n");
        std::fs::write(folder.path().join("rabbitmq.conf"), config).context("write rabbitmq.conf")?;
        let said_path = folder.path().join("said");
        let said = File::create(&said_path).context("make a file for what RabbitMQ says")?;
        let port = |name: &str, port: u16| format!("{name}={port}");
        let ports = [port("ERL_EPMD_PORT", epmd), port("RABBITMQ_NODE_PORT", node), port("RABBITMQ_DIST_PORT", dist)];
        let mut command = chroot.server(folder.path(), &ports);
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let started = Instant::now();
        let mut server = Self { process: command.spawn().context("start RabbitMQ")?, address, _folder: folder };
        while Connection::with_channel(address).is_err() {
            if started.elapsed() > PATIENCE || server.process.try_wait()?.is_some() {
                bail!("RabbitMQ does not answer; it said:\n{}", std::fs::read_to_string(said_path)?);
            }
            std::thread::sleep(LOOK);
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Three ports that nobody uses now. RabbitMQ cannot be told to choose its own.
fn free_ports() -> Result<[u16; 3]> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port");
    let listeners = [bind()?, bind()?, bind()?];
    let port = |listener: &TcpListener| listener.local_addr().map_or(0, |address| address.port());
    Ok([port(&listeners[0]), port(&listeners[1]), port(&listeners[2])])
}

fn install(root: &Path) -> Result<()> {
    std::fs::create_dir_all(root).context("make a folder for RabbitMQ")?;
    output_of(Command::new("debootstrap").args(["--variant=minbase", RELEASE]).arg(root).args(mirror()?))?;
    // RabbitMQ's user has to come in, and no package may start its service.
    std::fs::set_permissions(root, PermissionsExt::from_mode(0o755)).context("open the folder of RabbitMQ")?;
    let policy = root.join("usr/sbin/policy-rc.d");
    std::fs::write(&policy, "#!/bin/sh\nexit 101\n").context("forbid services")?;
    std::fs::set_permissions(&policy, PermissionsExt::from_mode(0o755)).context("forbid services")?;
    std::fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n").context("name loopback")?;
    // The mounts are of a namespace that ends with the command.
    const SCRIPT: &str = r#"mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" &&
        exec chroot "$0" apt-get install --quiet --yes --no-install-recommends rabbitmq-server"#;
    let mut install = Command::new("unshare");
    install.args(["--mount", "--", "sh", "-c", SCRIPT]).arg(root).env("DEBIAN_FRONTEND", "noninteractive");
    output_of(&mut install).map(drop)
}

/// Where this machine gets Debian's packages from, by its own settings; on others than Debian, where debootstrap does.
fn mirror() -> Result<Option<String>> {
    let format = ["indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)", "Created-By: Packages"];
    let targets = output_of(Command::new("apt-get").args(format))?;
    Ok(targets.lines().find_map(|line| line.strip_prefix("Debian Debian ")).map(str::to_owned))
}
