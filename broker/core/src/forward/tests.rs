use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroU16;

use bytes::Bytes;
use warren_amqp::content::encode_header_payload;
use warren_amqp::{BasicProperties, Header, Table, TableBuilder, Value};

use super::*;
use crate::command::{self, Attributes};
use crate::limits::TopologyLimits;
use crate::message::Message;
use crate::queue::ForwardReason;
use crate::topology::{BindingRecord, Change, Destination, ExchangeKind, ExchangeRecord, QueueRecord, Topology};

const SHARDS: u16 = 3;

/// A forwarder, and the topology it sees.
pub(super) struct Node {
    pub(super) forwarder: Forwarder,
    pub(super) topology: Topology,
    last_queue: u32,
    draws: u128,
}

/// A publish that the forwarder has sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) shard: ShardId,
    pub(super) queues: Vec<QueueId>,
    pub(super) number: u64,
    pub(super) message: Message,
    expiration: Option<u64>,
    priority: Option<u8>,
    logged: bool,
}

/// What the forwarder wants done.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) sent: Vec<Sent>,
    pub(super) settled: Vec<(QueueId, u64, Settlement)>,
}

impl Node {
    pub(super) fn new() -> Self {
        let topology = Topology::new(NonZeroU16::new(SHARDS).expect("not 0"), TopologyLimits::default());
        Self { forwarder: Forwarder::new(), topology, last_queue: 0, draws: 0 }
    }

    /// A durable queue with these text arguments.
    pub(super) fn queue(&mut self, name: &str, arguments: &[(&str, &str)]) -> QueueId {
        self.last_queue += 1;
        let arguments = TableBuilder::build(|table| {
            for (name, value) in arguments {
                table.put(name, *value);
            }
        });
        let record = QueueRecord {
            id: QueueId(self.last_queue),
            shard: ShardId((self.last_queue % u32::from(SHARDS)) as u16 + 1),
            vhost: Arc::from("/"),
            name: Arc::from(name),
            durable: true,
            auto_delete: false,
            exclusive_owner: None,
            arguments: Bytes::from(arguments),
        };
        self.topology.apply(&Change::CreateQueue(Arc::new(record)));
        QueueId(self.last_queue)
    }

    pub(super) fn delete_queue(&mut self, queue: QueueId) {
        for change in self.topology.removal(queue) {
            self.topology.apply(&change);
        }
    }

    pub(super) fn exchange(&mut self, name: &str, kind: ExchangeKind) {
        let record = ExchangeRecord {
            vhost: Arc::from("/"),
            name: Arc::from(name),
            kind,
            delayed: false,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: Bytes::new(),
        };
        self.topology.apply(&Change::CreateExchange(Arc::new(record)));
    }

    pub(super) fn bind(&mut self, source: &str, queue: QueueId, key: &str) {
        self.topology.apply(&Change::Bind(binding(source, queue, key)));
    }

    pub(super) fn unbind(&mut self, source: &str, queue: QueueId, key: &str) {
        self.topology.apply(&Change::Unbind(binding(source, queue, key)));
    }

    fn shard_of(&self, queue: QueueId) -> ShardId {
        self.topology.queue_by_id(queue).map_or(ShardId(1), |record| record.shard)
    }

    /// The message at that position leaves the queue.
    pub(super) fn leaves(&mut self, queue: QueueId, position: u64, reason: ForwardReason, message: &Message) {
        let message = message.clone();
        let forward = Forward { queue, position, reason, at_ms: 1_700_000_000_999, delivery_count: 0, message };
        self.event(self.shard_of(queue), Event::Forward(forward));
    }

    pub(super) fn event(&mut self, shard: ShardId, event: Event) {
        let draws = &mut self.draws;
        let mut random = || {
            *draws += 1;
            *draws
        };
        let mut world = World { topology: &self.topology, random: &mut random };
        self.forwarder.shard_event(shard, event, &mut world);
    }

