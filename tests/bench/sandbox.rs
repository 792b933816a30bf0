//! A network and process numbers of our own, so that nothing else is measured, and nothing outlives a run.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};
use warren_tests::command::output_of;

/// Set in the environment of a process that is inside.
const INSIDE: &str = "WARREN_BENCH_INSIDE";

/// Whether this process is inside.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Becomes the same command inside. Returns only if that cannot be.
pub(crate) fn enter() -> anyhow::Error {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error.into(),
    };
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]).arg(program);
    let error = command.args(std::env::args_os().skip(1)).env(INSIDE, "1").exec();
    anyhow::Error::new(error).context("make namespaces: this needs root and util-linux")
}

/// Makes loopback work inside.
///
/// # Errors
/// The program `ip` fails.
pub(crate) fn furnish() -> Result<()> {
    output_of(Command::new("ip").args(["link", "set", "lo", "up"])).context("bring up loopback")?;
    Ok(())
}
