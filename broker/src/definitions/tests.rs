//! What definitions say, and what is refused in them.

use std::num::NonZeroU16;

use warren_core::limits::TopologyLimits;
use warren_core::topology::{OpenConnections, Topology};

use super::*;

/// An export in RabbitMQ 4.3's form.
const CLUSTER: &str = r#"{
  "rabbit_version": "4.3.6", "rabbitmq_version": "4.3.6", "product_name": "RabbitMQ", "product_version": "4.3.6",
  "explanation": "…", "rabbitmq_definition_format": "cluster", "original_cluster_name": "rabbit@one",
  "global_parameters": [{"name": "cluster_tags", "value": []}, {"name": "cluster_name", "value": "one"}],
  "vhosts": [
    {"name": "/", "limits": {}, "metadata": {"description": "Default virtual host", "tags": [], "default_queue_type": "classic"}},
    {"name": "shop", "limits": {"max-queues": 50, "max-connections": -1}, "metadata": {"description": "orders", "tags": ["prod"], "default_queue_type": "quorum"}},
    {"name": "old", "description": "older", "tags": "a, b", "tracing": false}
  ],
  "users": [
    {"name": "bob", "password_hash": "kI3GCqG+cq65rBQ9tiUUCREygKhmilKrZEWKSz+H0FJ1fk4/", "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ["monitoring"], "limits": {"max-connections": 5}},
    {"name": "cert", "password_hash": "", "tags": "administrator,impersonator"}
  ],
  "permissions": [{"user": "bob", "vhost": "shop", "configure": "^a", "write": ".*", "read": ""}],
  "topic_permissions": [{"user": "bob", "vhost": "shop", "exchange": "amq.topic", "write": "^{username}", "read": ".*"}],
  "parameters": [
    {"component": "operator_policy", "name": "o", "vhost": "shop", "value": {"apply-to": "quorum_queues", "definition": {"max-length": 5}, "pattern": "^a", "priority": 3}},
    {"component": "vhost-limits", "name": "limits", "vhost": "shop", "value": {"max-queues": 50}}
  ],
  "policies": [{"vhost": "shop", "name": "p", "pattern": "^a", "apply-to": "queues", "definition": {"max-length": 9, "dead-letter-exchange": "x"}, "priority": 3}],
  "exchanges": [
    {"vhost": "/", "name": "amq.rabbitmq.log", "type": "topic", "durable": true, "auto_delete": false, "internal": true, "arguments": {}},
    {"vhost": "shop", "name": "x", "type": "headers", "durable": true, "auto_delete": false, "arguments": {"alternate-exchange": "amq.fanout"}},
    {"vhost": "shop", "name": "y", "type": "topic", "durable": true, "auto_delete": false, "internal": true, "arguments": {}}
  ],
  "queues": [
    {"vhost": "shop", "name": "a", "type": "quorum", "durable": true, "auto_delete": false, "arguments": {"x-queue-type": "quorum"}},
    {"vhost": "/", "name": "plain", "type": "classic", "durable": true, "auto_delete": false, "arguments": {"own": {"list": [1, "two", true, 1.5, null, [{"deep": -1}]]}}}
  ],
  "bindings": [
    {"vhost": "shop", "source": "x", "destination": "a", "destination_type": "queue", "routing_key": "k", "arguments": {"x-match": "any", "n": 5}},
    {"vhost": "shop", "source": "x", "destination": "y", "destination_type": "exchange", "routing_key": "", "arguments": {}}
  ]
}"#;

/// Carries out definitions; answers how many changed something.
fn carry_out(topology: &mut Topology, definitions: &[Definition]) -> usize {
    let changes = definitions.iter().filter(|definition| {
        let request = &definition.request;
        let prepared = topology.prepare(request).unwrap_or_else(|refusal| panic!("{request:?}: {refusal}"));
        prepared.changes.iter().for_each(|change| topology.apply(change));
        !prepared.changes.is_empty()
    });
    changes.count()
}

fn empty() -> Topology {
    Topology::new(NonZeroU16::MIN, TopologyLimits::default())
}

