//! Runs other programs and says which one failed, how, and what it printed.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs `command` to its end and returns what it wrote to standard output.
///
/// # Errors
/// The program cannot be started, or ends with a failure; the error carries the command line and its standard error.
pub fn output_of(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| cannot_start(command))?;
    if !output.status.success() {
        bail!("{} failed ({}): {}", line(command), output.status, said(&output.stdout, &output.stderr));
    }
    String::from_utf8(output.stdout).with_context(|| format!("{} printed bytes that are not UTF-8", line(command)))
}

/// Like [`output_of`], with the contents of `input` as standard input.
pub(crate) fn output_with_input(command: &mut Command, input: File) -> Result<String> {
    let child = command
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| cannot_start(command))?;
    let output = child.wait_with_output().with_context(|| format!("wait for {}", line(command)))?;
    if !output.status.success() {
        bail!("{} failed ({}): {}", line(command), output.status, said(&output.stdout, &output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether `program` is in one of the folders of the search path.
pub(crate) fn is_installed(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

/// The last lines of a log, indented, for an error message. Empty when there is none.
pub fn tail(log: &Path) -> String {
    const LINES: usize = 15;
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(LINES);
    lines[first..].iter().map(|line| format!("\n    {line}")).collect()
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start {}: is it installed?", line(command))
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// What a failed program said: its errors, or, for programs that report on standard output, that.
fn said<'a>(stdout: &'a [u8], stderr: &'a [u8]) -> std::borrow::Cow<'a, str> {
    String::from_utf8_lossy(if stderr.is_empty() { stdout } else { stderr }.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let error = output_of(Command::new("sh").args(["-c", "echo reason >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh -c echo reason") && error.contains("exit status: 3"), "{error}");
        assert!(error.ends_with(": reason"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = output_of(&mut Command::new("warren-no-such-program")).unwrap_err().to_string();
        assert!(error.contains("warren-no-such-program"), "{error}");
    }
}
