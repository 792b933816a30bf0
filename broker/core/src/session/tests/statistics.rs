//! What a session says about its connection.

use std::string::String;
use std::vec::Vec;

use warren_amqp::{Table, ToServer, Value, basic, channel, tx};

use super::world::*;
use crate::session::{ChannelCounters, ChannelStatistics, ConnectionState, ExchangeCounts, SessionStatistics};

fn statistics(world: &mut World, client: usize) -> SessionStatistics {
    world.session(client).statistics()
}

fn on_channel(world: &mut World, number: u16) -> ChannelStatistics {
    let statistics = statistics(world, ME);
    statistics.channels.into_iter().find(|channel| channel.number == number).expect("the channel is open")
}

/// What was published to exchanges: name, messages in, copies out.
fn exchanges(world: &mut World) -> Vec<(String, u64, u64)> {
    let counts = world.session(ME).take_exchange_counts().into_iter();
    counts
        .map(|ExchangeCounts { exchange, published_in, published_out }| (exchange, published_in, published_out))
        .collect()
}

fn get(world: &mut World, no_ack: bool) {
    world.send(ME, 1, ToServer::BasicGet(basic::Get { queue: "q", no_ack }));
    world.heard(ME);
}

#[test]
fn a_connection_says_who_it_is_and_what_was_negotiated() {
    let mut world = World::new();
    world.open_channel(ME, 7);
    let SessionStatistics { user, vhost, mechanism, client_properties, state, heartbeat_secs, channels, .. } =
        statistics(&mut world, ME);
    assert_eq!((user.as_str(), &*vhost, mechanism.as_str(), heartbeat_secs), ("guest", "/", "PLAIN", 0));
    assert_eq!(state, ConnectionState::Running);
    assert_eq!(channels.iter().map(|channel| channel.number).collect::<Vec<_>>(), [1, 7]);
    let capabilities = Table::new(&client_properties).get("capabilities").expect("it is a table");
    assert!(matches!(capabilities, Some(Value::Table(_))));
    let stranger = world.connect();
    assert_eq!(statistics(&mut world, stranger).state, ConnectionState::Starting);
}

#[test]
fn a_channel_counts_what_goes_through_it() {
    let mut world = World::new();
    world.queue(ME, "q");
    world.confirms(ME, 1);
    world.publish_all(ME, "q", &["a", "b", "c", "d"]);
    world.publish(ME, "nobody", "lost");
    world.publish_with(ME, basic::Publish { mandatory: true, ..to_queue("nobody") }, &persistent(), "back");
    world.heard(ME);
    get(&mut world, false);
    get(&mut world, true);
    world.send(ME, 1, ToServer::BasicConsume(consume("q", "tag")));
    world.heard(ME);
    world.send(ME, 1, ToServer::BasicAck(basic::Ack { delivery_tag: 3, multiple: true }));
    world.send(ME, 1, ToServer::BasicNack(basic::Nack { delivery_tag: 4, multiple: false, requeue: true }));
    world.heard(ME);
    let found = on_channel(&mut world, 1);
    let counters = ChannelCounters {
        published: 6,
        confirmed: 6,
        returned: 1,
        dropped: 1,
        delivered: 3,
        delivered_no_ack: 0,
        got: 1,
        got_no_ack: 1,
        get_empty: 0,
        redelivered: 1,
        acknowledged: 2,
    };
    assert_eq!(found.counters, counters);
    assert!(found.confirm && !found.transactional);
    assert_eq!((found.unacknowledged, found.unconfirmed, found.consumer_count), (1, 0, 1));
    let consumers = statistics(&mut world, ME).consumers;
    assert_eq!((consumers.len(), &*consumers[0].tag, consumers[0].queue), (1, "tag", world.record("q").id));
}

#[test]
fn a_get_that_finds_nothing_counts() {
    let mut world = World::new();
    world.queue(ME, "q");
    get(&mut world, true);
    assert_eq!(on_channel(&mut world, 1).counters, ChannelCounters { get_empty: 1, ..ChannelCounters::default() });
}

#[test]
fn a_transaction_says_what_waits_for_its_commit() {
    let mut world = World::new();
    world.queue(ME, "q");
    world.publish_all(OTHER, "q", &["a", "b"]);
    world.call(ME, 1, ToServer::TxSelect(tx::Select));
    get(&mut world, false);
    get(&mut world, false);
    world.publish(ME, "q", "c");
    world.send(ME, 1, ToServer::BasicAck(basic::Ack { delivery_tag: 1, multiple: false }));
    let found = on_channel(&mut world, 1);
    assert_eq!((found.uncommitted, found.acks_uncommitted, found.unacknowledged), (1, 1, 1));
    assert!(found.transactional);
    assert_eq!(found.counters.acknowledged, 0);
    world.call(ME, 1, ToServer::TxCommit(tx::Commit));
    let found = on_channel(&mut world, 1);
    assert_eq!((found.uncommitted, found.acks_uncommitted, found.counters.acknowledged), (0, 0, 1));
}

