//! The program's other commands, as somebody types them.

use anyhow::{Result, ensure};
use warren_tests::harness::{Broker, DataFolder};

/// What a command said, and its exit code.
struct Said {
    output: String,
    errors: String,
    code: Option<i32>,
}

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Said> {
    let said = Broker::command(arguments)?.envs(variables.iter().copied()).output()?;
    let text = |octets| String::from_utf8(octets);
    Ok(Said { output: text(said.stdout)?, errors: text(said.stderr)?, code: said.status.code() })
}

#[test]
fn config_check_names_every_mistake_and_exits_with_1() -> Result<()> {
    let folder = DataFolder::new()?;
    let file = folder.path().join("warren.toml");
    std::fs::write(&file, "data_dri = 'x'\n[log]\nsegment_bytes = 'x'\n")?;
    let path = file.display().to_string();
    let said = run(&["config", "check", "--config", &path], &[("WARREN_LISTENERS_METRICS", "here")])?;
    ensure!(said.code == Some(1) && said.output.is_empty(), "{:?} {}", said.code, said.output);
    for expected in [
        &format!("{path}:1: data_dri: there is no such setting; did you mean data_dir?"),
        &format!("{path}:3: log.segment_bytes: invalid type"),
        "WARREN_LISTENERS_METRICS: listeners.metrics: invalid socket address",
    ] {
        ensure!(said.errors.contains(expected), "{expected} is not in:\n{}", said.errors);
    }
    std::fs::write(&file, "data_dir = 'x'\n")?;
    let said = run(&["config", "check", "--config", &path], &[("WARREN_ANYTHING", "x")])?;
    ensure!(said.code == Some(0) && said.output == "the settings can be used\n", "{:?} {}", said.code, said.errors);
    ensure!(said.errors.contains("warning: WARREN_ANYTHING"), "{}", said.errors);
    Ok(())
}

#[test]
fn config_show_names_the_origin_of_each_setting() -> Result<()> {
    let arguments = ["config", "show", "--origin", "--data-dir", "there", "--set", "log.segment_bytes=8192"];
    let said = run(&arguments, &[("WARREN_LOGGING_FORMAT", "json")])?;
    ensure!(said.code == Some(0), "{}", said.errors);
    for expected in [
        "data_dir = \"there\"  # --data-dir\n",
        "metrics = \"127.0.0.1:15692\"  # default\n",
        "[log]\nsegment_bytes = 8192  # --set\n",
        "format = \"json\"  # WARREN_LOGGING_FORMAT\n",
    ] {
        ensure!(said.output.contains(expected), "{expected} is not in:\n{}", said.output);
    }
    Ok(())
}
