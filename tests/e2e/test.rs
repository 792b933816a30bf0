//! Chart, operator, broker and stock clients on a real cluster: whatever happens to the broker, every confirmed message is
//! found again.

mod consumers;
mod ledger;
mod orders;
mod service_account;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use warren_tests::cluster::{Cluster, Options};
use warren_tests::image::pika;
use warren_tests::installation::{self, install};
use warren_tests::release::{Release, workspace};

use consumers::Extent;
use ledger::Ledger;
use orders::{NAMESPACE, Orders, manifest};
use service_account::pods_log_in_with_the_token_of_their_service_account;

/// Set to anything, this keeps the cluster, named `e2e`, so that one can look at what a failure left and run again.
const KEEP: &str = "WARREN_KEEP_CLUSTER";

/// From apply to Ready, with the images on the node.
const READY_LIMIT: Duration = Duration::from_secs(15);

/// Takes the cluster down also when an assertion fails.
struct TakenDown(Option<String>);

impl Drop for TakenDown {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.as_ref().map(|name| Cluster::down(name)) {
            eprintln!("the cluster could not be taken down: {error:#}");
        }
    }
}

/// Brings a cluster up, installs the chart, does `deed` there, and takes the cluster down.
fn on_a_cluster(deed: impl FnOnce(&Cluster, &Release) -> Result<()>) -> Result<()> {
    let keep = std::env::var_os(KEEP).is_some();
    let name = if keep { "e2e".to_owned() } else { format!("e2e-{}", std::process::id()) };
    let release = Release::build()?;
    let _taken_down = TakenDown((!keep).then(|| name.clone()));
    let cluster = Cluster::up(&Options { name, ..Options::default() })?;
    cluster.load_image(&pika::archive()?)?;
    cluster.apply(include_str!("namespaces.yaml"))?;
    install(&cluster, &release)?;
    deed(&cluster, &release)
}

#[test]
fn every_confirmed_message_is_found_again_whatever_happens_to_the_broker() -> Result<()> {
    on_a_cluster(|cluster, release| {
        whatever_happens_to_the_broker(cluster, release)?;
        consumers::check(cluster, Extent { wakes: 10, scale_ins: 9, crews: 3, silence: Duration::from_secs(5) })
    })
}

/// A quarter of an hour: as often as what is promised of consumers can be measured.
#[test]
#[ignore = "takes long, and is to be run on a machine that does nothing else"]
fn consumers_at_length() -> Result<()> {
    on_a_cluster(|cluster, _| {
        consumers::check(cluster, Extent { wakes: 50, scale_ins: 200, crews: 6, silence: Duration::from_secs(60) })
    })
}

fn whatever_happens_to_the_broker(cluster: &Cluster, release: &Release) -> Result<()> {
    let orders = Orders(cluster);
    pods_with_privileges_are_refused(cluster)?;
    invalid_manifests_are_refused_with_a_sentence(cluster)?;
    becomes_ready_and_says_so(orders)?;
    pods_log_in_with_the_token_of_their_service_account(cluster)?;
    a_volume_that_cannot_grow_is_said(orders)?;
    let ledger = orders.publish_while_the_broker_is_killed()?;
    eprintln!("{ledger}");
    ledger.check(&orders.messages()?).context("after the broker was killed")?;
    stops_and_starts(orders)?;
    ledger.check(&orders.messages()?).context("after replicas 0 and 1")?;
    upgrading_the_chart_restarts_no_broker(orders)?;
    uninstalling_the_chart_keeps_queues(orders, release, &ledger)?;
    deletion_retains_the_volume(orders)?;
    ledger.check(&orders.messages()?).context("after the MessageQueue was deleted and applied again")?;
    ledger.check(&orders.take_messages()?).context("in a pod")?;
    assert_eq!(orders.messages()?, Vec::<String>::new());
    deletion_deletes_the_volume_if_asked(orders)
}

