//! A real Kubernetes for tests, the demo and benchmarks: API server, StatefulSet controller, scheduler, kubelet.
//!
//! Two providers do the same job. **kind** is taken where Docker's engine answers and kind is installed; otherwise
//! **local** runs every part as a process of this machine, in namespaces of its own, as root. Both have names for
//! Services, a default StorageClass that makes volumes, RBAC and Pod Security admission. The local one differs from a
//! cluster in a data centre in this: nothing enforces NetworkPolicy, there is no metrics API, and pods cannot reach
//! anything outside the cluster but this machine.
//!
//! All a local cluster has is in `cluster/<name>` of the [cache](crate::programs::cache_folder): the logs of its programs
//! are `control/*.log` and `node-<number>/*.log`, what pods store is in `control/volumes`.

mod cgroup;
mod container;
mod control;
mod kind;
mod local;
mod namespace;
mod network;
mod node;
mod pki;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command::output_of;
use crate::programs::{Programs, cache_folder};
pub use container::{Container, Cut};
use kind::KindCluster;
use local::LocalCluster;

/// What to bring up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Tells clusters of one machine apart: 1 to 30 lower-case letters, digits and hyphens, a letter first.
    pub name: String,
    /// How many nodes, from 1; at most 9 with the local provider. kind's first node is also its control plane.
    pub nodes: u8,
    /// Which provider, or none to take kind where it works.
    pub provider: Option<Provider>,
}

impl Default for Options {
    fn default() -> Self {
        Self { name: DEFAULT_NAME.to_owned(), nodes: 1, provider: None }
    }
}

/// The cluster that is meant where no name is given.
pub const DEFAULT_NAME: &str = "warren";

/// Who runs the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Provider {
    /// Containers of Docker, by kind.
    Kind,
    /// Processes of this machine.
    Local,
}

/// A running cluster. Dropping the value leaves the cluster running; [`Cluster::down`] ends it.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    programs: Programs,
    kubeconfig: PathBuf,
    running: Running,
}

#[derive(Debug)]
enum Running {
    Kind(KindCluster),
    Local(LocalCluster),
}

impl Cluster {
    /// Brings a cluster up and returns when all nodes are ready. One that runs already is used as it is.
    ///
    /// The first time on a machine this builds Kubernetes, which takes 10 to 15 minutes on two processors.
    ///
    /// # Errors
    /// The options are out of range, a program is missing or fails; the error shows the end of the failed program's log.
    pub fn up(options: &Options) -> Result<Self> {
        let folder = folder_of(&options.name)?;
        match (options.provider, provider_of(&folder)) {
            (Some(asked), Some(present)) if asked != present => {
                bail!("the cluster {} exists with the provider {present:?}: take it down first", options.name)
            }
            (Some(Provider::Kind), _) | (None, Some(Provider::Kind)) => Self::up_kind(&folder, options),
            (Some(Provider::Local), _) | (None, Some(Provider::Local)) => Self::up_local(&folder, options),
            (None, None) if kind::is_available() => Self::up_kind(&folder, options).or_else(|error| {
                eprintln!("kind cannot run a cluster here, so it runs as processes of this machine: {error:#}");
                kind::down(&folder, &options.name)?;
                Self::up_local(&folder, options)
            }),
            (None, None) => Self::up_local(&folder, options),
        }
    }

    fn up_kind(folder: &Path, options: &Options) -> Result<Self> {
        let programs = Programs::clients()?;
        Ok(Self::of(&options.name, programs, Running::Kind(KindCluster::up(folder, options)?)))
    }

    fn up_local(folder: &Path, options: &Options) -> Result<Self> {
        let programs = Programs::cluster()?;
        let running = LocalCluster::up(folder, options, &programs)?;
        Ok(Self::of(&options.name, programs, Running::Local(running)))
    }

    /// Finds a cluster that was brought up earlier, by this or another process.
    ///
    /// # Errors
    /// There is none of this name, or some of its programs have ended.
    pub fn connect(name: &str) -> Result<Self> {
        let folder = folder_of(name)?;
        match provider_of(&folder) {
            Some(Provider::Kind) => {
                Ok(Self::of(name, Programs::clients()?, Running::Kind(KindCluster::connect(&folder, name)?)))
            }
            Some(Provider::Local) => {
                Ok(Self::of(name, Programs::cluster()?, Running::Local(LocalCluster::connect(&folder, name)?)))
            }
            None => bail!("there is no cluster {name}: bring it up first"),
        }
    }

