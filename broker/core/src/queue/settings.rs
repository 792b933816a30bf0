//! How a queue behaves: its declaration and the policies on it, worked out by the topology.
//!
//! The log and snapshots hold the settings of logged queues that are not plain:
//!
//! ```text
//! settings  present u16, little-endian | kind u8 | overflow u8 | dead_lettering u8 | max_priority u8 | flags u8
//!           then what `present` says, in this order:
//!           bit 0 message_ttl varint | 1 expires varint | 2 max_length varint | 3 max_length_bytes varint
//!           | 4 delivery_limit varint | 5 retry delay (of u8, min_millis varint, max_millis varint)
//!           | 6 consumer_timeout varint | 7 deduplication (cache_size varint) | 8 its cache_millis varint
//!           | 9 max_age varint
//! ```
//!
//! Numbers of enumerations count their variants from 0. `flags` bit 0 is auto_delete, bit 1 single_active_consumer.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Deref;

use crate::varint::{put_varint, take_varint};

/// The type of a queue (argument `x-queue-type`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QueueKind {
    /// `classic`
    #[default]
    Classic,
    /// `quorum`: logs messages of every delivery mode and counts deliveries.
    Quorum,
    /// `stream`: keeps what was read, for many readers.
    Stream,
    /// The store of a delayed exchange: messages wait for their time and nobody consumes.
    Delayed,
}

impl QueueKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Classic, Self::Quorum, Self::Stream, Self::Delayed];
}

/// What happens when a queue would grow beyond its longest (argument `x-overflow`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Overflow {
    /// The oldest messages go.
    #[default]
    DropHead,
    /// New messages are refused, and their publishers told by `basic.nack`.
    RejectPublish,
    /// As [`Self::RejectPublish`], and the refused messages are dead-lettered.
    RejectPublishDeadLetter,
}

/// Where a queue's dead letters go, in short: the names are the topology's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeadLettering {
    /// Nowhere: what dies is gone.
    #[default]
    None,
    /// To the queue's dead-letter exchange; what cannot be routed there is dropped.
    AtMostOnce,
    /// To the queue's dead-letter exchange; what cannot be routed there stays and is tried again.
    AtLeastOnce,
}

/// How long a message that came back waits before it is ready again (RabbitMQ 4.3, quorum queues): its delivery count
/// times `min_millis`, at most `max_millis`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RetryDelay {
    /// Which ones wait.
    pub of: Returned,
    /// Milliseconds after the first return, and more after each further one.
    pub min_millis: u64,
    /// The longest wait in milliseconds.
    pub max_millis: u64,
}

/// Kinds of messages that come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Returned {
    /// All.
    All,
    /// Those whose consumer failed or rejected them.
    Failed,
    /// Those that their consumer gave back without fault.
    GivenBack,
}

/// How a queue recognizes messages that it has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deduplication {
    /// How many keys it remembers.
    pub cache_size: u32,
    /// For how many milliseconds; `None`: until they make room for newer ones.
    pub cache_millis: Option<u64>,
}

/// How a queue behaves.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueSettings {
    /// Its persistent messages and its settlements are logged.
    pub logged: bool,
    /// It is deleted when its last consumer goes, once it has had one.
    pub auto_delete: bool,
    /// Its type.
    pub kind: QueueKind,
    /// Milliseconds that a message may wait.
    pub message_ttl: Option<u64>,
    /// Milliseconds without consumer, get or declaration after which the queue is deleted.
    pub expires: Option<u64>,
    /// Ready messages.
    pub max_length: Option<u64>,
    /// Octets of ready messages' bodies; of a stream, of all it keeps.
    pub max_length_bytes: Option<u64>,
    /// What happens at these two.
    pub overflow: Overflow,
    /// The highest priority that is told apart; 0: there are no priorities.
    pub max_priority: u8,
    /// Where what dies goes.
    pub dead_lettering: DeadLettering,
    /// How often a message may come back from failed deliveries; `None`: as often as it likes.
    pub delivery_limit: Option<u32>,
    /// How long messages that came back wait.
    pub retry_delay: Option<RetryDelay>,
    /// Milliseconds that a consumer may hold a message.
    pub consumer_timeout: Option<u64>,
    /// One consumer at a time gets messages.
    pub single_active_consumer: bool,
    /// Messages that it has had are dropped.
    pub deduplication: Option<Deduplication>,
    /// Milliseconds that a stream keeps a message.
    pub max_age: Option<u64>,
    /// It hands nothing out, and takes what is published as always.
    pub paused: bool,
}

