//! The program's other commands, as somebody types them.

use anyhow::{Result, ensure};
use warren_tests::harness::{Broker, Connection, DataFolder};

/// What a command said, and its exit code.
pub(super) struct Said {
    pub(super) output: String,
    pub(super) errors: String,
    pub(super) code: Option<i32>,
}

pub(super) fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Said> {
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
        "WARREN_LISTENERS_METRICS: listeners.metrics: \"here\" is not an IP address and a port, such as 127.0.0.1:5672",
    ] {
        let has = said.errors.lines().any(|line| line.starts_with(&format!("error: {expected}")));
        ensure!(has, "{expected} is not in:\n{}", said.errors);
    }
    ensure!(said.errors.lines().count() == 3, "{}", said.errors);
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

#[test]
fn completions_and_the_manual_page_know_every_command() -> Result<()> {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let said = run(&["completions", shell], &[])?;
        ensure!(said.code == Some(0) && said.output.contains("hash-password"), "{shell}: {}", said.errors);
        ensure!(said.output.contains("log-format"), "{shell} knows no flags");
        ensure!(said.output.contains("queue-id"), "{shell} does not know `log inspect`");
    }
    let said = run(&["man"], &[])?;
    for expected in [
        ".TH warren-broker 1",
        "WARREN-BROKER SERVE",
        "WARREN-BROKER HASH-PASSWORD",
        "WARREN_LISTENERS_AMQP",
        "WARREN-BROKER LOG INSPECT",
        "WARREN-BROKER CONFIG SHOW",
        "\\-\\-queue\\-id",
    ] {
        ensure!(said.output.contains(expected), "{expected} is not in:\n{}", said.output);
    }
    Ok(())
}

#[test]
fn status_and_health_say_what_a_running_node_is_like() -> Result<()> {
    let folder = DataFolder::new()?;
    let broker = Broker::start(&folder)?;
    let url = format!("http://{}", broker.management);
    let said = run(&["status", "--url", &url], &[])?;
    ensure!(said.code == Some(0) && said.output.contains("\nqueues       0\n"), "{} {}", said.output, said.errors);
    let said = run(&["status", "--url", &url, "-o", "json"], &[])?;
    ensure!(serde_json::from_str::<serde_json::Value>(&said.output)?["apiVersion"] == "warren/v1", "{}", said.output);
    let said = run(&["health", "--url", &url], &[])?;
    ensure!((said.code, said.output.as_str()) == (Some(0), "the node is well\n"), "{}", said.errors);
    Ok(())
}

#[test]
fn what_goes_wrong_with_the_api_has_an_exit_code_a_reason_and_a_hint() -> Result<()> {
    let folder = DataFolder::new()?;
    let broker = Broker::start(&folder)?;
    let url = format!("http://{}", broker.management);
    let password = folder.path().join("password.txt");
    std::fs::write(&password, "canary-5e1f\n")?;
    let password = password.display().to_string();
    let metrics = format!("http://{}", broker.metrics);
    let here = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let nobody = format!("http://{here}");
    for (arguments, code, hint) in [
        (
            vec!["status", "--url", &url, "--password-file", &password],
            5,
            "--password-file of somebody with the tag monitoring or administrator",
        ),
        (
            vec!["definitions", "export", "--url", &url, "--password-file", &password],
            5,
            "somebody with the tag administrator",
        ),
        (vec!["definitions", "import", "--url", &url, "/nowhere"], 2, "name a file that is there"),
        (vec!["status", "--url", &metrics], 3, "--url is the management API"),
        (vec!["health", "--url", &nobody], 6, "check that the node runs"),
        (vec!["health", "--url", "ftp://x"], 2, "give a URL such as"),
        (vec!["health", "--url", &url, "--password-file", "/nowhere"], 2, "name a file"),
    ] {
        let said = run(&arguments, &[])?;
        ensure!(said.code == Some(code), "{arguments:?}: {:?} {}", said.code, said.errors);
        ensure!(said.errors.starts_with("error: ") && said.errors.contains("\nhint: "), "{}", said.errors);
        ensure!(said.errors.contains(hint) && !said.errors.contains("canary"), "{}", said.errors);
        ensure!(said.output.is_empty(), "{}", said.output);
    }
    Ok(())
}

#[test]
fn definitions_go_from_one_node_to_another() -> Result<()> {
    let folders = [DataFolder::new()?, DataFolder::new()?];
    let [from, to] = [Broker::start(&folders[0])?, Broker::start(&folders[1])?];
    Connection::with_channel(from.address)?.declare_queue("orders", true, false)?;
    let url = |broker: &Broker| format!("http://{}", broker.management);
    let said = run(&["definitions", "export", "--url", &url(&from)], &[])?;
    ensure!(said.code == Some(0) && said.output.contains("\"orders\""), "{} {}", said.output, said.errors);
    ensure!(said.output.ends_with("}\n"), "a line ends with a line end");
    let file = folders[0].path().join("definitions.json");
    std::fs::write(&file, &said.output)?;
    let file = file.display().to_string();
    let said = run(&["definitions", "import", "--url", &url(&to), &file], &[])?;
    ensure!((said.code, said.output.as_str()) == (Some(0), "imported\n"), "{}", said.errors);
    Connection::with_channel(to.address)?.declare_queue("orders", true, true)?;
    for (wrong, expected) in [
        (r#"{"users": [{"name": "u", "password_hash": "!"}]}"#, "password_hash is not base64"),
        (r#"{"queues": [{"name": "q", "vhost": "none"}]}"#, "and send it again"),
    ] {
        std::fs::write(&file, wrong)?;
        let said = run(&["definitions", "import", "--url", &url(&to), &file], &[])?;
        ensure!(said.code == Some(1) && said.errors.contains(expected), "{:?} {}", said.code, said.errors);
        for unfit in ["start again", "the node's log", "the file"] {
            ensure!(!said.errors.contains(unfit), "{unfit}: {}", said.errors);
        }
        ensure!(said.errors.contains("\nhint: correct that in what is sent"), "{}", said.errors);
    }
    Ok(())
}
