//! One record of the log, as it is shown.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::{Serialize, Serializer};
use warren_core::command::{Command, EntryError, EntryHeader, Publish, decode_command, decode_relocation};
use warren_core::topology::{Change, ChangeError, Destination, Topology};
use warren_core::{Message, QueueId, ShardId};
use warren_storage::segment::{RECORD_HEADER_LEN, file_name};
use warren_storage::{Kind, Position, Tag};

use crate::audit::describe;
use crate::clock::rfc3339;

/// A record.
#[derive(Debug, Serialize)]
pub struct ShownRecord<'a> {
    /// The shard it belongs to; 0 is the metadata.
    pub shard: u16,
    /// What it is.
    pub kind: &'static str,
    /// Its Raft term.
    pub term: u64,
    /// Its Raft index, if it is an entry.
    pub index: u64,
    /// When it was written, if it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// The file it is in.
    pub file: String,
    /// Where it begins there, in octets.
    pub offset: u32,
    /// Its octets, without its header.
    pub bytes: u32,
    /// Whether a node reads it when it starts.
    pub replayed: bool,
    /// What it says; of a queue's selection only what concerns the queue.
    pub commands: &'a [ShownCommand],
}

/// A time of day; shown as RFC 3339, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// Milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

impl fmt::Display for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&rfc3339(self.unix_ms))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A step in a record.
#[derive(Debug, Serialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum ShownCommand {
    /// A message comes.
    Publish {
        /// Its queues in this shard.
        queues: Vec<ShownQueue>,
        /// The exchange it was published to.
        exchange: String,
        /// Its routing key.
        routing_key: String,
        /// Octets of its content header.
        header_bytes: usize,
        /// Octets of its body.
        body_bytes: usize,
        /// The body, or the beginning of it.
        #[serde(skip_serializing_if = "Option::is_none")]
        body: Option<ShownBody>,
    },
    /// A step of one queue.
    #[serde(untagged)]
    Queue {
        /// `settle`, `failed`, `create`, `delete`, `attach`, `configure`, `unlearn`, or `move` of a relocation.
        command: &'static str,
        /// The queue.
        queue: ShownQueue,
        /// How many messages it concerns.
        #[serde(skip_serializing_if = "Option::is_none")]
        messages: Option<u64>,
    },
    /// A change of what is declared. Secrets are left out.
    #[serde(untagged)]
    Change {
        /// As in the audit trail: `queue.declare`, `user.put` …
        command: &'static str,
        /// The virtual host; empty if it is in none.
        vhost: String,
        /// What changes.
        object: String,
    },
}

/// A queue.
#[derive(Debug, Clone, Serialize)]
pub struct ShownQueue {
    /// Its number.
    pub id: u32,
    /// Its virtual host, if it is still declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vhost: Option<String>,
    /// Its name, if it is still declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A body, or the beginning of it.
#[derive(Debug, Serialize)]
pub struct ShownBody {
    /// `string` if it is UTF-8, otherwise `base64`.
    pub encoding: &'static str,
    /// The octets.
    pub content: String,
}

/// What a record says, as far as it is wanted.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) time: Option<Time>,
    /// By name of the command.
    pub(super) counts: Vec<(&'static str, u64)>,
    /// One of its steps concerns a queue that is wanted.
    pub(super) concerns_wanted: bool,
    pub(super) commands: Vec<ShownCommand>,
}

/// How records are read.
pub(super) struct Reading<'a> {
    /// Where names of queues come from.
    pub(super) topology: &'a Topology,
    /// Only what concerns these queues; `None`: everything.
    pub(super) chosen: Option<&'a BTreeSet<QueueId>>,
    /// Whether commands are shown and not only counted.
    pub(super) shown: bool,
    /// Octets of bodies that are shown.
    pub(super) body_bytes: Option<usize>,
}

impl<'a> ShownRecord<'a> {
    pub(super) fn new(tag: Tag, position: Position, contents: &'a Contents, replayed: bool) -> Self {
        Self {
            shard: tag.shard,
            kind: kind_name(tag.kind),
            term: tag.term,
            index: tag.index,
            time: contents.time,
            file: file_name(position.segment),
            offset: position.offset - RECORD_HEADER_LEN,
            bytes: position.len,
            replayed,
            commands: &contents.commands,
        }
    }
}

pub(super) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Entry => "entry",
        Kind::Vote => "vote",
        Kind::Truncate => "truncation",
        Kind::CommitHint => "commit hint",
        Kind::Purge => "purge",
        Kind::Relocation => "relocation",
        Kind::Seal => "seal",
        Kind::Mark => "mark",
    }
}

impl Contents {
    /// Reads a record.
    pub(super) fn read(tag: Tag, payload: &Bytes, reading: &Reading<'_>) -> anyhow::Result<Self> {
        let mut contents = Self::default();
        match tag.kind {
            // It only begins a term.
            Kind::Entry if payload.is_empty() => {}
            Kind::Entry if tag.shard == ShardId::METADATA.0 => contents.changes(payload, reading)?,
            Kind::Entry => contents.entry(payload, reading)?,
            Kind::Relocation => decode_relocation(payload, |reference, _| {
                contents.step("move", reference.queue, Some(1), reading);
            })?,
            _ => {}
        }
        Ok(contents)
    }

