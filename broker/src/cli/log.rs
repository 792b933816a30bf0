//! `warren-broker log inspect`: what is in a node's log, and whether it is whole.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use warren_broker::config::{FILE_VARIABLE, Settings, Sources};
use warren_broker::inspection::record::{ShownCommand, ShownQueue, ShownRecord};
use warren_broker::inspection::report::{End, Place, Report, Segment, ShardReport, Snapshot};
use warren_broker::inspection::{INSPECTED_BODY_BYTES, InspectError, QueueChoice, Selection, inspect};
use warren_storage::OpenError;

use super::remote::Format;
use super::trouble::Trouble;

const EXAMPLES: &str = "\
Examples:
  warren-broker log inspect --data-dir /var/lib/warren
  warren-broker log inspect --queue orders --entries
  warren-broker log inspect --shard 0 --from 1 --to 20 --entries -o json

It writes nothing and takes no lock, so the node may be running; what is written meanwhile may or may not be seen. \
Bodies of messages are shown only with --bodies, hashes of passwords never.

Exit codes: 0 the log is sound, 1 something is damaged or missing, 2 usage, 3 there is no log or no such queue in it, 4 a newer program wrote it, \
5 it may not be read.";

const WHAT: &str = "the log cannot be looked at";

#[derive(Debug, Subcommand)]
pub(super) enum LogCommand {
    /// Print what is in the log: files, checkpoint, shards, damage; with --entries its records. Exits with 1 if it is damaged.
    #[command(after_help = EXAMPLES)]
    Inspect(Box<Inspect>),
}

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// TOML file with settings, for the data folder.
    #[arg(long, value_name = "FILE", env = FILE_VARIABLE)]
    config: Option<PathBuf>,
    /// The node's data folder; with it no settings are read. Default: the one of the settings.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Only records of this shard; may be given more than once. 0 is the metadata.
    #[arg(long, value_name = "NUMBER")]
    shard: Vec<u16>,
    /// Only what concerns the queue of this name.
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// The queue's virtual host.
    #[arg(long, value_name = "NAME", default_value = "/", requires = "queue")]
    vhost: String,
    /// Only what concerns the queue of this number: of one that is not declared any more, say.
    #[arg(long, value_name = "NUMBER", conflicts_with = "queue")]
    queue_id: Option<u32>,
    /// Only records from this index on.
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    from: u64,
    /// Only records up to this index.
    #[arg(long, value_name = "INDEX", default_value_t = u64::MAX, hide_default_value = true)]
    to: u64,
    /// Print the records as well.
    #[arg(long)]
    entries: bool,
    /// Print so many octets of each message's body, 256 if no number is given.
    #[arg(long, value_name = "OCTETS", requires = "entries", num_args = 0..=1, require_equals = true,
          default_missing_value = "256", value_parser = clap::value_parser!(u64).range(..=INSPECTED_BODY_BYTES))]
    bodies: Option<u64>,
    /// How it is printed.
    #[arg(short, long, visible_alias = "format", value_enum, default_value = "text")]
    output: Format,
}

impl LogCommand {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let Self::Inspect(inspect) = self;
        inspect.run()
    }
}

impl Inspect {
    fn run(&self) -> anyhow::Result<()> {
        let data_dir = self.data_dir()?;
        let selection = self.selection()?;
        let mut printer = Printer { output: self.output, stdout: io::stdout().lock(), records: 0, error: None };
        let report = if self.entries {
            let mut show = |record: &ShownRecord<'_>| printer.record(record);
            inspect(&data_dir, &selection, Some(&mut show))
        } else {
            inspect(&data_dir, &selection, None)
        };
        let report = report.map_err(trouble)?;
        let printed = printer.report(&report, self.entries);
        printed.map_err(|error| Trouble::of_stream("the log cannot be printed", &error))?;
        if report.sound {
            return Ok(());
        }
        let why = format!("{} of its places are damaged or missing", report.fault_count);
        let hint = "keep a copy of the folder, then restore a backup of it; a node does not start with a damaged log";
        Err(Trouble::new("the log is not sound", 1, why, hint).into())
    }

