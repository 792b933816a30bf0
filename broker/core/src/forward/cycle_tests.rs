//! Messages that have died often: what is told of that, and where their way ends.

use alloc::vec::Vec;

use super::tests::{Node, deaths, headers, plain, text, with_headers};
use super::*;
use crate::limits::DEATHS_BYTES;
use crate::queue::ForwardReason;
use crate::topology::ExchangeKind;

#[test]
fn a_message_does_not_go_back_to_where_it_died_unless_somebody_rejected_it_since() {
    let mut node = Node::new();
    node.exchange("all", ExchangeKind::Fanout);
    let one = node.queue("one", &[("x-dead-letter-exchange", "all")]);
    let two = node.queue("two", &[("x-dead-letter-exchange", "all")]);
    let (letter, queues) = {
        node.bind("all", one, "");
        node.bind("all", two, "");
        node.goes_on(one, ForwardReason::Expired, &plain("", "one"))
    };
    assert_eq!(queues, [two], "not back to where it has just expired");
    node.leaves(two, 1, ForwardReason::Expired, &letter);
    let wanted = node.wanted();
    assert!(wanted.sent.is_empty(), "it has died in both");
    assert_eq!(wanted.settled, [(two, 1, Settlement::Done)]);
    assert_eq!(node.forwarder.counts.dropped, 1);
    assert_eq!(node.goes_on(two, ForwardReason::Rejected, &letter).1, [one, two]);
}

#[test]
fn deaths_are_bounded_and_the_newest_is_always_told() {
    let mut node = Node::new();
    node.queue("dead", &[]);
    let to_dead = [("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", "dead")];
    let mut letter = plain("", "first");
    let filler = "n".repeat(200);
    for index in 0..400 {
        let queue = node.queue(&alloc::format!("{index}-{filler}"), &to_dead);
        (letter, _) = node.goes_on(queue, ForwardReason::Rejected, &letter);
        let size = letter.header().len();
        assert!(size < DEATHS_BYTES + 2_048, "{size} octets of header");
        assert!(deaths(&letter)[0].starts_with(&alloc::format!("{index}-")));
    }
    let told = deaths(&letter).len();
    assert!((150..400).contains(&told), "{told}");
    assert!(text(headers(&letter), "x-first-death-queue").starts_with("0-"), "the first one is told all the same");
}

/// Each queue sends on to the next, the last to the first, and the first of their names is so long that the header has no
/// room for them all.
#[test]
fn a_message_does_not_go_round_for_ever_in_a_ring_that_is_longer_than_its_header() {
    const RING: usize = 400;
    let mut node = Node::new();
    let filler = "n".repeat(200);
    let name = |index: usize| alloc::format!("{}-{filler}", index % RING);
    let ring: Vec<QueueId> = (0..RING)
        .map(|index| {
            node.queue(&name(index), &[("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", &name(index + 1))])
        })
        .collect();
    let mut hops = 0;
    let mut letter = plain("", "first");
    let end = loop {
        let queue = ring[hops % RING];
        // Somebody rejects it once on its way, so that it is allowed to come by again.
        let reason = if hops == 100 { ForwardReason::Rejected } else { ForwardReason::Expired };
        node.leaves(queue, hops as u64, reason, &letter);
        let mut wanted = node.wanted();
        let Some(sent) = wanted.sent.pop() else { break wanted.settled };
        node.answer(&sent, true);
        node.wanted();
        letter = sent.message;
        hops += 1;
        assert!(hops < 2 * RING, "it goes on and on");
    };
    assert_eq!(end, [(ring[hops % RING], hops as u64, Settlement::Done)]);
    assert!(hops > 200, "{hops}: it goes on for as long as the rejection is remembered");
}

/// Two deaths of a message with so many routing keys do not fit into one header.
#[test]
fn a_ring_of_two_ends_also_if_the_header_has_room_for_one_death_only() {
    let mut node = Node::new();
    node.exchange("all", ExchangeKind::Fanout);
    let [one, two] = ["one", "two"].map(|name| node.queue(name, &[("x-dead-letter-exchange", "all")]));
    let many = with_headers("k", |table| {
        table.array("CC", |keys| {
            for index in 0..250 {
                keys.push(alloc::format!("{index}-{}", "k".repeat(180)).as_str());
            }
        });
    });
    node.bind("all", two, "");
    let (letter, _) = node.goes_on(one, ForwardReason::Expired, &many);
    node.unbind("all", two, "");
    node.bind("all", one, "");
    node.leaves(two, 1, ForwardReason::Expired, &letter);
    let wanted = node.wanted();
    assert!(wanted.sent.is_empty());
    assert_eq!(wanted.settled, [(two, 1, Settlement::Done)]);
}
