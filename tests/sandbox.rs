//! A network, mounts and process numbers of our own: the ports are free, nothing else is measured, and nothing outlives
//! a run.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::output_of;

/// Set in the environment of a process that is inside.
const INSIDE: &str = "WARREN_INSIDE";

/// Whether this process is inside.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Becomes the same command inside. Returns only if that cannot be.
pub fn enter() -> anyhow::Error {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error.into(),
    };
    let error = inside(program.as_os_str()).args(std::env::args_os().skip(1)).exec();
    anyhow::Error::new(error).context("make namespaces: this needs root and util-linux")
}

/// A command that runs `program` inside. Whatever that leaves behind is killed when it ends, when the command is, and
/// when the thread that started it ends.
pub fn inside(program: &OsStr) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
        ])
        .arg(program);
    command.env(INSIDE, "1");
    command
}

/// Makes loopback work inside.
///
/// # Errors
/// The program `ip` fails.
pub fn furnish() -> Result<()> {
    output_of(Command::new("ip").args(["link", "set", "lo", "up"])).context("bring up loopback")?;
    Ok(())
}
