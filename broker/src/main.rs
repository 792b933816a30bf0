//! The `warren-broker` program.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use warren_broker::telemetry::{self, LogFormat};
use warren_broker::{Config, Node, password_hash};

/// An AMQP 0-9-1 broker: RabbitMQ's clients work unchanged, and a confirm means that the message is on disk.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a broker. Without flags it keeps its data in ./warren-data, listens on this host only, and lets `guest` in.
    #[command(after_help = AFTER_HELP)]
    Serve(Serve),
    /// Read a password from standard input and print its hash, as a user in a file of definitions has it.
    #[command(
        after_help = "Example:\n  warren-broker hash-password < password.txt\n\nA line end behind the password is not part of it."
    )]
    HashPassword,
}

const AFTER_HELP: &str = "\
Examples:
  warren-broker serve
  warren-broker serve --config /etc/warren/warren.toml
  warren-broker serve --data-dir /tmp/warren --amqp 127.0.0.1:5673 --metrics 127.0.0.1:0

docs/configuration.md describes every setting; docs/definitions.md has an example of a file of definitions.";

#[derive(Debug, Args)]
struct Serve {
    /// TOML file with settings; flags override it. Keys: data_dir, max_message_bytes, definitions (a JSON file as RabbitMQ
    /// exports it: virtual hosts, users, rights, policies, queues), listeners.amqp (a list), listeners.amqps (a list),
    /// listeners.metrics, tls.certificate, tls.key, tls.ca, tls.client_certificates, log.segment_bytes,
    /// log.checkpoint_bytes, default_user.name_file, default_user.password_file. Default: no file.
    #[arg(long, value_name = "FILE", env = "WARREN_CONFIG")]
    config: Option<PathBuf>,
    /// Folder for the data; made if it is not there. Default: ./warren-data.
    #[arg(long, value_name = "FOLDER", env = "WARREN_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Address for AMQP; may be given more than once. Port 0 takes a free port. Default: 127.0.0.1:5672 and [::1]:5672.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = socket_address)]
    amqp: Vec<SocketAddr>,
    /// Address for /livez, /readyz and /metrics. Default: 127.0.0.1:15692.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = socket_address)]
    metrics: Option<SocketAddr>,
    /// How log lines look.
    #[arg(long, value_enum, default_value = "text", env = "WARREN_LOG_FORMAT")]
    log_format: LogFormat,
    /// What to log: a level, or directives such as `warn,warren_broker=debug`.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "WARREN_LOG")]
    log: String,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(serve) => run(serve),
        Command::HashPassword => hash_password(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(serve: Serve) -> anyhow::Result<()> {
    telemetry::init(serve.log_format, &serve.log).context("--log cannot be read")?;
    let config = serve.into_config()?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let node = Node::start(config).await?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        node.stop().await;
        Ok(())
    })
}

fn hash_password() -> anyhow::Result<()> {
    let mut password = Vec::new();
    std::io::stdin().read_to_end(&mut password).context("the password cannot be read from standard input")?;
    while matches!(password.last(), Some(b'\n' | b'\r')) {
        password.pop();
    }
    anyhow::ensure!(
        !password.is_empty(),
        "there is no password on standard input; nobody can log in with an empty one"
    );
    writeln!(std::io::stdout(), "{}", password_hash(&password)).context("the hash cannot be written to standard output")
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| String::from("give an IP address and a port, such as 127.0.0.1:5672 or [::1]:5672"))
}

impl Serve {
    fn into_config(self) -> anyhow::Result<Config> {
        let mut config = Config::load(self.config.as_deref())?;
        if let Some(data_dir) = self.data_dir {
            config.data_dir = data_dir;
        }
        if !self.amqp.is_empty() {
            config.listeners.amqp = self.amqp;
        }
        if let Some(metrics) = self.metrics {
            config.listeners.metrics = metrics;
        }
        Ok(config.checked()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// The keys of a table and of the tables in it, with dots.
    fn keys(table: &toml::Table) -> Vec<String> {
        let of = |(key, value): (&String, &toml::Value)| match value {
            toml::Value::Table(inner) => keys(inner).into_iter().map(|inner| format!("{key}.{inner}")).collect(),
            _ => vec![key.clone()],
        };
        table.iter().flat_map(of).collect()
    }

    #[test]
    fn the_help_names_every_setting_variable_and_default() {
        let mut cli = Cli::command();
        let help = cli.find_subcommand_mut("serve").expect("a command").render_long_help().to_string();
        let words: Vec<_> = help.split([' ', '\n', ',', ';', '(']).map(|word| word.trim_end_matches('.')).collect();
        let text = include_str!("../../docs/configuration.md");
        let example = text.split("```").nth(1).and_then(|block| block.strip_prefix("toml")).expect("an example");
        let keys = keys(&example.parse().expect("valid"));
        assert!(keys.len() > 10, "{keys:?}");
        for key in &keys {
            assert!(words.contains(&key.as_str()), "{key} is not in: {help}");
        }
        for word in ["WARREN_CONFIG", "WARREN_DATA_DIR", "WARREN_LOG", "WARREN_LOG_FORMAT", "docs/configuration.md"] {
            assert!(help.contains(word), "{word} is not in: {help}");
        }
        let defaults = Config::default();
        let addresses = defaults.listeners.amqp.iter().chain([&defaults.listeners.metrics]);
        for address in addresses {
            assert!(help.contains(&address.to_string()), "{address} is not in: {help}");
        }
    }
}