    pub(super) fn answer(&mut self, sent: &Sent, confirmed: bool) {
        let (channel, first, len) = (0, sent.number, 1);
        let event =
            if confirmed { Event::Confirmed { channel, first, len } } else { Event::Refused { channel, first, len } };
        self.event(sent.shard, event);
    }

    /// What the forwarder wants done now.
    pub(super) fn wanted(&mut self) -> Wanted {
        let mut wanted = Wanted::default();
        while let Some((shard, inputs)) = self.forwarder.next_shard_inputs() {
            for input in inputs {
                match input {
                    ShardInput::Publish(run) => wanted.sent.extend(sent(shard, &run)),
                    ShardInput::Settle { queue, holder, ranges, settlement } => {
                        assert_eq!(holder, ChannelKey::FORWARDER);
                        let positions = ranges.iter().flat_map(|range| range.first..range.first + range.len);
                        wanted.settled.extend(positions.map(|position| (queue, position, settlement)));
                    }
                    other => panic!("a forwarder does not want {other:?}"),
                }
            }
        }
        wanted
    }

    /// The one message that goes on if this one leaves the queue, to those queues.
    pub(super) fn goes_on(
        &mut self,
        queue: QueueId,
        reason: ForwardReason,
        message: &Message,
    ) -> (Message, Vec<QueueId>) {
        self.leaves(queue, 0, reason, message);
        let mut sent = self.wanted().sent;
        sent.iter().for_each(|sent| self.answer(sent, true));
        assert_eq!(self.wanted().settled, [(queue, 0, Settlement::Done)]);
        let mut queues: Vec<QueueId> = sent.iter().flat_map(|sent| sent.queues.clone()).collect();
        queues.sort_unstable();
        (sent.pop().expect("it goes somewhere").message, queues)
    }
}

fn binding(source: &str, queue: QueueId, key: &str) -> BindingRecord {
    BindingRecord {
        vhost: Arc::from("/"),
        source: Arc::from(source),
        destination: Destination::Queue(queue),
        routing_key: Arc::from(key),
        arguments: Bytes::new(),
        logged: true,
    }
}

fn sent(shard: ShardId, run: &crate::queue::PublishRun) -> Vec<Sent> {
    let mut sent = Vec::new();
    let mut from = 0;
    while from < run.commands.len() {
        let publish = command::Publish::decode(&run.commands[from..]).expect("a publish");
        let len = publish.len();
        let index = sent.len() as u64;
        let of =
            |receipt: &&Receipt| (u64::from(receipt.index)..u64::from(receipt.index) + receipt.len).contains(&index);
        let receipt = run.receipts.iter().find(of).expect("each has a receipt");
        assert_eq!(receipt.connection, ConnectionId::FORWARDER);
        sent.push(Sent {
            shard,
            queues: publish.queues().collect(),
            number: receipt.first + index - u64::from(receipt.index),
            message: Message::from_publish(run.commands.slice(from..from + len)).expect("a message"),
            expiration: publish.attributes().expiration,
            priority: publish.attributes().priority,
            logged: run.logged,
        });
        from += len;
    }
    sent
}

/// A message as a client has published it.
pub(super) fn message(exchange: &str, key: &str, properties: &BasicProperties<'_>, body: &[u8]) -> Message {
    let mut header = Vec::new();
    encode_header_payload(body.len() as u64, properties, &mut header);
    let mut octets = Vec::new();
    let queues = (0, core::iter::empty());
    let lens = (exchange.len() as u8, key.len() as u8, header.len() as u32, body.len() as u32);
    command::encode_publish_head(queues, lens.0, lens.1, lens.2, lens.3, &Attributes::default(), &mut octets);
    for part in [exchange.as_bytes(), key.as_bytes(), &header, body] {
        octets.extend_from_slice(part);
    }
    Message::from_publish(Bytes::from(octets)).expect("a message")
}

pub(super) fn plain(exchange: &str, key: &str) -> Message {
    message(exchange, key, &BasicProperties::default(), b"body")
}

