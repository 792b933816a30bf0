//! `suite`: runs the named parts of the tests one after the other, counts what passed, and ends with
//! `<N> passed, <M> failed`. Every part is a command that a person could type; it is shown before it runs.

mod part;
mod tool;

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Parser;

use part::{Part, Tally};

/// Run parts of the tests and count what passed.
#[derive(Parser)]
struct Arguments {
    /// Parts, in the order they run: a name of `--list`, or `check` or `all` for several.
    #[arg(required_unless_present = "list")]
    parts: Vec<String>,
    /// Say which parts there are.
    #[arg(long)]
    list: bool,
}

fn main() -> Result<ExitCode> {
    let Arguments { parts, list } = Arguments::parse();
    let known = part::all();
    if list {
        for part in &known {
            say(&format!("{:<12} {}", part.name, part.purpose))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = choose(&known, &parts)?;
    let mut total = Tally::default();
    let started = Instant::now();
    for (at, part) in chosen.iter().enumerate() {
        say(&format!("\n=== {} ({} of {}): {}", part.name, at + 1, chosen.len(), part.purpose))?;
        let begun = Instant::now();
        let tally = part.run()?;
        let Tally { passed, failed } = tally;
        say(&format!("=== {}: {passed} passed, {failed} failed in {:.0?}", part.name, begun.elapsed()))?;
        total += tally;
    }
    say(&format!("\n{} parts in {:.0?}", chosen.len(), started.elapsed()))?;
    say(&format!("{} passed, {} failed", total.passed, total.failed))?;
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn choose<'a>(known: &'a [Part], names: &[String]) -> Result<Vec<&'a Part>> {
    let mut chosen = Vec::new();
    for name in names {
        let before = chosen.len();
        chosen.extend(known.iter().filter(|part| part.name == name || part.groups.contains(&name.as_str())));
        if chosen.len() == before {
            let names: Vec<&str> = known.iter().map(|part| part.name).collect();
            bail!("there is no part {name:?}; there are: check, all, {}", names.join(", "));
        }
    }
    Ok(chosen)
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
