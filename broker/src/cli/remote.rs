//! `status`, `health` and `definitions`: what a running node says about itself, by its management API.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::api::Api;
use super::trouble::{self, Trouble};

pub(super) const STATUS_EXAMPLES: &str = "\
Examples:
  warren-broker status
  warren-broker status --url https://broker:15671 --ca ca.crt --user admin --password-file password.txt -o json";

pub(super) const HEALTH_EXAMPLES: &str = "Example:\n  warren-broker health || echo \"not well\"";

/// Who may ask, by RabbitMQ's tags.
const MANAGEMENT: &str = "management, monitoring or administrator";
const MONITORING: &str = "monitoring or administrator";
const ADMINISTRATOR: &str = "administrator";

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Lines for people.
    Text,
    /// One JSON object.
    Json,
}

#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    api: Api,
    /// How the answer is printed.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
}

#[derive(Debug, Subcommand)]
pub(super) enum Definitions {
    /// Print everything that is declared and who may use it, with hashes of passwords, in RabbitMQ's export format.
    #[command(after_help = "Example:\n  warren-broker definitions export > definitions.json")]
    Export(Api),
    /// Make what a file says and what is not there.
    #[command(after_help = "Example:\n  warren-broker definitions import definitions.json")]
    Import {
        #[command(flatten)]
        api: Api,
        /// A file in RabbitMQ's export format; - is standard input.
        file: PathBuf,
    },
}

impl Status {
    /// What the node is like, on one screen.
    pub(super) fn status(&self) -> anyhow::Result<()> {
        let what = "the node's status cannot be read";
        let overview = self.api.get(what, "/api/overview", MONITORING)?.json();
        let nodes = self.api.get(what, "/api/nodes", MONITORING)?.json();
        let node = &nodes[0];
        if self.output == Format::Json {
            return print(&json!({"apiVersion": "warren/v1", "overview": overview, "node": node}));
        }
        let totals = |name: &str| overview["object_totals"][name].as_u64().unwrap_or_default();
        let alarm = |name: &str| if node[name] == true { "  ALARM: publishers wait" } else { "" };
        let number = |name: &str| node[name].as_u64().unwrap_or_default();
        let lines = [
            format!("node         {}", node["name"].as_str().unwrap_or("?")),
            format!("uptime       {} s", number("uptime") / 1_000),
            format!("memory       {} of {} octets{}", number("mem_used"), number("mem_limit"), alarm("mem_alarm")),
            format!("disk         {} octets free{}", number("disk_free"), alarm("disk_free_alarm")),
            format!("connections  {}", totals("connections")),
            format!("channels     {}", totals("channels")),
            format!("exchanges    {}", totals("exchanges")),
            format!("queues       {}", totals("queues")),
            format!("consumers    {}", totals("consumers")),
            format!("messages     {}", overview["queue_totals"]["messages"].as_u64().unwrap_or_default()),
        ];
        Ok(trouble::print((lines.join("\n") + "\n").as_bytes())?)
    }

    /// Whether the node is well: it answers, is in service, and no alarm is in effect.
    pub(super) fn health(&self) -> anyhow::Result<()> {
        let what = "the node's health cannot be read";
        let mut reasons = Vec::new();
        for check in ["is-in-service", "alarms"] {
            let path = format!("/api/health/checks/{check}");
            let answer = self.api.call(what, Method::GET, &path, Bytes::new())?;
            match answer.status {
                StatusCode::OK => {}
                StatusCode::SERVICE_UNAVAILABLE => reasons.push(reason(&answer.json())),
                // It says what is wrong with the question.
                _ => drop(self.api.get(what, &path, MANAGEMENT)?),
            }
        }
        let well = reasons.is_empty();
        match self.output {
            Format::Json => print(&json!({"apiVersion": "warren/v1", "healthy": well, "reasons": reasons}))?,
            Format::Text if well => trouble::print(b"the node is well\n")?,
            Format::Text => {}
        }
        let hint = "consumers that acknowledge end an alarm; `warren-broker status` says more";
        if well { Ok(()) } else { Err(Trouble::unwell(reasons.join("; "), hint).into()) }
    }
}

/// A failed check's reason, with the resources of its alarms.
fn reason(answer: &Value) -> String {
    let alarms = answer["alarms"].as_array().into_iter().flatten();
    let resources: Vec<_> = alarms.filter_map(|alarm| alarm["resource"].as_str()).collect();
    let reason = answer["reason"].as_str().unwrap_or("no reason is given");
    if resources.is_empty() { reason.to_owned() } else { format!("{reason}: {}", resources.join(", ")) }
}

impl Definitions {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        match self {
            Self::Export(api) => {
                let answer = api.get("the definitions cannot be exported", "/api/definitions", ADMINISTRATOR)?;
                Ok(trouble::print(&[&answer.body[..], b"\n"].concat())?)
            }
            Self::Import { api, file } => {
                let what = "the definitions cannot be imported";
                let octets = trouble::read(what, file, "definitions in RabbitMQ's export format")?;
                api.post(what, "/api/definitions", octets, ADMINISTRATOR)?;
                Ok(trouble::print(b"imported\n")?)
            }
        }
    }
}

fn print(value: &Value) -> anyhow::Result<()> {
    Ok(trouble::print(format!("{value:#}\n").as_bytes())?)
}
