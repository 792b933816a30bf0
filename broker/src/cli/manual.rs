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
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        let title = format!("{NAME} {}", subcommand.get_name());
        writeln!(text, ".SH \"{}\"", title.to_uppercase())?;
        let page = clap_mangen::Man::new(subcommand.clone());
        page.render_description_section(&mut text)?;
        page.render_synopsis_section(&mut text)?;
        page.render_options_section(&mut text)?;
        page.render_extra_section(&mut text)?;
    }
    print(&text)
}

fn print(text: &[u8]) -> anyhow::Result<()> {
    std::io::stdout().write_all(text).context("cannot write to standard output")
}
