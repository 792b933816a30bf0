//! `warren-broker config`: what the settings are and whether they can be used, without starting anything.

use std::io::Write;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::settings::SettingsFlags;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check the settings of file, environment and flags, and the files that they name. Exits with 1 and names every mistake if
    /// there is one.
    #[command(after_help = "Examples:\n  warren-broker config check --config /etc/warren/warren.toml\n  \
                            WARREN_LISTENERS_AMQP=0.0.0.0:5672 warren-broker config check")]
    Check(SettingsFlags),
    /// Print the settings that count, as a file that says the same. There are no secrets among them.
    #[command(after_help = "Examples:\n  warren-broker config show --config /etc/warren/warren.toml --origin\n  \
                            warren-broker config show > warren.toml")]
    Show(Show),
}

#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    settings: SettingsFlags,
    /// Behind each setting, where it comes from: default, file and line, variable or flag.
    #[arg(long)]
    origin: bool,
}

impl ConfigCommand {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let text = match self {
            Self::Check(flags) => {
                let settings = flags.load()?;
                settings.check_files()?;
                for variable in &settings.ignored_variables {
                    eprintln!("warning: {variable}: there is no such setting; the variable is ignored");
                }
                "the settings can be used\n".to_owned()
            }
            Self::Show(Show { settings, origin }) => settings.load()?.show(*origin)?,
        };
        std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
    }
}
