//! Credentials that run out and are renewed. What is said and cancelled was asked of RabbitMQ 4.3.6.

use std::format;
use std::sync::Arc;
use std::vec::Vec;

use warren_amqp::{ReplyCode, ToClient, ToServer, basic, connection};

use super::world::*;
use crate::session::handshake::Handshake;
use crate::session::{LoggedIn, SessionOutput, State, Waiting};
use crate::time::Instant;
use crate::topology::{Administration, Identity};

const ALL: &str = "read:*/* write:*/* configure:*/*";
const UPDATE: (u16, u16) = connection::UpdateSecret::ID;

/// A broker with the queue `q`, and a connection by a token of alice that runs out after ten seconds.
fn with_token(scopes: &str) -> (World, usize) {
    let mut world = World::new();
    world.queue(ME, "q");
    let alice = world.connect();
    world.log_in_by_token(alice, "alice", 10_000, scopes);
    world.open_channel(alice, 1);
    (world, alice)
}

fn update(world: &mut World, client: usize, secret: &str) {
    let update = connection::UpdateSecret { new_secret: secret.as_bytes(), reason: "a newer one" };
    world.send(client, 0, ToServer::ConnectionUpdateSecret(update));
}

#[track_caller]
fn is_updated(world: &mut World, client: usize) {
    let heard = world.heard(client);
    assert_eq!(heard[0].method(), ToClient::ConnectionUpdateSecretOk(connection::UpdateSecretOk));
    assert_eq!(heard.len(), 1);
}

/// Somebody was told to go while it was found out who it is: what is found then lets nobody in.
#[test]
fn a_login_that_ends_after_the_connection_lets_nobody_in() {
    let mut world = World::new();
    let client = world.connect();
    let topology = world.topology.clone();
    let session = world.session(client);
    (session.state, session.waiting) = (State::Opening(Handshake::StartOk), Some(Waiting::Login));
    let mut out = SessionOutput::default();
    session.shut_down(ReplyCode::ConnectionForced, "the node stops", &mut out);
    let login = LoggedIn { identity: Identity::User("alice".into()), expires: None };
    session.login_checked(Some(login), &topology, &mut out);
    assert!(session.is_closed() && out.octets.is_empty(), "{:?}", out.octets);
}

#[test]
fn a_connection_ends_when_its_token_does_and_not_before() {
    let (mut world, alice) = with_token(ALL);
    assert_eq!(world.next_deadline(alice), Some(Instant(10_000)));
    world.pass_millis(alice, 8_999);
    assert_eq!(world.heard(alice), []);
    world.publish(alice, "q", "m");
    world.pass_millis(alice, 1);
    world.heard(alice)[0].closes_connection(320, "CONNECTION_FORCED - credential expired", (0, 0));
    assert_eq!(world.count(ME, "q"), (1, 0));
}

#[test]
fn what_a_consumer_held_goes_back_when_its_token_ends() {
    let (mut world, alice) = with_token(ALL);
    world.consume(alice, "q", "tag");
    world.publish(ME, "q", "m");
    assert_eq!(messages(&world.heard(alice)).len(), 1);
    world.pass_millis(alice, 10_000);
    world.heard(alice)[0].closes_connection(320, "CONNECTION_FORCED - credential expired", (0, 0));
    assert_eq!(world.count(ME, "q"), (1, 0));
}

#[test]
fn a_newer_token_moves_the_end() {
    let (mut world, alice) = with_token(ALL);
    world.consume(alice, "q", "tag");
    update(&mut world, alice, &format!("token alice 20000 {ALL}"));
    is_updated(&mut world, alice);
    world.pass_millis(alice, 10_000);
    world.publish(ME, "q", "m");
    assert_eq!(bodies(&messages(&world.heard(alice))), ["m"], "the consumer goes on");
    world.pass_millis(alice, 10_000);
    world.heard(alice)[0].closes_connection(320, "CONNECTION_FORCED - credential expired", (0, 0));
}

#[test]
fn a_consumer_ends_with_the_right_to_read_and_others_go_on() {
    let (mut world, alice) = with_token(ALL);
    world.queue(ME, "r");
    world.consume(alice, "q", "lost");
    world.consume(alice, "r", "kept");
    update(&mut world, alice, "token alice 20000 read:*/r");
    let heard = world.heard(alice);
    let cancel = basic::Cancel { consumer_tag: "lost", no_wait: true };
    assert_eq!(heard[0].method(), ToClient::BasicCancel(cancel));
    assert_eq!(heard[1].method(), ToClient::ConnectionUpdateSecretOk(connection::UpdateSecretOk));
    for queue in ["q", "r"] {
        world.publish(ME, queue, queue);
    }
    assert_eq!(bodies(&messages(&world.heard(alice))), ["r"]);
    assert_eq!(world.count(ME, "q"), (1, 0));
    world.consume(alice, "r", "lost");
}

