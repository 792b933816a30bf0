//! RabbitMQ from Debian's newest packages, in a folder of its own: nothing is installed on the machine itself.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use warren_tests::command::output_of;
use warren_tests::programs::{Lock, cache_folder, install_missing};

/// The release with the newest packages. The folder in the cache is named after it; remove that to get newer ones.
const RELEASE: &str = "sid";

/// A root folder with a RabbitMQ server in it.
#[derive(Debug, Clone)]
pub(crate) struct Chroot {
    /// The folder.
    pub(crate) root: PathBuf,
    /// Versions of RabbitMQ and Erlang.
    pub(crate) version: String,
}

impl Chroot {
    /// The folder in the cache, made if it is not there: about four minutes.
    ///
    /// # Errors
    /// This is no Debian or Ubuntu machine, or the packages cannot be fetched or installed.
    pub(crate) fn of_rabbitmq() -> Result<Self> {
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
