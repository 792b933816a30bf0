//! `warren-operator`: reconciles MessageQueue resources into brokers.

use std::io::Write;

use anyhow::Context;
use clap::{Parser, Subcommand};
use warren_operator::config::Config;
use warren_operator::{api, run, telemetry};

/// The Kubernetes operator of the Warren message queue.
#[derive(Parser)]
#[command(name = "warren-operator", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Reconcile MessageQueues until SIGTERM or SIGINT.
    Run(Box<Config>),
    /// Print the CustomResourceDefinitions as YAML.
    Crds,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Run(config) => {
            telemetry::start(&config.log, config.log_format).context("--log is not a filter such as `info`")?;
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            Ok(runtime.block_on(run::run(*config))?)
        }
        Command::Crds => Ok(std::io::stdout().write_all(api::crds_yaml()?.as_bytes())?),
    }
}
