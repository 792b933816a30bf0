//! Declarations that the API server refuses, each with the sentence that a person reads.

use serde_json::{Value, json};

use crate::world::World;

/// Users, each beside a name and a Secret, and what is said of them.
fn users() -> Vec<(Value, &'static str)> {
    let user = |more: Value| {
        let mut user = json!({"name": "app", "passwordSecretRef": {"name": "s"}});
        user.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"auth": {"users": [user]}})
    };
    let same_vhost = json!({"permissions": [{"vhost": "/"}, {"vhost": "/", "read": ".*"}]});
    let same_exchange = json!({"topicPermissions": [{"exchange": "x"}, {"vhost": "/", "exchange": "x"}]});
    vec![
        (json!({"auth": {"users": [{"name": "app"}]}}), "spec.auth.users[0].passwordSecretRef: Required value"),
        (user(json!({"name": ""})), "spec.auth.users[0].name"),
        (user(json!({"name": "a".repeat(129)})), "spec.auth.users[0].name: Too long"),
        (
            user(json!({"name": "system:serviceaccount:shop:billing"})),
            "is that of a ServiceAccount and has no password",
        ),
        (user(json!({"password": "secret"})), "[name=\"app\"].password: field not declared in schema"),
        (user(json!({"passwordSecretRef": {"key": "p"}})), "passwordSecretRef.name: Required value"),
        (user(json!({"passwordSecretRef": {"name": "../s"}})), "passwordSecretRef.name must be the name of a Secret"),
        (
            user(json!({"passwordSecretRef": {"name": "s", "key": "a/b"}})),
            "passwordSecretRef.key must be an entry of a Secret",
        ),
        (
            user(json!({"tags": ["admin"]})),
            "tags must be administrator, monitoring, policymaker, management or impersonator",
        ),
        (user(same_vhost), ".permissions: duplicate entries for key [vhost=\"/\"]"),
        (user(same_exchange), ".topicPermissions: duplicate entries for key [exchange=\"x\",vhost=\"/\"]"),
        (user(json!({"topicPermissions": [{"write": ""}]})), "topicPermissions[0].exchange: Required value"),
        (
            json!({"auth": {"users": [
                {"name": "app", "passwordSecretRef": {"name": "s"}},
                {"name": "app", "passwordSecretRef": {"name": "t"}},
            ]}}),
            ".spec.auth.users: duplicate entries for key [name=\"app\"]",
        ),
    ]
}

fn service_accounts() -> Vec<(Value, &'static str)> {
    let accounts = |accounts: Value| json!({"auth": {"serviceAccounts": accounts}});
    vec![
        (accounts(json!([{}])), "spec.auth.serviceAccounts[0].name: Required value"),
        (accounts(json!([{"name": "Billing"}])), "auth.serviceAccounts: name must be that of a ServiceAccount"),
        (accounts(json!([{"name": "a".repeat(129)}])), "spec.auth.serviceAccounts[0].name: Too long"),
        (
            accounts(json!([{"name": "billing", "namespace": "a.b"}])),
            "auth.serviceAccounts: namespace must be the name of a namespace",
        ),
        (
            accounts(json!([{"name": "billing", "tags": ["admin"]}])),
            "tags must be administrator, monitoring, policymaker, management or impersonator",
        ),
        (
            accounts(json!([{"name": "billing"}, {"name": "billing", "namespace": ""}])),
            ".spec.auth.serviceAccounts: duplicate entries for key [name=\"billing\",namespace=\"\"]",
        ),
        (
            accounts(json!([{"name": "billing", "permissions": [{"vhost": "/"}, {"vhost": "/"}]}])),
            ".permissions: duplicate entries for key [vhost=\"/\"]",
        ),
        (accounts(json!([{"name": "billing", "audience": "x"}])), "audience: field not declared in schema"),
    ]
}

