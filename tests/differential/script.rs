//! Random scripts: what clients do, one step after the other.

use warren_storage::Random;

/// Queues, exchanges and channels that a script knows.
pub(crate) const QUEUES: usize = 3;
const EXCHANGES: usize = 3;
/// Connections, each with two channels.
pub(crate) const CONNECTIONS: usize = 2;

/// Routing keys and binding keys that meet each other now and then. The first ones are names of queues.
const KEYS: [&str; 9] = ["", "a", "a.b", "a.b.c", "*", "a.*", "#", "a.#", "#.b.#"];

/// A channel of a script: which connection, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) connection: usize,
    pub(crate) channel: u16,
}

/// What a client does on a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) place: Place,
    pub(crate) deed: Deed,
}

/// Which deliveries a client settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// One that it holds: this one, counted from the oldest, round and round.
    Held(usize),
    /// Tag 0.
    Zero,
    /// A tag that there is not.
    Unknown,
}

/// How a client settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Ack { multiple: bool },
    Nack { multiple: bool, requeue: bool },
    Reject { requeue: bool },
}

/// A queue's arguments, by what they are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arguments {
    None,
    MaxLength,
    MaxLengthReject,
    MaxLengthBytes,
    ExpiresAtOnce,
    Priorities,
    /// Dead letters go to the first queue.
    DeadLetters,
    DeadLettersOfShortQueue,
    DeadLettersAtOnce,
    SingleActiveConsumer,
    /// Wrong, in one way or another.
    Wrong(usize),
}

/// A message's properties, by what they are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Properties {
    None,
    Persistent,
    Priority(u8),
    Headers(usize),
    CarbonCopies,
    ExpiresAtOnce,
    ExpiresNever,
    Wrong(usize),
}

/// What a client does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Deed {
    CloseChannel,
    CloseConnection,
    DeclareQueue {
        queue: usize,
        passive: bool,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        arguments: Arguments,
    },
    DeleteQueue {
        queue: usize,
        if_unused: bool,
        if_empty: bool,
    },
    Purge {
        queue: usize,
    },
    DeclareExchange {
        exchange: usize,
        kind: &'static str,
        passive: bool,
        auto_delete: bool,
        internal: bool,
        alternate: Option<usize>,
    },
    DeleteExchange {
        exchange: usize,
        if_unused: bool,
    },
    Bind {
        queue: usize,
        exchange: usize,
        key: &'static str,
        headers: Option<usize>,
        unbind: bool,
    },
    BindExchange {
        destination: usize,
        source: usize,
        key: &'static str,
        unbind: bool,
    },
    /// Without an exchange: to a queue, by its name.
    Publish {
        exchange: Option<usize>,
        queue: usize,
        key: &'static str,
        mandatory: bool,
        properties: Properties,
    },
    ConfirmSelect,
    Get {
        queue: usize,
        no_ack: bool,
    },
    Settle {
        which: Which,
        how: How,
    },
    Consume {
        queue: usize,
        tag: usize,
        no_ack: bool,
        exclusive: bool,
        priority: Option<i32>,
    },
    Cancel {
        tag: usize,
    },
    Qos {
        count: u16,
    },
    Recover {
        requeue: bool,
    },
    TxSelect,
    TxCommit,
    TxRollback,
}

/// A script of so many steps. The same numbers give the same script.
pub(crate) fn script(random: &mut Random, steps: usize) -> Vec<Step> {
    // Most scripts are about messages: they begin with something to put them in.
    let mut script = Vec::new();
    for queue in 0..QUEUES {
        let place = Place { connection: 0, channel: 1 };
        let arguments = arguments(random);
        let durable = random.once_in(2);
        let deed =
            Deed::DeclareQueue { queue, passive: false, durable, exclusive: false, auto_delete: false, arguments };
        script.push(Step { place, deed });
    }
    script.extend((0..steps).map(|_| {
        let place = Place { connection: random.below(CONNECTIONS), channel: 1 + u16::from(random.once_in(3)) };
        Step { place, deed: deed(random) }
    }));
    script
}

