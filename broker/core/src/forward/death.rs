//! What a dead letter's header tells of its life: RabbitMQ's `x-death` and what goes with it.
//!
//! `x-death` is an array of tables, the newest first: one for each queue and reason, with how often the message died there
//! so. What else is in such a table is of the first time.

use alloc::string::String;
use alloc::vec::Vec;

use warren_amqp::table::ArrayBuilder;
use warren_amqp::{Array, Changes, Table, TableBuilder, Value};

use crate::header;
use crate::limits::DEATHS_BYTES;
use crate::queue::ForwardReason;

const X_DEATH: &str = "x-death";

/// A death as it is written down.
#[derive(Debug, Clone, Copy)]
pub(super) struct Death<'a> {
    pub(super) queue: &'a str,
    pub(super) reason: ForwardReason,
    /// Wall-clock seconds since the Unix epoch.
    pub(super) time_secs: u64,
    /// The exchange that the message was published to.
    pub(super) exchange: &'a str,
    /// The routing keys that it was published with, those of `CC` included.
    pub(super) routing_keys: &'a [&'a str],
    /// Its property `expiration`.
    pub(super) expiration: Option<&'a str>,
}

/// The deaths of a message, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Deaths {
    /// The array's octets.
    octets: Vec<u8>,
    /// With the newest, older ones did not fit any more.
    are_cut: bool,
}

impl Death<'_> {
    /// The content header with this death in it, and all deaths. `has_died`: the header tells of an earlier one, and it
    /// was not the client who wrote that.
    pub(super) fn add_to(&self, payload: &[u8], has_died: bool, before: &Deaths) -> (Vec<u8>, Deaths) {
        let deaths = before.with(self);
        let with = TableBuilder::build(|table| {
            table.put(X_DEATH, Value::Array(deaths.array()));
            if !has_died {
                self.describe("x-first-death", table);
            }
            self.describe("x-last-death", table);
        });
        let changes =
            Changes { without: &["BCC"], with: Table::new(&with), without_expiration: true, ..Changes::default() };
        (header::changed(payload, &changes), deaths)
    }

    fn describe(&self, prefix: &str, table: &mut TableBuilder<'_>) {
        for (field, value) in [("exchange", self.exchange), ("queue", self.queue), ("reason", name(self.reason))] {
            let mut full = String::from(prefix);
            full.push('-');
            full.push_str(field);
            table.put(&full, value);
        }
    }

    /// Fields in RabbitMQ's order.
    fn write(&self, table: &mut TableBuilder<'_>) {
        if let Some(expiration) = self.expiration {
            table.put("original-expiration", expiration);
        }
        table.put("count", 1_i64).put("reason", name(self.reason)).put("queue", self.queue);
        table.put("time", Value::Timestamp(self.time_secs)).put("exchange", self.exchange);
        table.array("routing-keys", |keys| {
            self.routing_keys.iter().for_each(|key| {
                keys.push(*key);
            });
        });
    }
}

impl Deaths {
    /// Those in the headers.
    pub(super) fn of(headers: Table<'_>) -> Self {
        let array = headers.get(X_DEATH).ok().flatten().and_then(|value| value.as_array());
        Self { octets: array.map(|array| array.octets().to_vec()).unwrap_or_default(), are_cut: false }
    }

    /// True if a message with these deaths must not go to `queue`: it died there before, and nobody has rejected it
    /// since, so it would go round for ever. If older deaths have just been forgotten and those that are left tell of no
    /// rejection, it may have died in any queue: in a ring so long that it is never seen whole, this is where it ends.
    pub(super) fn is_cycle(&self, queue: &str) -> bool {
        for death in self.iter() {
            let field = |name| death.get(name).ok().flatten().and_then(|value| value.as_str());
            if field("reason") == Some(name(ForwardReason::Rejected)) {
                return false;
            }
            if field("queue") == Some(queue) {
                return true;
            }
        }
        self.are_cut
    }

    /// The routing keys that the message had when it died last in a way that it had not before; nothing if it has not died.
    pub(super) fn newest_routing_keys(&self) -> impl Iterator<Item = &str> {
        let keys = self.iter().next().and_then(|death| death.get("routing-keys").ok().flatten()?.as_array());
        keys.into_iter().flat_map(|keys| keys.iter().filter_map(|key| key.ok()?.as_str()))
    }

    fn array(&self) -> Array<'_> {
        Array::new(&self.octets)
    }

    fn iter(&self) -> impl Iterator<Item = Table<'_>> {
        self.array().iter().filter_map(|value| value.ok()?.as_table())
    }

    /// These deaths and one more. What does not fit any more is forgotten, the oldest first.
    fn with(&self, death: &Death<'_>) -> Self {
        let is_same = |table: &Table<'_>| {
            let is = |field, value| table.get(field).ok().flatten().and_then(|found| found.as_str()) == Some(value);
            is("queue", death.queue) && is("reason", name(death.reason))
        };
        let (mut octets, mut are_cut) = (Vec::new(), false);
        let mut array = ArrayBuilder::new(&mut octets);
        match self.iter().find(is_same) {
            Some(before) => array.table(|table| count_up(before, table)),
            None => array.table(|table| death.write(table)),
        };
        for other in self.iter().filter(|other| !is_same(other)) {
            let len = octets.len();
            ArrayBuilder::new(&mut octets).push(Value::Table(other));
            if octets.len() > DEATHS_BYTES {
                octets.truncate(len);
                are_cut = true;
                break;
            }
        }
        Self { octets, are_cut }
    }
}

/// Copies a death, which has happened once more.
fn count_up(death: Table<'_>, table: &mut TableBuilder<'_>) {
    for (field, value) in death.iter().filter_map(Result::ok) {
        match (field, value.as_integer()) {
            ("count", Some(count)) => table.put(field, count.saturating_add(1)),
            _ => table.put(field, value),
        };
    }
}

/// RabbitMQ's word for it.
const fn name(reason: ForwardReason) -> &'static str {
    match reason {
        ForwardReason::Rejected => "rejected",
        ForwardReason::Expired => "expired",
        ForwardReason::MaxLength => "maxlen",
        ForwardReason::DeliveryLimit => "delivery_limit",
        // Nobody dies of that; what is due is no dead letter.
        ForwardReason::Due => "due",
    }
}
