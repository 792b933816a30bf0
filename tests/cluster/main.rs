//! `cluster`: brings the test cluster up and down, and talks to it.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use warren_tests::cluster::{Cluster, DEFAULT_NAME, Options, Provider};
use warren_tests::programs::Programs;

/// A real Kubernetes for tests, the demo and benchmarks.
#[derive(Parser)]
struct Arguments {
    /// Which cluster of this machine.
    #[arg(long, global = true, default_value = DEFAULT_NAME)]
    name: String,
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Subcommand)]
enum Deed {
    /// Bring the cluster up; one that runs stays as it is.
    Up {
        /// How many nodes, 1 to 9.
        #[arg(long, default_value_t = 1)]
        nodes: u8,
        /// Who runs the nodes; kind where it works, if not given.
        #[arg(long)]
        provider: Option<Provider>,
    },
    /// End the cluster and remove all it stored. None there is no error.
    Down,
    /// Say whether the cluster runs, and show its nodes.
    Status,
    /// Load an image archive into every node.
    LoadImage {
        /// The tar file.
        archive: PathBuf,
    },
    /// Run kubectl against the cluster.
    #[command(disable_help_flag = true)]
    Kubectl {
        /// Passed on as they are.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run helm against the cluster.
    #[command(disable_help_flag = true)]
    Helm {
        /// Passed on as they are.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Print the path of the kubeconfig file.
    Kubeconfig,
    /// Print the address at which NodePorts answer.
    NodeAddress,
    /// Build the programs of the local provider, if they are not in the cache, and print their folder.
    Programs,
}

fn main() -> Result<ExitCode> {
    let Arguments { name, deed } = Arguments::parse();
    match deed {
        Deed::Up { nodes, provider } => up(Options { name, nodes, provider })?,
        Deed::Down => Cluster::down(&name)?,
        Deed::Status => print(Cluster::connect(&name)?.kubectl(&["get", "nodes", "-o", "wide"])?.trim_end())?,
        Deed::LoadImage { archive } => Cluster::connect(&name)?.load_image(&archive)?,
        Deed::Kubectl { arguments } => return client(&name, "kubectl", &arguments),
        Deed::Helm { arguments } => return client(&name, "helm", &arguments),
        Deed::Kubeconfig => print(Cluster::connect(&name)?.kubeconfig().display())?,
        Deed::NodeAddress => print(Cluster::connect(&name)?.node_address()?)?,
        Deed::Programs => print(Programs::cluster()?.bin().display())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn up(options: Options) -> Result<()> {
    let start = Instant::now();
    let cluster = Cluster::up(&options)?;
    eprintln!("cluster {} is ready after {:.1} s", options.name, start.elapsed().as_secs_f64());
    print(format_args!("export KUBECONFIG={}", cluster.kubeconfig().display()))?;
    print(format_args!("export PATH={}:$PATH", cluster.bin().display()))
}

/// Runs a program with this terminal and ends like it.
fn client(cluster: &str, program: &str, arguments: &[String]) -> Result<ExitCode> {
    let cluster = Cluster::connect(cluster)?;
    let status = cluster.client(program).args(arguments).status().with_context(|| format!("cannot start {program}"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(line: impl std::fmt::Display) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").context("write to standard output")
}
