//! `image`: writes a container image from a static program, without a container engine.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use warren_tests::image::{Architecture, Image, pika};

/// Write a container image that `docker load`, `ctr images import` and `kind load image-archive` take.
#[derive(Parser)]
struct Arguments {
    /// The static program; it becomes the entrypoint.
    #[arg(long, required_unless_present = "pika")]
    binary: Option<PathBuf>,
    /// Repository and tag, such as warrenmq/broker:0.1.0.
    #[arg(long, required_unless_present = "pika")]
    name: Option<String>,
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
    /// Instead of a program of ours: the image of a Python with pika, warrenmq/pika:test.
    #[arg(long, conflicts_with_all = ["binary", "name", "arguments", "env", "labels"])]
    pika: bool,
}

fn main() -> Result<()> {
    let Arguments { binary, name, out, arguments, env, labels, pika } = Arguments::parse();
    if pika {
        std::fs::copy(pika::archive()?, &out).with_context(|| format!("write {}", out.display()))?;
        return Ok(());
    }
    let (Some(binary), Some(name)) = (binary, name) else {
        anyhow::bail!("--binary and --name are both needed");
    };
    let mut image = Image::of_binary(&name, &binary, Architecture::host()?)?;
    image.entrypoint.extend(arguments);
    image.env = env;
    image.labels = labels;
    let digest = image.write(&out)?;
    writeln!(std::io::stdout(), "{name} {digest}").context("write to standard output")
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}