pub(super) fn with_headers(key: &str, write: impl FnOnce(&mut TableBuilder<'_>)) -> Message {
    let headers = TableBuilder::build(write);
    message("x", key, &BasicProperties { headers: Some(Table::new(&headers)), ..BasicProperties::default() }, b"body")
}

pub(super) fn headers(message: &Message) -> Table<'_> {
    let properties = Header::decode(message.header()).expect("a header").properties;
    properties.headers().expect("readable").unwrap_or_default()
}

pub(super) fn text<'a>(table: Table<'a>, name: &str) -> &'a str {
    table.get(name).expect("readable").and_then(|value| value.as_str()).unwrap_or("-")
}

/// `x-death` as short texts: queue, reason, count, exchange and routing keys.
pub(super) fn deaths(message: &Message) -> Vec<String> {
    let array = headers(message).get("x-death").expect("readable").and_then(|value| value.as_array());
    let describe = |value: Value<'_>| {
        let table = value.as_table().expect("a table");
        let count = table.get("count").expect("readable").and_then(|value| value.as_integer()).expect("a count");
        let keys = table.get("routing-keys").expect("readable").and_then(|value| value.as_array()).expect("keys");
        let keys: Vec<&str> = keys.iter().map(|key| key.expect("readable").as_str().expect("text")).collect();
        let names = [text(table, "queue"), text(table, "reason")].join(" ");
        alloc::format!("{names} {count} {}>{}", text(table, "exchange"), keys.join(","))
    };
    array.into_iter().flat_map(|array| array.iter().map(|value| describe(value.expect("readable")))).collect()
}

#[test]
fn a_dead_letter_tells_where_it_died_and_why() {
    let mut node = Node::new();
    node.exchange("dlx", ExchangeKind::Fanout);
    let (work, dead) = (node.queue("work", &[("x-dead-letter-exchange", "dlx")]), node.queue("dead", &[]));
    node.bind("dlx", dead, "");
    let properties = BasicProperties {
        expiration: Some("60000"),
        priority: Some(3),
        delivery_mode: Some(2),
        message_id: Some("m"),
        ..BasicProperties::default()
    };
    node.leaves(work, 7, ForwardReason::Expired, &message("x", "rk", &properties, b"body"));
    let wanted = node.wanted();
    let [sent] = &wanted.sent[..] else { panic!("{wanted:?}") };
    assert_eq!(
        (sent.queues.as_slice(), sent.expiration, sent.priority, sent.logged),
        (&[dead][..], None, Some(3), true)
    );
    let message = &sent.message;
    assert_eq!((message.exchange(), message.routing_key(), message.body()), ("dlx", "rk", &b"body"[..]));
    assert!(message.is_dead_letter());
    let properties = Header::decode(message.header()).expect("a header").properties;
    assert_eq!(properties.expiration(), Ok(None));
    assert_eq!(deaths(message), ["work expired 1 x>rk"]);
    let headers = headers(message);
    for when in ["first", "last"] {
        let field = |field: &str| text(headers, &alloc::format!("x-{when}-death-{field}"));
        assert_eq!((field("queue"), field("reason"), field("exchange")), ("work", "expired", "x"));
    }
    let array = headers.get("x-death").expect("readable").and_then(|value| value.as_array()).expect("an array");
    let death = array.iter().next().expect("one").expect("readable").as_table().expect("a table");
    assert_eq!(death.get("time"), Ok(Some(Value::Timestamp(1_700_000_000))));
    assert_eq!(text(death, "original-expiration"), "60000");
    let fields: Vec<&str> = death.iter().map(|entry| entry.expect("readable").0).collect();
    assert_eq!(fields, ["original-expiration", "count", "reason", "queue", "time", "exchange", "routing-keys"]);
}

