//! `warren-broker hash-password`: a password's hash for a file of definitions.

use std::io::{Read, Write};

use anyhow::Context;
use warren_broker::password_hash;

pub(super) const EXAMPLES: &str =
    "Example:\n  warren-broker hash-password < password.txt\n\nA line end behind the password is not part of it.";

pub(super) fn run() -> anyhow::Result<()> {
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