/// Otherwise the namespaces would prove nothing about our pods.
fn pods_with_privileges_are_refused(cluster: &Cluster) -> Result<()> {
    for namespace in [NAMESPACE, installation::NAMESPACE] {
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "privileged", "namespace": namespace},
            "spec": {"containers": [{"name": "python", "image": pika::NAME}]},
        });
        is_refused(cluster.apply(&pod.to_string()), "violates PodSecurity", "restricted:latest")?;
    }
    Ok(())
}

fn invalid_manifests_are_refused_with_a_sentence(cluster: &Cluster) -> Result<()> {
    let cases: [(Value, &str, &str); 6] = [
        (
            json!({"replicas": 3}),
            "spec.replicas: Invalid value",
            "replicas must be 0 or 1: replication is not available in this version",
        ),
        (
            json!({"storage": {"size": "-1Gi"}}),
            "spec.storage.size: Invalid value",
            "storage.size must be a number of bytes and at least 64Mi, for example 10Gi",
        ),
        (
            json!({"resources": {"limits": {"memory": "lots"}}}),
            "spec.resources.limits.memory: Invalid value",
            "memory must be a positive number of bytes, for example 512Mi",
        ),
        (
            json!({"storage": {"deletionPolicy": "Keep"}}),
            "spec.storage.deletionPolicy: Unsupported value: \"Keep\"",
            "supported values: \"Retain\", \"Delete\"",
        ),
        (
            json!({"service": {"type": "ExternalName"}}),
            "spec.service.type: Unsupported value: \"ExternalName\"",
            "supported values: \"ClusterIP\", \"NodePort\", \"LoadBalancer\"",
        ),
        (json!({"replica": 1}), "spec.replica", "unknown field"),
    ];
    for (spec, field, sentence) in cases {
        is_refused(cluster.apply(&manifest("invalid", spec)), field, sentence)?;
    }
    for (name, sentence) in
        [("a".repeat(53).as_str(), "must have at most 52 characters"), ("2-orders", "must start with a letter")]
    {
        is_refused(cluster.apply(&manifest(name, json!({}))), "metadata.name", sentence)?;
    }
    Ok(())
}

fn is_refused(outcome: Result<String>, what: &str, sentence: &str) -> Result<()> {
    let Err(error) = outcome else { bail!("not refused: {what}") };
    let error = error.to_string();
    ensure!(error.contains(what) && error.contains(sentence), "not refused with {what} and {sentence}: {error}");
    Ok(())
}

fn becomes_ready_and_says_so(orders: Orders<'_>) -> Result<()> {
    let elapsed = orders.apply()?;
    eprintln!("Ready {:.1} s after apply", elapsed.as_secs_f64());
    assert!(elapsed < READY_LIMIT, "Ready took {elapsed:?}");
    let table = orders.kubectl(&["get", "mq"])?;
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let [header, row] = rows.as_slice() else { bail!("not one MessageQueue: {table}") };
    assert_eq!(header[..], ["NAME", "REPLICAS", "READY", "STATUS", "ADDRESS", "AGE"]);
    assert_eq!(row[..5], ["orders", "1", "1", "Ready", "orders.shop.svc:5671"]);
    Ok(())
}

/// The class of the test's volumes does not allow expansion.
fn a_volume_that_cannot_grow_is_said(orders: Orders<'_>) -> Result<()> {
    let degraded = "jsonpath={.status.conditions[?(@.type==\"Degraded\")].reason}";
    orders.patch(&json!({"storage": {"size": "2Gi"}}))?;
    orders.wait_for(&format!("{degraded}=VolumeCannotGrow"), "mq/orders")?;
    orders.patch(&json!({"storage": {"size": "1Gi"}}))?;
    orders.wait_for(&format!("{degraded}=AsExpected"), "mq/orders")?;
    let shrunk = orders.patch(&json!({"storage": {"size": "512Mi"}}));
    is_refused(shrunk, "Invalid value", "spec.storage.size cannot be less than what the volume has")
}