    fn data_dir(&self) -> anyhow::Result<PathBuf> {
        if let Some(folder) = &self.data_dir {
            return Ok(folder.clone());
        }
        let sources =
            Sources { file: self.config.clone(), variables: std::env::vars_os().collect(), flags: Vec::new() };
        Ok(Settings::load(&sources)?.config.data_dir)
    }

    fn selection(&self) -> Result<Selection, Trouble> {
        if self.from > self.to {
            let why = format!("--from {} is behind --to {}", self.from, self.to);
            return Err(Trouble::new(WHAT, 2, why, "give the lower index first"));
        }
        let by_name = |name: &String| QueueChoice::Name { vhost: self.vhost.clone(), name: name.clone() };
        Ok(Selection {
            shards: self.shard.iter().copied().collect(),
            queue: self.queue.as_ref().map(by_name).or_else(|| self.queue_id.map(QueueChoice::Id)),
            indexes: self.from..=self.to,
            body_bytes: self.bodies.and_then(|bytes| usize::try_from(bytes).ok()),
        })
    }
}

fn trouble(error: InspectError) -> Trouble {
    let (code, hint) = match &error {
        InspectError::Folder { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            (3, "give the folder that the node has as --data-dir; the log is in its folder `log`")
        }
        InspectError::NoQueue { .. } => {
            (3, "check the name and --vhost; a queue that is gone may be found by --queue-id")
        }
        InspectError::Log(OpenError::Newer { .. }) => (4, "use the warren-broker that wrote it, or a newer one"),
        _ => (5, "look as the user that the node runs as"),
    };
    Trouble::new(WHAT, code, error, hint)
}

/// What is printed, while the log is read.
struct Printer<'a> {
    output: Format,
    stdout: io::StdoutLock<'a>,
    records: u64,
    /// Why nothing can be printed any more.
    error: Option<io::Error>,
}

impl Printer<'_> {
    /// Breaks off when nobody reads what is printed.
    fn record(&mut self, record: &ShownRecord<'_>) -> ControlFlow<()> {
        let printed = match self.output {
            Format::Json => {
                let before = if self.records == 0 { "{\"apiVersion\": \"warren/v1\", \"records\": [\n" } else { ",\n" };
                write!(self.stdout, "{before}{}", json!(record))
            }
            Format::Text => writeln!(self.stdout, "{}", record_text(record)),
        };
        self.records += 1;
        self.error = printed.err();
        if self.error.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn report(mut self, report: &Report, entries: bool) -> io::Result<()> {
        if let Some(error) = self.error {
            return Err(error);
        }
        match self.output {
            Format::Text => self.stdout.write_all(report_text(report).as_bytes()),
            Format::Json if self.records > 0 => writeln!(self.stdout, "\n], \"log\": {:#}}}", json!(report)),
            Format::Json if entries => {
                writeln!(self.stdout, "{:#}", json!({"apiVersion": "warren/v1", "records": [], "log": report}))
            }
            Format::Json => writeln!(self.stdout, "{:#}", json!({"apiVersion": "warren/v1", "log": report})),
        }
    }
}

fn record_text(record: &ShownRecord<'_>) -> String {
    let ShownRecord { shard, kind, term, index, time, file, offset, bytes, replayed, commands } = record;
    let time = time.map_or_else(String::new, |time| format!("  {time}"));
    let old = if *replayed { "" } else { "  before the checkpoint" };
    let mut text = format!("shard {shard}  {kind} {index}  term {term}{time}  {file} at {offset}  {bytes} octets{old}");
    for command in *commands {
        text.push_str("\n  ");
        text.push_str(&command_text(command));
    }
    text
}

/// What clients have chosen is quoted, and control characters in it are escaped.
fn command_text(command: &ShownCommand) -> String {
    match command {
        ShownCommand::Publish { queues, exchange, routing_key, header_bytes, body_bytes, body } => {
            let queues: Vec<_> = queues.iter().map(queue_text).collect();
            let body = body.as_ref().map_or_else(String::new, |body| format!(" {}: {:?}", body.encoding, body.content));
            format!(
                "publish to {}, exchange {exchange:?}, routing key {routing_key:?}, header {header_bytes} octets, \
                 body {body_bytes} octets{body}",
                queues.join(", ")
            )
        }
        ShownCommand::Queue { command, queue, messages } => {
            let messages = messages.map_or_else(String::new, |count| format!(", messages: {count}"));
            format!("{command} {}{messages}", queue_text(queue))
        }
        ShownCommand::Change { command, vhost, object } => format!("{command} {object:?} in {vhost:?}"),
    }
}

