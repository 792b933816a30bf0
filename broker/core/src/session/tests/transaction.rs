//! `tx.select`, `tx.commit`, `tx.rollback`.

use warren_amqp::{ToClient, ToServer, basic, channel, confirm, connection, tx};

use super::world::*;
use crate::limits::{MESSAGE_BYTES, TRANSACTION_BYTES};

const SELECT: ToServer<'static> = ToServer::TxSelect(tx::Select);
const COMMIT: ToServer<'static> = ToServer::TxCommit(tx::Commit);
const ROLLBACK: ToServer<'static> = ToServer::TxRollback(tx::Rollback);
const COMMIT_OK: ToClient<'static> = ToClient::TxCommitOk(tx::CommitOk);

/// A broker with the durable queue `q`; channel 1 of [`ME`] has a transaction.
fn with_transaction() -> World {
    let mut world = World::new();
    world.queue(ME, "q");
    select(&mut world);
    world
}

#[track_caller]
fn select(world: &mut World) {
    assert_eq!(world.call(ME, 1, SELECT).method(), ToClient::TxSelectOk(tx::SelectOk));
}

#[track_caller]
fn commit(world: &mut World) {
    assert_eq!(world.call(ME, 1, COMMIT).method(), COMMIT_OK);
}

#[track_caller]
fn roll_back(world: &mut World) {
    assert_eq!(world.call(ME, 1, ROLLBACK).method(), ToClient::TxRollbackOk(tx::RollbackOk));
}

fn ack(world: &mut World, delivery_tag: u64, multiple: bool) {
    world.send(ME, 1, ToServer::BasicAck(basic::Ack { delivery_tag, multiple }));
}

#[test]
fn publishes_reach_their_queue_at_the_commit() {
    let mut world = with_transaction();
    world.publish_all(ME, "q", &["a", "b"]);
    assert_eq!(world.count(OTHER, "q"), (0, 0));
    commit(&mut world);
    assert_eq!(world.count(OTHER, "q"), (2, 0));
    assert_eq!([world.get(OTHER, "q").unwrap().body, world.get(OTHER, "q").unwrap().body], ["a", "b"]);
    commit(&mut world);
    assert_eq!(world.count(OTHER, "q"), (0, 0), "they are not committed twice");
}

#[test]
fn a_commit_is_answered_when_its_messages_are_durable() {
    let mut world = with_transaction();
    world.open_channel(ME, 2);
    world.commits = false;
    world.publish(ME, "q", "a");
    world.send(ME, 1, COMMIT);
    assert_eq!(world.heard(ME), []);
    assert!(!world.is_reading(ME));
    world.commit();
    let heard = world.heard(ME);
    assert_eq!((heard.len(), heard[0].method()), (1, COMMIT_OK));
    assert!(world.is_reading(ME));
}

#[test]
fn a_commit_of_nothing_and_of_what_is_not_routed_is_answered_at_once() {
    let mut world = with_transaction();
    world.commits = false;
    commit(&mut world);
    world.publish(ME, "nowhere", "lost");
    commit(&mut world);
}

#[test]
fn publishes_are_dropped_by_a_rollback_and_the_next_ones_are_committed() {
    let mut world = with_transaction();
    world.publish(ME, "q", "dropped");
    roll_back(&mut world);
    world.publish(ME, "q", "kept");
    commit(&mut world);
    assert_eq!(world.count(OTHER, "q"), (1, 0));
    assert_eq!(world.get(OTHER, "q").unwrap().body, "kept");
}

#[test]
fn returns_wait_for_the_commit() {
    let mut world = with_transaction();
    let mandatory = basic::Publish { mandatory: true, ..to_queue("nowhere") };
    world.publish_with(ME, mandatory, &persistent(), "lost");
    assert_eq!(world.heard(ME), []);
    world.send(ME, 1, COMMIT);
    let heard = world.heard(ME);
    assert!(matches!(heard[0].method(), ToClient::BasicReturn(_)), "{heard:?}");
    assert_eq!(heard[3].method(), COMMIT_OK);
    world.publish_with(ME, mandatory, &persistent(), "lost");
    roll_back(&mut world);
    commit(&mut world);
}

#[test]
fn a_message_is_routed_when_it_is_published() {
    let mut world = with_transaction();
    world.publish(ME, "late", "before the queue");
    world.queue(OTHER, "late");
    world.publish(ME, "late", "behind it");
    commit(&mut world);
    assert_eq!(world.count(OTHER, "late"), (1, 0));
}