impl QueueSettings {
    /// Those of a queue without any rules.
    const fn plain(logged: bool, auto_delete: bool) -> Self {
        Self {
            logged,
            auto_delete,
            kind: QueueKind::Classic,
            message_ttl: None,
            expires: None,
            max_length: None,
            max_length_bytes: None,
            overflow: Overflow::DropHead,
            max_priority: 0,
            dead_lettering: DeadLettering::None,
            delivery_limit: None,
            retry_delay: None,
            consumer_timeout: None,
            single_active_consumer: false,
            deduplication: None,
            max_age: None,
            paused: false,
        }
    }

    /// True if the log need not say more of a queue than that it is there.
    pub(super) fn is_plain(&self) -> bool {
        *self == PLAIN[usize::from(self.logged)][usize::from(self.auto_delete)]
    }

    /// Appends the settings, of which `logged` is not written: only logged ones are.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let retry = self.retry_delay;
        let fields = [
            (self.message_ttl, MESSAGE_TTL),
            (self.expires, EXPIRES),
            (self.max_length, MAX_LENGTH),
            (self.max_length_bytes, MAX_LENGTH_BYTES),
            (self.delivery_limit.map(u64::from), DELIVERY_LIMIT),
            (retry.map(|delay| delay.of as u64), RETRY_DELAY),
            (retry.map(|delay| delay.min_millis), 0),
            (retry.map(|delay| delay.max_millis), 0),
            (self.consumer_timeout, CONSUMER_TIMEOUT),
            (self.deduplication.map(|it| it.cache_size.into()), DEDUPLICATION),
            (self.deduplication.and_then(|it| it.cache_millis), CACHE_MILLIS),
            (self.max_age, MAX_AGE),
        ];
        let present = fields.iter().filter(|(value, _)| value.is_some()).fold(0_u16, |all, (_, bit)| all | bit);
        out.extend_from_slice(&present.to_le_bytes());
        let flags =
            u8::from(self.auto_delete) | u8::from(self.single_active_consumer) << 1 | u8::from(self.paused) << 2;
        out.extend([self.kind as u8, self.overflow as u8, self.dead_lettering as u8, self.max_priority, flags]);
        fields.into_iter().filter_map(|(value, _)| value).for_each(|value| put_varint(value, out));
    }

    /// Reads the settings of a logged queue off the front of `octets`; `None` if they end early or say what cannot be.
    pub(crate) fn decode(octets: &mut &[u8]) -> Option<Self> {
        let ([p0, p1, kind, overflow, dead_lettering, max_priority, flags], rest) = octets.split_first_chunk()?;
        *octets = rest;
        let present = u16::from_le_bytes([*p0, *p1]);
        if present > ALL_FIELDS || *flags > 7 {
            return None;
        }
        let mut field = |bit: u16| if present & bit == 0 { Some(None) } else { take_varint(octets).map(Some) };
        let mut settings = Self {
            auto_delete: flags & 1 != 0,
            single_active_consumer: flags & 2 != 0,
            paused: flags & 4 != 0,
            kind: *[QueueKind::Classic, QueueKind::Quorum, QueueKind::Stream, QueueKind::Delayed]
                .get(usize::from(*kind))?,
            overflow: *[Overflow::DropHead, Overflow::RejectPublish, Overflow::RejectPublishDeadLetter]
                .get(usize::from(*overflow))?,
            dead_lettering: *[DeadLettering::None, DeadLettering::AtMostOnce, DeadLettering::AtLeastOnce]
                .get(usize::from(*dead_lettering))?,
            max_priority: *max_priority,
            message_ttl: field(MESSAGE_TTL)?,
            expires: field(EXPIRES)?,
            max_length: field(MAX_LENGTH)?,
            max_length_bytes: field(MAX_LENGTH_BYTES)?,
            delivery_limit: field(DELIVERY_LIMIT)?.map(u32::try_from).transpose().ok()?,
            ..Self::plain(true, false)
        };
        if let Some(of) = field(RETRY_DELAY)? {
            let of = *[Returned::All, Returned::Failed, Returned::GivenBack].get(usize::try_from(of).ok()?)?;
            let (min_millis, max_millis) = (field(RETRY_DELAY)??, field(RETRY_DELAY)??);
            settings.retry_delay = Some(RetryDelay { of, min_millis, max_millis });
        }
        settings.consumer_timeout = field(CONSUMER_TIMEOUT)?;
        let cache_size = field(DEDUPLICATION)?.map(u32::try_from).transpose().ok()?;
        let cache_millis = field(CACHE_MILLIS)?;
        settings.deduplication = cache_size.map(|cache_size| Deduplication { cache_size, cache_millis });
        settings.max_age = field(MAX_AGE)?;
        Some(settings)
    }
}