#[test]
fn each_reason_has_rabbitmqs_name() {
    let mut node = Node::new();
    let work = node.queue("work", &[("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", "dead")]);
    node.queue("dead", &[]);
    for (reason, name) in [
        (ForwardReason::Expired, "expired"),
        (ForwardReason::Rejected, "rejected"),
        (ForwardReason::MaxLength, "maxlen"),
        (ForwardReason::DeliveryLimit, "delivery_limit"),
    ] {
        let (letter, _) = node.goes_on(work, reason, &plain("", "work"));
        assert_eq!(deaths(&letter), [alloc::format!("work {name} 1 >work")]);
        assert_eq!(text(headers(&letter), "x-first-death-reason"), name);
    }
    let counts = node.forwarder.counts;
    assert_eq!((counts.confirmed, counts.at_least_once, counts.dropped), (4, 0, 0));
}

#[test]
fn the_newest_death_comes_first_and_those_of_one_queue_and_reason_are_counted() {
    let mut node = Node::new();
    let to = |key| [("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", key)];
    let (work, wait) = (node.queue("work", &to("wait")), node.queue("wait", &to("work")));
    let mut letter = plain("x", "first");
    for round in 1..=3 {
        (letter, _) = node.goes_on(work, ForwardReason::Rejected, &letter);
        (letter, _) = node.goes_on(wait, ForwardReason::Expired, &letter);
        let waited = alloc::format!("wait expired {round} >wait");
        let worked = alloc::format!("work rejected {round} x>first");
        assert_eq!(deaths(&letter), [waited, worked]);
    }
    let headers = headers(&letter);
    assert_eq!((text(headers, "x-first-death-queue"), text(headers, "x-last-death-queue")), ("work", "wait"));
}

#[test]
fn what_a_client_says_of_deaths_counts_for_nothing() {
    let mut node = Node::new();
    node.queue("dead", &[]);
    let work = node.queue("work", &[("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", "dead")]);
    let invented = with_headers("k", |table| {
        table.array("x-death", |array| {
            array.table(|death| {
                death.put("count", 7_i64).put("reason", "expired").put("queue", "dead");
            });
        });
        table.put("x-first-death-queue", "invented").put("x-last-death-reason", "invented").put("kept", "kept");
    });
    let (letter, queues) = node.goes_on(work, ForwardReason::Expired, &invented);
    assert_eq!(queues.len(), 1, "no invented death makes a cycle");
    assert_eq!(deaths(&letter), ["work expired 1 x>k"]);
    let headers = headers(&letter);
    assert_eq!((text(headers, "x-first-death-queue"), text(headers, "x-last-death-reason")), ("work", "expired"));
    assert_eq!(text(headers, "kept"), "kept");
}

#[test]
fn without_a_key_of_its_own_a_queue_sends_dead_letters_by_all_their_keys() {
    let mut node = Node::new();
    node.exchange("dlx", ExchangeKind::Direct);
    let cc = with_headers("rk", |table| {
        table.array("CC", |keys| {
            keys.push("cc1").push("cc2");
        });
    });
    let keeps = node.queue("keeps", &[("x-dead-letter-exchange", "dlx")]);
    let changes = node.queue("changes", &[("x-dead-letter-exchange", "dlx"), ("x-dead-letter-routing-key", "new")]);
    let [of_rk, of_cc, of_new] = ["rk", "cc2", "new"].map(|key| {
        let queue = node.queue(key, &[]);
        node.bind("dlx", queue, key);
        queue
    });
    let (letter, queues) = node.goes_on(keeps, ForwardReason::Rejected, &cc);
    assert_eq!((queues, letter.routing_key()), (vec![of_rk, of_cc], "rk"));
    assert_eq!(deaths(&letter), ["keeps rejected 1 x>rk,cc1,cc2"]);
    assert_eq!(node.goes_on(keeps, ForwardReason::Rejected, &letter).1, [of_rk, of_cc], "also the next time");
    let (letter, queues) = node.goes_on(changes, ForwardReason::Rejected, &cc);
    assert_eq!((queues, letter.routing_key()), (vec![of_new], "new"));
    let (letter, queues) = node.goes_on(keeps, ForwardReason::Rejected, &letter);
    assert_eq!(queues, [of_new], "the header CC is still there and counts no more");
    assert_eq!(deaths(&letter), ["keeps rejected 1 dlx>new", "changes rejected 1 x>rk,cc1,cc2"]);
}