#[test]
fn exchanges_get_what_was_published_to_them_once() {
    let mut world = World::new();
    world.queue(ME, "q");
    world.publish_all(ME, "q", &["a", "b"]);
    world.publish(ME, "nobody", "lost");
    let fanout = basic::Publish { exchange: "amq.fanout", ..to_queue("any") };
    world.publish_with(ME, fanout, &persistent(), "nobody is bound");
    assert_eq!(exchanges(&mut world), [(String::new(), 3, 2), ("amq.fanout".into(), 1, 0)]);
    assert_eq!(exchanges(&mut world), []);
    // A new topology makes the session forget its routes, and not what it has counted.
    world.publish(ME, "q", "c");
    world.queue(ME, "another");
    world.publish(ME, "q", "d");
    assert_eq!(exchanges(&mut world), [(String::new(), 2, 2)]);
}

#[test]
fn more_exchanges_and_keys_than_routes_are_remembered_lose_no_count() {
    let mut world = World::new();
    world.queue(ME, "q");
    let keys: Vec<String> = (0..200).map(|key| std::format!("{key}")).collect();
    for key in keys.iter().chain(&keys) {
        let publish = basic::Publish { exchange: "amq.topic", ..to_queue(key) };
        world.publish_with(ME, publish, &persistent(), "");
        world.publish(ME, "q", "");
    }
    assert_eq!(exchanges(&mut world), [(String::new(), 400, 400), ("amq.topic".into(), 400, 0)]);
}

#[test]
fn publishers_are_channels_that_have_published_and_are_open() {
    let mut world = World::new();
    world.queue(ME, "q");
    world.open_channel(ME, 2);
    assert_eq!(world.session(ME).publisher_count(), 0);
    world.publish_all(ME, "q", &["a", "b"]);
    world.publish_on(ME, 2, "q", "c");
    assert_eq!(world.session(ME).publisher_count(), 2);
    let wrong = basic::Publish { exchange: "no such exchange", ..to_queue("q") };
    world.publish_with(ME, wrong, &persistent(), "");
    assert_eq!(world.session(ME).publisher_count(), 1, "its channel is closed");
    world.disconnect(ME);
    assert_eq!(world.session(ME).publisher_count(), 0);
    let counts = world.counts(ME);
    assert_eq!((counts.channels_opened, counts.channels_closed), (2, 2));
}

#[test]
fn a_connection_is_blocking_from_the_alarm_on_and_blocked_once_it_publishes() {
    let mut world = World::new();
    world.queue(ME, "q");
    world.alarm(Some("low on disk"));
    assert_eq!(statistics(&mut world, ME).state, ConnectionState::Blocking);
    world.publish(ME, "q", "a");
    assert_eq!(statistics(&mut world, ME).state, ConnectionState::Blocked);
    world.alarm(None);
    assert_eq!(statistics(&mut world, ME).state, ConnectionState::Running);
}

#[test]
fn what_a_channel_did_before_is_not_taken_for_what_a_new_one_of_its_number_did() {
    let before = ChannelCounters { published: 10, confirmed: 10, ..ChannelCounters::default() };
    let now = ChannelCounters { published: 12, confirmed: 11, ..ChannelCounters::default() };
    assert_eq!(now.since(&before), ChannelCounters { published: 2, confirmed: 1, ..ChannelCounters::default() });
    assert_eq!(before.since(&now), before);
}

#[test]
fn the_confirm_of_a_publish_that_is_watched_is_seen_once() {
    let mut world = World::new();
    world.queue(ME, "q");
    world.publish(ME, "q", "not to be confirmed");
    world.confirms(ME, 1);
    world.session(ME).watch_confirm();
    assert!(!world.session(ME).is_watching_confirm());
    world.commits = false;
    world.publish_all(ME, "q", &["a", "b"]);
    assert!(world.session(ME).is_watching_confirm() && !world.session(ME).take_confirm_seen());
    world.session(ME).watch_confirm();
    world.commit();
    assert!(world.session(ME).take_confirm_seen());
    assert!(!world.session(ME).take_confirm_seen() && !world.session(ME).is_watching_confirm());
}

#[test]
fn a_publish_that_is_watched_is_forgotten_with_its_channel() {
    let mut world = World::new();
    world.queue(ME, "q");
    world.confirms(ME, 1);
    world.session(ME).watch_confirm();
    world.commits = false;
    world.publish(ME, "q", "a");
    assert!(world.session(ME).is_watching_confirm());
    let close = channel::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
    world.send(ME, 1, ToServer::ChannelClose(close));
    assert!(!world.session(ME).is_watching_confirm() && !world.session(ME).take_confirm_seen());
}
