//! The command line: a file per command.

mod config;
mod hash_password;
mod serve;
mod settings;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use config::ConfigCommand;
use settings::SettingsFlags;

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
        Command::HashPassword => hash_password::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
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
    fn the_commands_are_well_formed() {
        command().debug_assert();
    }
}
