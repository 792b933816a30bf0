//! A connection that publishes.

use std::collections::VecDeque;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use warren_amqp::ToClient;

use super::frames::{Filled, Frames, METHOD, refuse_end};
use super::message::{Batch, Stamp};
use super::stage::{Counter, Stage, now};

/// How long a broker may take for a confirm, or not read, before the load counts as failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a producer looks whether the consumers have caught up.
const CONSUMERS_LAG: Duration = Duration::from_millis(1);

/// A producer that is connected.
#[derive(Debug)]
pub(super) struct Producer {
    pub(super) stream: TcpStream,
    pub(super) frames: Frames,
    pub(super) batch: Batch,
    /// How many messages one write brings at most; not more than `batch` holds.
    pub(super) batch_max: u64,
    /// Number of this producer in its messages.
    pub(super) index: u64,
    /// How many messages may wait for their confirm; 0: without confirms.
    pub(super) window: u64,
    /// Messages per second; none: as fast as it goes.
    pub(super) rate: Option<f64>,
    /// How many messages to publish; none: until it is told to stop.
    pub(super) count: Option<u64>,
}

/// What a producer did.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) messages: u64,
    /// Sum of the messages' identities.
    pub(super) checksum: u64,
    /// From sending to confirm, in nanoseconds, while measuring.
    pub(super) confirm_latency: Histogram<u64>,
}

/// The state of a producer that runs.
struct Run<'a> {
    producer: Producer,
    stage: &'a Stage,
    /// Publishes, or with confirms those that were confirmed.
    done: &'a Counter,
    started: u64,
    sent: u64,
    checksum: u64,
    unconfirmed: Unconfirmed,
    latency: Histogram<u64>,
    /// Until when the broker held us back: what was due before counts from when it was due.
    held_until: u64,
}

/// When each message was sent that waits for its confirm.
#[derive(Debug, Default)]
struct Unconfirmed {
    /// From the oldest on; 0 where the confirm came out of turn.
    sent: VecDeque<u64>,
    /// Delivery tag of the oldest, less one.
    before: u64,
    count: u64,
}

impl Producer {
    /// Publishes until it has sent its count or `stage` says stop, then waits for the remaining confirms.
    ///
    /// # Errors
    /// The broker refuses a message, ends the connection, or does nothing for a minute.
    pub(super) fn run(self, stage: &Stage, done: &Counter) -> Result<(Self, Published)> {
        self.stream.set_write_timeout(Some(PATIENCE)).context("set a timeout")?;
        let mut run = Run {
            producer: self,
            stage,
            done,
            started: now(),
            sent: 0,
            checksum: 0,
            unconfirmed: Unconfirmed::default(),
            latency: super::histogram(),
            held_until: 0,
        };
        run.publish_all()?;
        run.wait_for_confirms()?;
        let Run { producer, sent, checksum, latency, .. } = run;
        Ok((producer, Published { messages: sent, checksum, confirm_latency: latency }))
    }
}