#[test]
fn acknowledgements_take_effect_at_the_commit() {
    let mut world = with_transaction();
    world.publish_all(OTHER, "q", &["a", "b", "c"]);
    for tag in 1..=3 {
        assert_eq!(world.get(ME, "q").unwrap().tag, tag);
    }
    ack(&mut world, 1, false);
    world.send(ME, 1, ToServer::BasicNack(basic::Nack { delivery_tag: 2, multiple: false, requeue: true }));
    assert_eq!(world.count(OTHER, "q"), (0, 0), "nothing has come back");
    commit(&mut world);
    assert_eq!(world.count(OTHER, "q"), (1, 0));
    assert_eq!(world.get(OTHER, "q").unwrap().body, "b");
    world.disconnect(ME);
    let body = world.get(OTHER, "q").map(|message| message.body);
    assert_eq!(body.as_deref(), Some("c"), "a is done with");
    assert_eq!(world.get(OTHER, "q"), None);
}

#[test]
fn an_acknowledged_tag_is_unknown_until_a_rollback() {
    let mut world = with_transaction();
    world.publish_all(OTHER, "q", &["a", "b", "c", "d"]);
    (0..4).for_each(|_| drop(world.get(ME, "q")));
    ack(&mut world, 3, false);
    ack(&mut world, 2, true);
    roll_back(&mut world);
    ack(&mut world, 1, false);
    ack(&mut world, 4, true);
    commit(&mut world);
    ack(&mut world, 0, true);
    assert_eq!(world.heard(ME), []);
    ack(&mut world, 1, false);
    let text = "PRECONDITION_FAILED - unknown delivery tag 1";
    world.heard(ME)[0].closes_channel(406, text, basic::Ack::ID);
}

#[test]
fn acknowledging_twice_in_a_transaction_is_406_at_once() {
    let mut world = with_transaction();
    world.publish(OTHER, "q", "a");
    world.get(ME, "q");
    ack(&mut world, 1, false);
    ack(&mut world, 1, false);
    let text = "PRECONDITION_FAILED - unknown delivery tag 1";
    world.heard(ME)[0].closes_channel(406, text, basic::Ack::ID);
    assert_eq!(world.count(OTHER, "q"), (1, 0), "it has come back");
}

#[test]
fn what_is_acknowledged_and_not_committed_makes_no_room_for_deliveries() {
    for global in [false, true] {
        let mut world = with_transaction();
        world.publish_all(OTHER, "q", &["a", "b"]);
        world.call(ME, 1, ToServer::BasicQos(basic::Qos { prefetch_size: 0, prefetch_count: 1, global }));
        assert_eq!(bodies(&world.consume(ME, "q", "consumer")), ["a"]);
        ack(&mut world, 1, false);
        assert_eq!(world.heard(ME), []);
        world.send(ME, 1, COMMIT);
        assert_eq!(bodies(&messages(&world.heard(ME))), ["b"]);
    }
}

#[test]
fn basic_recover_leaves_alone_what_is_acknowledged() {
    let mut world = with_transaction();
    world.publish_all(OTHER, "q", &["a", "b"]);
    (0..2).for_each(|_| drop(world.get(ME, "q")));
    ack(&mut world, 1, false);
    world.call(ME, 1, ToServer::BasicRecover(basic::Recover { requeue: true }));
    assert_eq!(world.count(OTHER, "q"), (1, 0));
    commit(&mut world);
    assert_eq!(world.get(OTHER, "q").unwrap().body, "b");
}

#[test]
fn the_end_of_a_channel_or_connection_rolls_back() {
    type End = fn(&mut World);
    let ends: [End; 3] = [
        |world| {
            let close = channel::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
            world.call(ME, 1, ToServer::ChannelClose(close));
        },
        |world| {
            let close = connection::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
            world.call(ME, 0, ToServer::ConnectionClose(close));
        },
        |world| world.disconnect(ME),
    ];
    for end in ends {
        let mut world = with_transaction();
        world.publish(OTHER, "q", "acknowledged");
        world.get(ME, "q");
        world.publish(ME, "q", "published");
        ack(&mut world, 1, false);
        end(&mut world);
        assert_eq!(world.count(OTHER, "q"), (1, 0));
        let message = world.get(OTHER, "q").expect("it has come back");
        assert_eq!((message.body.as_str(), message.redelivered), ("acknowledged", true));
    }
}

