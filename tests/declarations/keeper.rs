//! The task that keeps declarations, with a real broker and an API server that has Secrets and notes what is written to it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::{sleep, timeout};
use tower::service_fn;
use warren_operator::api::{Auth, MessageQueue, MessageQueueSpec};
use warren_operator::declarations::keeper::{Keepers, Wish};
use warren_operator::declarations::password::is_hash_of;

use super::*;

/// What the documentation promises.
const PROMISE: Duration = Duration::from_secs(10);

/// The API server: Secrets by name, and the paths that were written to.
#[derive(Clone, Default)]
struct ApiServer {
    /// A value is the password in Base64.
    secrets: Arc<Mutex<BTreeMap<String, String>>>,
    written: Arc<Mutex<Vec<String>>>,
}

impl ApiServer {
    fn client(&self) -> Client {
        let server = self.clone();
        Client::new(
            service_fn(move |request: Request<Body>| {
                let answer = server.answer(&request);
                async move { answer }
            }),
            "default",
        )
    }

    fn answer(&self, request: &Request<Body>) -> Result<Response<Body>, std::io::Error> {
        let path = request.uri().path().to_owned();
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let secret = self.secrets.lock().expect("no test has failed").get(&name).cloned();
        let (status, body) = match (request.method(), secret) {
            (&Method::GET, Some(password)) => (
                200,
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {"password": password}}),
            ),
            (&Method::GET, None) => {
                (404, json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "message": "", "code": 404}))
            }
            _ => {
                self.written.lock().expect("no test has failed").push(path);
                (200, json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}}))
            }
        };
        let answer = Response::builder().status(status).body(Body::from(serde_json::to_vec(&body)?));
        answer.map_err(std::io::Error::other)
    }

    fn set(&self, password: &str) {
        self.secrets.lock().expect("no test has failed").insert("s".into(), password.into());
    }
}

/// Waits as long as is promised until something holds.
async fn soon(what: &str, holds: impl AsyncFn() -> bool) -> Result<Duration> {
    let start = Instant::now();
    let becomes_true = async {
        while !holds().await {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PROMISE, becomes_true).await.with_context(|| format!("not within ten seconds: {what}"))?;
    Ok(start.elapsed())
}

/// Asked of the hash: logins that fail would make the next ones wait.
async fn has_password(world: &World, password: &str) -> bool {
    let user = world.person(Method::GET, "/api/users/app", Value::Null).await.unwrap_or_default();
    let hash = user["password_hash"].as_str().unwrap_or_default();
    is_hash_of(hash, &Password(password.as_bytes().to_vec()))
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_rotated_and_what_was_deleted_is_back_within_ten_seconds() -> Result<()> {
    let (world, server) = (World::new()?, ApiServer::default());
    let (changed, mut told) = unbounded_channel();
    let keepers = Keepers::new(server.client(), changed);
    let user = json!({"name": "app", "passwordSecretRef": {"name": "s"}, "permissions": [{"read": ".*"}]});
    let wish = Wish {
        endpoint: Some(world.endpoint()),
        pods: vec!["hello-0".into()],
        mounted: vec![Some("1".into())],
        foreign: None,
        auth: serde_json::from_value::<Auth>(json!({"users": [user]}))?,
        topology: serde_json::from_value(json!({"queues": [{"name": "q"}]}))?,
    };
    let mut queue = MessageQueue::new("hello", MessageQueueSpec::default());
    queue.metadata.namespace = Some("default".into());
    let flaws = || keepers.state(&queue).map(|state| state.users);

    keepers.set("default", "hello", wish.clone());
    soon("the missing Secret is said", async || {
        flaws().is_some_and(|flaws| reasons(&flaws) == [("user app", "SecretMissing")])
    })
    .await?;
    // "one", then "two".
    for (encoded, password) in [("b25l", "one"), ("dHdv", "two")] {
        server.set(encoded);
        let elapsed = soon(password, async || has_password(&world, password).await).await?;
        eprintln!("password {password} after {elapsed:?}");
    }
    soon("nothing is wrong", async || flaws().is_some_and(|flaws| flaws.is_empty())).await?;
    assert!(world.logs_in("app", "two") && !world.logs_in("app", "one"));
    assert!(told.recv().await.is_some(), "the MessageQueue is to be reconciled");

    world.person(Method::DELETE, "/api/queues/%2F/q", Value::Null).await?;
    let elapsed = soon("the queue", async || world.is_there("/api/queues/%2F/q").await.is_ok_and(|is| is)).await?;
    eprintln!("queue after {elapsed:?}");

    assert_eq!(*server.written.lock().expect("no test has failed"), Vec::<String>::new(), "nothing was to be written");
    keepers.set("default", "hello", Wish { mounted: vec![Some("2".into())], ..wish });
    let noted =
        async || *server.written.lock().expect("no test has failed") == ["/api/v1/namespaces/default/pods/hello-0"];
    soon("the pod has a note", noted).await?;
    Ok(())
}
