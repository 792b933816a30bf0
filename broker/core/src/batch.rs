//! What goes to the shards, collected: inputs in order, and publishes gathered into runs.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::command::{Attributes, encode_publish_head};
use crate::identity::{ChannelKey, QueueId, ShardId};
use crate::limits::RUN_BYTES;
use crate::queue::{PositionRange, PublishRun, Receipt, Settlement, ShardInput};
use crate::topology::{Logging, Route};

/// Inputs for shards, those of each in order.
#[derive(Debug, Default)]
pub(crate) struct ShardBatches {
    batches: Vec<ShardBatch>,
    /// Where in `batches` the last input went.
    last: usize,
    /// How many octets of publishes may come in this go.
    expected: usize,
    /// How long the last run was: so long is the next, mostly.
    last_run: usize,
}

/// Inputs for one shard, in order.
#[derive(Debug)]
struct ShardBatch {
    shard: ShardId,
    inputs: Vec<ShardInput>,
    open: Option<OpenRun>,
}

/// A run of publishes that still grows.
#[derive(Debug)]
struct OpenRun {
    kind: RunKind,
    commands: Vec<u8>,
    count: u32,
    receipts: Vec<Receipt>,
}

/// What the publishes of a run have in common. Publishes to logged and to other queues never share a run: they would
/// overtake earlier ones that wait for the log, or wait for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunKind {
    /// They are logged.
    Logged,
    /// Their queues are logged; they are not, and wait behind those that are.
    BehindLogged,
    /// Neither they nor their queues are logged.
    Memory,
}

impl RunKind {
    const ALL: [Self; 3] = [Self::Logged, Self::BehindLogged, Self::Memory];

    fn of(logging: Logging, persistent: bool) -> Self {
        match logging {
            Logging::Nothing => Self::Memory,
            Logging::Persistent if !persistent => Self::BehindLogged,
            Logging::Persistent | Logging::Everything => Self::Logged,
        }
    }

    /// The kinds of run that a message to `routes` needs, each with its queues: how many, and which.
    #[inline]
    pub(crate) fn split(
        routes: &[Route],
        persistent: bool,
    ) -> impl Iterator<Item = (Self, (usize, impl Iterator<Item = QueueId>))> {
        Self::ALL.into_iter().filter_map(move |kind| {
            let queues = routes.iter().filter(move |route| Self::of(route.logging, persistent) == kind);
            let count = queues.clone().count();
            (count > 0).then(|| (kind, (count, queues.map(|route| route.queue))))
        })
    }
}

/// The parts of a message, not yet laid behind each other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub(crate) exchange: &'a [u8],
    pub(crate) routing_key: &'a [u8],
    pub(crate) header: &'a [u8],
    pub(crate) body: &'a [u8],
    pub(crate) attributes: Attributes<'a>,
}

impl Parts<'_> {
    /// Octets of its parts, without the attributes.
    pub(crate) fn len(&self) -> usize {
        self.exchange.len() + self.routing_key.len() + self.header.len() + self.body.len()
    }
}

impl ShardBatches {
    /// Takes what is for a shard, in order; `None`: there is no more for any.
    pub(crate) fn take_next(&mut self) -> Option<(ShardId, Vec<ShardInput>)> {
        self.batches.pop().map(ShardBatch::finish)
    }

    /// So many octets are about to become publishes: the runs that they go to get their memory at once.
    pub(crate) fn expect(&mut self, octets: usize) {
        self.expected = octets;
    }

    pub(crate) fn tell(&mut self, shard: ShardId, input: ShardInput) {
        let batch = self.batch(shard);
        batch.close_run();
        batch.inputs.push(input);
    }

