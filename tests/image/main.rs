//! `image`: writes container images from static programs, without a container engine.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use warren_tests::image::{Architecture, Image, pika};
use warren_tests::release::Release;

/// Write container images that `docker load`, `ctr images import` and `kind load image-archive` take.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Subcommand)]
enum Deed {
    /// The two images of this checkout, built from source, into target/images.
    All,
    /// The image of a Python with pika, warrenmq/pika:test.
    Pika {
        /// The archive to write.
        #[arg(long)]
        out: PathBuf,
    },
    /// An image of any static program.
    Program(Program),
}

#[derive(Args)]
struct Program {
    /// The static program; it becomes the entrypoint.
    #[arg(long)]
    binary: PathBuf,
    /// Repository and tag, such as warrenmq/broker:0.1.0.
    #[arg(long)]
    name: String,
    /// The archive to write.
    #[arg(long)]
    out: PathBuf,
    /// An argument that always comes first.
    #[arg(long = "argument", value_name = "WORD", allow_hyphen_values = true)]
    arguments: Vec<String>,
    /// An environment variable.
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Something said about the image.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = name_and_value)]
    labels: Vec<(String, String)>,
}

fn main() -> Result<()> {
    match Arguments::parse().deed {
        Deed::All => all(),
        Deed::Pika { out } => {
            std::fs::copy(pika::archive()?, &out).with_context(|| format!("write {}", out.display()))?;
            Ok(())
        }
        Deed::Program(program) => of_program(program),
    }
}

fn all() -> Result<()> {
    let Release { broker, operator } = Release::build()?;
    for image in [broker, operator] {
        let megabytes = image.size as f64 / 1e6;
        print(format_args!("{} {megabytes:.1} MB {} {}", image.name, image.digest, image.archive.display()))?;
    }
    Ok(())
}

fn of_program(program: Program) -> Result<()> {
    let Program { binary, name, out, arguments, env, labels } = program;
    let mut image = Image::of_binary(&name, &binary, Architecture::host()?)?;
    image.entrypoint.extend(arguments);
    image.env = env;
    image.labels = labels;
    let digest = image.write(&out)?;
    print(format_args!("{name} {digest}"))
}

fn print(line: impl std::fmt::Display) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").context("write to standard output")
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}
