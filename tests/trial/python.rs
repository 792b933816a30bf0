//! Suites in Python: an environment of their own, sources from PyPI, and pytest with our plugin.

use std::path::PathBuf;
use std::process::Command;

use crate::command::output_of;
use crate::programs::install_packages;
use anyhow::{Context, Result};

use super::case::Case;
use super::suite::{Exception, Installation, Run, succeeds};

/// Makes an environment with these packages.
///
/// # Errors
/// A package cannot be installed.
pub fn environment(installation: &Installation<'_>, packages: &[&str]) -> Result<()> {
    // Debian's python3 alone cannot make environments: this is what it lacks.
    let has_venv = Command::new("python3").args(["-c", "import ensurepip"]).output();
    if !has_venv.is_ok_and(|output| output.status.success()) {
        install_packages(&["python3-venv"])?;
    }
    let folder = installation.folder.join("python");
    output_of(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    output_of(pip(installation).args(["install", "--quiet"]).args(packages)).map(drop)
}

/// Unpacks the source distribution `<name>==<version>` into the folder `source`: it has the tests.
///
/// # Errors
/// It cannot be fetched or unpacked.
pub fn source(installation: &Installation<'_>, name: &str) -> Result<()> {
    let (download, source) = (installation.folder.join("download"), installation.folder.join("source"));
    let package = format!("{name}=={}", installation.version);
    let mut pip = pip(installation);
    pip.args(["download", "--quiet", "--no-deps", "--no-binary", name, "--dest"]).arg(&download).arg(package);
    output_of(&mut pip)?;
    std::fs::create_dir_all(&source).with_context(|| format!("make {}", source.display()))?;
    for archive in std::fs::read_dir(&download).context("look for what pip fetched")? {
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--gzip", "--strip-components=1", "--file"]).arg(archive?.path());
        output_of(tar.arg("--directory").arg(&source))?;
    }
    Ok(())
}

/// A run of pytest in the suite's sources.
#[derive(Debug)]
pub struct Pytest {
    command: Command,
    cases: PathBuf,
}

impl Pytest {
    /// pytest with its plugins, without what the sources' own settings add.
    pub fn new(run: &Run<'_>) -> Result<Self> {
        const PLUGIN: &str = include_str!("programs/cases.py");
        let (cases, plugin) = (run.scratch.join("cases"), run.scratch.join("warren_cases.py"));
        std::fs::write(&plugin, PLUGIN).context("write the plugin")?;
        let mut command = Command::new(run.folder.join("python/bin/python"));
        command.args(["-m", "pytest", "-p", "warren_cases", "-p", "no:cacheprovider", "-v", "--tb=short"]);
        command.current_dir(run.folder.join("source"));
        command.env("PYTHONPATH", run.scratch).env("WARREN_CASES", &cases).env("PYTHONDONTWRITEBYTECODE", "1");
        Ok(Self { command, cases })
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    /// Leaves these cases out.
    #[must_use]
    pub fn without(mut self, cases: &[Exception]) -> Self {
        self.command.args(cases.iter().map(|exception| format!("--deselect={}", exception.case)));
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it.
    ///
    /// # Errors
    /// It ends without a case.
    pub fn cases(mut self) -> Result<Vec<Case>> {
        // What it counts is in the lines of the plugin.
        succeeds(&mut self.command)?;
        let lines = std::fs::read_to_string(&self.cases).context("pytest wrote nothing")?;
        Ok(Case::from_lines(&lines))
    }
}

fn pip(installation: &Installation<'_>) -> Command {
    let mut pip = Command::new(installation.folder.join("python/bin/python"));
    pip.args(["-m", "pip"]);
    pip
}
