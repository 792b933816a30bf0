//! The command line: a file per command.

mod api;
mod config;
mod hash_password;
mod log;
mod manual;
mod remote;
mod serve;
mod settings;
mod tls;
mod trouble;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use config::ConfigCommand;
use log::LogCommand;
use settings::SettingsFlags;
use warren_broker::config::ConfigError;

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
    #[command(after_help = serve::EXAMPLES)]
    Serve(SettingsFlags),
    /// Check the settings, or show those that count.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Say what a running node is like, on one screen.
    #[command(after_help = remote::STATUS_EXAMPLES, after_long_help = format!("{}\n\n{}", remote::STATUS_EXAMPLES, trouble::EXIT_CODES))]
    Status(remote::Status),
    /// Say whether a running node is well: it is in service and no alarm is in effect. Exits with 1 if not.
    #[command(after_help = remote::HEALTH_EXAMPLES, after_long_help = format!("{}\n\n{}", remote::HEALTH_EXAMPLES, trouble::EXIT_CODES))]
    Health(remote::Status),
    /// Export or import what is declared on a running node.
    #[command(subcommand)]
    Definitions(remote::Definitions),
    /// Look at the log of a node that is stopped, or runs meanwhile.
    #[command(subcommand)]
    Log(LogCommand),
    /// Print completions for a shell.
    #[command(after_help = "Example:\n  warren-broker completions bash > /etc/bash_completion.d/warren-broker")]
    Completions {
        /// bash, elvish, fish, powershell or zsh.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    #[command(after_help = "Example:\n  warren-broker man > /usr/share/man/man1/warren-broker.1")]
    Man,
    /// Read a password from standard input and print its hash, as a user in a file of definitions has it.
    #[command(after_help = hash_password::EXAMPLES)]
    HashPassword,
}

/// Does what the command line says.
pub(crate) fn run() -> ExitCode {
    let matches = command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let result = match cli.command {
        Command::Serve(flags) => serve::run(&flags),
        Command::Config(command) => command.run(),
        Command::Status(status) => status.status(),
        Command::Health(status) => status.health(),
        Command::Definitions(command) => command.run(),
        Command::Log(command) => command.run(),
        Command::Completions { shell } => manual::completions(shell, command()),
        Command::Man => manual::man(command()),
        Command::HashPassword => hash_password::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", said(&error));
            error.downcast_ref().map_or(ExitCode::FAILURE, |trouble: &trouble::Trouble| ExitCode::from(trouble.code))
        }
    }
}

/// What is printed of an error: a line for each mistake in the settings, otherwise the error with its causes. Many errors say
/// their cause themselves; it is not said twice.
fn said(error: &anyhow::Error) -> String {
    if let Some(ConfigError::Invalid(mistakes)) = error.downcast_ref() {
        return mistakes.lines().map(|line| format!("error: {line}")).collect::<Vec<_>>().join("\n");
    }
    error.chain().fold(String::new(), |said, cause| match cause.to_string() {
        cause if said.is_empty() => format!("error: {cause}"),
        cause if said.contains(&cause) => said,
        cause => format!("{said}: {cause}"),
    })
}

/// The commands with their help, to which the settings are added as the types have them.
fn command() -> clap::Command {
    let settings = warren_broker::config::overview();
    let help = format!("{}\n\nSettings, their variables and defaults:\n{settings}", serve::EXAMPLES);
    Cli::command().mut_subcommand("serve", |serve| serve.after_long_help(help))
}

#[cfg(test)]
mod tests {
    use super::*;
    use warren_broker::Config;

    #[test]
    fn the_help_names_every_setting_variable_and_default() {
        let help = command().find_subcommand_mut("serve").expect("a command").render_long_help().to_string();
        let overview = warren_broker::config::overview();
        assert!(help.contains(&overview) && overview.lines().count() > 10, "{help}");
        for word in ["WARREN_CONFIG", "WARREN_DATA_DIR", "WARREN_LOGGING_FILTER", "docs/configuration.md"] {
            assert!(help.contains(word), "{word} is not in: {help}");
        }
        let defaults = Config::default();
        for address in
            defaults.listeners.amqp.iter().chain([&defaults.listeners.metrics, &defaults.listeners.management])
        {
            assert!(help.contains(&address.to_string()), "{address} is not in: {help}");
        }
    }

    #[test]
    fn a_cause_that_an_error_says_itself_is_not_said_twice() {
        let cause = || std::io::Error::other("the disk is gone");
        let error = anyhow::Error::new(cause()).context("cannot read x: the disk is gone").context("cannot start");
        assert_eq!(said(&error), "error: cannot start: cannot read x: the disk is gone");
        let error = anyhow::Error::new(cause()).context("cannot start");
        assert_eq!(said(&error), "error: cannot start: the disk is gone");
    }

    #[test]
    fn the_commands_are_well_formed() {
        command().debug_assert();
    }
}