#[test]
fn what_was_put_aside_for_a_consumer_that_is_revoked_goes_back() {
    let (mut world, alice) = with_token(ALL);
    let qos = basic::Qos { prefetch_size: 0, prefetch_count: 1, global: true };
    world.call(alice, 1, ToServer::BasicQos(qos));
    world.consume(alice, "q", "tag");
    world.publish_all(ME, "q", &["1", "2", "3"]);
    assert_eq!(bodies(&messages(&world.heard(alice))), ["1"]);
    update(&mut world, alice, "token alice 20000 write:*/*");
    assert_eq!(world.heard(alice).len(), 2);
    assert_eq!(world.count(ME, "q"), (2, 0), "the first is the channel's still");
    world.disconnect(alice);
    assert_eq!(world.count(ME, "q"), (3, 0));
}

#[test]
fn the_right_to_publish_ends_at_once_though_it_was_used_before() {
    let (mut world, alice) = with_token(ALL);
    world.publish(alice, "q", "m");
    world.publish(alice, "q", "m");
    update(&mut world, alice, "token alice 20000 read:*/*");
    is_updated(&mut world, alice);
    world.publish(alice, "q", "m");
    let text = "ACCESS_REFUSED - write access to exchange 'amq.default' in vhost '/' refused for user 'alice'";
    world.heard(alice)[0].closes_channel(403, text, basic::Publish::ID);
    assert_eq!(world.count(ME, "q"), (2, 0));
}

#[test]
fn a_secret_that_cannot_be_taken_closes_the_connection() {
    for (secret, text) in [
        ("garbage", "NOT_ALLOWED - Secret update failed"),
        (&format!("token bob 20000 {ALL}"), "NOT_ALLOWED - New secret was refused by one of the backends"),
        ("token alice 20000 read:other/*", "NOT_ALLOWED - access to vhost '/' refused for user 'alice'"),
    ] {
        let (mut world, alice) = with_token(ALL);
        update(&mut world, alice, secret);
        world.heard(alice)[0].closes_connection(530, text, UPDATE);
    }
}

#[test]
fn a_password_needs_no_renewal_and_any_secret_will_do() {
    let mut world = World::new();
    world.administer(Administration::PutUser {
        name: "bob".into(),
        password: None,
        previous_until_ms: None,
        tags: Default::default(),
    });
    let [configure, write, read] = [".*", ".*", ".*"].map(Into::into);
    world.administer(Administration::SetPermissions { user: "bob".into(), configure, write, read });
    let bob = world.connect();
    world.log_in_as(bob, "bob");
    update(&mut world, bob, "garbage");
    is_updated(&mut world, bob);
    assert_eq!(world.next_deadline(bob), None);
}

#[test]
fn connections_end_with_their_user_and_with_their_virtual_host_and_a_token_has_no_user() {
    let users = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect::<Vec<Arc<str>>>();
    let mut world = World::new();
    world.administer(Administration::PutUser {
        name: "bob".into(),
        password: None,
        previous_until_ms: None,
        tags: Default::default(),
    });
    let [configure, write, read] = [".*", ".*", ".*"].map(Into::into);
    world.administer(Administration::SetPermissions { user: "bob".into(), configure, write, read });
    let (bob, alice) = (world.connect(), world.connect());
    world.log_in_as(bob, "bob");
    world.log_in_by_token(alice, "alice", 100_000, ALL);
    for client in [bob, alice, ME] {
        world.deleted(client, &users(&["alice", "carol"]), &users(&["other"]));
        assert_eq!(world.heard(client), []);
    }
    world.deleted(bob, &users(&["carol", "bob"]), &[]);
    world.heard(bob)[0].closes_connection(320, "CONNECTION_FORCED - user 'bob' is deleted", (0, 0));
    world.deleted(alice, &[], &users(&["/"]));
    world.heard(alice)[0].closes_connection(320, "CONNECTION_FORCED - vhost '/' is deleted", (0, 0));
    // The built-in one becomes an ordinary user before it is deleted.
    world.deleted(ME, &users(&["guest"]), &[]);
    world.heard(ME)[0].closes_connection(320, "CONNECTION_FORCED - user 'guest' is deleted", (0, 0));
}
