//! Measures a session without sockets: `cargo run --release -p warren-core --example session`.
//!
//! Shown is the time of a message from its octets in to its octets out, without what its queue costs, of the best of some
//! rounds: the one that other programs disturbed least.

#![expect(clippy::print_stdout, reason = "a measurement is for reading")]

#[path = "../tests/session/broker.rs"]
mod broker;

use std::time::Instant;

use broker::{BATCH, Broker, batch};

const BATCHES: u64 = 2_000;
const ROUNDS: usize = 9;

fn main() {
    for body_len in [16, 1_024] {
        let body = vec![7; body_len];
        let best = (0..ROUNDS).map(|_| round(&body)).fold(f64::INFINITY, f64::min);
        println!("{body_len} octets: publish, confirm, delivery and acknowledgement {best:.1} ns");
    }
}

/// Nanoseconds of a message.
fn round(body: &[u8]) -> f64 {
    let mut broker = Broker::new(nanos);
    broker.cost = 0;
    for number in 0..BATCHES {
        broker.receive(&batch(number * BATCH, body));
        assert_eq!(broker.sent(), (BATCH, (number + 1) * BATCH));
    }
    broker.cost as f64 / (BATCHES * BATCH) as f64
}

fn nanos(work: &mut dyn FnMut()) -> u64 {
    let started = Instant::now();
    work();
    u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
