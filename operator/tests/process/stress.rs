//! Many MessageQueues, and an API server that fails.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use http::StatusCode;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::json;
use warren_operator::api::MessageQueue;
use warren_operator::status::{READY, find};

use crate::cluster::{administrator, apply, make_namespace, remove_namespace};
use crate::operator::Operator;
use crate::proxy::{Call, Harm, Proxy};

/// What the operator of this many MessageQueues may take.
const QUEUES: usize = 500;
const RESIDENT_MAX: u64 = 64 << 20;

/// For how long an idle operator is watched, in seconds; `WARREN_IDLE_SECONDS` says otherwise.
const IDLE_SECONDS: u64 = 60;

/// How many MessageQueues live through a failing API server, and which of the requests fail.
const HARMED_QUEUES: usize = 12;
const HARMED_EVERY: usize = 23;

async fn apply_many(admin: &Client, namespace: &str, count: usize) {
    let applied = stream::iter(0..count).map(|number| async move {
        apply(admin, namespace, &format!("queue-{number}"), json!({"replicas": 0})).await.unwrap();
    });
    applied.buffer_unordered(8).collect::<Vec<_>>().await;
}

/// Waits until each of `count` MessageQueues says that its present generation is carried out.
async fn await_carried_out(admin: &Client, namespace: &str, count: usize) {
    let api: Api<MessageQueue> = Api::namespaced(admin.clone(), namespace);
    let is_done = |queue: &MessageQueue| {
        let status = queue.status.as_ref();
        let stopped = status.and_then(|status| find(status, READY)).is_some_and(|ready| ready.reason == "Stopped");
        stopped && status.and_then(|status| status.observed_generation) == queue.metadata.generation
    };
    let waited = tokio::time::timeout(Duration::from_secs(300), async {
        while api.list(&ListParams::default()).await.unwrap().iter().filter(|queue| is_done(queue)).count() < count {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    waited.await.expect("everything is carried out within five minutes");
}

/// The operator has nothing to do any more when it has written nothing for longer than its last reconciles are apart.
async fn await_idleness(proxy: &Proxy) {
    loop {
        proxy.take_calls();
        tokio::time::sleep(Duration::from_secs(20)).await;
        if !proxy.take_calls().iter().any(Call::is_write) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_queues_take_little_memory_and_an_idle_operator_writes_and_lists_nothing() {
    let admin = administrator().await;
    let namespace = make_namespace(&admin, "many").await;
    let proxy = Proxy::start(admin.clone()).await;
    let operator = Operator::start(&proxy, &namespace, &["--watch-namespaces", &namespace]);
    apply_many(&admin, &namespace, QUEUES).await;
    await_carried_out(&admin, &namespace, QUEUES).await;
    await_idleness(&proxy).await;
    let resident = operator.resident();
    eprintln!("{QUEUES} MessageQueues: {:.1} MiB resident", resident as f64 / f64::from(1 << 20));
    assert!(resident <= RESIDENT_MAX, "{resident} octets");

    let seconds = std::env::var("WARREN_IDLE_SECONDS").map_or(IDLE_SECONDS, |text| text.parse().unwrap());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let calls = proxy.take_calls();
    eprintln!(
        "{} requests in {seconds} s of idleness; {:.1} MiB",
        calls.len(),
        operator.resident() as f64 / f64::from(1 << 20)
    );
    let unwanted: Vec<&Call> = calls.iter().filter(|call| call.is_write() || call.is_list()).collect();
    assert!(unwanted.is_empty(), "{unwanted:?}");
    remove_namespace(&admin, &namespace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_fails_in_every_way_loses_nothing() {
    let _kinds = crate::KINDS.lock().await;
    let admin = administrator().await;
    let namespace = make_namespace(&admin, "harm").await;
    let proxy = Proxy::start(admin.clone()).await;
    let harms = [
        Harm::Refuse(StatusCode::CONFLICT),
        Harm::Refuse(StatusCode::GONE),
        Harm::Refuse(StatusCode::TOO_MANY_REQUESTS),
        Harm::Refuse(StatusCode::INTERNAL_SERVER_ERROR),
        Harm::Lie(StatusCode::CONFLICT),
        Harm::Lie(StatusCode::INTERNAL_SERVER_ERROR),
        Harm::Silence,
    ];
    let asked = AtomicUsize::new(0);
    proxy.harm(move |_| {
        let number = asked.fetch_add(1, Ordering::Relaxed);
        (number % HARMED_EVERY == HARMED_EVERY - 1).then(|| harms[number / HARMED_EVERY % harms.len()])
    });
    let _operator = Operator::start(&proxy, &namespace, &["--watch-namespaces", &namespace]);
    apply_many(&admin, &namespace, HARMED_QUEUES).await;
    await_carried_out(&admin, &namespace, HARMED_QUEUES).await;
    let users = secrets(&admin, &namespace).await;
    assert_eq!(users.len(), 3 * HARMED_QUEUES);

    // Every second queue changes, and all of them keep what they had.
    for number in (0..HARMED_QUEUES).step_by(2) {
        let spec = json!({"replicas": 0, "image": "localhost:1/other"});
        apply(&admin, &namespace, &format!("queue-{number}"), spec).await.unwrap();
    }
    await_carried_out(&admin, &namespace, HARMED_QUEUES).await;
    assert_eq!(secrets(&admin, &namespace).await, users);
    remove_namespace(&admin, &namespace).await;
}

type Entries = BTreeMap<String, ByteString>;

async fn secrets(admin: &Client, namespace: &str) -> BTreeMap<Option<String>, Option<Entries>> {
    let api: Api<Secret> = Api::namespaced(admin.clone(), namespace);
    let all = api.list(&ListParams::default()).await.unwrap();
    all.into_iter().map(|secret| (secret.metadata.name, secret.data)).collect()
}
