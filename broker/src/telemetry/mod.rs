//! What the node says on standard error: one line for each event, as text or as JSON, with the fields of the connection
//! it is about.

mod line;
mod stderr;
pub(crate) mod traces;

use std::io::{self, IsTerminal};
use std::time::Duration;
use std::{panic, process, thread};

use prometheus::IntCounter;

use tracing::error;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

use crate::config::{LogFormat, Logging};
use line::{Lines, Style};
use stderr::STDERR;

/// How long the end of the process waits for lines to be read.
const LAST_LINES: Duration = Duration::from_secs(1);

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

/// Why nothing can be logged.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter cannot be read.
    #[error(transparent)]
    Filter(#[from] UnknownFilter),
    /// The system has no thread for it.
    #[error("cannot start the thread that writes the log: {0}")]
    Thread(#[from] io::Error),
}

/// Logging that goes on. When it is dropped, what was said before has been written, if somebody reads it.
#[derive(Debug)]
#[must_use]
pub struct Telemetry(());

impl Drop for Telemetry {
    fn drop(&mut self) {
        flush();
    }
}

/// Waits until what was logged has been written; not for long, if nobody reads it.
pub fn flush() {
    STDERR.flush(LAST_LINES);
}

/// Ends the process at once, but for the lines that say why.
pub(crate) fn abort() -> ! {
    flush();
    process::abort()
}

/// Lines that were dropped because nobody read them.
pub(crate) fn dropped_lines() -> IntCounter {
    STDERR.dropped.clone()
}

/// Starts logging to standard error. A panic becomes a line as well.
///
/// # Errors
/// The filter cannot be read, or no thread can be started.
pub fn init(logging: &Logging) -> Result<Telemetry, LoggingError> {
    let style = match logging.format {
        LogFormat::Json => Style::Json,
        LogFormat::Text if io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() => Style::Colours,
        LogFormat::Text => Style::Text,
    };
    let filter = filter(&logging.filter)?;
    thread::Builder::new().name("stderr".to_owned()).spawn(|| STDERR.write_to(io::stderr()))?;
    Registry::default().with(filter).with(Lines::new(style, |line: &str| STDERR.push(line))).init();
    panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        let message = panic.payload_as_str().unwrap_or("no message");
        error!(location, error = message, "panic");
    }));
    Ok(Telemetry(()))
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
