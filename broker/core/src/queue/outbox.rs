//! What is on its way to the log, and what waits behind it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use super::input::{PublishRun, Receipt, ShardInput};
use super::settled::Unlearnt;
use crate::command::{ENTRY_HEADER_LEN, EntryHeader};
use crate::identity::QueueId;
use crate::limits::{ENTRY_BYTES, ENTRY_COMMANDS};

/// A part of an entry, or what waits behind it.
#[derive(Debug)]
enum Step {
    /// Publishes, applied when the entry is committed.
    Run(PublishRun),
    /// Commands that took effect when they were written. `urgent`: somebody waits for one of them.
    Own { commands: Vec<u8>, count: u32, urgent: bool },
    /// Not logged; carried out in its turn.
    Deferred(ShardInput),
    /// Not logged: what follows once what is before it is in the log.
    Outcome(Outcome),
}

/// What takes effect when an entry is committed.
#[derive(Debug)]
pub(super) enum Due {
    /// Publishes that begin so many octets into the entry.
    Run(PublishRun, u32),
    /// An input that has waited.
    Deferred(ShardInput),
    /// What has become of publishes.
    Outcome(Outcome),
}

/// What has become of the publishes of a run that did not all join their queues: publishers are told when it is in the log,
/// or a restart might undo what they were told.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) receipts: Vec<Receipt>,
    /// Those that were refused, by their index in the run, ascending.
    pub(super) refused: Vec<u32>,
    pub(super) unlearnt: Vec<(QueueId, Unlearnt)>,
}

impl Step {
    fn len(&self) -> usize {
        match self {
            Self::Run(run) => run.commands.len(),
            Self::Own { commands, .. } => commands.len(),
            Self::Deferred(ShardInput::Publish(run)) => run.commands.len(),
            Self::Deferred(_) | Self::Outcome(_) => 0,
        }
    }

    /// It takes no room in an entry.
    fn is_free(&self) -> bool {
        matches!(self, Self::Deferred(_) | Self::Outcome(_))
    }

    fn is_urgent(&self) -> bool {
        !matches!(self, Self::Own { urgent: false, .. })
    }
}

/// The steps of one shard that are not committed yet, in order.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    filling: VecDeque<Step>,
    /// The lengths of what is in `filling`.
    waiting_bytes: usize,
    /// How many steps in `filling` are urgent.
    urgent: usize,
    /// By entry, with the time that it bears.
    in_flight: VecDeque<(u64, Vec<Due>)>,
    /// Runs and deferred inputs in `filling` and `in_flight`.
    unapplied: usize,
}

impl Outbox {
    /// True if nothing waits for the log and nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.filling.is_empty() && self.in_flight.is_empty()
    }

    /// True if something waits for the next entry.
    pub(super) fn is_filling(&self) -> bool {
        !self.filling.is_empty()
    }

    /// True if something has to take effect before what comes now.
    pub(super) fn has_unapplied(&self) -> bool {
        self.unapplied > 0
    }

    /// True if somebody waits for something that no entry has taken yet.
    pub(super) fn has_urgent(&self) -> bool {
        self.urgent > 0
    }

    /// Octets that no entry has taken yet.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Adds publishes that are to be logged.
    pub(super) fn push_run(&mut self, run: PublishRun) {
        self.unapplied += 1;
        self.push(Step::Run(run));
    }

    /// Puts `input` behind everything that is on its way.
    pub(super) fn defer(&mut self, input: ShardInput) {
        self.unapplied += 1;
        match self.in_flight.back_mut() {
            Some((_, due)) if self.filling.is_empty() => due.push(Due::Deferred(input)),
            _ => self.push(Step::Deferred(input)),
        }
    }

    /// Adds a command of the shard's own to the step at the end that takes such commands, unless that is full.
    pub(super) fn push_own(&mut self, urgent: bool, write: impl FnOnce(&mut Vec<u8>)) {
        let open = |step: &&mut Step| matches!(step, Step::Own { commands, .. } if commands.len() < ENTRY_BYTES);
        if let Some(Step::Own { commands, count, urgent: waited_for }) = self.filling.back_mut().filter(open) {
            let before = commands.len();
            write(commands);
            *count += 1;
            self.waiting_bytes += commands.len() - before;
            self.urgent += usize::from(urgent && !*waited_for);
            *waited_for |= urgent;
        } else {
            let mut commands = Vec::new();
            write(&mut commands);
            self.push(Step::Own { commands, count: 1, urgent });
        }
    }

    /// Has `outcome` come back when all that was added before is in the log.
    pub(super) fn push_outcome(&mut self, outcome: Outcome) {
        self.unapplied += 1;
        self.push(Step::Outcome(outcome));
    }

    fn push(&mut self, step: Step) {
        self.waiting_bytes += step.len();
        self.urgent += usize::from(step.is_urgent());
        self.filling.push_back(step);
    }

    /// The next entry, as slices to be written one behind the other. `header` comes without the number of commands.
    pub(super) fn take_entry(&mut self, mut header: EntryHeader) -> Vec<Bytes> {
        let (mut slices, mut due) = (Vec::from([Bytes::new()]), Vec::new());
        let mut len = ENTRY_HEADER_LEN;
        let has_room = |len: usize, commands: u32| len < ENTRY_HEADER_LEN + ENTRY_BYTES && commands < ENTRY_COMMANDS;
        while let Some(step) = self.filling.pop_front_if(|step| has_room(len, header.commands) || step.is_free()) {
            self.waiting_bytes -= step.len();
            self.urgent -= usize::from(step.is_urgent());
            let (commands, count) = match step {
                Step::Run(run) => {
                    let logged = (run.commands.clone(), run.count);
                    due.push(Due::Run(run, len as u32));
                    logged
                }
                Step::Own { commands, count, .. } => (Bytes::from(commands), count),
                Step::Deferred(input) => {
                    due.push(Due::Deferred(input));
                    continue;
                }
                Step::Outcome(outcome) => {
                    due.push(Due::Outcome(outcome));
                    continue;
                }
            };
            len += commands.len();
            header.commands += count;
            slices.push(commands);
        }
        slices[0] = Bytes::copy_from_slice(&header.encode());
        self.in_flight.push_back((header.now_ms, due));
        slices
    }

    /// What is due now that the oldest entry in flight is committed, and the time that this entry bears.
    pub(super) fn committed(&mut self) -> (u64, Vec<Due>) {
        let (now_ms, due) = self.in_flight.pop_front().unwrap_or_default();
        self.unapplied -= due.len();
        (now_ms, due)
    }
}