#[test]
fn an_export_of_a_cluster_makes_everything_in_it_and_a_second_time_nothing() {
    let requests = parse(CLUSTER).expect("valid");
    let mut topology = empty();
    carry_out(&mut topology, &requests);
    let shop = topology.vhost("shop").expect("a virtual host");
    assert_eq!((shop.queue_count(), shop.bindings().count()), (1, 2));
    let record = shop.record();
    assert_eq!((&*record.description, record.default_queue_type.as_deref()), ("orders", Some("quorum")));
    assert_eq!((record.limits.max_queues, record.limits.max_connections), (Some(50), None));
    assert_eq!(topology.vhost("old").expect("there").record().tags, ["a".into(), "b".into()]);
    let bob = topology.user("bob").expect("a user");
    assert_eq!((bob.limits.max_connections, bob.tags.len()), (Some(5), 1));
    assert!(topology.user("cert").expect("a user").password.is_none());
    let identity = Identity::User("bob".into());
    assert!(topology.may_open(&identity, "shop", OpenConnections::default()).is_ok());
    assert!(topology.may_open(&identity, "/", OpenConnections::default()).is_err());
    assert!(topology.may_publish(&identity, "shop", "amq.topic", "bob.x").is_ok());
    assert!(topology.may_publish(&identity, "shop", "amq.topic", "x").is_err());
    let queue = topology.queue("shop", "a").expect("a queue");
    assert_eq!(topology.policy_of(queue).get("max-length"), Some(Value::I64(5)));
    assert_eq!(topology.policy_of(queue).get("dead-letter-exchange"), Some(Value::LongString(b"x")));
    assert!(shop.exchange("y").expect("an exchange").internal);
    assert!(topology.vhost("/").expect("there").exchange("amq.rabbitmq.log").is_none(), "nothing would come from it");
    assert_eq!(carry_out(&mut topology, &requests), 0);
}

#[test]
fn an_export_of_one_virtual_host_goes_where_it_came_from() {
    let text = r#"{"rabbitmq_definition_format": "single_virtual_host", "original_vhost_name": "v", "description": "d",
        "default_queue_type": "classic", "metadata": {"description": "d", "tags": [], "default_queue_type": "classic"}, "limits": {"max-queues": 7},
        "queues": [{"name": "q", "type": "classic", "durable": true, "auto_delete": false, "arguments": {}}],
        "exchanges": [], "bindings": [{"source": "amq.fanout", "destination": "q", "destination_type": "queue", "routing_key": "", "arguments": {}}],
        "policies": [{"name": "p", "pattern": "", "definition": {"expires": 1000}}], "parameters": []}"#;
    let mut topology = empty();
    carry_out(&mut topology, &parse(text).expect("valid"));
    let queue = topology.queue("v", "q").expect("a queue");
    assert_eq!(topology.policy_of(queue).get("expires"), Some(Value::I64(1_000)));
    assert_eq!(topology.vhost("v").expect("there").record().limits.max_queues, Some(7));
}

#[test]
fn arguments_keep_their_types() {
    let requests = parse(CLUSTER).expect("valid");
    let arguments = requests.iter().find_map(|definition| match &definition.request.action {
        Action::DeclareQueue(queue) if queue.name == "plain" => Some(queue.arguments.clone()),
        _ => None,
    });
    let arguments = arguments.expect("the queue");
    let own = Table::new(&arguments).get("own").expect("readable").and_then(|value| value.as_table()).expect("a table");
    let list = own.get("list").expect("readable").and_then(|value| value.as_array()).expect("an array");
    let values: Vec<_> = list.into_iter().map(|value| value.expect("readable")).collect();
    let plain = [Value::I64(1), Value::LongString(b"two"), Value::Bool(true), Value::F64(1.5), Value::Void];
    assert_eq!(values[..5], plain);
    let deep = values[5].as_array().expect("an array").into_iter().next().expect("one").expect("readable");
    assert_eq!(deep.as_table().expect("a table").get("deep"), Ok(Some(Value::I64(-1))));
}