fn deed(random: &mut Random) -> Deed {
    let queue = random.below(QUEUES);
    let exchange = random.below(EXCHANGES);
    let key = random.pick(&KEYS);
    match random.below(100) {
        0 => Deed::CloseChannel,
        1 => Deed::CloseConnection,
        2..=7 => Deed::DeclareQueue {
            queue,
            passive: random.once_in(4),
            durable: random.once_in(2),
            exclusive: random.once_in(5),
            auto_delete: random.once_in(5),
            arguments: arguments(random),
        },
        8..=9 => Deed::DeleteQueue { queue, if_unused: random.once_in(3), if_empty: random.once_in(3) },
        10..=11 => Deed::Purge { queue },
        12..=16 => Deed::DeclareExchange {
            exchange,
            kind: random.pick(&["direct", "fanout", "topic", "topic", "headers", "nonsense"]),
            passive: random.once_in(6),
            auto_delete: random.once_in(5),
            internal: random.once_in(8),
            alternate: random.once_in(3).then(|| random.below(EXCHANGES)),
        },
        17 => Deed::DeleteExchange { exchange, if_unused: random.once_in(2) },
        18..=24 => Deed::Bind {
            queue,
            exchange,
            key,
            headers: random.once_in(3).then(|| random.below(6)),
            unbind: random.once_in(6),
        },
        25..=26 => Deed::BindExchange {
            destination: exchange,
            source: random.below(EXCHANGES),
            key,
            unbind: random.once_in(5),
        },
        27..=54 => Deed::Publish {
            exchange: random.once_in(2).then_some(exchange),
            queue,
            key,
            mandatory: random.once_in(3),
            properties: properties(random),
        },
        55..=56 => Deed::ConfirmSelect,
        57..=68 => Deed::Get { queue, no_ack: random.once_in(3) },
        69..=83 => Deed::Settle { which: which(random), how: how(random) },
        84..=88 => Deed::Consume {
            queue,
            tag: random.below(4),
            no_ack: random.once_in(3),
            exclusive: random.once_in(8),
            priority: random.once_in(4).then(|| random.below(3) as i32),
        },
        89..=91 => Deed::Cancel { tag: random.below(4) },
        92..=93 => Deed::Qos { count: random.below(3) as u16 },
        94 => Deed::Recover { requeue: !random.once_in(6) },
        95 => Deed::TxSelect,
        96..=98 => Deed::TxCommit,
        _ => Deed::TxRollback,
    }
}

fn arguments(random: &mut Random) -> Arguments {
    match random.below(24) {
        0..=8 => Arguments::None,
        9 => Arguments::MaxLength,
        10 => Arguments::MaxLengthReject,
        11 => Arguments::MaxLengthBytes,
        12 => Arguments::ExpiresAtOnce,
        13..=14 => Arguments::Priorities,
        15..=17 => Arguments::DeadLetters,
        18..=19 => Arguments::DeadLettersOfShortQueue,
        20 => Arguments::DeadLettersAtOnce,
        21..=22 => Arguments::SingleActiveConsumer,
        _ => Arguments::Wrong(random.below(8)),
    }
}

fn properties(random: &mut Random) -> Properties {
    match random.below(20) {
        0..=7 => Properties::None,
        8..=10 => Properties::Persistent,
        11..=12 => Properties::Priority(random.below(6) as u8),
        13..=15 => Properties::Headers(random.below(6)),
        16 => Properties::CarbonCopies,
        17 => Properties::ExpiresAtOnce,
        18 => Properties::ExpiresNever,
        _ => Properties::Wrong(random.below(4)),
    }
}

fn which(random: &mut Random) -> Which {
    match random.below(24) {
        0 => Which::Unknown,
        1 => Which::Zero,
        held => Which::Held(held),
    }
}

fn how(random: &mut Random) -> How {
    match random.below(3) {
        0 => How::Ack { multiple: random.once_in(3) },
        1 => How::Nack { multiple: random.once_in(3), requeue: random.once_in(2) },
        _ => How::Reject { requeue: random.once_in(2) },
    }
}
