use super::*;

fn auto_delete(name: &str, durable: bool) -> Action {
    declare_exchange(name, "direct", |declaration| {
        declaration.auto_delete = true;
        declaration.durable = durable;
    })
}

fn delete_exchange(name: &str, if_unused: bool) -> Action {
    Action::DeleteExchange { name: name.to_string(), if_unused }
}

impl World {
    fn delete_queue(&mut self, name: &str) -> Vec<Change> {
        let queue = self.topology.prepare_delete_queue(&node(), "/", name, ME).unwrap().unwrap();
        let changes = self.topology.removal(queue.id);
        changes.iter().for_each(|change| self.topology.apply(change));
        changes
    }

    fn has_exchange(&self, name: &str) -> bool {
        self.vhost().exchange(name).is_some()
    }
}

#[test]
fn a_missing_queue_or_exchange_is_deleted_with_success() {
    let mut world = World::new();
    assert_eq!(world.topology.prepare_delete_queue(&node(), "/", "no", ME), Ok(None));
    assert!(world.ask(delete_exchange("no", true)).changes.is_empty());
    assert!(world.topology.removal(QueueId(99)).is_empty());
}

#[test]
fn a_foreign_exclusive_queue_is_not_deleted() {
    let mut world = World::new();
    world.queue_with("mine", |declaration| declaration.exclusive = true);
    let text = "cannot obtain exclusive access to locked queue 'mine' in vhost '/'. It could be originally declared \
                on another connection or the exclusive property value does not match that of the original declaration.";
    assert_channel_exception(world.topology.prepare_delete_queue(&node(), "/", "mine", OTHER), 405, text);
    assert!(world.topology.prepare_delete_queue(&node(), "/", "mi\r\nne", ME).unwrap().is_some());
}

#[test]
fn predeclared_exchanges_stay() {
    let world = World::new();
    world.refused(delete_exchange("", false), 403, "operation not permitted on the default exchange");
    world.refused(
        delete_exchange("amq.topic", false),
        403,
        "deletion of system exchange 'amq.topic' in vhost '/' not allowed",
    );
    world.refused(
        delete_exchange("amq.unknown", false),
        403,
        "deletion of system exchange 'amq.unknown' in vhost '/' not allowed",
    );
}

#[test]
fn if_unused_means_without_bindings_from_it() {
    let mut world = World::new();
    world.queue("q");
    world.exchange("x", "direct");
    world.bind("x", "q", "k");
    world.refused(delete_exchange("x", true), 406, "exchange 'x' in vhost '/' in use");
    world.bind_exchange("amq.direct", "x", "k");
    world.ask(Action::UnbindQueue(bind("x", "q", "k")));
    world.ask(delete_exchange("x", true));
    assert!(!world.has_exchange("x"));
}

#[test]
fn bindings_go_with_either_end() {
    let mut world = World::new();
    world.queue("q");
    world.exchange("x", "topic");
    world.bind("x", "q", "k");
    world.bind("amq.direct", "q", "k");
    world.bind_exchange("amq.fanout", "x", "");
    assert_eq!(world.vhost().bindings().count(), 3);
    world.ask(delete_exchange("x", false));
    assert_eq!(world.vhost().bindings().count(), 1);
    assert!(world.route("amq.fanout", "k").is_empty());
    world.delete_queue("q");
    assert_eq!(world.vhost().bindings().count(), 0);
    world.queue("q");
    assert!(world.route("amq.direct", "k").is_empty(), "a new queue of the same name has none of the old bindings");
}

#[test]
fn an_auto_delete_exchange_ends_with_its_last_binding_and_not_before_its_first() {
    let mut world = World::new();
    world.queue("q");
    world.ask(auto_delete("x", false));
    world.bind("x", "q", "a");
    world.bind("x", "q", "b");
    world.ask(Action::UnbindQueue(bind("x", "q", "a")));
    assert!(world.has_exchange("x"));
    world.ask(Action::UnbindQueue(bind("x", "q", "b")));
    assert!(!world.has_exchange("x"));
}

#[test]
fn auto_delete_exchanges_end_with_the_queue_and_along_chains() {
    let mut world = World::new();
    world.queue("q");
    world.ask(auto_delete("first", false));
    world.ask(auto_delete("second", false));
    world.exchange("stays", "direct");
    world.bind_exchange("stays", "first", "k");
    world.bind_exchange("first", "second", "k");
    world.bind("second", "q", "k");
    assert_eq!(world.route("stays", "k"), ["q"]);
    let changes = world.delete_queue("q");
    assert_eq!(changes.len(), 3, "the queue and two exchanges: {changes:?}");
    assert_eq!(["first", "second", "stays"].map(|name| world.has_exchange(name)), [false, false, true]);
}

#[test]
fn exchanges_bound_in_a_ring_end_too() {
    let mut world = World::new();
    world.queue("q");
    world.ask(auto_delete("a", false));
    world.ask(auto_delete("b", false));
    world.bind_exchange("a", "b", "k");
    world.bind_exchange("b", "a", "k");
    world.bind("b", "q", "k");
    world.ask(delete_exchange("a", false));
    assert!(world.has_exchange("b"), "it still leads to the queue");
    world.delete_queue("q");
    assert!(!world.has_exchange("b"));
}

#[test]
fn the_end_of_a_durable_exchange_is_logged_even_if_its_cause_is_not() {
    let mut world = World::new();
    world.queue("transient");
    world.ask(auto_delete("x", true));
    world.bind("x", "transient", "k");
    let changes = world.delete_queue("transient");
    assert_eq!(changes.iter().map(Change::is_logged).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn exclusive_queues_end_with_their_connection() {
    let mut world = World::new();
    world.queue_with("mine", |declaration| declaration.exclusive = true);
    world.queue_with("mine too", |declaration| declaration.exclusive = true);
    world.queue("shared");
    let theirs = declare_queue("theirs", |declaration| declaration.exclusive = true);
    world.ask_as(OTHER, theirs).unwrap();
    world.ask(auto_delete("x", false));
    world.bind("x", "mine", "k");
    let Outcome::Released(released) = world.ask(Action::ReleaseConnection).outcome else {
        panic!("a release answers with the queues");
    };
    assert_eq!(released.iter().map(|queue| &*queue.name).collect::<Vec<_>>(), ["mine", "mine too"]);
    let mut left: Vec<_> = world.vhost().queues().map(|queue| queue.name.to_string()).collect();
    left.sort();
    assert_eq!(left, ["shared", "theirs"]);
    assert!(!world.has_exchange("x"));
    assert!(world.ask(Action::ReleaseConnection).changes.is_empty());
}
