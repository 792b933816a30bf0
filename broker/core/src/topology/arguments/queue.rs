//! The arguments of `queue.declare` that have a meaning, as RabbitMQ 4.3 takes and refuses them.
//!
//! | argument | types of queue | values |
//! |---|---|---|
//! | `x-queue-type` | all | `classic`, `quorum`, `stream`; without it the virtual host's default |
//! | `x-expires` | classic, quorum | milliseconds, 1 to ten years |
//! | `x-message-ttl` | classic, quorum | milliseconds, 0 to ten years |
//! | `x-dead-letter-exchange`, `x-dead-letter-routing-key` | classic, quorum | strings; the key only beside an exchange |
//! | `x-dead-letter-strategy` | quorum | `at-most-once`, `at-least-once`; the latter counts only with `x-overflow` `reject-publish` |
//! | `x-max-length` | classic, quorum | messages, from 0 on |
//! | `x-max-length-bytes` | all | octets, from 0 on |
//! | `x-overflow` | classic, quorum | `drop-head`, `reject-publish`, `reject-publish-dlx`; a quorum queue takes the last for the first |
//! | `x-max-priority` | classic | 0 to 255; quorum queues always have 32 priorities |
//! | `x-single-active-consumer` | classic, quorum | a boolean |
//! | `x-delivery-limit` | quorum | a number, below 0 for none; anything else counts as not given |
//! | `x-delayed-retry-type`, `-min`, `-max` | quorum | `all`, `failed`, `returned`, `disabled`; milliseconds; anything else counts as not given |
//! | `x-consumer-timeout` | quorum | milliseconds, from 0 on |
//! | `x-max-age` | stream | a number and one of `Y` `M` `D` `h` `m` `s` |
//! | `x-stream-max-segment-size-bytes`, `x-stream-filter-size-bytes` | stream | 0 to 3,000,000,000; 16 to 255. Without effect: how streams are laid out is ours |
//! | `x-message-deduplication` | classic, quorum | a boolean, as in the plugin of that name |
//! | `x-cache-size`, `x-cache-ttl` | classic, quorum | keys remembered, from 1 on; milliseconds, from 0 on |
//! | `x-deduplication-header` | classic, quorum | `x-deduplication-header`; another header is refused with 540 |
//! | `x-queue-mode`, `x-queue-version` | classic | anything; 2. Without effect, as in RabbitMQ |
//! | `x-queue-leader-locator`, `x-queue-master-locator` | all; classic | RabbitMQ's; anything. Without effect: the least loaded shard is chosen. RabbitMQ 4.3 closes the connection over the latter unless it is told not to |
//! | `x-initial-cluster-size`, `x-quorum-initial-group-size` | stream; quorum | from 1 on. Without effect while there is one replica |
//! | `x-max-in-memory-length`, `-bytes`, `x-consumer-disconnected-timeout` | quorum | from 0 on. Without effect, as in RabbitMQ on one node |
//!
//! Values are checked in the order of [`KNOWN`], then it is looked for arguments that do not fit the type, in the order
//! of the declaration: so RabbitMQ does, and clients see the same first mistake.

use alloc::format;
use alloc::string::String;

use bytes::Bytes;
use warren_amqp::{ReplyCode, Table, TableBuilder, Value};

use super::equivalence::{check_same_value, inequivalent};
use super::{check_size, lookup, precondition, printable, shown, wrong_type};
use crate::{Exception, limits};

/// The types of queue that can be declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum QueueType {
    Classic,
    Quorum,
    Stream,
}

