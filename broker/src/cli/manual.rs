//! `warren-broker completions` and `warren-broker man`: what shells and people read about the commands, made from them.

use std::io::Write;

use anyhow::Context;
use clap_complete::Shell;

const NAME: &str = "warren-broker";

/// Prints the shell's completions of all commands and flags.
pub(super) fn completions(shell: Shell, mut command: clap::Command) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, NAME, &mut text);
    print(&text)
}

/// Prints one manual page with all commands, in roff.
pub(super) fn man(command: clap::Command) -> anyhow::Result<()> {
    let mut text = Vec::new();
    let mut command = command.name(NAME);
    command.build();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    sections(NAME, &command, &mut text)?;
    print(&text)
}

/// A section for each of the command's subcommands, and for theirs.
fn sections(name: &str, command: &clap::Command, text: &mut Vec<u8>) -> anyhow::Result<()> {
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        if subcommand.get_name() == "help" {
            continue;
        }
        let title = format!("{name} {}", subcommand.get_name());
        writeln!(text, ".SH \"{}\"", title.to_uppercase())?;
        let page = clap_mangen::Man::new(subcommand.clone());
        page.render_description_section(text)?;
        page.render_synopsis_section(text)?;
        page.render_options_section(text)?;
        page.render_extra_section(text)?;
        sections(&title, subcommand, text)?;
    }
    Ok(())
}

fn print(text: &[u8]) -> anyhow::Result<()> {
    std::io::stdout().write_all(text).context("cannot write to standard output")
}
