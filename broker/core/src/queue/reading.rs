//! A queue that is a stream: what it keeps, and its consumers as readers.

use super::deal::Occasion;
use super::event::Event;
use super::store::Body;
use super::stream::{Record, Retention, Stream, fingerprint};
use super::{Delivery, PositionRange, Queue, QueueSettings, Settlement};
use crate::command::Attributes;
use crate::identity::ChannelKey;

impl Retention {
    fn of(settings: &QueueSettings) -> Self {
        Self { max_bytes: settings.max_length_bytes, max_age: settings.max_age }
    }
}

impl Stream {
    /// Appends a message that was logged at `time_ms`. There are no others: sessions have all messages for streams logged.
    pub(super) fn push(&mut self, body: &Body, attributes: &Attributes<'_>, time_ms: u64, settings: &QueueSettings) {
        if let Body::Log { location, shared } = *body {
            let value = attributes.filter.map(fingerprint);
            self.messages.push(Record { location, shared, time_ms, value }, Retention::of(settings));
        }
    }

    /// When there is something to do that no input asks for.
    pub(super) fn deadline(&self, settings: &QueueSettings) -> Option<u64> {
        let resumes = self.readers.have_paused().then_some(0);
        resumes.or_else(|| self.messages.expires(Retention::of(settings)))
    }
}

impl Queue {
    /// Lets readers go on that have only paused.
    pub(super) fn resume_readers(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.readers.resume(|number| self.holders.rejoin_turn(number));
        }
    }

    /// Drops what a stream is not to keep any more, and hands its readers what they have room for.
    pub(super) fn dispatch_stream(&mut self, stream: &mut Stream, occasion: &mut Occasion<'_>) {
        stream.messages.retain(occasion.now_ms, Retention::of(&self.settings), occasion.done);
        if self.settings.paused {
            return;
        }
        stream.readers.wake(&stream.messages, |number| self.holders.rejoin_turn(number));
        while let Some((number, _)) = self.holders.next() {
            let Some(reading) = stream.readers.read(number, &stream.messages) else {
                self.holders.pass(number);
                continue;
            };
            let Record { location, shared, .. } = reading.record;
            let message = occasion.source.message(Body::Log { location, shared });
            let key = self.holders.took(number, message.size());
            let delivery = Delivery {
                queue: self.id,
                position: reading.position,
                redelivered: false,
                delivery_count: 0,
                offset: Some(reading.offset),
                message,
            };
            occasion.out.tell(key.connection, Event::Deliver(key, delivery));
            self.activity.counters_mut().delivered += 1;
        }
    }

    /// Gives readers room for as many messages as were settled, in whatever way: a stream keeps its messages (RabbitMQ
    /// does the same with `basic.nack` and `basic.reject`).
    pub(super) fn settle_stream(&mut self, holder: ChannelKey, ranges: &[PositionRange], settlement: Settlement) {
        let Some(stream) = &self.stream else {
            return;
        };
        for (number, count) in ranges.iter().filter_map(|range| stream.readers.settled(*range)) {
            let released = self.holders.release_many(number, count, holder);
            if settlement == Settlement::Done {
                self.activity.counters_mut().acknowledged += u64::from(released);
            }
        }
    }
}
