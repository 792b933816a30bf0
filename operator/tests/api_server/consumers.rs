//! Consumers that are scaled by what a broker says, here one that says what the test wants.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::routing::{get, put};
use futures::stream;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use warren_operator::api::{Consumer, ConsumerStatus, MessageQueue};
use warren_operator::broker_api::Endpoint;
use warren_operator::consumers::scaler::Wish;
use warren_operator::credentials::Credentials;

use crate::cluster::within;
use crate::world::World;

/// What the broker says of the queue `work`, and how many messages each address holds that is drained.
#[derive(Clone)]
struct Said {
    figures: watch::Receiver<Value>,
    unacked: Arc<Mutex<u64>>,
}

struct Broker {
    figures: watch::Sender<Value>,
    unacked: Arc<Mutex<u64>>,
    endpoint: Endpoint,
    server: JoinHandle<()>,
}

impl Broker {
    async fn start() -> Self {
        let (figures, receiver) = watch::channel(figures(1, 0, 0));
        let unacked = Arc::new(Mutex::new(0));
        let said = Said { figures: receiver, unacked: Arc::clone(&unacked) };
        let router = axum::Router::new()
            .route("/api/warren/figures", get(tell))
            .route("/api/warren/drains/{address}", put(drain).delete(|| async {}))
            .with_state(said);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let credentials = Credentials { username: "u".into(), password: "p".into() };
        Self { figures, unacked, endpoint: Endpoint { address, authorities: None, credentials }, server }
    }
}

/// A line each time that something changes, and each half second.
async fn tell(State(said): State<Said>) -> Body {
    let lines = stream::unfold((said.figures, 0_u64), |(mut figures, number)| async move {
        if number > 0 {
            // A change or its absence are both worth a line.
            timeout(Duration::from_millis(500), figures.changed()).await.ok();
        }
        let mut line = figures.borrow_and_update().clone();
        line["at_ms"] = json!(1_000_000 + number * 500);
        Some((Ok::<_, std::io::Error>(format!("{line}\n")), (figures, number + 1)))
    });
    Body::from_stream(lines)
}

async fn drain(State(said): State<Said>) -> String {
    json!({"unacked": *said.unacked.lock().unwrap()}).to_string()
}

fn figures(published: u64, ready: u64, unacked: u64) -> Value {
    json!({
        "kind": "queue", "vhost": "/", "name": "work", "at_ms": 0, "since_ms": 1, "ready": ready, "unacked": unacked,
        "published": published, "delivered": 0, "redelivered": 0, "acknowledged": 0, "unacked_message_ms": 0,
        "single_active_consumer": false, "peers": [],
    })
}

struct Fleet {
    world: World,
    broker: Broker,
    queue: MessageQueue,
}

impl Fleet {
    /// A Deployment of so many pods, which a MessageQueue scales by a pod for each hundred messages.
    async fn of(test: &str, replicas: i32) -> Self {
        let world = World::new(test).await;
        let broker = Broker::start().await;
        let labels = json!({"app": "workers"});
        let deployment = json!({
            "metadata": {"name": "workers"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "worker", "image": "localhost:1/warren/nowhere:test"}]},
                },
            },
        });
        let deployment: Deployment = serde_json::from_value(deployment).unwrap();
        world.api().create(&PostParams::default(), &deployment).await.unwrap();
        let consumer = json!({
            "name": "workers", "queue": "work", "target": {"kind": "Deployment", "name": "workers"},
            "maxReplicas": 10, "depthPerReplica": 100, "cooldown": "1s",
        });
        let consumers: Vec<Consumer> = vec![serde_json::from_value(consumer).unwrap()];
        let queue = json!({
            "apiVersion": "warrenmq.dev/v1alpha1", "kind": "MessageQueue",
            "metadata": {"name": "hello", "namespace": world.namespace}, "spec": {"consumers": consumers},
        });
        let wish = Wish { endpoint: broker.endpoint.clone(), serves: true, consumers };
        world.context.scalers.set(&world.namespace, "hello", wish, &[]);
        Self { world, broker, queue: serde_json::from_value(queue).unwrap() }
    }

    async fn until_replicas(&self, replicas: i32) -> Deployment {
        let asks = move |found: Option<&Deployment>| {
            found.and_then(|found| found.spec.as_ref()).is_some_and(|spec| spec.replicas == Some(replicas))
        };
        within(await_condition(self.world.api::<Deployment>(), "workers", asks)).await.unwrap().unwrap()
    }

    async fn replicas(&self) -> Option<i32> {
        self.world.api::<Deployment>().get("workers").await.unwrap().spec.unwrap().replicas
    }

    async fn until_reason(&self, reason: &str) -> ConsumerStatus {
        self.world.until_reason(&self.queue, reason).await
    }
}

