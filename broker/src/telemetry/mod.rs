//! What the node says on standard error: one line for each event, as text or as JSON, with the fields of the connection
//! it is about.

mod line;

use std::io::{self, IsTerminal, Write};
use std::panic;

use tracing::error;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

use crate::config::{LogFormat, Logging};
use line::{Lines, Style};

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

/// Starts logging to standard error. A panic becomes a line as well.
///
/// # Errors
/// The filter cannot be read.
pub fn init(logging: &Logging) -> Result<(), UnknownFilter> {
    let style = match logging.format {
        LogFormat::Json => Style::Json,
        LogFormat::Text if io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() => Style::Colours,
        LogFormat::Text => Style::Text,
    };
    // One write for each line, so that lines of several threads do not mix. If nobody reads them there is nobody to tell.
    let write = |line: &str| drop(io::stderr().lock().write_all(line.as_bytes()));
    Registry::default().with(filter(&logging.filter)?).with(Lines::new(style, write)).init();
    panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        let message = panic.payload_as_str().unwrap_or("no message");
        error!(location, error = message, "panic");
    }));
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
