//! The two images of this checkout, broker and operator, built from source.
//!
//! Both are static programs for the C library of this machine's processor in an otherwise empty image; `deploy/Dockerfile`
//! makes the same with a container engine. cargo decides what is outdated, so a second build is quick.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::image::{Architecture, Image};

/// Version of the workspace, and tag of the images.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The images of one state of the sources.
#[derive(Debug)]
pub struct Release {
    /// `warrenmq/broker:<version>`.
    pub broker: BuiltImage,
    /// `warrenmq/operator:<version>`.
    pub operator: BuiltImage,
}

/// An image in an archive.
#[derive(Debug)]
pub struct BuiltImage {
    /// Repository and tag.
    pub name: String,
    /// The file that [`crate::cluster::Cluster::load_image`] and `docker load` take.
    pub archive: PathBuf,
    /// Digest of the image, `sha256:…`; equal sources give equal digests.
    pub digest: String,
    /// Size of the archive in bytes.
    pub size: u64,
}

impl Release {
    /// Builds the programs that are outdated and writes the archives to `images` in cargo's target folder.
    ///
    /// The first time this compiles everything with optimisation: about ten minutes on two processors.
    ///
    /// # Errors
    /// A program does not compile (the error carries what cargo said), or an archive cannot be written.
    pub fn build() -> Result<Self> {
        let target = target_folder();
        let programs = compile(&target)?;
        let images = target.join("images");
        std::fs::create_dir_all(&images).with_context(|| format!("create {}", images.display()))?;
        Ok(Self {
            broker: BuiltImage::of_program("broker", "An AMQP 0-9-1 broker for Kubernetes", &programs, &images)?,
            operator: BuiltImage::of_program("operator", "The Kubernetes operator of Warren", &programs, &images)?,
        })
    }

    /// The program that the broker's image holds, built if it is outdated.
    ///
    /// # Errors
    /// It does not compile.
    pub fn broker_program() -> Result<PathBuf> {
        compile(&target_folder()).map(|programs| programs.join("warren-broker"))
    }

    /// Tells this state of the sources from others: 24 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let digits =
            |image: &BuiltImage| image.digest.trim_start_matches("sha256:").chars().take(12).collect::<String>();
        digits(&self.operator) + &digits(&self.broker)
    }
}

impl BuiltImage {
    fn of_program(part: &str, description: &str, programs: &Path, images: &Path) -> Result<Self> {
        let (name, program) = (format!("warrenmq/{part}:{VERSION}"), format!("warren-{part}"));
        let archive = images.join(format!("{part}.tar"));
        let mut image = Image::of_binary(&name, &programs.join(&program), Architecture::host()?)?;
        image.labels = [
            ("title", program.as_str()),
            ("description", description),
            ("version", VERSION),
            ("licenses", "Apache-2.0"),
        ]
        .map(|(key, value)| (format!("org.opencontainers.image.{key}"), value.to_owned()))
        .into();
        let digest = image.write(&archive)?;
        let size = std::fs::metadata(&archive).with_context(|| format!("look at {}", archive.display()))?.len();
        Ok(Self { name, archive, digest, size })
    }
}

/// The root of the checkout that this program was compiled in.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new("/")).to_owned()
}

fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// Runs cargo, passing on which packages it compiles. Returns the folder that the programs are in.
fn compile(target: &Path) -> Result<PathBuf> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "build",
            "--release",
            "-p",
            "warren-broker",
            "-p",
            "warren-operator",
            "--target",
            &triple,
            "--target-dir",
        ])
        .arg(target)
        // With an explicit target the flag does not reach build scripts and macros, which must stay dynamic.
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .current_dir(workspace())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start cargo: is Rust installed?")?;
    let mut said = String::new();
    for line in BufReader::new(cargo.stderr.take().context("cargo has an output")?).lines() {
        let line = line.context("read what cargo says")?;
        if ["Compiling", "Downloading", "Blocking"].iter().any(|word| line.trim_start().starts_with(word)) {
            eprintln!("{line}");
        } else {
            said = said + "\n" + &line;
        }
    }
    if !cargo.wait().context("wait for cargo")?.success() {
        bail!("the programs of the images do not compile:{said}");
    }
    Ok(target.join(triple).join("release"))
}