#[test]
fn a_message_whose_delay_is_over_is_no_dead_letter_and_keeps_its_expiration() {
    let mut node = Node::new();
    node.exchange("later", ExchangeKind::Direct);
    let (store, target) = (node.queue("amq.delayed.later", &[]), node.queue("target", &[]));
    let other = node.queue("other", &[]);
    node.bind("later", target, "k");
    node.bind("later", other, "bcc");
    let headers_table = TableBuilder::build(|table| {
        table.put("x-delay", 5_000_i32).array("BCC", |keys| {
            keys.push("bcc");
        });
    });
    let properties = BasicProperties {
        headers: Some(Table::new(&headers_table)),
        expiration: Some("60"),
        ..BasicProperties::default()
    };
    node.leaves(store, 3, ForwardReason::Due, &message("first", "k", &properties, b"body"));
    let wanted = node.wanted();
    let queues: Vec<_> = wanted.sent.iter().flat_map(|sent| sent.queues.clone()).collect();
    assert!(queues.contains(&target) && queues.contains(&other) && queues.len() == 2, "{queues:?}");
    let sent = &wanted.sent[0];
    assert_eq!((sent.expiration, sent.logged), (Some(60), false));
    assert_eq!((sent.message.exchange(), sent.message.routing_key()), ("first", "k"));
    assert!(!sent.message.is_dead_letter());
    assert_eq!(headers(&sent.message).get("x-delay"), Ok(Some(Value::I32(-5_000))));
    assert_eq!(headers(&sent.message).get("BCC"), Ok(None));
    assert_eq!(deaths(&sent.message), [""; 0]);
}

#[test]
fn a_delay_that_was_written_in_digits_is_over_when_it_is_over() {
    let mut node = Node::new();
    node.exchange("later", ExchangeKind::Direct);
    let (store, target) = (node.queue("amq.delayed.later", &[]), node.queue("target", &[]));
    node.bind("later", target, "k");
    let headers_table = TableBuilder::build(|table| {
        table.put("x-delay", "5000");
    });
    let properties = BasicProperties { headers: Some(Table::new(&headers_table)), ..BasicProperties::default() };
    node.leaves(store, 3, ForwardReason::Due, &message("first", "k", &properties, b"body"));
    let wanted = node.wanted();
    assert_eq!(headers(&wanted.sent[0].message).get("x-delay"), Ok(Some(Value::I64(-5_000))));
}

#[test]
fn a_message_is_settled_when_the_last_of_its_queues_has_confirmed_it() {
    let mut node = Node::new();
    node.exchange("dlx", ExchangeKind::Fanout);
    let work = node.queue("work", &[("x-dead-letter-exchange", "dlx")]);
    for name in ["a", "b", "c", "d"] {
        let queue = node.queue(name, &[]);
        node.bind("dlx", queue, "");
    }
    node.leaves(work, 5, ForwardReason::Rejected, &plain("", "work"));
    let wanted = node.wanted();
    assert!(wanted.settled.is_empty());
    assert_eq!(wanted.sent.len(), usize::from(SHARDS), "one for each shard");
    let octets: usize = wanted.sent.iter().map(|sent| sent.message.size()).sum();
    assert_eq!((node.forwarder.take_published(), node.forwarder.take_published()), (octets as u64, 0));
    for (index, sent) in wanted.sent.iter().enumerate() {
        assert_eq!(node.forwarder.under_way(), 1);
        node.answer(sent, true);
        let settled = node.wanted().settled;
        let is_last = index + 1 == wanted.sent.len();
        assert_eq!(settled, if is_last { vec![(work, 5, Settlement::Done)] } else { vec![] });
    }
    assert_eq!(node.forwarder.under_way(), 0);
}