    /// Counts a command if it is wanted.
    fn concerns(&mut self, command: &'static str, wanted: bool) -> bool {
        if wanted {
            self.concerns_wanted = true;
            match self.counts.iter_mut().find(|(name, _)| *name == command) {
                Some((_, count)) => *count += 1,
                None => self.counts.push((command, 1)),
            }
        }
        wanted
    }

    /// A command that concerns one queue.
    fn step(&mut self, command: &'static str, queue: QueueId, messages: Option<u64>, reading: &Reading<'_>) {
        if self.concerns(command, reading.wants(Some(queue))) && reading.shown {
            self.commands.push(ShownCommand::Queue { command, queue: reading.queue(queue), messages });
        }
    }

    fn entry(&mut self, payload: &Bytes, reading: &Reading<'_>) -> Result<(), EntryError> {
        let mut rest = &payload[..];
        let header = EntryHeader::decode(&mut rest)?;
        self.time = Some(Time { unix_ms: header.now_ms });
        for _ in 0..header.commands {
            let start = payload.len() - rest.len();
            match decode_command(&mut rest)? {
                Command::Publish(publish) => {
                    let wanted = publish.queues().any(|queue| reading.wants(Some(queue)));
                    if self.concerns("publish", wanted) && reading.shown {
                        let octets = payload.slice(start..start + publish.len());
                        self.commands.push(reading.publish(&publish, &Message::from_publish(octets)?));
                    }
                }
                Command::Settle { queue, ranges } => {
                    self.step("settle", queue, Some(ranges.iter().map(|range| range.len).sum()), reading);
                }
                Command::Failed { queue, ranges } => {
                    self.step("failed", queue, Some(ranges.iter().map(|failed| failed.range.len).sum()), reading);
                }
                Command::Create(queue) => self.step("create", queue, None, reading),
                Command::Delete(queue) => self.step("delete", queue, None, reading),
                Command::Attach(queue) => self.step("attach", queue, None, reading),
                Command::Configure(queue, _) => self.step("configure", queue, None, reading),
                Command::Unlearn { queue, .. } => self.step("unlearn", queue, None, reading),
            }
        }
        if rest.is_empty() { Ok(()) } else { Err(EntryError::Trailing) }
    }

    fn changes(&mut self, mut payload: &[u8], reading: &Reading<'_>) -> Result<(), ChangeError> {
        while !payload.is_empty() {
            let (change, len) = Change::decode(payload)?;
            payload = &payload[len..];
            let (command, vhost, object) = describe(&change, reading.topology).unwrap_or_else(|| unnamed(&change));
            if self.concerns(command, reading.wants(queue_of(&change))) && reading.shown {
                self.commands.push(ShownCommand::Change { command, vhost, object });
            }
        }
        Ok(())
    }
}

fn queue_of(change: &Change) -> Option<QueueId> {
    match change {
        Change::CreateQueue(record) => Some(record.id),
        Change::DeleteQueue { id, .. } | Change::PauseQueue { id, .. } => Some(*id),
        Change::Bind(record) | Change::Unbind(record) => match record.destination {
            Destination::Queue(id) => Some(id),
            Destination::Exchange(_) => None,
        },
        _ => None,
    }
}

/// What concerns a queue that is not declared any more, or the numbers of queues.
fn unnamed(change: &Change) -> (&'static str, String, String) {
    let command = match change {
        Change::DeleteQueue { .. } => "queue.delete",
        Change::PauseQueue { paused: true, .. } => "queue.pause",
        Change::PauseQueue { .. } => "queue.resume",
        _ => "queue_ids",
    };
    (command, String::new(), queue_of(change).map_or_else(String::new, |queue| format!("number {}", queue.0)))
}

impl Reading<'_> {
    fn wants(&self, queue: Option<QueueId>) -> bool {
        self.chosen.is_none_or(|chosen| queue.is_some_and(|queue| chosen.contains(&queue)))
    }

    fn queue(&self, queue: QueueId) -> ShownQueue {
        let record = self.topology.queue_by_id(queue);
        ShownQueue {
            id: queue.0,
            vhost: record.map(|record| record.vhost.to_string()),
            name: record.map(|record| record.name.to_string()),
        }
    }

    fn publish(&self, publish: &Publish<'_>, message: &Message) -> ShownCommand {
        ShownCommand::Publish {
            queues: publish.queues().map(|queue| self.queue(queue)).collect(),
            exchange: message.exchange().to_owned(),
            routing_key: message.routing_key().to_owned(),
            header_bytes: message.header().len(),
            body_bytes: message.body().len(),
            body: self.body_bytes.map(|bytes| ShownBody::new(message.body(), bytes)),
        }
    }
}

impl ShownBody {
    /// The body, or its first octets; a character that is cut in two is left out.
    fn new(body: &[u8], bytes: usize) -> Self {
        let octets = &body[..body.len().min(bytes)];
        let text = octets.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        let is_cut = octets.len() < body.len() && octets.len() - text.len() < 4;
        if text.len() == octets.len() || (is_cut && std::str::from_utf8(body).is_ok()) {
            Self { encoding: "string", content: text.to_owned() }
        } else {
            Self { encoding: "base64", content: BASE64_STANDARD.encode(octets) }
        }
    }
}
