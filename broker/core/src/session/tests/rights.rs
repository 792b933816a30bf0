//! Who may publish what.

use std::string::ToString;
use std::vec;
use std::vec::Vec;

use warren_amqp::{BasicProperties, Table, TableBuilder, ToServer, basic, exchange};

use super::world::*;
use crate::topology::Administration;

const USER: &str = "bob";

fn tagged(tags: &[&str]) -> Administration {
    let tags = tags.iter().map(ToString::to_string).collect();
    Administration::PutUser { name: USER.to_string(), password: None, previous_until_ms: None, tags }
}

fn may_write(pattern: &str) -> Administration {
    Administration::SetPermissions {
        user: USER.to_string(),
        configure: "".to_string(),
        write: pattern.to_string(),
        read: "".to_string(),
    }
}

/// A broker with the queue `q` and the topic exchange `news`; answers with the connection of a user who may write to
/// what matches `pattern`.
fn with_user(pattern: &str) -> (World, usize) {
    let mut world = World::new();
    world.queue(ME, "q");
    let declare = exchange::Declare {
        exchange: "news",
        kind: "topic",
        passive: false,
        durable: true,
        auto_delete: false,
        internal: false,
        no_wait: false,
        arguments: NO_ARGUMENTS,
    };
    world.call(ME, 1, ToServer::ExchangeDeclare(declare));
    world.administer(tagged(&[]));
    world.administer(may_write(pattern));
    let user = world.connect();
    world.log_in_as(user, USER);
    world.open_channel(user, 1);
    (world, user)
}

fn to_exchange<'a>(exchange: &'a str, routing_key: &'a str) -> basic::Publish<'a> {
    basic::Publish { exchange, ..to_queue(routing_key) }
}

#[track_caller]
fn refused(world: &mut World, user: usize, text: &str) {
    let text = std::format!("ACCESS_REFUSED - {text} refused for user 'bob'");
    world.heard(user)[0].closes_channel(403, &text, basic::Publish::ID);
}

#[test]
fn publishing_takes_write_permission_on_the_exchange_named() {
    let (mut world, user) = with_user("^news$");
    world.publish_with(user, to_exchange("news", "a"), &persistent(), "m");
    assert_eq!(world.heard(user), []);
    world.publish(user, "q", "m");
    refused(&mut world, user, "write access to exchange 'amq.default' in vhost '/'");
    assert_eq!(world.count(ME, "q"), (0, 0));
}

#[test]
fn rights_are_asked_for_before_anything_else_is_looked_at() {
    let wrong = [
        (to_exchange("nowhere", "a"), persistent()),
        (to_exchange("amq.fanout", "a"), BasicProperties { expiration: Some("abc"), ..persistent() }),
        (to_exchange("amq.fanout", "a"), BasicProperties { user_id: Some("al"), ..persistent() }),
    ];
    for (publish, properties) in wrong {
        let (mut world, user) = with_user("^news$");
        world.publish_with(user, publish, &properties, "m");
        let text = std::format!("write access to exchange '{}' in vhost '/'", publish.exchange);
        refused(&mut world, user, &text);
    }
}

#[test]
fn rights_that_are_given_or_taken_count_from_the_next_message_on() {
    let (mut world, user) = with_user("^amq.default$");
    world.publish(user, "q", "m");
    world.publish(user, "q", "m");
    assert_eq!(world.count(ME, "q"), (2, 0));
    world.administer(may_write("^news$"));
    world.publish(user, "q", "m");
    refused(&mut world, user, "write access to exchange 'amq.default' in vhost '/'");
}

#[test]
fn topic_permissions_are_about_every_routing_key() {
    let copies = |name: &str, key: &str| -> Vec<u8> {
        TableBuilder::build(|table| _ = table.array(name, |array| _ = array.push(key)))
    };
    let cases = [
        ("a.b", vec![], None),
        ("b.b", vec![], Some("b.b")),
        ("a.b", copies("CC", "a.c"), None),
        ("a.b", copies("CC", "b.c"), Some("b.c")),
        ("a.b", copies("BCC", "b.d"), Some("b.d")),
    ];
    for (routing_key, headers, offending) in cases {
        let (mut world, user) = with_user("^news$");
        world.administer(Administration::SetTopicPermissions {
            user: USER.to_string(),
            exchange: "news".to_string(),
            write: "^a".to_string(),
            read: "".to_string(),
        });
        let properties = BasicProperties { headers: Some(Table::new(&headers)), ..persistent() };
        for _ in 0..2 {
            world.publish_with(user, to_exchange("news", routing_key), &properties, "m");
        }
        match offending {
            None => assert_eq!(world.heard(user), []),
            Some(key) => {
                let text = std::format!("write access to topic '{key}' in exchange 'news' in vhost '/'");
                refused(&mut world, user, &text);
            }
        }
    }
}

#[test]
fn only_an_impersonator_may_publish_in_anothers_name() {
    let named = |name| BasicProperties { user_id: Some(name), ..persistent() };
    let (mut world, user) = with_user("^amq.default$");
    world.publish_with(user, to_queue("q"), &named(USER), "own");
    world.administer(tagged(&["impersonator"]));
    world.publish_with(user, to_queue("q"), &named("al"), "another's");
    assert_eq!(world.count(ME, "q"), (2, 0));
    world.administer(tagged(&["administrator"]));
    world.publish_with(user, to_queue("q"), &named("al"), "another's");
    let text = "PRECONDITION_FAILED - user_id property set to 'al' but authenticated user was 'bob'";
    world.heard(user)[0].closes_channel(406, text, basic::Publish::ID);
}

#[test]
fn whoever_has_no_rights_may_consume_replies_and_ask_whether_others_do() {
    let (mut world, user) = with_user("^$");
    let replies = basic::Consume { no_ack: true, ..consume("amq.rabbitmq.reply-to", "replies") };
    world.call(user, 1, ToServer::BasicConsume(replies));
    assert_eq!(world.count(user, "amq.rabbitmq.reply-to"), (0, 1));
}
