//! What a queue's declaration makes of its settings.

use warren_amqp::Value;

use super::*;
use crate::queue::{DeadLettering, Deduplication, Overflow, QueueKind, QueueSettings, RetryDelay, Returned};

fn settings(queue_type: &str, arguments: impl FnOnce(&mut TableBuilder<'_>)) -> QueueSettings {
    let mut world = World::new();
    let Outcome::Queue(queue) = world.ask(declare_typed("q", queue_type, arguments)).outcome else {
        panic!("no queue");
    };
    world.topology.settings(&queue)
}

#[test]
fn a_plain_classic_queue_has_no_rules() {
    assert_eq!(settings("classic", |_| {}), QueueSettings { logged: true, ..QueueSettings::default() });
    let mut world = World::new();
    let transient = world.queue_with("q", |declaration| declaration.auto_delete = true);
    let expected = QueueSettings { auto_delete: true, ..QueueSettings::default() };
    assert_eq!(world.topology.settings(&transient), expected);
}

#[test]
fn a_quorum_queue_has_rabbitmqs_rules() {
    let expected = QueueSettings {
        logged: true,
        kind: QueueKind::Quorum,
        max_priority: 31,
        delivery_limit: Some(20),
        consumer_timeout: Some(1_800_000),
        ..QueueSettings::default()
    };
    assert_eq!(settings("quorum", |_| {}), expected);
}

#[test]
fn a_stream_keeps_what_it_is_told_to() {
    let expected = QueueSettings {
        logged: true,
        kind: QueueKind::Stream,
        max_length_bytes: Some(1_000),
        max_age: Some(2 * 86_400_000),
        ..QueueSettings::default()
    };
    let arguments = |table: &mut TableBuilder<'_>| _ = table.put("x-max-length-bytes", 1_000).put("x-max-age", "2D");
    assert_eq!(settings("stream", arguments), expected);
}

#[test]
fn arguments_of_a_classic_queue_become_settings() {
    let arguments = |table: &mut TableBuilder<'_>| {
        table.put("x-message-ttl", 1).put("x-expires", 2).put("x-max-length", 3).put("x-max-length-bytes", 4);
        table.put("x-overflow", "reject-publish-dlx").put("x-max-priority", 5).put("x-dead-letter-exchange", "dlx");
        table.put("x-single-active-consumer", true).put("x-message-deduplication", true);
        table.put("x-cache-size", 6).put("x-cache-ttl", 7);
    };
    let expected = QueueSettings {
        logged: true,
        message_ttl: Some(1),
        expires: Some(2),
        max_length: Some(3),
        max_length_bytes: Some(4),
        overflow: Overflow::RejectPublishDeadLetter,
        max_priority: 5,
        dead_lettering: DeadLettering::AtMostOnce,
        single_active_consumer: true,
        deduplication: Some(Deduplication { cache_size: 6, cache_millis: Some(7) }),
        ..QueueSettings::default()
    };
    assert_eq!(settings("classic", arguments), expected);
    let of = |name: &'static str| settings("classic", |table| _ = table.put("x-overflow", name)).overflow;
    assert_eq!((of("drop-head"), of("reject-publish")), (Overflow::DropHead, Overflow::RejectPublish));
    let deduplicates = settings("classic", |table| _ = table.put("x-message-deduplication", true)).deduplication;
    assert_eq!(deduplicates, Some(Deduplication { cache_size: 128, cache_millis: None }));
    assert_eq!(settings("classic", |table| _ = table.put("x-cache-size", 6)).deduplication, None);
}

#[test]
fn a_quorum_queue_dead_letters_at_least_once_only_if_it_rejects_publishes() {
    let with = |overflow: &'static str, strategy: &'static str| {
        let settings = settings("quorum", |table| {
            table.put("x-dead-letter-exchange", "dlx").put("x-overflow", overflow);
            table.put("x-dead-letter-strategy", strategy);
        });
        (settings.overflow, settings.dead_lettering)
    };
    assert_eq!(with("reject-publish", "at-least-once"), (Overflow::RejectPublish, DeadLettering::AtLeastOnce));
    assert_eq!(with("reject-publish", "at-most-once"), (Overflow::RejectPublish, DeadLettering::AtMostOnce));
    assert_eq!(with("drop-head", "at-least-once"), (Overflow::DropHead, DeadLettering::AtMostOnce));
    assert_eq!(with("reject-publish-dlx", "at-least-once"), (Overflow::DropHead, DeadLettering::AtMostOnce));
    let without_exchange = settings("quorum", |table| _ = table.put("x-dead-letter-strategy", "at-most-once"));
    assert_eq!(without_exchange.dead_lettering, DeadLettering::None);
}

