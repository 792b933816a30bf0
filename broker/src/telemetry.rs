//! Where log lines go and how they look.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why a filter cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is no filter: use a level, which is off, error, warn, info, debug or trace, or directives such as \
     warn,warren_broker=debug"
)]
struct UnknownFilter(String);

/// A bare word has to be a level: as the name of a module, which it could also be, it would silence everything.
fn known_level(filter: &str) -> anyhow::Result<&str> {
    let is_word = filter.chars().all(|character| character.is_ascii_alphabetic());
    anyhow::ensure!(!is_word || filter.parse::<LevelFilter>().is_ok(), UnknownFilter(filter.to_owned()));
    Ok(filter)
}

/// Starts logging to standard error. `filter` is a level such as `info`, or directives such as
/// `warn,warren_broker=debug`.
///
/// # Errors
/// The filter cannot be read.
pub fn init(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    // The library's reason does not say which part of the filter it means.
    let filter = EnvFilter::try_new(known_level(filter)?).map_err(|_| UnknownFilter(filter.to_owned()))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_refused_and_directives_are_not() {
        assert!(known_level("inof").is_err());
        for filter in ["info", "OFF", "warn,warren_broker=debug", "warren_broker=trace"] {
            assert!(known_level(filter).is_ok(), "{filter}");
        }
    }
}
