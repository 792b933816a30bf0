//! Deadlines and heartbeats, by a clock that only the tests move.

use warren_amqp::frame::{HEARTBEAT, PROTOCOL_HEADER};
use warren_amqp::{ToServer, connection};

use super::world::*;
use crate::limits::{CLOSE_MILLIS, HANDSHAKE_MILLIS};

/// A connection with this heartbeat.
fn beating(seconds: u16) -> World {
    let mut world = World::empty();
    world.connect();
    world.log_in_with(ME, &[], seconds);
    world
}

#[test]
fn a_connection_that_says_nothing_is_dropped_after_ten_seconds() {
    let mut world = World::empty();
    world.connect();
    world.pass_millis(ME, HANDSHAKE_MILLIS - 1);
    assert!(!world.is_closed(ME));
    world.pass_millis(ME, 1);
    assert!(world.is_closed(ME));
    assert!(world.heard_octets(ME).is_empty());
}

#[test]
fn a_slow_handshake_is_dropped_after_ten_seconds_however_it_trickles() {
    let mut world = World::empty();
    world.connect();
    for octet in PROTOCOL_HEADER {
        world.send_octets(ME, &[octet]);
        world.pass_millis(ME, HANDSHAKE_MILLIS / 9);
    }
    assert!(!world.is_closed(ME));
    world.pass_millis(ME, HANDSHAKE_MILLIS / 9 + 9);
    assert!(world.is_closed(ME));
}

#[test]
fn an_open_connection_without_heartbeats_has_no_deadline() {
    let world = World::new();
    assert_eq!(world.next_deadline(ME), None);
}

#[test]
fn heartbeats_are_sent_twice_in_their_interval() {
    let mut world = beating(10);
    world.pass_millis(ME, 4_999);
    assert_eq!(world.heard(ME), []);
    world.pass_millis(ME, 5_001);
    let heard = world.heard(ME);
    assert!(heard.len() == 2 && heard.iter().all(Said::is_heartbeat), "{heard:?}");
}

#[test]
fn a_client_silent_for_three_intervals_is_dropped() {
    let mut world = beating(2);
    world.pass_millis(ME, 5_999);
    assert!(!world.is_closed(ME));
    world.pass_millis(ME, 1);
    assert!(world.is_closed(ME));
}

#[test]
fn any_traffic_counts_as_a_heartbeat() {
    let mut world = beating(2);
    world.pass_millis(ME, 5_000);
    world.send_octets(ME, &HEARTBEAT);
    world.pass_millis(ME, 5_000);
    world.send_octets(ME, &HEARTBEAT[..3]);
    world.pass_millis(ME, 5_999);
    assert!(!world.is_closed(ME));
}

#[test]
fn a_client_silent_for_too_long_gives_back_what_it_held() {
    let mut world = World::new();
    let silent = world.connect();
    world.log_in_with(silent, &[], 2);
    world.open_channel(silent, 1);
    world.queue(ME, "q");
    world.publish(ME, "q", "a");
    assert_eq!(world.consume(silent, "q", "t").len(), 1);
    world.pass_millis(silent, 6_000);
    assert_eq!(bodies(&world.consume(OTHER, "q", "t")), ["a"]);
}

#[test]
fn a_client_that_does_not_answer_our_close_is_dropped_after_five_seconds() {
    let mut world = World::new();
    world.shut_down(ME);
    world.heard(ME)[0].closes_connection(320, "CONNECTION_FORCED - stopping", (0, 0));
    world.pass_millis(ME, CLOSE_MILLIS - 1);
    assert!(!world.is_closed(ME));
    world.pass_millis(ME, 1);
    assert!(world.is_closed(ME));
}

#[test]
fn a_connection_in_its_handshake_is_closed_bare_at_shutdown() {
    let mut world = World::empty();
    world.connect();
    world.shut_down(ME);
    assert!(world.is_closed(ME));
    assert!(world.heard_octets(ME).is_empty());
}

#[test]
fn nothing_is_read_after_close_ok() {
    let mut world = World::new();
    world.shut_down(ME);
    world.heard(ME);
    world.send(ME, 0, ToServer::ConnectionCloseOk(connection::CloseOk));
    assert!(world.is_closed(ME));
    world.send(ME, 1, ToServer::QueueDeclare(declare("q")));
    assert!(world.heard_octets(ME).is_empty());
}