#[test]
fn what_nobody_takes_is_dropped_unless_it_must_arrive() {
    let mut node = Node::new();
    node.exchange("dlx", ExchangeKind::Fanout);
    let target = node.queue("target", &[]);
    let once = node.queue("once", &[("x-dead-letter-exchange", "dlx")]);
    let sure = [
        ("x-dead-letter-exchange", "dlx"),
        ("x-dead-letter-strategy", "at-least-once"),
        ("x-queue-type", "quorum"),
        ("x-overflow", "reject-publish"),
    ];
    let sure = node.queue("sure", &sure);
    // Nothing is bound yet.
    node.leaves(once, 1, ForwardReason::Expired, &plain("", "q"));
    node.leaves(sure, 2, ForwardReason::Expired, &plain("", "q"));
    let mut settled = node.wanted().settled;
    settled.sort_by_key(|(queue, ..)| *queue);
    assert_eq!(settled, [(once, 1, Settlement::Done), (sure, 2, Settlement::Return)]);
    assert_eq!(node.forwarder.under_way(), 0);
    // Now something is, but it is full.
    node.bind("dlx", target, "");
    for (queue, settlement) in [(once, Settlement::Done), (sure, Settlement::Return)] {
        node.leaves(queue, 3, ForwardReason::Expired, &plain("", "q"));
        let sent = node.wanted().sent;
        node.answer(&sent[0], false);
        assert_eq!(node.wanted().settled, [(queue, 3, settlement)]);
    }
    assert_eq!((node.forwarder.under_way(), node.forwarder.counts.dropped), (0, 2));
}

#[test]
fn a_queue_that_is_full_does_not_cost_the_others_copies() {
    let mut node = Node::new();
    node.exchange("dlx", ExchangeKind::Fanout);
    let sure = [
        ("x-dead-letter-exchange", "dlx"),
        ("x-dead-letter-strategy", "at-least-once"),
        ("x-queue-type", "quorum"),
        ("x-overflow", "reject-publish"),
    ];
    let sure = node.queue("sure", &sure);
    // The first and the fourth share a shard.
    let targets = ["a", "b", "c", "d"].map(|name| {
        let queue = node.queue(name, &[]);
        node.bind("dlx", queue, "");
        queue
    });
    let full = targets[0];
    let mut copies = [0; 4];
    for _ in 0..5 {
        node.leaves(sure, 1, ForwardReason::Expired, &plain("", "q"));
        for sent in node.wanted().sent {
            let refused = sent.queues.contains(&full);
            for queue in sent.queues.iter().filter(|queue| **queue != full) {
                copies[targets.iter().position(|target| target == queue).expect("a target")] += 1;
            }
            node.answer(&sent, !refused);
        }
        assert_eq!(node.wanted().settled, [(sure, 1, Settlement::Return)]);
    }
    assert_eq!(node.forwarder.counts, ForwardCounts::default(), "it has not arrived everywhere");
    assert_eq!(copies, [0, 1, 1, 2], "who shares a shard with the full queue may get it twice, never more");
    node.delete_queue(full);
    node.leaves(sure, 1, ForwardReason::Expired, &plain("", "q"));
    let wanted = node.wanted();
    assert!(wanted.sent.is_empty(), "all that are left have it");
    assert_eq!(wanted.settled, [(sure, 1, Settlement::Done)]);
}

#[test]
fn messages_of_queues_that_are_gone_or_send_nothing_on_any_more_are_done_with() {
    let mut node = Node::new();
    let quiet = node.queue("quiet", &[]);
    node.leaves(quiet, 1, ForwardReason::Expired, &plain("", "quiet"));
    node.leaves(QueueId(99), 2, ForwardReason::Expired, &plain("", "gone"));
    let mut settled = node.wanted().settled;
    settled.sort_by_key(|(queue, ..)| *queue);
    assert_eq!(settled, [(quiet, 1, Settlement::Done), (QueueId(99), 2, Settlement::Done)]);
}

#[test]
fn answers_to_nothing_are_ignored() {
    let mut node = Node::new();
    node.event(ShardId(1), Event::Confirmed { channel: 0, first: 1, len: u64::MAX });
    node.event(ShardId(1), Event::Refused { channel: 0, first: 0, len: 3 });
    node.event(ShardId(1), Event::Purged(1));
    assert!(node.wanted().settled.is_empty());
}