    /// Ends the cluster `name`, also one that was left half up by a crash, and removes everything it stored. Nothing that
    /// it did not start is touched. No such cluster is no error.
    ///
    /// # Errors
    /// A process does not end, or a file cannot be removed.
    pub fn down(name: &str) -> Result<()> {
        let folder = folder_of(name)?;
        local::down(&folder, name)?;
        kind::down(&folder, name)
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A kubeconfig file of a user who may do everything.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The folder with kubectl and helm.
    pub fn bin(&self) -> &Path {
        self.programs.bin()
    }

    /// Address of a node where NodePorts answer, reachable from this machine.
    ///
    /// # Errors
    /// Docker does not say which address the node's container has.
    pub fn node_address(&self) -> Result<Ipv4Addr> {
        match &self.running {
            Running::Kind(cluster) => cluster.node_address(),
            Running::Local(cluster) => Ok(cluster.node_address()),
        }
    }

    /// Loads an image archive, as [`crate::image`] and `docker save` write it, into every node.
    ///
    /// # Errors
    /// The file cannot be read or is no image archive.
    pub fn load_image(&self, archive: &Path) -> Result<()> {
        match &self.running {
            Running::Kind(cluster) => cluster.load_image(archive),
            Running::Local(cluster) => cluster.load_image(&self.programs, archive),
        }
    }

    /// Runs kubectl as an administrator and returns what it printed.
    ///
    /// # Errors
    /// It fails; the error carries what it said.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        output_of(self.client("kubectl").args(arguments))
    }

    /// Runs helm as an administrator and returns what it printed.
    ///
    /// # Errors
    /// It fails; the error carries what it said.
    pub fn helm(&self, arguments: &[&str]) -> Result<String> {
        output_of(self.client("helm").args(arguments))
    }

    /// Applies manifests given as text, YAML or JSON.
    ///
    /// # Errors
    /// The API server refuses one; the error carries its sentence.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        use std::io::Write;
        let mut kubectl = self
            .client("kubectl")
            .args(["apply", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start kubectl")?;
        kubectl.stdin.take().context("kubectl has an input")?.write_all(manifests.as_bytes())?;
        let output = kubectl.wait_with_output().context("wait for kubectl")?;
        if !output.status.success() {
            bail!("kubectl apply failed: {}", String::from_utf8_lossy(output.stderr.trim_ascii()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A command for the program `name` of [`Self::bin`] that talks to this cluster and keeps its own cache beside it.
    pub fn client(&self, name: &str) -> Command {
        client(&self.programs, name, &self.kubeconfig)
    }

    fn of(name: &str, programs: Programs, running: Running) -> Self {
        let kubeconfig = match &running {
            Running::Kind(cluster) => cluster.kubeconfig(),
            Running::Local(cluster) => cluster.kubeconfig(),
        };
        Self { name: name.to_owned(), programs, kubeconfig, running }
    }
}

fn client(programs: &Programs, name: &str, kubeconfig: &Path) -> Command {
    let mut command = Command::new(programs.path(name));
    command.env("KUBECONFIG", kubeconfig);
    for variable in ["KUBECACHEDIR", "HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(variable, kubeconfig.with_file_name("client-cache"));
    }
    command
}

/// Who runs the cluster whose folder this is, if there is one.
fn provider_of(folder: &Path) -> Option<Provider> {
    if local::exists(folder) { Some(Provider::Local) } else { kind::exists(folder).then_some(Provider::Kind) }
}

fn folder_of(name: &str) -> Result<PathBuf> {
    let is_label = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    if !is_label(name) || name.len() > 30 {
        bail!("{name:?} cannot name a cluster: 1 to 30 lower-case letters, digits and hyphens, a letter first");
    }
    Ok(cache_folder()?.join("cluster").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_folder_below_the_cache() {
        for name in ["warren", "a", "demo-2"] {
            assert!(folder_of(name).unwrap().ends_with(Path::new("cluster").join(name)));
        }
        for name in ["", "..", "a/b", "Warren", "2a", "-a", "a.b", &"a".repeat(31)] {
            assert!(folder_of(name).is_err(), "{name:?}");
        }
    }
}
