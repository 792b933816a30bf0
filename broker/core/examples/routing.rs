//! Measures routing and changes of a big topology: `cargo run --release -p warren-core --example routing`.
//!
//! Every lookup goes to another queue than the one before, so that caches do not flatter the figures. What is shown is
//! the mean of the best of 20 rounds: the one that other programs disturbed least.

#![expect(clippy::print_stdout, reason = "a measurement is for reading")]

use std::sync::Arc;
use std::time::Instant;

use warren_amqp::{Properties, Table, TableBuilder};
use warren_core::ConnectionId;
use warren_core::limits::TopologyLimits;
use warren_core::topology::{Action, Bind, Envelope, Identity, QueueDeclaration, Request, Routes, Topology};

const QUEUES: usize = 50_000;
const BOUND: usize = 10_000;
const LOOKUPS: usize = 1_000_000;
const ROUNDS: usize = 20;

fn main() {
    let mut topology = Topology::new(std::num::NonZeroU16::MIN, TopologyLimits::default());
    measure("declare a queue, with a snapshot held", QUEUES, |index| {
        let snapshot = topology.clone();
        ask(&mut topology, Action::DeclareQueue(queue(index)));
        snapshot.queues().next().is_some()
    });
    measure("bind at the direct exchange", QUEUES, |index| {
        ask(&mut topology, bind("amq.direct", index, &format!("key.{index}")));
        true
    });
    measure("bind at the topic exchange", BOUND, |index| {
        let key = match index % 4 {
            0 => format!("orders.{index}.*"),
            1 => format!("orders.*.{index}"),
            2 => format!("#.{index}"),
            _ => format!("stock.{index}.#"),
        };
        ask(&mut topology, bind("amq.topic", index, &key));
        true
    });
    (0..100).for_each(|index| ask(&mut topology, bind("amq.fanout", index, "")));
    (0..100).for_each(|index| ask(&mut topology, headers_bind(index)));
    route_all(&topology);
    measure("unbind at the direct exchange", QUEUES, |index| {
        let Action::BindQueue(bind) = bind("amq.direct", index, &format!("key.{index}")) else { return false };
        ask(&mut topology, Action::UnbindQueue(bind));
        true
    });
}

fn route_all(topology: &Topology) {
    let vhost = topology.vhost("/").expect("the default vhost is always there");
    let mut routes = Routes::new();
    let names: Vec<String> = (0..QUEUES).map(|index| format!("queue-{}", scatter(index))).collect();
    let keys: Vec<String> = (0..QUEUES).map(|index| format!("key.{}", scatter(index))).collect();
    let topics: Vec<String> = (0..QUEUES).map(|index| format!("orders.{}.x", scatter(index) % BOUND)).collect();
    let mut route = |what: &str, exchange: &str, keys: &[String], lookups: usize| {
        measure(what, lookups, |index| {
            routes.clear();
            let message = Envelope {
                exchange,
                routing_key: &keys[index % keys.len()],
                further_keys: &[],
                headers: None,
                properties: Properties::NONE,
            };
            let routed = vhost.route(&message, &mut || 0, &mut routes);
            routed.is_ok() && !routes.is_empty()
        });
    };
    route("default exchange, 50,000 queues", "", &names, LOOKUPS);
    route("direct exchange, 50,000 keys", "amq.direct", &keys, LOOKUPS);
    route("default exchange, always one queue", "", &names[..1], LOOKUPS);
    route("topic exchange, 10,000 bindings", "amq.topic", &topics, LOOKUPS);
    route("fanout exchange, 100 bindings", "amq.fanout", &keys, LOOKUPS / 10);
    let headers = TableBuilder::build(|table| _ = table.put("kind", "order").put("n", 7));
    measure("headers exchange, 100 bindings", LOOKUPS / 100, |_| {
        routes.clear();
        let headers = Some(Table::new(&headers));
        let properties = Properties::NONE;
        let message = Envelope { exchange: "amq.headers", routing_key: "", further_keys: &[], headers, properties };
        vhost.route(&message, &mut || 0, &mut routes).is_ok() && routes.len() == 1
    });
}

fn measure(what: &str, count: usize, mut each: impl FnMut(usize) -> bool) {
    let mut best = u128::MAX;
    let mut right = 0;
    for round in 0..ROUNDS {
        let indices = round * count / ROUNDS..(round + 1) * count / ROUNDS;
        let (size, start) = (indices.len() as u128, Instant::now());
        right += indices.filter(|index| each(*index)).count();
        best = best.min(start.elapsed().as_nanos() / size);
    }
    println!("{what:<40} {best:>8} ns   {right} of {count}");
}

/// Walks all indices in an order without locality.
fn scatter(index: usize) -> usize {
    index * 7_919 % QUEUES
}

fn ask(topology: &mut Topology, action: Action) {
    let request = Request {
        connection: ConnectionId(1),
        identity: Identity::Node(Arc::from("guest")),
        vhost: Arc::from("/"),
        action,
    };
    let prepared = topology.prepare(&request).expect("the measurement asks for nothing wrong");
    prepared.changes.iter().for_each(|change| topology.apply(change));
}

fn queue(index: usize) -> QueueDeclaration {
    QueueDeclaration {
        name: format!("queue-{index}"),
        generated_name: String::new(),
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: bytes::Bytes::new(),
    }
}

fn bind(source: &str, index: usize, key: &str) -> Action {
    Action::BindQueue(Bind {
        source: source.to_string(),
        destination: format!("queue-{index}"),
        routing_key: key.to_string(),
        arguments: bytes::Bytes::new(),
    })
}

fn headers_bind(index: i32) -> Action {
    let arguments = TableBuilder::build(|table| _ = table.put("kind", "order").put("n", index));
    Action::BindQueue(Bind {
        source: "amq.headers".to_string(),
        destination: format!("queue-{index}"),
        routing_key: String::new(),
        arguments: arguments.into(),
    })
}