#[test]
fn transactions_and_confirms_exclude_each_other() {
    let mut world = with_transaction();
    world.send(ME, 1, ToServer::ConfirmSelect(confirm::Select { no_wait: false }));
    let text = "PRECONDITION_FAILED - cannot switch from tx to confirm mode";
    world.heard(ME)[0].closes_channel(406, text, confirm::Select::ID);
    world.confirms(OTHER, 1);
    world.send(OTHER, 1, SELECT);
    let text = "PRECONDITION_FAILED - cannot switch from confirm to tx mode";
    world.heard(OTHER)[0].closes_channel(406, text, tx::Select::ID);
}

#[test]
fn selecting_twice_changes_nothing() {
    let mut world = with_transaction();
    world.publish(ME, "q", "a");
    select(&mut world);
    commit(&mut world);
    assert_eq!(world.count(OTHER, "q"), (1, 0));
}

#[test]
fn a_channel_without_transactions_has_nothing_to_end() {
    for (method, id) in [(COMMIT, tx::Commit::ID), (ROLLBACK, tx::Rollback::ID)] {
        let mut world = World::new();
        world.send(ME, 1, method);
        world.heard(ME)[0].closes_channel(406, "PRECONDITION_FAILED - channel is not transactional", id);
    }
}

#[test]
fn a_message_that_is_refused_fails_the_commit() {
    let mut world = with_transaction();
    world.queue(ME, "another");
    world.commits = false;
    world.publish(ME, "q", "a");
    world.publish(ME, "another", "b");
    world.send(ME, 1, COMMIT);
    let first = world.runs.iter().map(|run| run.receipts[0].first).min().expect("two");
    world.refuse(ME, 1, first, 1);
    assert_eq!(world.heard(ME), [], "the other one is under way");
    world.commit();
    let text = "PRECONDITION_FAILED - partial tx completion";
    world.heard(ME)[0].closes_channel(406, text, tx::Commit::ID);
    assert!(world.is_reading(ME));
}

#[test]
fn what_comes_late_for_a_closed_channel_answers_no_commit_of_the_next() {
    let mut world = with_transaction();
    world.commits = false;
    world.publish(ME, "q", "a");
    world.send(ME, 1, COMMIT);
    let late = world.runs[0].receipts[0].first;
    world.refuse(ME, 1, late, 1);
    assert_eq!(world.heard(ME).len(), 1);
    world.send(ME, 1, ToServer::ChannelCloseOk(channel::CloseOk));
    world.open_channel(ME, 1);
    select(&mut world);
    world.publish(ME, "q", "b");
    world.send(ME, 1, COMMIT);
    world.refuse(ME, 1, late, 1);
    assert_eq!(world.heard(ME), []);
    world.commit();
    assert_eq!(world.heard(ME)[0].method(), COMMIT_OK);
}

#[test]
fn what_waits_for_the_commit_is_bounded_over_all_channels() {
    let mut world = with_transaction();
    world.open_channel(ME, 2);
    world.call(ME, 2, SELECT);
    // What is counted are names, header and body, the queue's number, and what a run costs.
    let overhead = "q".len() as u64 + 15 + 4 + 256;
    let body = "x".repeat((MESSAGE_BYTES - overhead) as usize);
    for number in [1, 2, 1, 2] {
        world.publish_on(ME, number, "q", &body);
    }
    assert_eq!(4 * MESSAGE_BYTES, TRANSACTION_BYTES);
    assert_eq!(world.heard(ME), [], "the bound is reached");
    world.publish(ME, "q", "");
    let text = "PRECONDITION_FAILED - publishes that wait for tx.commit exceed 67108864 octets; commit more often";
    world.heard(ME)[0].closes_channel(406, text, basic::Publish::ID);
    world.send(ME, 1, ToServer::ChannelCloseOk(channel::CloseOk));
    world.publish_on(ME, 2, "q", &body);
    assert_eq!(world.heard(ME), [], "the closed channel's are counted no more");
    assert_eq!(world.call(ME, 2, COMMIT).method(), COMMIT_OK);
    world.publish_on(ME, 2, "q", &body);
    assert_eq!(world.call(ME, 2, ROLLBACK).method(), ToClient::TxRollbackOk(tx::RollbackOk));
    assert_eq!(world.count(OTHER, "q"), (3, 0));
    (0..4).for_each(|_| world.publish_on(ME, 2, "q", &body));
    assert_eq!(world.heard(ME), [], "committed and rolled back ones are counted no more");
}