fn stops_and_starts(orders: Orders<'_>) -> Result<()> {
    orders.patch(&json!({"replicas": 0}))?;
    orders.wait_for("delete", "pod/orders-0")?;
    orders.wait_for("jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}=Stopped", "mq/orders")?;
    assert_eq!(orders.field("pvc/data-orders-0", "{.status.phase}")?, "Bound");
    orders.patch(&json!({"replicas": 1}))?;
    orders.wait_until_ready()
}

/// Other operators take over the MessageQueue, one of them at a time, and its broker goes on.
fn upgrading_the_chart_restarts_no_broker(orders: Orders<'_>) -> Result<()> {
    let Orders(cluster) = orders;
    let pod = orders.field("pod/orders-0", "{.metadata.uid}")?;
    let chart = workspace().join("charts/warren").display().to_string();
    let namespace = ["--namespace", installation::NAMESPACE];
    let settings = ["--reuse-values", "--set", "log.filter=debug", "--wait", "--timeout", "90s"];
    cluster.helm(&[&["upgrade", "warren", &chart], &namespace[..], &settings[..]].concat())?;
    let ready = "jsonpath={.items[0].status.readyReplicas} {.items[0].status.updatedReplicas}";
    let operators = ["-n", installation::NAMESPACE, "get", "deployment", "-o", ready];
    assert_eq!(cluster.kubectl(&operators)?, "2 2");
    orders.patch(&json!({"service": {"annotations": {"example.com/seen": "yes"}}}))?;
    orders.wait_for("jsonpath={.metadata.annotations.example\\.com/seen}=yes", "service/orders")?;
    assert_eq!(orders.field("pod/orders-0", "{.metadata.uid}")?, pod, "another operator does not restart the broker");
    Ok(())
}

/// Definition, MessageQueue and broker go on without an operator, and a new one takes them over.
fn uninstalling_the_chart_keeps_queues(orders: Orders<'_>, release: &Release, ledger: &Ledger) -> Result<()> {
    let Orders(cluster) = orders;
    let pod = orders.field("pod/orders-0", "{.metadata.uid}")?;
    cluster.helm(&["uninstall", "warren", "--namespace", installation::NAMESPACE, "--wait", "--timeout", "60s"])?;
    cluster.kubectl(&["get", "crd", "messagequeues.warrenmq.dev"])?;
    ledger.check(&orders.messages()?).context("without an operator")?;
    install(cluster, release)?;
    orders.wait_until_ready()?;
    assert_eq!(orders.field("pod/orders-0", "{.metadata.uid}")?, pod, "a new operator does not restart the broker");
    Ok(())
}

fn deletion_retains_the_volume(orders: Orders<'_>) -> Result<()> {
    let volume = orders.field("pvc/data-orders-0", "{.metadata.uid}")?;
    let pod = orders.field("pod/orders-0", "{.metadata.uid}")?;
    orders.kubectl(&["delete", "mq", "orders", "--timeout=60s"])?;
    orders.apply()?;
    assert_ne!(orders.field("pod/orders-0", "{.metadata.uid}")?, pod);
    assert_eq!(
        orders.field("pvc/data-orders-0", "{.metadata.uid} {.metadata.deletionTimestamp}")?,
        format!("{volume} ")
    );
    Ok(())
}

fn deletion_deletes_the_volume_if_asked(orders: Orders<'_>) -> Result<()> {
    orders.patch(&json!({"storage": {"deletionPolicy": "Delete"}}))?;
    orders
        .wait_for("jsonpath={.spec.persistentVolumeClaimRetentionPolicy.whenDeleted}=Delete", "statefulset/orders")?;
    orders.kubectl(&["delete", "mq", "orders", "--timeout=60s"])?;
    orders.wait_for("delete", "pvc/data-orders-0")
}
