//! A connection that consumes.

use std::io::Write;
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use warren_amqp::{ToServer, basic};

use super::frames::{BODY, Filled, Frames, HEADER, METHOD, RawFrame, number_at, refuse_end};
use super::message::Stamp;
use super::stage::{Counter, Stage, now};

/// Class 60, method 60: `basic.deliver`.
const DELIVER: [u8; 4] = [0, 60, 0, 60];
/// More producers than any load has: bounds what a strange body can make us keep.
const PRODUCERS_MAX: usize = 1 << 16;

/// A consumer whose consume was answered.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) stream: TcpStream,
    pub(super) frames: Frames,
    /// After how many deliveries it acknowledges them; 0: it consumes without acknowledgements.
    pub(super) ack: u64,
}

/// What a consumer got.
#[derive(Debug)]
pub(super) struct Consumed {
    /// Sum of the messages' identities.
    pub(super) checksum: u64,
    /// From sending to arrival, in nanoseconds, while measuring.
    pub(super) latency: Histogram<u64>,
}

/// The state of a consumer that runs.
struct Run<'a> {
    stage: &'a Stage,
    arrival: u64,
    delivery_tag: u64,
    /// Octets of the body that have not come; the delivery's content begins with `None`.
    missing: Option<u64>,
    stamp: Option<Stamp>,
    /// Number of the newest message of each producer.
    newest: Vec<u64>,
    messages: u64,
    consumed: Consumed,
}

impl Consumer {
    /// Takes deliveries until `stage` says that all have come.
    ///
    /// # Errors
    /// The broker ends the connection or the consumer, or messages of one producer come out of order or twice.
    pub(super) fn run(mut self, stage: &Stage, done: &Counter) -> Result<(Self, Consumed)> {
        let consumed = Consumed { checksum: 0, latency: super::histogram() };
        let mut run = Run {
            stage,
            arrival: 0,
            delivery_tag: 0,
            missing: None,
            stamp: None,
            newest: Vec::new(),
            messages: 0,
            consumed,
        };
        let mut acknowledged = 0;
        while !stage.is_drained() {
            let filled = self.frames.wait(&self.stream)?;
            run.arrival = now();
            let before = run.messages;
            while let Some(frame) = self.frames.next()? {
                run.take(frame)?;
                if self.ack > 0 && run.delivery_tag >= acknowledged + self.ack && run.missing.is_none() {
                    acknowledged = self.acknowledge(run.delivery_tag)?;
                }
            }
            // What is left over goes when the queue is idle.
            if filled == Filled::Nothing && self.ack > 0 && run.delivery_tag > acknowledged && run.missing.is_none() {
                acknowledged = self.acknowledge(run.delivery_tag)?;
            }
            done.add(run.messages - before);
            stage.consumed(run.messages - before);
        }
        Ok((self, run.consumed))
    }

    fn acknowledge(&mut self, delivery_tag: u64) -> Result<u64> {
        let mut octets = Vec::with_capacity(32);
        ToServer::BasicAck(basic::Ack { delivery_tag, multiple: true }).encode(1, &mut octets);
        self.stream.write_all(&octets).context("send an acknowledgement")?;
        Ok(delivery_tag)
    }
}

impl Run<'_> {
    fn take(&mut self, frame: RawFrame<'_>) -> Result<()> {
        match frame.kind {
            METHOD if frame.payload.starts_with(&DELIVER) => {
                // A short string, the consumer's tag, comes before the delivery's.
                let at = 5 + usize::from(frame.payload.get(4).copied().unwrap_or_default());
                self.delivery_tag = number_at(frame.payload, at).context("a delivery without a tag")?;
                self.missing = Some(0);
            }
            METHOD => refuse_end(frame.payload)?,
            HEADER => self.missing = Some(number_at(frame.payload, 4).context("a header without a body size")?),
            BODY => {
                if self.stamp.is_none() {
                    self.stamp = Some(Stamp::read(frame.payload)?);
                }
                let left = self.missing.and_then(|missing| missing.checked_sub(frame.payload.len() as u64));
                self.missing = Some(left.context("a body is longer than its header says")?);
                if self.missing == Some(0) {
                    self.message()?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn message(&mut self) -> Result<()> {
        self.missing = None;
        let stamp = self.stamp.take().context("a message without a stamp")?;
        let producer = stamp.producer as usize;
        ensure!(producer < PRODUCERS_MAX, "a body that no producer of ours sent");
        if producer >= self.newest.len() {
            self.newest.resize(producer + 1, 0);
        }
        let newest = std::mem::replace(&mut self.newest[producer], stamp.number);
        ensure!(newest < stamp.number, "message {} of producer {producer} came after {newest}", stamp.number);
        self.messages += 1;
        self.consumed.checksum = self.consumed.checksum.wrapping_add(stamp.identity());
        if self.stage.is_measuring() {
            self.consumed.latency.saturating_record(self.arrival.saturating_sub(stamp.sent));
        }
        Ok(())
    }
}
