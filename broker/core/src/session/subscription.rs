//! The terms of a `basic.consume`: its flags and arguments, against the type of the queue.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use warren_amqp::{ReplyCode, Table, TableError, Value, basic, limits};

use super::prefetch::Prefetch;
use crate::error::Exception;
use crate::limits::STREAM_FILTERS;
use crate::queue::{QueueKind, QueueSettings, StreamOffset, StreamReading, Subscription};
use crate::time::interval_millis;

/// Arguments of `basic.consume` that mean something, each with the types of queues that take it. RabbitMQ takes any that it
/// does not know, and refuses those that it knows from other types.
const ARGUMENTS: [(&str, &[QueueKind]); 5] = [
    ("x-priority", &[QueueKind::Classic, QueueKind::Quorum]),
    ("x-consumer-timeout", &[QueueKind::Quorum]),
    ("x-stream-offset", &[QueueKind::Stream]),
    ("x-stream-filter", &[QueueKind::Stream]),
    ("x-stream-match-unfiltered", &[QueueKind::Stream]),
];

/// A `basic.consume` on a queue that was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) consume: &'a basic::Consume<'a>,
    pub(super) settings: &'a QueueSettings,
    pub(super) queue: &'a str,
    pub(super) vhost: &'a str,
    pub(super) prefetch: Prefetch,
}

impl Terms<'_> {
    /// What the queue's shard is told.
    ///
    /// # Errors
    /// RabbitMQ's refusals: 403 if the queue cannot be consumed like this, 406 for an argument, 540 for what streams do not
    /// have.
    pub(super) fn subscription(&self) -> Result<Subscription, Exception> {
        let Self { consume, settings, .. } = self;
        self.check_kind()?;
        let timeout = self.natural("x-consumer-timeout")?;
        let stream = if settings.kind == QueueKind::Stream { Some(self.stream()?) } else { None };
        // Quorum queues and streams take the flag without effect.
        let exclusive = consume.exclusive && settings.kind == QueueKind::Classic;
        if exclusive && settings.single_active_consumer {
            return Err(exclusive_use(self.queue, self.vhost));
        }
        let priority = self.integer("x-priority")?.unwrap_or(0).clamp(i32::MIN.into(), i32::MAX.into());
        Ok(Subscription {
            no_ack: consume.no_ack,
            exclusive,
            prefetch_count: self.prefetch.of_consumer().into(),
            priority: i32::try_from(priority).unwrap_or(0),
            consumer_timeout: timeout,
            stream,
        })
    }

    /// Whether a queue of this type takes these arguments and flags.
    fn check_kind(&self) -> Result<(), Exception> {
        let kind = self.settings.kind;
        for (name, kinds) in ARGUMENTS {
            if !kinds.contains(&kind) && self.consume.arguments.get(name).is_ok_and(|value| value.is_some()) {
                return Err(self.invalid(name, &format!(" of queue type {}", type_name(kind))));
            }
        }
        match kind {
            QueueKind::Delayed => Err(no_consumers(self.queue, self.vhost)),
            QueueKind::Stream if self.consume.no_ack => Err(Exception::connection(
                ReplyCode::NotImplemented,
                format!(
                    "automatic acknowledgement not supported by stream queue '{}' in vhost '{}'",
                    self.queue, self.vhost
                ),
            )),
            QueueKind::Stream if self.prefetch.consumer == 0 => Err(Exception::channel(
                ReplyCode::PreconditionFailed,
                format!(
                    "consumer prefetch count is not set for stream queue '{}' in vhost '{}'",
                    self.queue, self.vhost
                ),
            )),
            QueueKind::Stream | QueueKind::Classic | QueueKind::Quorum => Ok(()),
        }
    }

    fn stream(&self) -> Result<StreamReading, Exception> {
        let from = match self.argument("x-stream-offset") {
            None => StreamOffset::default(),
            Some(value) => offset(value).ok_or_else(|| self.invalid("x-stream-offset", &no_offset(value)))?,
        };
        let filter = filters(self.argument("x-stream-filter"));
        if filter.len() > STREAM_FILTERS {
            let reason = format!(": {} values, at most {STREAM_FILTERS} are possible", filter.len());
            return Err(self.invalid("x-stream-filter", &reason));
        }
        let match_unfiltered = self.argument("x-stream-match-unfiltered") == Some(Value::Bool(true));
        Ok(StreamReading { from, filter, match_unfiltered })
    }

    fn argument(&self, name: &str) -> Option<Value<'_>> {
        // The table has been walked to its end.
        self.consume.arguments.get(name).ok().flatten()
    }

    fn integer(&self, name: &str) -> Result<Option<i64>, Exception> {
        let Some(value) = self.argument(name) else { return Ok(None) };
        let refused = || self.invalid(name, &format!(": \"expected integer, got {}\"", value.type_name()));
        value.as_integer().map(Some).ok_or_else(refused)
    }

    fn natural(&self, name: &str) -> Result<Option<u64>, Exception> {
        let Some(value) = self.integer(name)? else { return Ok(None) };
        u64::try_from(value).map(Some).map_err(|_| self.invalid(name, &format!(": {{value_negative,{value}}}")))
    }

    fn invalid(&self, argument: &str, reason: &str) -> Exception {
        let text = format!("invalid arg '{argument}' for queue '{}' in vhost '{}'{reason}", self.queue, self.vhost);
        Exception::channel(ReplyCode::PreconditionFailed, text)
    }
}

