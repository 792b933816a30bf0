//! `connection.blocked`: publishers during an alarm.

use std::vec;

use warren_amqp::{ToClient, ToServer, basic, connection};

use super::world::*;
use crate::limits::UNCONFIRMED_PUBLISHES;

const REASON: Option<&str> = Some("low on disk");

/// A broker with the queue `q` and a third connection, which announces `capabilities` and wants heartbeats each 2 s.
fn with_client(capabilities: &[&str]) -> (World, usize) {
    let mut world = World::new();
    world.queue(ME, "q");
    let client = world.connect();
    world.log_in_with(client, capabilities, 2);
    world.open_channel(client, 1);
    (world, client)
}

#[test]
fn a_client_that_publishes_during_an_alarm_is_told_and_not_read_until_it_ends() {
    let (mut world, client) = with_client(&["connection.blocked"]);
    world.alarm(REASON);
    assert_eq!(world.heard(client), [], "it has not published yet");
    world.publish(client, "q", "a");
    let blocked = connection::Blocked { reason: "low on disk" };
    let heard = world.heard(client);
    assert_eq!((heard.len(), heard[0].channel, heard[0].method()), (1, 0, ToClient::ConnectionBlocked(blocked)));
    world.publish(client, "q", "b");
    assert_eq!((world.heard(client), world.is_reading(client)), (vec![], false));
    assert_eq!(world.count(ME, "q"), (0, 0));
    world.alarm(None);
    let heard = world.heard(client);
    assert_eq!((heard.len(), heard[0].method()), (1, ToClient::ConnectionUnblocked(connection::Unblocked)));
    assert_eq!(bodies(&world.consume(OTHER, "q", "t")), ["a", "b"]);
}

#[test]
fn a_client_that_did_not_announce_it_is_held_all_the_same_and_told_nothing() {
    let (mut world, client) = with_client(&[]);
    world.alarm(REASON);
    world.publish(client, "q", "a");
    assert_eq!((world.heard(client), world.is_reading(client)), (vec![], false));
    world.alarm(None);
    assert_eq!((world.heard(client), world.count(ME, "q")), (vec![], (1, 0)));
}

#[test]
fn a_publish_that_had_begun_before_the_alarm_is_finished() {
    let (mut world, client) = with_client(&["connection.blocked"]);
    world.send_octets(client, &publish_head("q", 2));
    world.alarm(REASON);
    world.send_octets(client, &body_frame(1, b"ab"));
    assert_eq!((world.heard(client), world.count(ME, "q")), (vec![], (1, 0)));
}

#[test]
fn connections_that_only_consume_go_on() {
    let (mut world, client) = with_client(&["connection.blocked"]);
    for body in ["a", "b"] {
        world.publish(ME, "q", body);
    }
    world.alarm(REASON);
    world.publish(client, "nowhere", "blocks");
    world.heard(client);
    let held = world.consume(OTHER, "q", "t");
    world.send(OTHER, 1, ToServer::BasicAck(basic::Ack { delivery_tag: 1, multiple: false }));
    assert_eq!((bodies(&held), world.is_reading(OTHER)), (vec!["a", "b"], true));
    world.disconnect(OTHER);
    assert_eq!(world.count(ME, "q"), (1, 0));
}

#[test]
fn deliveries_go_on_to_a_blocked_consumer() {
    let (mut world, client) = with_client(&["connection.blocked"]);
    world.publish(ME, "q", "a");
    assert!(world.get(OTHER, "q").is_some());
    assert_eq!(world.consume(client, "q", "t"), []);
    world.alarm(REASON);
    world.publish(client, "q", "blocks");
    world.heard(client);
    world.disconnect(OTHER);
    assert_eq!(bodies(&messages(&world.heard(client))), ["a"]);
}

#[test]
fn a_blocked_client_is_sent_heartbeats_and_its_own_silence_is_not_held_against_it() {
    let (mut world, client) = with_client(&["connection.blocked"]);
    world.alarm(REASON);
    world.publish(client, "q", "a");
    world.heard(client);
    world.pass_millis(client, 20_000);
    let heard = world.heard(client);
    assert!(heard.len() >= 19 && heard.iter().all(Said::is_heartbeat), "{heard:?}");
    assert!(!world.is_closed(client));
    world.alarm(None);
    world.heard(client);
    world.pass_millis(client, 6_000);
    assert!(world.is_closed(client), "now it is read, and silent");
}

#[test]
fn an_alarm_that_is_over_before_the_client_publishes_is_never_noticed() {
    let (mut world, client) = with_client(&["connection.blocked"]);
    world.alarm(REASON);
    world.alarm(None);
    world.publish(client, "q", "a");
    assert_eq!((world.heard(client), world.count(ME, "q")), (vec![], (1, 0)));
}

#[test]
fn a_blocked_connection_can_be_closed_by_the_server() {
    let (mut world, client) = with_client(&["connection.blocked"]);
    world.alarm(REASON);
    world.publish(client, "q", "a");
    world.heard(client);
    world.shut_down(client);
    world.heard(client)[0].closes_connection(320, "CONNECTION_FORCED - stopping", (0, 0));
    world.send(client, 0, ToServer::ConnectionCloseOk(connection::CloseOk));
    assert!(world.is_closed(client));
    assert_eq!(world.count(ME, "q"), (0, 0));
}

#[test]
fn a_client_with_too_many_unconfirmed_publishes_is_not_read_until_some_are_confirmed() {
    let mut world = World::new();
    world.queue(ME, "q");
    world.confirms(ME, 1);
    world.commits = false;
    let one = publish_head("q", 0);
    let all = usize::try_from(UNCONFIRMED_PUBLISHES).expect("a small bound");
    world.send_octets(ME, &one.repeat(all));
    assert!(!world.is_reading(ME));
    world.send_octets(ME, &one);
    world.commit();
    assert!(world.is_reading(ME));
    let heard = world.heard(ME);
    let last = ToClient::BasicAck(basic::Ack { delivery_tag: UNCONFIRMED_PUBLISHES + 1, multiple: false });
    assert_eq!((heard.len(), heard[1].method()), (2, last));
}
