//! How many allocations a message costs in the session, from its octets in to its octets out.

#[path = "session/broker.rs"]
mod broker;

use allocation_counter::measure;
use broker::{BATCH, Broker, batch};
use warren_amqp::basic;

const BODY: [u8; 16] = [7; 16];

fn allocations(work: &mut dyn FnMut()) -> u64 {
    measure(work).count_total
}

#[test]
fn a_message_costs_at_most_a_tenth_of_an_allocation_from_publish_to_ack() {
    const ROUNDS: u64 = 20;
    let mut broker = Broker::new(allocations);
    let mut before = 0;
    for round in 1..=2 * ROUNDS {
        broker.receive(&batch((round - 1) * BATCH, &BODY));
        assert_eq!(broker.sent(), (BATCH, round * BATCH), "all are delivered and confirmed");
        if round == ROUNDS {
            before = broker.cost;
        }
    }
    let each = (broker.cost - before) as f64 / (ROUNDS * BATCH) as f64;
    println!("{each:.4} allocations per message in the session");
    assert!(each <= 0.1, "{each} allocations per message");
}

#[test]
fn acknowledging_one_by_one_costs_no_more() {
    const ROUNDS: u64 = 20;
    let mut broker = Broker::new(allocations);
    let mut before = 0;
    for round in 0..2 * ROUNDS {
        broker.receive(&batch(0, &BODY));
        let mut acks = Vec::new();
        for delivery_tag in round * BATCH + 1..=(round + 1) * BATCH {
            basic::Ack { delivery_tag, multiple: false }.encode(1, &mut acks);
        }
        broker.receive(&acks);
        assert_eq!(broker.sent().0, BATCH);
        if round == ROUNDS {
            before = broker.cost;
        }
    }
    let each = (broker.cost - before) as f64 / ((ROUNDS - 1) * BATCH) as f64;
    assert!(each <= 0.1, "{each} allocations per message");
}