fn topology() -> Vec<(Value, &'static str)> {
    let policy = |more: Value| {
        let mut policy = json!({"name": "p", "pattern": ".*", "definition": {"max-length": 1}});
        policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"policies": [policy]})
    };
    vec![
        (json!({"deletionPolicy": "Keep"}), "supported values: \"Retain\", \"Delete\""),
        (json!({"vhosts": [{"name": ""}]}), "spec.topology.vhosts[0].name"),
        (
            json!({"vhosts": [{"name": "a"}, {"name": "a"}]}),
            ".spec.topology.vhosts: duplicate entries for key [name=\"a\"]",
        ),
        (json!({"exchanges": [{"name": "amq.mine"}]}), "names that begin with amq. are the broker's own"),
        (
            json!({"exchanges": [{"name": "x", "type": "topics"}]}),
            "topology.exchanges: type must be direct, fanout, topic",
        ),
        (
            json!({"exchanges": [{"name": "x"}, {"vhost": "/", "name": "x"}]}),
            ".spec.topology.exchanges: duplicate entries for key [name=\"x\",vhost=\"/\"]",
        ),
        (json!({"queues": [{"name": "amq.mine"}]}), "topology.queues: names that begin with amq. are the broker's own"),
        (json!({"queues": [{"name": "q", "durable": "yes"}]}), ".durable: expected boolean"),
        (json!({"queues": [{"name": "q", "arguments": []}]}), ".arguments: expected map"),
        (json!({"queues": [{"name": "q", "exclusive": true}]}), ".exclusive: field not declared in schema"),
        (json!({"bindings": [{"source": "", "destination": "q"}]}), "spec.topology.bindings[0].source"),
        (json!({"bindings": [{"source": "x"}]}), "spec.topology.bindings[0].destination: Required value"),
        (
            json!({"bindings": [{"source": "x", "destination": "q", "destinationType": "topic"}]}),
            "supported values: \"queue\", \"exchange\"",
        ),
        (policy(json!({"applyTo": "queue"})), "topology.policies: applyTo must be all, queues, exchanges"),
        (policy(json!({"definition": {}})), "spec.topology.policies[0].definition"),
        (policy(json!({"pattern": ""})), "spec.topology.policies[0].pattern"),
    ]
}

fn consumers() -> Vec<(Value, &'static str)> {
    let consumer = |more: Value| {
        let mut consumer =
            json!({"name": "c", "queue": "q", "maxReplicas": 2, "target": {"kind": "Deployment", "name": "d"}});
        consumer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"consumers": [consumer]})
    };
    let target = |more: Value| {
        let mut target = json!({"kind": "Deployment", "name": "d"});
        target.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        consumer(json!({"depthPerReplica": 1, "target": target}))
    };
    vec![
        (consumer(json!({})), "consumers: give either depthPerReplica or drainWithin"),
        (
            consumer(json!({"depthPerReplica": 1, "drainWithin": "5s"})),
            "consumers: give either depthPerReplica or drainWithin",
        ),
        (
            consumer(json!({"depthPerReplica": 1, "minReplicas": 3})),
            "consumers: minReplicas must not be above maxReplicas",
        ),
        (consumer(json!({"drainWithin": "soon"})), "consumers: drainWithin must be a time from 1s to 24h"),
        (
            consumer(json!({"depthPerReplica": 1, "cooldown": "25h"})),
            "consumers: cooldown must be a time of at most 24h",
        ),
        (target(json!({"apiVersion": "apps/v1/x"})), "target.apiVersion must be a version, or a group and a version"),
        (target(json!({"kind": "deployments/scale"})), "target.kind must be the name of a kind"),
        (target(json!({"name": "../other"})), "target.name must be the name of an object"),
    ]
}

#[tokio::test]
async fn declarations_that_cannot_be_are_refused_and_the_reason_is_said() {
    let world = World::new("declared").await;
    let topology = topology().into_iter().map(|(topology, sentence)| (json!({"topology": topology}), sentence));
    let all: Vec<_> = users().into_iter().chain(service_accounts()).chain(topology).chain(consumers()).collect();
    assert!(all.len() >= 30, "{}", all.len());
    let mut wrong = Vec::new();
    for (spec, sentence) in all {
        match world.apply("hello", spec.clone()).await {
            Ok(_) => wrong.push(format!("{spec} is taken")),
            Err(refusal) if !refusal.to_string().contains(sentence) => wrong.push(format!("{spec}: {refusal}")),
            Err(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    world.end().await;
}