#[test]
fn a_negative_delivery_limit_is_none() {
    let limit =
        |value: Value<'static>| settings("quorum", |table| _ = table.put("x-delivery-limit", value)).delivery_limit;
    assert_eq!(limit(Value::I32(0)), Some(0));
    assert_eq!(limit(Value::I32(-1)), None);
    assert_eq!(limit(Value::I64(1 << 40)), Some(u32::MAX));
    assert_eq!(limit(Value::from("x")), Some(20), "what is no number counts as not given");
}

#[test]
fn a_retry_delay_needs_a_type_and_a_shortest_wait() {
    let delay = |of: &'static str, min: i32, max: i32| {
        let arguments = |table: &mut TableBuilder<'_>| {
            table.put("x-delayed-retry-type", of).put("x-delayed-retry-min", min).put("x-delayed-retry-max", max);
        };
        settings("quorum", arguments).retry_delay
    };
    let expected = |of, max_millis| Some(RetryDelay { of, min_millis: 10, max_millis });
    assert_eq!(delay("all", 10, 50), expected(Returned::All, 50));
    assert_eq!(delay("failed", 10, 50), expected(Returned::Failed, 50));
    assert_eq!(delay("returned", 10, 50), expected(Returned::GivenBack, 50));
    assert_eq!(delay("all", 10, 0), expected(Returned::All, 10), "without a longest wait all wait as long");
    assert_eq!((delay("disabled", 10, 50), delay("x", 10, 50), delay("all", 0, 50)), (None, None, None));
    assert_eq!(settings("quorum", |table| _ = table.put("x-delayed-retry-type", "all")).retry_delay, None);
}

#[test]
fn a_consumer_timeout_is_the_declarations() {
    let given = settings("quorum", |table| _ = table.put("x-consumer-timeout", 60_000));
    assert_eq!(given.consumer_timeout, Some(60_000));
}

#[test]
fn dead_letters_go_where_the_declaration_says() {
    let mut world = World::new();
    let arguments = table(|table| _ = table.put("x-dead-letter-exchange", "").put("x-dead-letter-routing-key", "k"));
    let queue = world.queue_with("q", |declaration| declaration.arguments = arguments);
    assert_eq!(world.topology.dead_letter(&queue), Some((Arc::from(""), Some(Arc::from("k")))));
    let arguments = table(|table| _ = table.put("x-dead-letter-exchange", "dlx"));
    let queue = world.queue_with("own key", |declaration| declaration.arguments = arguments);
    assert_eq!(world.topology.dead_letter(&queue), Some((Arc::from("dlx"), None)));
    let queue = world.queue("none");
    assert_eq!(world.topology.dead_letter(&queue), None);
}

#[test]
fn routes_say_what_queues_ask_of_messages() {
    let mut world = World::new();
    world.ask(declare_typed("stream", "stream", |_| {}));
    world.ask(declare_typed("once", "classic", |table| _ = table.put("x-message-deduplication", true)));
    world.ask(declare_typed("twice", "classic", |table| _ = table.put("x-message-deduplication", false)));
    let route = |name: &str| {
        let mut routes = Routes::new();
        world.vhost().route(&envelope("", name), &mut || 0, &mut routes).unwrap();
        (routes.as_slice()[0].logging, routes.deduplicates(), routes.has_stream())
    };
    assert_eq!(route("stream"), (Logging::Everything, false, true));
    assert_eq!(route("once"), (Logging::Persistent, true, false));
    assert_eq!(route("twice"), (Logging::Persistent, false, false));
}