/// A consumer on the queue wants or has it for itself.
pub(super) fn exclusive_use(queue: &str, vhost: &str) -> Exception {
    Exception::channel(ReplyCode::AccessRefused, format!("queue '{queue}' in vhost '{vhost}' in exclusive use"))
}

/// The queue is the store of a delayed exchange.
pub(super) fn no_consumers(queue: &str, vhost: &str) -> Exception {
    let text =
        format!("queue '{queue}' in vhost '{vhost}' keeps the messages of a delayed exchange; nobody consumes from it");
    Exception::channel(ReplyCode::AccessRefused, text)
}

/// Walks the arguments to their end.
pub(super) fn check_arguments(arguments: Table<'_>) -> Result<(), Exception> {
    let malformed = |error: TableError| Exception::connection(error.reply_code(), format!("arguments: {error}"));
    arguments.validate(&limits::TABLE).map_err(malformed)
}

/// The place in a stream that an `x-stream-offset` names: `first`, `last`, `next`, a number, a timestamp, or an interval
/// back from now such as `1h`.
fn offset(value: Value<'_>) -> Option<StreamOffset> {
    match value {
        Value::Timestamp(seconds) => Some(StreamOffset::Timestamp(seconds.saturating_mul(1_000))),
        Value::LongString(b"first") => Some(StreamOffset::First),
        Value::LongString(b"last") => Some(StreamOffset::Last),
        Value::LongString(b"next") => Some(StreamOffset::Next),
        Value::LongString(interval) => interval_millis(interval).map(StreamOffset::Interval),
        // RabbitMQ begins at the first message for negative numbers.
        number => Some(u64::try_from(number.as_integer()?).map_or(StreamOffset::First, StreamOffset::Number)),
    }
}

/// RabbitMQ's words for an offset that is none.
fn no_offset(value: Value<'_>) -> String {
    let kind = value.type_name();
    match value {
        Value::LongString([]) => format!(": {{invalid_stream_offset_arg,{{{kind},<<>>}}}}"),
        Value::LongString(octets) => {
            format!(": {{invalid_stream_offset_arg,{{{kind},<<\"{}\">>}}}}", String::from_utf8_lossy(octets))
        }
        _ => format!(": {{invalid_stream_offset_arg,{kind}}}"),
    }
}

/// The values that an `x-stream-filter` lets through: one, or an array of them. What is no text is overlooked (RabbitMQ).
fn filters(value: Option<Value<'_>>) -> Vec<Bytes> {
    let text = |value| match value {
        Value::LongString(octets) => Some(Bytes::copy_from_slice(octets)),
        _ => None,
    };
    match value {
        Some(Value::Array(values)) => values.iter().filter_map(|value| value.ok().and_then(text)).collect(),
        value => value.and_then(text).into_iter().collect(),
    }
}