    /// Adds a publish to `queues` (how many, and which) of `shard`.
    pub(crate) fn publish(
        &mut self,
        shard: ShardId,
        kind: RunKind,
        queues: (usize, impl Iterator<Item = QueueId>),
        parts: Parts<'_>,
        receipt: Option<Receipt>,
    ) {
        let capacity = self.last_run.min(self.expected);
        let run = self.batch(shard).run(kind, capacity);
        // Names came in short strings; header and body are bounded by frame-max and the largest message.
        let (exchange_len, key_len) = (parts.exchange.len() as u8, parts.routing_key.len() as u8);
        let (header_len, body_len) = (parts.header.len() as u32, parts.body.len() as u32);
        encode_publish_head(queues, exchange_len, key_len, header_len, body_len, &parts.attributes, &mut run.commands);
        run.commands.extend_from_slice(parts.exchange);
        run.commands.extend_from_slice(parts.routing_key);
        run.commands.extend_from_slice(parts.header);
        run.commands.extend_from_slice(parts.body);
        run.count += 1;
        let len = run.commands.len();
        if let Some(receipt) = receipt.map(|receipt| Receipt { index: run.count - 1, ..receipt })
            && !run.receipts.last_mut().is_some_and(|last| last.extend(receipt))
        {
            run.receipts.push(receipt);
        }
        self.last_run = len;
    }

    /// Settles messages; neighbours end up in one input.
    pub(crate) fn settle(
        &mut self,
        shard: ShardId,
        queue: QueueId,
        holder: ChannelKey,
        range: PositionRange,
        settlement: Settlement,
    ) {
        let batch = self.batch(shard);
        batch.close_run();
        match batch.inputs.last_mut() {
            Some(ShardInput::Settle { queue: last, holder: whose, ranges, settlement: same })
                if (*last, *whose, *same) == (queue, holder, settlement) =>
            {
                match ranges.last_mut() {
                    Some(last) if last.first + last.len == range.first => last.len += range.len,
                    _ => ranges.push(range),
                }
            }
            _ => batch.inputs.push(ShardInput::Settle { queue, holder, ranges: Vec::from([range]), settlement }),
        }
    }

    /// Adds other inputs behind those that are there.
    pub(crate) fn absorb(&mut self, other: Self) {
        for batch in other.batches {
            let (shard, inputs) = batch.finish();
            let batch = self.batch(shard);
            batch.close_run();
            batch.inputs.extend(inputs);
        }
    }

    #[inline]
    fn batch(&mut self, shard: ShardId) -> &mut ShardBatch {
        if self.batches.get(self.last).is_none_or(|batch| batch.shard != shard) {
            self.last = self.batches.iter().position(|batch| batch.shard == shard).unwrap_or_else(|| {
                self.batches.push(ShardBatch { shard, inputs: Vec::new(), open: None });
                self.batches.len() - 1
            });
        }
        &mut self.batches[self.last]
    }
}

impl ShardBatch {
    /// The run that publishes of this kind join: the open one, or a new one if it differs or is large enough.
    fn run(&mut self, kind: RunKind, capacity: usize) -> &mut OpenRun {
        if self.open.as_ref().is_some_and(|run| run.kind != kind || run.commands.len() >= RUN_BYTES) {
            self.close_run();
        }
        let open = || OpenRun { kind, commands: Vec::with_capacity(capacity), count: 0, receipts: Vec::new() };
        self.open.get_or_insert_with(open)
    }

    fn close_run(&mut self) {
        if let Some(OpenRun { kind, mut commands, count, receipts }) = self.open.take() {
            if commands.len() < commands.capacity() / 2 {
                // Messages in memory keep it, so it must not be much larger than they are.
                commands.shrink_to_fit();
            }
            let logged = kind == RunKind::Logged;
            let run = PublishRun { logged, commands: Bytes::from(commands), count, receipts };
            self.inputs.push(ShardInput::Publish(run));
        }
    }

    fn finish(mut self) -> (ShardId, Vec<ShardInput>) {
        self.close_run();
        (self.shard, self.inputs)
    }
}

impl Receipt {
    /// Takes `next` in if it follows directly; true if it did.
    fn extend(&mut self, next: Self) -> bool {
        let follows = self.channel == next.channel
            && self.first + self.len == next.first
            && u64::from(self.index) + self.len == u64::from(next.index);
        self.len += if follows { next.len } else { 0 };
        follows
    }
}