#[tokio::test]
async fn pods_come_at_once_as_many_as_are_needed_and_stay_while_the_broker_says_nothing() {
    let fleet = Fleet::of("silence", 0).await;
    fleet.until_reason("Idle").await;
    fleet.broker.figures.send_replace(figures(250, 250, 0));
    let scaled = fleet.until_replicas(3).await;
    assert_eq!(scaled.metadata.generation, Some(2), "it was changed once");

    fleet.broker.server.abort();
    drop(fleet.broker.figures.send_replace(Value::Null));
    let status = fleet.until_reason("FiguresMissing").await;
    assert_eq!((status.current_replicas, status.wanted_replicas), (3, 3));
    assert_eq!(fleet.replicas().await, Some(3));
    fleet.world.end().await;
}

#[tokio::test]
async fn a_pod_that_holds_a_message_does_not_go_and_goes_when_it_has_finished() {
    let fleet = Fleet::of("finish", 2).await;
    *fleet.broker.unacked.lock().unwrap() = 1;
    fleet.broker.figures.send_replace(figures(5, 0, 1));
    fleet.until_reason("Draining").await;
    assert_eq!(fleet.replicas().await, Some(2));
    *fleet.broker.unacked.lock().unwrap() = 0;
    fleet.until_replicas(1).await;
    fleet.broker.figures.send_replace(figures(5, 0, 0));
    fleet.until_replicas(0).await;
    fleet.world.end().await;
}

#[tokio::test]
async fn a_target_belongs_to_who_came_first_until_that_one_lets_it_go() {
    let fleet = Fleet::of("taken", 0).await;
    fleet.until_reason("Idle").await;
    let scalers = &fleet.world.context.scalers;
    let other = MessageQueue {
        metadata: ObjectMeta { name: Some("other".into()), ..fleet.queue.metadata.clone() },
        ..fleet.queue.clone()
    };
    let wish = Wish { endpoint: fleet.broker.endpoint.clone(), serves: true, consumers: other.spec.consumers.clone() };
    scalers.set(&fleet.world.namespace, "other", wish, &[]);
    let status = fleet.world.until_reason(&other, "TargetTaken").await;
    let message = status.message.unwrap();
    assert!(message.contains("hello") && message.contains("Deployment workers"), "{message}");
    scalers.forget(&fleet.world.namespace, "hello");
    fleet.world.until_reason(&other, "Idle").await;
    fleet.broker.figures.send_replace(figures(250, 250, 0));
    fleet.until_replicas(3).await;
    fleet.world.end().await;
}

#[tokio::test]
async fn without_a_target_the_number_is_told_and_nothing_is_scaled() {
    let fleet = Fleet::of("advice", 1).await;
    let consumer = Consumer { target: None, ..fleet.queue.spec.consumers[0].clone() };
    let wish = Wish { endpoint: fleet.broker.endpoint.clone(), serves: true, consumers: vec![consumer] };
    fleet.world.context.scalers.set(&fleet.world.namespace, "hello", wish, &[]);
    fleet.broker.figures.send_replace(figures(250, 250, 0));
    let status = fleet.until_reason("Depth").await;
    assert_eq!((status.current_replicas, status.wanted_replicas, status.messages_ready), (3, 3, Some(250)));
    assert_eq!(fleet.replicas().await, Some(1));
    fleet.world.end().await;
}
