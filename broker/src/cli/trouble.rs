//! What goes wrong with a command, in words that help, and what goes in and out of it.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;

/// What went wrong, why, and what to do; with the exit code that says the same.
#[derive(Debug)]
pub(super) struct Trouble {
    /// What was to be done.
    what: String,
    why: String,
    hint: String,
    /// See [`EXIT_CODES`].
    pub(super) code: u8,
}

pub(super) const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 the operation failed or the node is not well, 2 usage, 3 not found, 4 conflict, 5 not allowed, \
6 not reachable, 7 no answer in time.";

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}\nhint: {}", self.what, self.why, self.hint)
    }
}

impl std::error::Error for Trouble {}

impl Trouble {
    /// The node answers, and says that something is wrong with it.
    pub(super) fn unwell(why: String, hint: &str) -> Self {
        Self::new("the node is not well", 1, why, hint)
    }

    /// Standard input cannot be read, or standard output not be written.
    pub(super) fn of_stream(what: &str, error: &io::Error) -> Self {
        Self::new(what, 1, error, "look where standard input comes from and where standard output goes")
    }

    pub(super) fn new(what: &str, code: u8, why: impl fmt::Display, hint: &str) -> Self {
        Self { what: what.to_owned(), why: why.to_string(), hint: hint.to_owned(), code }
    }
}

/// Prints an answer.
pub(super) fn print(octets: &[u8]) -> Result<(), Trouble> {
    let written = io::stdout().lock().write_all(octets);
    written.map_err(|error| Trouble::of_stream("the answer cannot be written to standard output", &error))
}

/// What a file holds, or standard input if it is `-`. `name`: what a file is to be named for.
pub(super) fn read(what: &str, file: &Path, name: &str) -> Result<Vec<u8>, Trouble> {
    if file.as_os_str() == "-" {
        let mut octets = Vec::new();
        let read = io::stdin().lock().read_to_end(&mut octets);
        return read.map(|_| octets).map_err(|error| Trouble::of_stream(what, &error));
    }
    std::fs::read(file).map_err(|error| {
        let why = format!("{} cannot be read: {error}", file.display());
        Trouble::new(what, 2, why, &format!("name a file that is there and that you may read, with {name}"))
    })
}