impl Run<'_> {
    fn publish_all(&mut self) -> Result<()> {
        while !self.stage.is_over() && self.left() > 0 {
            if self.has_window() == 0 {
                // The socket's timeout brings us back to look at the stage.
                self.producer.frames.wait(&self.producer.stream)?;
                self.take_confirms()?;
                self.held_until = now();
                continue;
            }
            if self.stage.is_full() {
                std::thread::sleep(CONSUMERS_LAG);
                continue;
            }
            let at = now();
            let count = self.is_due(at).min(self.has_window()).min(self.left()).min(self.producer.batch_max);
            if count == 0 {
                self.wait_until_due(at)?;
                continue;
            }
            self.publish(count, at)?;
            if self.producer.window > 0 && self.producer.frames.look(&self.producer.stream)? == Filled::Some {
                self.take_confirms()?;
            }
        }
        Ok(())
    }

    fn left(&self) -> u64 {
        self.producer.count.map_or(u64::MAX, |count| count - self.sent)
    }

    fn has_window(&self) -> u64 {
        if self.producer.window == 0 { u64::MAX } else { self.producer.window - self.unconfirmed.count }
    }

    /// How many messages the rate lets go at `at`.
    fn is_due(&self, at: u64) -> u64 {
        let due = |rate| ((at - self.started) as f64 * rate / 1e9) as u64 + 1;
        self.producer.rate.map_or(u64::MAX, |rate| due(rate).saturating_sub(self.sent))
    }

    /// When the rate lets message `number` go, counted from 0.
    fn due(&self, number: u64) -> u64 {
        self.producer.rate.map_or(0, |rate| self.started + (number as f64 * 1e9 / rate) as u64)
    }

    fn publish(&mut self, count: u64, at: u64) -> Result<()> {
        for position in 0..count {
            let due = self.due(self.sent);
            self.sent += 1;
            // What the broker did not let us send in time is late by its fault, what our own timer brought late is not.
            let sent = if self.producer.rate.is_some() && due < self.held_until { due } else { at };
            let stamp = Stamp { producer: self.producer.index, number: self.sent, sent };
            self.producer.batch.stamp(position, stamp);
            self.checksum = self.checksum.wrapping_add(stamp.identity());
            if self.producer.window > 0 {
                self.unconfirmed.add(sent);
            }
        }
        if let Err(error) = (&self.producer.stream).write_all(self.producer.batch.octets(count)) {
            // The broker may have said why before it closed.
            self.producer.frames.look(&self.producer.stream)?;
            self.take_confirms()?;
            return Err(error).context("the broker takes no more messages");
        }
        if self.producer.rate.is_some() {
            self.held_until = now();
        }
        if self.producer.window == 0 {
            self.done.add(count);
        }
        self.stage.published(count);
        Ok(())
    }

    /// Waits until the next message is due, or something comes.
    fn wait_until_due(&mut self, at: u64) -> Result<()> {
        let rest = Duration::from_nanos(self.due(self.sent).saturating_sub(at).max(1));
        let timeout = Timespec { tv_sec: rest.as_secs().cast_signed(), tv_nsec: i64::from(rest.subsec_nanos()) };
        let mut readable = [PollFd::new(&self.producer.stream, PollFlags::IN)];
        if poll(&mut readable, Some(&timeout)).context("wait for the broker")? > 0 {
            self.producer.frames.look(&self.producer.stream)?;
            self.take_confirms()?;
        }
        Ok(())
    }

    fn take_confirms(&mut self) -> Result<()> {
        let (mut confirmed, at) = (0, now());
        while let Some(frame) = self.producer.frames.next()? {
            if frame.kind != METHOD {
                continue;
            }
            let ToClient::BasicAck(ack) = ToClient::decode(frame.payload)? else {
                refuse_end(frame.payload)?;
                continue;
            };
            let measure = self.stage.is_measuring();
            confirmed += self.unconfirmed.confirm(ack.delivery_tag, ack.multiple, |sent| {
                if measure {
                    self.latency.saturating_record(at.saturating_sub(sent));
                }
            })?;
        }
        if confirmed > 0 {
            self.done.add(confirmed);
        }
        Ok(())
    }

    fn wait_for_confirms(&mut self) -> Result<()> {
        let mut progress = now();
        while self.unconfirmed.count > 0 {
            let before = self.unconfirmed.count;
            self.producer.frames.wait(&self.producer.stream)?;
            self.take_confirms()?;
            if self.unconfirmed.count < before {
                progress = now();
            } else if now() - progress > PATIENCE.as_nanos() as u64 {
                bail!("{before} messages were not confirmed within {} s", PATIENCE.as_secs());
            }
        }
        Ok(())
    }
}

impl Unconfirmed {
    fn add(&mut self, sent: u64) {
        self.sent.push_back(sent);
        self.count += 1;
    }

    /// Takes a confirm and calls `each` with when its messages were sent. Answers how many they are.
    fn confirm(&mut self, tag: u64, multiple: bool, mut each: impl FnMut(u64)) -> Result<u64> {
        let position = tag.checked_sub(self.before + 1).filter(|position| *position < self.sent.len() as u64);
        let position = position.with_context(|| format!("confirm {tag} is for no message that waits for one"))?;
        let mut confirmed = 0;
        let first = if multiple { 0 } else { position };
        for sent in self.sent.range_mut(first as usize..=position as usize) {
            ensure!(multiple || *sent != 0, "message {tag} was confirmed twice");
            if *sent != 0 {
                each(std::mem::take(sent));
                confirmed += 1;
            }
        }
        while self.sent.front() == Some(&0) {
            self.sent.pop_front();
            self.before += 1;
        }
        self.count -= confirmed;
        Ok(confirmed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirms_count_each_message_once_in_any_order() {
        let mut unconfirmed = Unconfirmed::default();
        (1..=5).for_each(|sent| unconfirmed.add(sent * 10));
        let mut seen = Vec::new();
        let mut confirm = |tag, multiple| unconfirmed.confirm(tag, multiple, |sent| seen.push(sent));
        assert_eq!(confirm(3, false).unwrap(), 1);
        assert_eq!(confirm(2, true).unwrap(), 2);
        assert!(confirm(3, false).is_err(), "confirmed twice");
        assert!(confirm(6, true).is_err(), "never sent");
        assert_eq!(confirm(5, true).unwrap(), 2);
        assert_eq!(seen, [30, 10, 20, 40, 50]);
        assert_eq!((unconfirmed.count, unconfirmed.before), (0, 5));
    }
}
