//! Two operators, one of which works.

use std::time::{Duration, Instant};

use http::StatusCode;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use serde_json::json;

use crate::cluster::{administrator, apply, make_namespace, remove_namespace, within};
use crate::operator::Operator;
use crate::proxy::{Harm, Proxy};

/// From the death of the one that works until the other has done something.
const FAILOVER: Duration = Duration::from_secs(5);

struct Pair {
    admin: Client,
    namespace: String,
    proxies: [Proxy; 2],
    lease: String,
}

impl Pair {
    async fn new(test: &str) -> Self {
        let admin = administrator().await;
        let namespace = make_namespace(&admin, test).await;
        let proxies = [Proxy::start(admin.clone()).await, Proxy::start(admin.clone()).await];
        Self { lease: format!("{namespace}/warren"), admin, namespace, proxies }
    }

    /// One of the two, `0` or `1`.
    fn start(&self, number: usize) -> Operator {
        let name = format!("{}-{number}", self.namespace);
        let arguments = ["--watch-namespaces", &self.namespace, "--lease", &self.lease, "--identity", &name];
        Operator::start(&self.proxies[number], &name, &arguments)
    }

    /// Asks for a queue and waits until somebody has begun to make it.
    async fn is_served(&self, name: &str) {
        apply(&self.admin, &self.namespace, name, json!({"replicas": 0})).await.unwrap();
        let config: Api<ConfigMap> = Api::namespaced(self.admin.clone(), &self.namespace);
        let exists = |config: Option<&ConfigMap>| config.is_some();
        within(await_condition(config, &format!("{name}-config"), exists)).await.unwrap();
    }

    fn writes(&self, number: usize) -> usize {
        let calls = self.proxies[number].take_calls();
        calls.iter().filter(|call| call.is_write() && !call.is_about_a_lease()).count()
    }

    async fn end(self) {
        remove_namespace(&self.admin, &self.namespace).await;
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("within half a minute: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_operator_goes_on_within_five_seconds_of_a_kill() {
    let pair = Pair::new("kill").await;
    let first = pair.start(0);
    pair.is_served("before").await;
    let second = pair.start(1);
    until("the second stands by", async || second.get("/readyz").await.0 == StatusCode::OK).await;
    assert!(first.leads().await && !second.leads().await);
    assert_eq!(pair.writes(1), 0, "an operator that stands by writes nothing");

    let killed = Instant::now();
    first.kill();
    pair.is_served("after").await;
    let elapsed = killed.elapsed();
    eprintln!("the second operator wrote {elapsed:?} after the first was killed");
    assert!(elapsed < FAILOVER, "{elapsed:?}");
    assert!(second.leads().await);
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_ends_leaves_the_work_to_the_other_at_once() {
    let pair = Pair::new("term").await;
    let first = pair.start(0);
    until("the first leads", async || first.leads().await).await;
    let second = pair.start(1);
    until("the second stands by", async || second.get("/readyz").await.0 == StatusCode::OK).await;
    assert!(first.terminate().await.success());
    let ended = Instant::now();
    until("the second leads", async || second.leads().await).await;
    let elapsed = ended.elapsed();
    // The Lease would have to run out otherwise.
    assert!(elapsed < Duration::from_secs(2), "{elapsed:?}");
    assert!(second.terminate().await.success());
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_cannot_renew_its_lease_stops_before_the_other_begins() {
    let pair = Pair::new("cut").await;
    let first = pair.start(0);
    until("the first leads", async || first.leads().await).await;
    let second = pair.start(1);
    until("the second stands by", async || second.get("/readyz").await.0 == StatusCode::OK).await;
    pair.proxies[0].harm(|call| call.is_about_a_lease().then_some(Harm::Refuse(StatusCode::INTERNAL_SERVER_ERROR)));
    until("one of them leads no longer", async || {
        let both = (first.leads().await, second.leads().await);
        assert_ne!(both, (true, true), "never both");
        both == (false, true)
    })
    .await;
    pair.proxies[0].heal();
    pair.writes(0);
    pair.is_served("after").await;
    assert_eq!(pair.writes(0), 0, "the first has stopped");
    pair.end().await;
}
