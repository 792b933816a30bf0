//! The fields of what is shown, beside those of RabbitMQ 4.3.6.
//!
//! `RABBITMQ` was recorded from its answers, with a queue that was published to, consumed and got from. What it has and we
//! have not is in `ABSENT`, because it would be untrue or says nothing: memory collection and reductions are Erlang's,
//! `…_ram` and `storage_version` its message store's; who declared something is not kept.

use super::*;

/// An object: where it is, its fields in RabbitMQ, which of these are absent here, and which are ours.
struct Shape {
    path: &'static str,
    rabbitmq: &'static str,
    absent: &'static str,
    ours: &'static str,
}

const SHAPES: [Shape; 9] = [
    Shape {
        path: "/queues/%2F/q",
        rabbitmq: "arguments auto_delete consumer_capacity consumer_details consumer_utilisation consumers deliveries durable \
                   effective_policy_definition exclusive exclusive_consumer_tag garbage_collection head_message_timestamp \
                   idle_since incoming internal internal_owner memory message_bytes message_bytes_persistent \
                   message_bytes_ram message_bytes_ready message_bytes_unacknowledged message_stats messages \
                   messages_details messages_persistent messages_ram messages_ready messages_ready_details \
                   messages_ready_ram messages_unacknowledged messages_unacknowledged_details messages_unacknowledged_ram \
                   name node operator_policy policy reductions reductions_details single_active_consumer_tag state \
                   storage_version type vhost",
        absent: "deliveries garbage_collection incoming internal_owner messages_ready_ram messages_unacknowledged_ram \
                 reductions reductions_details storage_version",
        ours: "messages_dlx",
    },
    Shape {
        path: "/exchanges/%2F/x",
        rabbitmq: "arguments auto_delete durable incoming internal name outgoing type user_who_performed_action vhost",
        absent: "incoming outgoing user_who_performed_action",
        ours: "",
    },
    Shape {
        path: "/bindings/%2F/e/x/q/q/~",
        rabbitmq: "arguments destination destination_type properties_key routing_key source vhost",
        absent: "",
        ours: "",
    },
    Shape { path: "/users/bob", rabbitmq: "hashing_algorithm limits name password_hash tags", absent: "", ours: "" },
    Shape { path: "/permissions/%2F/bob", rabbitmq: "configure read user vhost write", absent: "", ours: "" },
    Shape {
        path: "/policies/%2F/p",
        rabbitmq: "apply-to definition name pattern priority vhost",
        absent: "",
        ours: "",
    },
    Shape {
        path: "/vhosts/%2F",
        rabbitmq: "cluster_state default_queue_type description message_stats messages messages_details messages_ready \
                   messages_ready_details messages_unacknowledged messages_unacknowledged_details metadata name \
                   protected_from_deletion recv_oct recv_oct_details send_oct send_oct_details tags tracing",
        absent: "recv_oct recv_oct_details send_oct send_oct_details",
        ours: "",
    },
    Shape {
        path: "/overview",
        rabbitmq: "churn_rates cluster_name cluster_tags contexts crypto_lib_version default_queue_type disable_stats \
                   enable_queue_totals erlang_full_version erlang_version exchange_types is_op_policy_updating_enabled \
                   listeners management_version message_stats node node_tags object_totals product_name product_version \
                   queue_totals rabbitmq_version rates_mode require_definition_json_extension sample_retention_policies \
                   statistics_db_event_queue",
        absent: "contexts crypto_lib_version erlang_full_version erlang_version require_definition_json_extension \
                 sample_retention_policies",
        ours: "",
    },
    Shape { path: "/whoami", rabbitmq: "is_internal_user name tags", absent: "", ours: "" },
];

#[tokio::test(flavor = "multi_thread")]
async fn objects_have_rabbitmqs_fields_but_for_those_that_are_explained() {
    let world = World::start().await;
    world.add_user("bob", "management").await;
    world.put("/queues/%2F/q", json!({"durable": true})).await;
    world.put("/exchanges/%2F/x", json!({"type": "fanout"})).await;
    world.post("/bindings/%2F/e/x/q/q", json!({})).await;
    world.put("/policies/%2F/p", json!({"pattern": "none", "definition": {"max-length": 1}})).await;
    let message = json!({"routing_key": "q", "payload": "x", "payload_encoding": "string", "properties": {}});
    assert_eq!(world.post("/exchanges/%2F/amq.default/publish", message).await.body, json!({"routed": true}));
    for Shape { path, rabbitmq, absent, ours } in SHAPES {
        let absent: Vec<_> = absent.split_whitespace().collect();
        let mut expected: Vec<_> = rabbitmq.split_whitespace().filter(|field| !absent.contains(field)).collect();
        expected.extend(ours.split_whitespace());
        expected.sort_unstable();
        let shown = world.get(path).await;
        let mut found: Vec<_> = shown.as_object().expect("an object").keys().map(String::as_str).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{path}");
    }
    world.stop().await;
}
