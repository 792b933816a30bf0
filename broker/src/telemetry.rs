//! Where log lines go and how they look.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::{LogFormat, Logging};

/// Why a filter cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?}: use a level, which is off, error, warn, info, debug or trace, or directives such as warn,warren_broker=debug"
)]
pub struct UnknownFilter(String);

/// Reads a filter. A bare word has to be a level: as the name of a module, which it could also be, it would silence
/// everything.
///
/// # Errors
/// It is no filter.
pub(crate) fn filter(text: &str) -> Result<EnvFilter, UnknownFilter> {
    let unknown = || UnknownFilter(text.to_owned());
    let is_word = text.chars().all(|character| character.is_ascii_alphabetic());
    if is_word && text.parse::<LevelFilter>().is_err() {
        return Err(unknown());
    }
    // The library's reason does not say which part of the filter it means.
    EnvFilter::try_new(text).map_err(|_| unknown())
}

/// Starts logging to standard error.
///
/// # Errors
/// The filter cannot be read.
pub fn init(logging: &Logging) -> Result<(), UnknownFilter> {
    let builder = tracing_subscriber::fmt().with_env_filter(filter(&logging.filter)?).with_writer(io::stderr);
    match logging.format {
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
        assert!(filter("inof").is_err());
        for text in ["info", "OFF", "warn,warren_broker=debug", "warren_broker=trace"] {
            assert!(filter(text).is_ok(), "{text}");
        }
    }
}