#[test]
fn what_cannot_be_made_is_refused_with_a_sentence() {
    let queue = |arguments: &str| {
        format!(r#"{{"queues": [{{"vhost": "/", "name": "q", "durable": true, "arguments": {arguments}}}]}}"#)
    };
    let nested = "[".repeat(20) + &"]".repeat(20);
    for (text, expected) in [
        ("{", "EOF while parsing"),
        (r#"{"shovels": []}"#, "key 'shovels': unknown in definitions; take it out"),
        (r#"{"users": [{"name": "u", "secret": "x"}]}"#, "unknown field `secret`, expected one of `name`, "),
        (r#"{"users": [{"name": 5}]}"#, "at line 1 column"),
        (r#"{"users": [{"name": "u", "password_hash": "?"}]}"#, "user 'u' (users[0]): password_hash is not base64 ("),
        (
            r#"{"users": [{"name": "u", "password_hash": "AA==", "hashing_algorithm": "rot13"}]}"#,
            "user 'u' (users[0]): hashing_algorithm 'rot13' is not known; known are rabbit_password_hashing_sha256 and rabbit_",
        ),
        (
            r#"{"users": [{"name": "u", "password_hash": "kI3GCjp/4GmDJUeynA1+aCzabaY=", "hashing_algorithm": "rabbit_password_hashing_md5"}]}"#,
            "user 'u' (users[0]): its password is hashed with MD5, ",
        ),
        (
            r#"{"users": [{"name": "u", "limits": {"max-fun": 1}}]}"#,
            "user 'u' (users[0]): limit 'max-fun' is not available here",
        ),
        (
            r#"{"vhosts": [{"name": "v", "limits": {"max-queues": 9999999999}}]}"#,
            "vhost 'v' (vhosts[0]): a limit of 9999999999 is too high",
        ),
        (r#"{"vhosts": [{"name": "v", "tracing": true}]}"#, "vhost 'v' (vhosts[0]): tracing is not available"),
        (
            r#"{"parameters": [{"component": "shovel", "name": "s", "vhost": "/", "value": {}}]}"#,
            "parameter 's' of 'shovel' in vhost '/' (parameters[0]): not available here",
        ),
        (
            r#"{"global_parameters": [{"name": "mqtt_default_vhosts", "value": {}}]}"#,
            "global parameter 'mqtt_default_vhosts' (global_parameters[0]): not available here",
        ),
        (
            r#"{"policies": [{"vhost": "/", "name": "p", "pattern": "", "apply-to": "all queues", "definition": {}}]}"#,
            "policy 'p' in vhost '/' (policies[0]): apply-to 'all queues' is not one of all, queues, classic_queues, quorum_queues, streams, exchanges",
        ),
        (
            &queue(r#"{"n": 18446744073709551615}"#),
            "queue 'q' in vhost '/' (queues[0]): the number 18446744073709551615 is too large",
        ),
        (&queue(&format!(r#"{{"n": {nested}}}"#)), "queue 'q' in vhost '/' (queues[0]): "),
        (
            &queue(&format!(r#"{{"{}": 1}}"#, "x".repeat(256))),
            "queue 'q' in vhost '/' (queues[0]): the name of an argument is longer than 255",
        ),
        (
            r#"{"bindings": [{"vhost": "/", "source": "x", "destination": "q", "destination_type": "stream", "routing_key": ""}]}"#,
            "binding from 'x' to 'q' in vhost '/' (bindings[0]): destination_type 'stream' is neither queue nor exchange",
        ),
    ] {
        let problem = parse(text).expect_err(text).to_string();
        assert!(problem.contains(expected), "{problem}");
    }
}

#[test]
fn a_file_is_read_up_to_its_largest_size() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("definitions.json");
    let error = load(&path).expect_err("not there yet").to_string();
    assert!(error.starts_with(&format!("cannot use the definitions in {}: ", path.display())), "{error}");
    std::fs::write(&path, CLUSTER).expect("written");
    assert_eq!(load(&path).expect("valid"), parse(CLUSTER).expect("valid"));
    let file = std::fs::File::options().append(true).open(&path).expect("there");
    file.set_len(DEFINITIONS_BYTES).expect("a sparse file");
    let error = load(&path).expect_err("zeros are no JSON").to_string();
    assert!(error.contains("trailing characters"), "{error}");
    file.set_len(DEFINITIONS_BYTES + 1).expect("a sparse file");
    let error = load(&path).expect_err("too large").to_string();
    assert!(error.ends_with("the file is larger than 67108864 octets"), "{error}");
}

#[test]
fn what_is_left_out_is_told_with_its_place_its_reason_and_what_to_do() {
    let text = r#"{
        "permissions": [{"user": "nobody", "vhost": "/", "configure": "", "write": "", "read": ""}],
        "policies": [{"vhost": "/", "name": "p", "pattern": "", "definition": {"max-lenght": 5}}],
        "queues": [{"vhost": "/", "name": "other", "durable": true}, {"vhost": "/", "name": "q", "durable": true}]
    }"#;
    let mut topology = empty();
    carry_out(
        &mut topology,
        &parse(r#"{"queues": [{"vhost": "/", "name": "q", "durable": true, "arguments": {"x-max-length": 5}}]}"#)
            .expect("valid"),
    );
    let mut told = Vec::new();
    for definition in parse(text).expect("valid") {
        match topology.prepare(&definition.request) {
            Ok(prepared) => prepared.changes.iter().for_each(|change| topology.apply(change)),
            Err(refusal) => told.push(definition.left_out(&refusal, Source::File)),
        }
    }
    assert_eq!(
        told,
        [
            "permissions of user 'nobody' in vhost '/' (permissions[0]) is left out: no user 'nobody'; define that in the file too, \
             or take this out of it, and start again",
            "policy 'p' in vhost '/' (policies[0]) is left out: 'max-lenght' is not a recognised policy setting; correct the file \
             and start again",
            "queue 'q' in vhost '/' (queues[1]) is left out: inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received \
             none but current is the value '5' of type 'long'; what is there stays as it is; delete it if the file is \
             right, and start again",
        ]
    );
}