/// The name of the queue type's module in RabbitMQ, which its texts have.
fn type_name(kind: QueueKind) -> &'static str {
    match kind {
        QueueKind::Classic | QueueKind::Delayed => "rabbit_classic_queue",
        QueueKind::Quorum => "rabbit_quorum_queue",
        QueueKind::Stream => "rabbit_stream_queue",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warren_amqp::TableBuilder;

    fn terms(arguments: Table<'_>, settings: &QueueSettings) -> Result<Subscription, Exception> {
        let consume = basic::Consume {
            queue: "q",
            consumer_tag: "t",
            no_local: false,
            no_ack: false,
            exclusive: false,
            no_wait: false,
            arguments,
        };
        Terms { consume: &consume, settings, queue: "q", vhost: "/", prefetch: Prefetch { consumer: 10, channel: 0 } }
            .subscription()
    }

    fn with<'v>(name: &str, value: impl Into<Value<'v>>, kind: QueueKind) -> Result<Subscription, Exception> {
        let table = TableBuilder::build(|table| {
            table.put(name, value);
        });
        terms(Table::new(&table), &QueueSettings { kind, ..QueueSettings::default() })
    }

    fn refused(name: &str, value: Value<'_>, kind: QueueKind, reason: &str) {
        let text = format!("invalid arg '{name}' for queue 'q' in vhost '/'{reason}");
        assert_eq!(with(name, value, kind), Err(Exception::channel(ReplyCode::PreconditionFailed, text)));
    }

    #[test]
    fn only_classic_queues_know_exclusive_consumers_and_those_of_one_active_consumer_refuse_them() {
        let exclusive = basic::Consume {
            queue: "q",
            consumer_tag: "t",
            no_local: false,
            no_ack: false,
            exclusive: true,
            no_wait: false,
            arguments: Table::EMPTY,
        };
        let asked = |kind, single_active_consumer| {
            let settings = &QueueSettings { kind, single_active_consumer, ..QueueSettings::default() };
            let prefetch = Prefetch { consumer: 10, channel: 0 };
            let terms = Terms { consume: &exclusive, settings, queue: "q", vhost: "/", prefetch };
            terms.subscription().map(|taken| taken.exclusive)
        };
        assert_eq!(asked(QueueKind::Classic, false), Ok(true));
        assert_eq!(asked(QueueKind::Classic, true), Err(exclusive_use("q", "/")));
        for kind in [QueueKind::Quorum, QueueKind::Stream] {
            assert_eq!(asked(kind, true), Ok(false), "{kind:?}");
        }
        assert_eq!(asked(QueueKind::Delayed, false), Err(no_consumers("q", "/")));
    }

    #[test]
    fn a_priority_is_any_integer() {
        let priority = |value| with("x-priority", value, QueueKind::Classic).expect("it is taken").priority;
        assert_eq!(
            [priority(Value::I32(-7)), priority(Value::U8(5)), priority(Value::I64(1 << 40))],
            [-7, 5, i32::MAX]
        );
        refused("x-priority", Value::from("a"), QueueKind::Quorum, ": \"expected integer, got longstr\"");
        refused("x-priority", Value::I32(1), QueueKind::Stream, " of queue type rabbit_stream_queue");
    }

    #[test]
    fn a_consumer_timeout_is_for_quorum_queues() {
        let taken = with("x-consumer-timeout", 1_000, QueueKind::Quorum).expect("it is taken");
        assert_eq!(taken.consumer_timeout, Some(1_000));
        refused("x-consumer-timeout", Value::I32(-1), QueueKind::Quorum, ": {value_negative,-1}");
        refused("x-consumer-timeout", Value::I32(1), QueueKind::Classic, " of queue type rabbit_classic_queue");
    }

    #[test]
    fn a_stream_is_read_from_any_of_the_places_that_have_a_name() {
        let from =
            |value| with("x-stream-offset", value, QueueKind::Stream).map(|taken| taken.stream.map(|it| it.from));
        for (value, offset) in [
            (Value::from("first"), StreamOffset::First),
            (Value::from("last"), StreamOffset::Last),
            (Value::from("next"), StreamOffset::Next),
            (Value::I32(7), StreamOffset::Number(7)),
            (Value::I64(-1), StreamOffset::First),
            (Value::Timestamp(1_700_000_000), StreamOffset::Timestamp(1_700_000_000_000)),
            (Value::Timestamp(u64::MAX), StreamOffset::Timestamp(u64::MAX)),
            (Value::from("90s"), StreamOffset::Interval(90_000)),
        ] {
            assert_eq!(from(value), Ok(Some(offset)), "{value:?}");
        }
        let default = terms(Table::EMPTY, &QueueSettings { kind: QueueKind::Stream, ..QueueSettings::default() });
        assert_eq!(default.expect("it is taken").stream, Some(StreamReading::default()));
        let reason = ": {invalid_stream_offset_arg,{longstr,<<\"nope\">>}}";
        refused("x-stream-offset", Value::from("nope"), QueueKind::Stream, reason);
        let reason = ": {invalid_stream_offset_arg,{longstr,<<>>}}";
        refused("x-stream-offset", Value::from(""), QueueKind::Stream, reason);
        refused("x-stream-offset", Value::Bool(true), QueueKind::Stream, ": {invalid_stream_offset_arg,bool}");
        refused("x-stream-offset", Value::from("first"), QueueKind::Quorum, " of queue type rabbit_quorum_queue");
    }

    #[test]
    fn a_stream_is_filtered_by_one_value_or_several() {
        let several = |count| {
            TableBuilder::build(|table| {
                table.array("x-stream-filter", |values| {
                    for _ in 0..count {
                        values.push("a").push(5);
                    }
                });
                table.put("x-stream-match-unfiltered", true);
            })
        };
        let settings = QueueSettings { kind: QueueKind::Stream, ..QueueSettings::default() };
        let stream = terms(Table::new(&several(2)), &settings).expect("it is taken").stream.expect("of a stream");
        assert_eq!((stream.filter, stream.match_unfiltered), ([&b"a"[..]; 2].map(Bytes::from_static).into(), true));
        assert!(terms(Table::new(&several(STREAM_FILTERS)), &settings).is_ok());
        assert!(terms(Table::new(&several(STREAM_FILTERS + 1)), &settings).is_err());
        let one = with("x-stream-filter", "a", QueueKind::Stream).expect("it is taken").stream.expect("of a stream");
        assert_eq!((one.filter, one.match_unfiltered), (Vec::from([Bytes::from_static(b"a")]), false));
    }
}