fn queue_text(queue: &ShownQueue) -> String {
    match (&queue.vhost, &queue.name) {
        (Some(vhost), Some(name)) => format!("queue {} {name:?} in {vhost:?}", queue.id),
        _ => format!("queue {}", queue.id),
    }
}

fn report_text(report: &Report) -> String {
    let declared = &report.declared;
    let mut lines = vec![
        format!("folder      {}", report.folder),
        format!("node        {} of cluster {}", report.node_id, report.cluster_id),
        format!("checkpoint  {}", checkpoint_text(report)),
        format!("end         {}", end_text(report)),
        format!(
            "declared    virtual hosts {}, exchanges {}, queues {}, bindings {}, policies {}, users {}",
            declared.vhosts, declared.exchanges, declared.queues, declared.bindings, declared.policies, declared.users
        ),
        format!("segments    {}", report.segments.len()),
    ];
    lines.extend(report.segments.iter().map(|segment| {
        let Segment { file, bytes, state, records, end } = segment;
        format!("  {file}  {state:<8}  {bytes} octets, {records} records, up to {end}")
    }));
    lines.extend(report.other_files.iter().map(|file| format!("  {file}  holds nothing")));
    let (busy, idle): (Vec<_>, Vec<_>) = report.shards.iter().partition(|shard| has_something(shard));
    lines.push(format!("shards      {}, of which {} hold nothing", report.shards.len(), idle.len()));
    lines.extend(busy.into_iter().map(shard_text));
    let damage = if report.sound { "none, the log is sound".to_owned() } else { report.fault_count.to_string() };
    lines.push(format!("damage      {damage}"));
    let places = report.faults.iter().map(|Place { file, offset, reason }| format!("  {file} at {offset}: {reason}"));
    lines.extend(places);
    lines.join("\n") + "\n"
}

fn end_text(report: &Report) -> String {
    report.tail.as_ref().map_or_else(
        || "unknown".to_owned(),
        |End { file, offset, free_bytes, sealed, torn_records }| {
            let finished = if *sealed { ", finished" } else { "" };
            format!("{file} at {offset}{finished}, {free_bytes} octets free, {torn_records} records torn by a crash")
        },
    )
}

fn checkpoint_text(report: &Report) -> String {
    report.checkpoint.as_ref().map_or_else(
        || "none".to_owned(),
        |checkpoint| {
            let (number, bytes) = (checkpoint.number, checkpoint.bytes);
            let (file, offset) = (&checkpoint.replay_file, checkpoint.replay_offset);
            format!("number {number}, {bytes} octets; a start goes on behind it in {file} at {offset}")
        },
    )
}

/// Votes and beginnings of terms are in every shard.
fn has_something(shard: &ShardReport) -> bool {
    shard.snapshot.is_some() || !shard.commands.is_empty()
}

fn shard_text(shard: &ShardReport) -> String {
    let mut text = format!("  {:>2}  {}", shard.shard, shard.holds);
    if let Some(Snapshot { term, index, bytes }) = &shard.snapshot {
        text += &format!(", snapshot at {index} of term {term} with {bytes} octets");
    }
    if let (Some(first), Some(last)) = (shard.first_index, shard.last_index) {
        text += &format!(", entries {first} to {last}, term {}", shard.term);
    }
    if let (Some(first), Some(last)) = (shard.first_time, shard.last_time) {
        text += &format!(", {first} to {last}");
    }
    text += &format!("\n      records: {}; {} octets", counts_text(&shard.records), shard.bytes);
    text + &format!("\n      commands: {}", counts_text(&shard.commands))
}

fn counts_text(counts: &BTreeMap<&str, u64>) -> String {
    let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
}