impl QueueType {
    /// The value of `x-queue-type`.
    pub(in super::super) const fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
            Self::Stream => "stream",
        }
    }

    /// The type of that name; `None` if there is none.
    pub(in super::super) fn from_name(name: &str) -> Option<Self> {
        [Self::Classic, Self::Quorum, Self::Stream].into_iter().find(|queue_type| queue_type.name() == name)
    }

    /// RabbitMQ's internal name, which its error texts show.
    pub(in super::super) const fn module(self) -> &'static str {
        match self {
            Self::Classic => "rabbit_classic_queue",
            Self::Quorum => "rabbit_quorum_queue",
            Self::Stream => "rabbit_stream_queue",
        }
    }

    /// The type of a queue with these arguments, without looking whether they are right.
    pub(in super::super) fn of(arguments: &[u8]) -> Self {
        let value = lookup(arguments, TYPE).and_then(|value| value.as_str());
        value.and_then(Self::from_name).unwrap_or(Self::Classic)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

const TYPE: &str = "x-queue-type";
const MAX_AGE: &str = "x-max-age";
/// The header that deduplication goes by, and the value of the argument of that name.
pub(in super::super) const DEDUPLICATION_HEADER: &str = "x-deduplication-header";

const CLASSIC: u8 = QueueType::Classic.bit();
const QUORUM: u8 = QueueType::Quorum.bit();
const STREAM: u8 = QueueType::Stream.bit();
const QUEUE: u8 = CLASSIC | QUORUM;
const ALL: u8 = QUEUE | STREAM;

/// An argument that has a meaning, for which types of queue, and what its value may be.
struct Known {
    name: &'static str,
    types: u8,
    value: Allowed,
}

/// What a value may be.
#[derive(Clone, Copy)]
enum Allowed {
    Anything,
    /// A boolean.
    Flag,
    /// An integer, 0 or more.
    Count,
    /// An integer, 1 or more.
    Positive,
    /// Milliseconds up to ten years.
    Millis,
    /// Milliseconds from 1 up to ten years.
    PositiveMillis,
    /// A string, beside `x-dead-letter-exchange`.
    DeadLetterRoutingKey,
    /// 0 to 255.
    Priority,
    /// A number and a unit of time.
    Age,
    /// 2.
    Version,
    /// One of these strings; another one is called by the word.
    OneOf(&'static [&'static str], &'static str),
    /// A size of the cache of keys.
    CacheSize,
    /// The name of the only header that deduplication goes by.
    Header,
}

const fn known(name: &'static str, types: u8, value: Allowed) -> Known {
    Known { name, types, value }
}

const OVERFLOWS: &[&str] = &["drop-head", "reject-publish", "reject-publish-dlx"];
const STRATEGIES: &[&str] = &["at-most-once", "at-least-once"];
const LOCATORS: &[&str] = &["client-local", "balanced", "random", "least-leaders", "min-masters"];

const KNOWN: [Known; 32] = [
    known("x-expires", QUEUE, Allowed::PositiveMillis),
    known("x-message-ttl", QUEUE, Allowed::Millis),
    known("x-dead-letter-exchange", QUEUE, Allowed::Anything),
    known("x-dead-letter-routing-key", QUEUE, Allowed::DeadLetterRoutingKey),
    known("x-dead-letter-strategy", QUORUM, Allowed::OneOf(STRATEGIES, "invalid_dlx_strategy")),
    known("x-max-length", QUEUE, Allowed::Count),
    known("x-max-length-bytes", ALL, Allowed::Count),
    known("x-max-in-memory-length", QUORUM, Allowed::Count),
    known("x-max-in-memory-bytes", QUORUM, Allowed::Count),
    known("x-max-priority", CLASSIC, Allowed::Priority),
    known("x-overflow", QUEUE, Allowed::OneOf(OVERFLOWS, "invalid_overflow")),
    known("x-queue-mode", CLASSIC, Allowed::Anything),
    known("x-queue-version", CLASSIC, Allowed::Version),
    known("x-single-active-consumer", QUEUE, Allowed::Flag),
    known(TYPE, ALL, Allowed::Anything),
    known("x-delivery-limit", QUORUM, Allowed::Anything),
    known("x-delayed-retry-type", QUORUM, Allowed::Anything),
    known("x-delayed-retry-min", QUORUM, Allowed::Anything),
    known("x-delayed-retry-max", QUORUM, Allowed::Anything),
    known("x-consumer-timeout", QUORUM, Allowed::Count),
    known("x-consumer-disconnected-timeout", QUORUM, Allowed::Count),
    known(MAX_AGE, STREAM, Allowed::Age),
    known("x-stream-max-segment-size-bytes", STREAM, Allowed::Count),
    known("x-stream-filter-size-bytes", STREAM, Allowed::Count),
    known("x-initial-cluster-size", STREAM, Allowed::Positive),
    known("x-quorum-initial-group-size", QUORUM, Allowed::Positive),
    known("x-queue-leader-locator", ALL, Allowed::OneOf(LOCATORS, "invalid_queue_locator_arg")),
    known("x-queue-master-locator", CLASSIC, Allowed::Anything),
    known("x-message-deduplication", QUEUE, Allowed::Flag),
    known("x-cache-size", QUEUE, Allowed::CacheSize),
    known("x-cache-ttl", QUEUE, Allowed::Count),
    known(DEDUPLICATION_HEADER, QUEUE, Allowed::Header),
];

impl Known {
    fn fits(&self, queue_type: QueueType) -> bool {
        self.types & queue_type.bit() != 0
    }
}

/// The arguments with the queue's type among them if it is not classic: the one that a declaration without
/// `x-queue-type` means is the default of its virtual host, which may change later.
pub(in super::super) fn with_type(arguments: &Bytes, default: QueueType) -> Bytes {
    let named = lookup(arguments, TYPE).is_some_and(|value| value != Value::LongString(b""));
    if named || default == QueueType::Classic {
        return arguments.clone();
    }
    let entries = Table::new(arguments).iter().map_while(Result::ok).filter(|(name, _)| *name != TYPE);
    let octets = TableBuilder::build(|table| {
        table.put(TYPE, default.name());
        entries.for_each(|(name, value)| _ = table.put(name, value));
    });
    Bytes::from(octets)
}

/// Checks the arguments of a new queue; `queue` is how error texts call it.
pub(in super::super) fn check(queue: &str, arguments: &[u8]) -> Result<(), Exception> {
    check_size(queue, arguments)?;
    if let Some(value) = lookup(arguments, "x-dead-letter-exchange")
        && !matches!(value, Value::LongString(_))
    {
        return Err(wrong_type(value, "x-dead-letter-exchange", queue));
    }
    let queue_type = check_type(queue, arguments)?;
    for known in KNOWN.iter().filter(|known| known.fits(queue_type)) {
        if let Some(value) = lookup(arguments, known.name) {
            known.value.check(known.name, queue, value, arguments)?;
        }
    }
    for (name, _) in Table::new(arguments).iter().map_while(Result::ok) {
        if KNOWN.iter().any(|known| known.name == name && !known.fits(queue_type)) {
            let module = queue_type.module();
            return Err(precondition(format!("invalid arg '{name}' for {queue} of queue type {module}")));
        }
    }
    check_stream_layout(arguments)
}

fn check_type(queue: &str, arguments: &[u8]) -> Result<QueueType, Exception> {
    let reason = match lookup(arguments, TYPE) {
        None | Some(Value::LongString(b"")) => return Ok(QueueType::Classic),
        Some(Value::LongString(name)) => {
            if let Some(queue_type) = core::str::from_utf8(name).ok().and_then(QueueType::from_name) {
                return Ok(queue_type);
            }
            format!("\"unsupported queue type '{}'\"", printable(name))
        }
        Some(other) => unacceptable(other),
    };
    Err(invalid(queue, TYPE, &reason))
}

/// RabbitMQ's bounds, which it looks at last.
fn check_stream_layout(arguments: &[u8]) -> Result<(), Exception> {
    let integer = |name: &str| lookup(arguments, name).and_then(|value| value.as_integer());
    if integer("x-stream-max-segment-size-bytes").is_some_and(|size| size > limits::STREAM_SEGMENT_BYTES) {
        return Err(precondition(String::from("Exceeded max value for x-stream-max-segment-size-bytes")));
    }
    if integer("x-stream-filter-size-bytes").is_some_and(|size| !(16..=255).contains(&size)) {
        return Err(precondition(String::from("Invalid value for x-stream-filter-size-bytes")));
    }
    Ok(())
}

impl Allowed {
    fn check(self, name: &str, queue: &str, value: Value<'_>, arguments: &[u8]) -> Result<(), Exception> {
        let checked = match self {
            Self::Anything => Ok(()),
            Self::Flag => value.as_bool().map(drop).ok_or_else(|| unacceptable(value)),
            Self::Count => count(value).map(drop),
            Self::Positive => positive(value).map(drop),
            Self::Millis => count(value).and_then(expiry),
            Self::PositiveMillis => positive(value).and_then(expiry),
            Self::DeadLetterRoutingKey => dead_letter_routing_key(value, arguments),
            Self::Priority => count(value).and_then(|priority| match priority {
                0..=255 => Ok(()),
                more => Err(format!("{{max_value_exceeded,{more}}}")),
            }),
            Self::Age => text(value).and_then(|age| millis_of(age).map(drop).ok_or_else(|| "invalid_max_age".into())),
            Self::Version => count(value).and_then(|version| match version {
                2 => Ok(()),
                other => Err(format!("\"unsupported queue version '{other}'\"")),
            }),
            Self::OneOf(allowed, otherwise) => text(value).and_then(|text| {
                let found = allowed.iter().any(|allowed| allowed.as_bytes() == text);
                if found { Ok(()) } else { Err(otherwise.into()) }
            }),
            Self::CacheSize => positive(value).and_then(|size| {
                let fits = usize::try_from(size).is_ok_and(|size| size <= limits::DEDUPLICATION_KEYS);
                if fits { Ok(()) } else { Err(format!("{{max_value_exceeded,{size}}}")) }
            }),
            Self::Header if value == Value::from(DEDUPLICATION_HEADER) => Ok(()),
            Self::Header => {
                let text = format!("{queue} can deduplicate by the header '{DEDUPLICATION_HEADER}' only");
                return Err(Exception::channel(ReplyCode::NotImplemented, text));
            }
        };
        checked.map_err(|reason| invalid(queue, name, &reason))
    }
}

fn integer(value: Value<'_>) -> Result<i64, String> {
    value.as_integer().ok_or_else(|| format!("\"expected integer, got {}\"", value.type_name()))
}

fn count(value: Value<'_>) -> Result<i64, String> {
    match integer(value)? {
        negative if negative < 0 => Err(format!("{{value_negative,{negative}}}")),
        count => Ok(count),
    }
}

fn positive(value: Value<'_>) -> Result<i64, String> {
    match count(value)? {
        0 => Err("{value_zero,0}".into()),
        count => Ok(count),
    }
}

fn expiry(millis: i64) -> Result<(), String> {
    if millis <= limits::EXPIRATION_MILLIS as i64 {
        return Ok(());
    }
    Err(format!("{{value_too_large,{millis}}}"))
}

fn text<'a>(value: Value<'a>) -> Result<&'a [u8], String> {
    match value {
        Value::LongString(text) => Ok(text),
        other => Err(unacceptable(other)),
    }
}