/// The settings of a queue with arguments and a policy.
fn ruled(
    queue_type: &str,
    arguments: impl FnOnce(&mut TableBuilder<'_>),
    policy: impl FnOnce(&mut TableBuilder<'_>),
) -> (QueueSettings, Option<DeadLetter>) {
    let mut world = World::new();
    let definition = table(policy);
    world.put_policy("p", |it| it.definition = definition);
    let Outcome::Queue(queue) = world.ask(declare_typed("q", queue_type, arguments)).outcome else {
        panic!("no queue");
    };
    (world.topology.settings(&queue), world.topology.dead_letter(&queue))
}

type DeadLetter = (Arc<str>, Option<Arc<str>>);

#[test]
fn the_smaller_number_of_declaration_and_policy_counts() {
    let numbers = |ttl: i32, length: i32| {
        move |table: &mut TableBuilder<'_>| _ = table.put("message-ttl", ttl).put("max-length", length)
    };
    for queue_type in ["classic", "quorum"] {
        let arguments = |table: &mut TableBuilder<'_>| _ = table.put("x-message-ttl", 50).put("x-expires", 9);
        let (settings, _) = ruled(queue_type, arguments, numbers(60, 3));
        assert_eq!((settings.message_ttl, settings.expires, settings.max_length), (Some(50), Some(9), Some(3)));
        let (settings, _) = ruled(queue_type, arguments, numbers(40, 3));
        assert_eq!(settings.message_ttl, Some(40));
    }
    let timeout = |table: &mut TableBuilder<'_>| _ = table.put("x-consumer-timeout", 5_000);
    let (settings, _) = ruled("quorum", timeout, |table| _ = table.put("consumer-timeout", 4_000));
    assert_eq!(settings.consumer_timeout, Some(4_000));
}

#[test]
fn a_delivery_limit_counts_before_none() {
    let limit = |argument: i32, policy: i32| {
        let arguments = |table: &mut TableBuilder<'_>| _ = table.put("x-delivery-limit", argument);
        ruled("quorum", arguments, |table| _ = table.put("delivery-limit", policy)).0.delivery_limit
    };
    assert_eq!((limit(5, 3), limit(3, 5), limit(-1, 5), limit(5, -1)), (Some(3), Some(3), Some(5), Some(5)));
    assert_eq!(limit(-1, -1), None);
}

#[test]
fn names_of_the_declaration_count_and_the_policy_fills_in() {
    let own = |table: &mut TableBuilder<'_>| _ = table.put("x-dead-letter-exchange", "own");
    let policy = |table: &mut TableBuilder<'_>| {
        table.put("dead-letter-exchange", "given").put("dead-letter-routing-key", "key");
    };
    let (settings, to) = ruled("classic", own, policy);
    assert_eq!(to, Some((Arc::from("own"), Some(Arc::from("key")))));
    assert_eq!(settings.dead_lettering, DeadLettering::AtMostOnce);
    assert_eq!(ruled("quorum", |_| {}, policy).1, Some((Arc::from("given"), Some(Arc::from("key")))));
}

#[test]
fn overflow_is_the_declarations_on_classic_and_the_policys_on_quorum_queues() {
    let overflow = |queue_type| {
        let arguments = |table: &mut TableBuilder<'_>| _ = table.put("x-overflow", "reject-publish");
        ruled(queue_type, arguments, |table| _ = table.put("overflow", "drop-head")).0.overflow
    };
    assert_eq!((overflow("classic"), overflow("quorum")), (Overflow::RejectPublish, Overflow::DropHead));
}

#[test]
fn a_policy_decides_how_long_retries_wait_and_what_streams_keep() {
    let retry = |kind: &'static str, min: i32| {
        move |table: &mut TableBuilder<'_>| {
            table.put("delayed-retry-type", kind).put("delayed-retry-min", min);
        }
    };
    let own = |table: &mut TableBuilder<'_>| {
        table.put("x-delayed-retry-type", "all").put("x-delayed-retry-min", 10);
    };
    let delay = ruled("quorum", own, retry("failed", 20)).0.retry_delay;
    assert_eq!(delay, Some(RetryDelay { of: Returned::Failed, min_millis: 10, max_millis: 10 }));
    assert_eq!(ruled("quorum", own, retry("disabled", 20)).0.retry_delay, None);
    let kept = |table: &mut TableBuilder<'_>| _ = table.put("x-max-age", "1D").put("x-max-length-bytes", 10);
    let (settings, _) = ruled("stream", kept, |table| _ = table.put("max-age", "2D").put("max-length-bytes", 20));
    assert_eq!((settings.max_age, settings.max_length_bytes), (Some(2 * 86_400_000), Some(20)));
}

#[test]
fn a_policy_does_not_touch_the_store_of_a_delayed_exchange() {
    let mut world = World::new();
    let definition = table(|table| _ = table.put("message-ttl", 1));
    world.put_policy("p", |it| it.definition = definition);
    let arguments = table(|table| _ = table.put("x-delayed-type", "direct"));
    world.ask(declare_exchange("x", "x-delayed-message", |declaration| declaration.arguments = arguments));
    let store = Arc::clone(world.topology.queue("/", "amq.delayed.x").unwrap());
    assert_eq!(world.topology.settings(&store).message_ttl, None);
}