const MESSAGE_TTL: u16 = 1;
const EXPIRES: u16 = 1 << 1;
const MAX_LENGTH: u16 = 1 << 2;
const MAX_LENGTH_BYTES: u16 = 1 << 3;
const DELIVERY_LIMIT: u16 = 1 << 4;
const RETRY_DELAY: u16 = 1 << 5;
const CONSUMER_TIMEOUT: u16 = 1 << 6;
const DEDUPLICATION: u16 = 1 << 7;
const CACHE_MILLIS: u16 = 1 << 8;
const MAX_AGE: u16 = 1 << 9;
const ALL_FIELDS: u16 = (1 << 10) - 1;

/// The settings of queues without any rules: by `logged`, then by `auto_delete`.
static PLAIN: [[QueueSettings; 2]; 2] = [
    [QueueSettings::plain(false, false), QueueSettings::plain(false, true)],
    [QueueSettings::plain(true, false), QueueSettings::plain(true, true)],
];

/// Settings as a queue keeps them: most queues have no rules and share theirs.
#[derive(Debug)]
pub(super) enum KeptSettings {
    Plain(&'static QueueSettings),
    Own(Box<QueueSettings>),
}

impl From<QueueSettings> for KeptSettings {
    fn from(settings: QueueSettings) -> Self {
        if settings.is_plain() {
            Self::Plain(&PLAIN[usize::from(settings.logged)][usize::from(settings.auto_delete)])
        } else {
            Self::Own(Box::new(settings))
        }
    }
}

impl Deref for KeptSettings {
    type Target = QueueSettings;

    fn deref(&self) -> &QueueSettings {
        match self {
            Self::Plain(settings) => settings,
            Self::Own(settings) => settings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field set, then each alone.
    fn samples() -> Vec<QueueSettings> {
        let logged = QueueSettings::plain(true, false);
        let all = QueueSettings {
            auto_delete: true,
            kind: QueueKind::Delayed,
            message_ttl: Some(0),
            expires: Some(u64::MAX),
            max_length: Some(1),
            max_length_bytes: Some(300),
            overflow: Overflow::RejectPublishDeadLetter,
            max_priority: 255,
            dead_lettering: DeadLettering::AtLeastOnce,
            delivery_limit: Some(u32::MAX),
            retry_delay: Some(RetryDelay { of: Returned::GivenBack, min_millis: 5, max_millis: 500 }),
            consumer_timeout: Some(60_000),
            single_active_consumer: true,
            deduplication: Some(Deduplication { cache_size: 7, cache_millis: Some(8) }),
            max_age: Some(9),
            paused: true,
            ..logged.clone()
        };
        let mut samples = Vec::from([logged.clone(), all.clone()]);
        samples.push(QueueSettings { kind: QueueKind::Quorum, ..logged.clone() });
        samples.push(QueueSettings { overflow: Overflow::RejectPublish, ..logged.clone() });
        samples.push(QueueSettings { dead_lettering: DeadLettering::AtMostOnce, ..logged.clone() });
        samples.push(QueueSettings { retry_delay: all.retry_delay, ..logged.clone() });
        samples.push(QueueSettings { max_age: all.max_age, ..logged.clone() });
        samples
            .push(QueueSettings { deduplication: Some(Deduplication { cache_size: 1, cache_millis: None }), ..logged });
        samples
    }

    #[test]
    fn settings_come_back_and_every_cut_is_refused() {
        for settings in samples() {
            let mut octets = Vec::new();
            settings.encode(&mut octets);
            let mut rest = &octets[..];
            assert_eq!((QueueSettings::decode(&mut rest).as_ref(), rest.len()), (Some(&settings), 0));
            for cut in 0..octets.len() {
                assert_eq!(QueueSettings::decode(&mut &octets[..cut]), None, "cut at {cut}");
            }
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let plain = [0_u8; 7];
        assert!(QueueSettings::decode(&mut &plain[..]).is_some());
        for (at, octet) in [(1, 4), (2, 4), (3, 3), (4, 3), (6, 8)] {
            let mut octets = plain;
            octets[at] = octet;
            assert_eq!(QueueSettings::decode(&mut &octets[..]), None, "octet {at}");
        }
        let retry_of_what = [32, 0, 0, 0, 0, 0, 0, 3, 1, 1];
        assert_eq!(QueueSettings::decode(&mut &retry_of_what[..]), None);
    }

    #[test]
    fn plain_settings_take_no_memory() {
        for settings in samples() {
            let kept = KeptSettings::from(settings.clone());
            assert_eq!(matches!(kept, KeptSettings::Plain(_)), settings == QueueSettings::plain(true, false));
            assert_eq!(*kept, settings);
        }
    }
}
