//! The provider for machines with Docker: kind runs every node in a container.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Options;
use crate::command::{is_installed, output_of};

/// A running kind cluster.
#[derive(Debug)]
pub(super) struct KindCluster {
    name: String,
    folder: PathBuf,
}

/// Whether Docker's engine answers and kind is installed.
pub(super) fn is_available() -> bool {
    is_installed("kind") && is_installed("docker") && output_of(Command::new("docker").arg("version")).is_ok()
}

impl KindCluster {
    /// Brings the cluster up; one that runs stays as it is. Its kubeconfig goes into `folder`.
    ///
    /// # Errors
    /// kind fails, for example because the node image cannot be fetched.
    pub(super) fn up(folder: &Path, options: &Options) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let cluster = Self { name: kind_name(&options.name), folder: folder.to_owned() };
        if !cluster.is_running()? {
            let config = folder.join("kind.yaml");
            std::fs::write(&config, config_with(options.nodes)).context("write the kind configuration")?;
            let mut kind = cluster.kind(&["create", "cluster", "--wait", "120s"]);
            output_of(kind.arg("--config").arg(&config).arg("--kubeconfig").arg(cluster.kubeconfig()))?;
        }
        output_of(cluster.kind(&["export", "kubeconfig"]).arg("--kubeconfig").arg(cluster.kubeconfig()))?;
        Ok(cluster)
    }

    /// Finds the running cluster that was brought up with this folder and name.
    pub(super) fn connect(folder: &Path, name: &str) -> Result<Self> {
        let cluster = Self { name: kind_name(name), folder: folder.to_owned() };
        anyhow::ensure!(cluster.is_running()?, "there is no cluster {name}");
        Ok(cluster)
    }

    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.folder.join(KUBECONFIG)
    }

    /// Address of the first node's container, where every NodePort answers.
    pub(super) fn node_address(&self) -> Result<Ipv4Addr> {
        const FORMAT: &str = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let container = format!("{}-control-plane", self.name);
        let printed = output_of(Command::new("docker").args(["inspect", "--format", FORMAT, &container]))?;
        printed.trim().parse().with_context(|| format!("docker says that {container} has the address {printed:?}"))
    }

    pub(super) fn load_image(&self, archive: &Path) -> Result<()> {
        output_of(self.kind(&["load", "image-archive"]).arg(archive)).map(drop)
    }

    fn is_running(&self) -> Result<bool> {
        let clusters = output_of(Command::new("kind").args(["get", "clusters"]))?;
        Ok(clusters.lines().any(|line| line == self.name))
    }

    fn kind(&self, words: &[&str]) -> Command {
        let mut command = Command::new("kind");
        command.args(words).args(["--name", &self.name]);
        command
    }
}

const KUBECONFIG: &str = "kind.kubeconfig";

/// Removes the cluster that was brought up with this folder, if there is one.
pub(super) fn down(folder: &Path, name: &str) -> Result<()> {
    if exists(folder) {
        output_of(Command::new("kind").args(["delete", "cluster", "--name", &kind_name(name)]))?;
        std::fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    Ok(())
}

/// Whether a kind cluster was brought up, or begun, with this folder.
pub(super) fn exists(folder: &Path) -> bool {
    folder.join("kind.yaml").exists()
}

/// kind's names are seen by all users of the machine's Docker.
fn kind_name(name: &str) -> String {
    format!("warren-{name}")
}

fn config_with(nodes: u8) -> String {
    let workers = "- role: worker\n".repeat(usize::from(nodes.saturating_sub(1)));
    format!("kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n- role: control-plane\n{workers}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_node_is_the_control_plane() {
        let roles = |nodes| config_with(nodes).lines().filter(|line| line.starts_with("- role")).count();
        assert_eq!((roles(1), roles(3)), (1, 3));
        assert!(config_with(3).contains("- role: control-plane\n- role: worker\n- role: worker\n"));
    }
}