fn unacceptable(value: Value<'_>) -> String {
    format!("{{unacceptable_type,{}}}", value.type_name())
}

fn dead_letter_routing_key(value: Value<'_>, arguments: &[u8]) -> Result<(), String> {
    text(value)?;
    if lookup(arguments, "x-dead-letter-exchange").is_some() {
        return Ok(());
    }
    Err("routing_key_but_no_dlx_defined".into())
}

/// The milliseconds of a stream's `x-max-age`: digits and a unit. What is longer than any time is that long.
pub(in super::super) fn millis_of(age: &[u8]) -> Option<u64> {
    let (unit, digits) = age.split_last()?;
    let unit_millis: u64 = match unit {
        b'Y' => 365 * 86_400_000,
        b'M' => 30 * 86_400_000,
        b'D' => 86_400_000,
        b'h' => 3_600_000,
        b'm' => 60_000,
        b's' => 1_000,
        _ => return None,
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0_u64, |all, digit| all.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    (number > 0).then(|| number.saturating_mul(unit_millis))
}

/// Checks that a queue declared again means the same queue. Only arguments that its type knows are compared.
pub(in super::super) fn check_same_arguments(queue: &str, received: &[u8], current: &[u8]) -> Result<(), Exception> {
    let queue_type = QueueType::of(current);
    for known in KNOWN.iter().filter(|known| known.fits(queue_type)) {
        let (received, current) = (lookup(received, known.name), lookup(current, known.name));
        match known.name {
            TYPE => check_same_type(queue, received, queue_type)?,
            MAX_AGE => check_same_age(queue, received, current)?,
            name => check_same_value(name, queue, received, current, shown)?,
        }
    }
    Ok(())
}

fn check_same_type(queue: &str, received: Option<Value<'_>>, current: QueueType) -> Result<(), Exception> {
    let received = received.filter(|value| *value != Value::LongString(b""));
    let received = received.map_or_else(|| QueueType::Classic.name().into(), shown);
    if received == current.name() {
        return Ok(());
    }
    Err(inequivalent(TYPE, queue, &format!("'{received}'"), &format!("'{}'", current.name())))
}

/// Ages are the same if they are as long.
fn check_same_age(queue: &str, received: Option<Value<'_>>, current: Option<Value<'_>>) -> Result<(), Exception> {
    let millis = |value: Value<'_>| match value {
        Value::LongString(age) => millis_of(age),
        _ => None,
    };
    if received.and_then(millis).is_some() && received.and_then(millis) == current.and_then(millis) {
        return Ok(());
    }
    let show = |value: Value<'_>| millis(value).map_or_else(|| shown(value), |millis| format!("{millis}"));
    check_same_value(MAX_AGE, queue, received, current, show)
}

fn invalid(queue: &str, name: &str, reason: &str) -> Exception {
    precondition(format!("invalid arg '{name}' for {queue}: {reason}"))
}
