//! The MessageQueue `orders` in the namespace `shop`, and what is done with it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use warren_tests::client::{Access, Client, Program, access_at};
use warren_tests::cluster::Cluster;
use warren_tests::installation::wait_until_ready;

use crate::ledger::Ledger;

pub(crate) const NAMESPACE: &str = "shop";
const BINDING: &str = "orders-default-user";

/// Messages that each publisher sends before, and again after, its broker is killed.
const COUNT: &str = "300";

#[derive(Debug, Clone, Copy)]
pub(crate) struct Orders<'a>(pub(crate) &'a Cluster);

impl<'a> Orders<'a> {
    /// Applies the MessageQueue, waits until it is Ready, and returns how long that took.
    pub(crate) fn apply(self) -> Result<Duration> {
        let start = Instant::now();
        let tls = json!({"ipAddresses": [self.0.node_address()?]});
        let spec = json!({"storage": {"size": "1Gi"}, "service": {"type": "NodePort"}, "tls": tls});
        self.0.apply(&manifest("orders", spec))?;
        self.wait_until_ready()?;
        Ok(start.elapsed())
    }

    pub(crate) fn wait_until_ready(self) -> Result<()> {
        wait_until_ready(self.0, NAMESPACE, "mq/orders")
    }

    pub(crate) fn kubectl(self, arguments: &[&str]) -> Result<String> {
        self.0.kubectl(&[&["-n", NAMESPACE], arguments].concat())
    }

    pub(crate) fn patch(self, spec: &Value) -> Result<String> {
        self.kubectl(&["patch", "mq", "orders", "--type=merge", "-p", &json!({"spec": spec}).to_string()])
    }

    pub(crate) fn wait_for(self, what: &str, object: &str) -> Result<()> {
        self.kubectl(&["wait", &format!("--for={what}"), object, "--timeout=60s"]).map(drop)
    }

    pub(crate) fn field(self, object: &str, path: &str) -> Result<String> {
        self.kubectl(&["get", object, "-o", &format!("jsonpath={path}")])
    }

    /// Publishes from a pod and from outside, kills the broker meanwhile, and returns what both know in the end.
    pub(crate) fn publish_while_the_broker_is_killed(self) -> Result<Ledger> {
        let publisher = |arguments| Program { name: "publisher", source: include_str!("publish.py"), arguments };
        let publishers = [
            Client::in_pod(self.0, NAMESPACE, BINDING, publisher(&["inside", COUNT]))?,
            Client::here(&self.access()?, publisher(&["outside", COUNT]))?,
        ];
        let mut ledger = Ledger::default();
        for publisher in &publishers {
            note_until_halfway(&mut ledger, publisher)?;
        }
        self.kill()?;
        for publisher in publishers {
            publisher.finish()?.iter().for_each(|line| ledger.note(line));
        }
        Ok(ledger)
    }

    /// Takes the broker's pod away without a chance to end well, and waits for the next one.
    fn kill(self) -> Result<()> {
        let killed = self.field("pod/orders-0", "{.metadata.uid}")?;
        self.kubectl(&["delete", "pod", "orders-0", "--grace-period=0", "--force"])?;
        wait_until_ready(self.0, NAMESPACE, "pod/orders-0")?;
        ensure!(self.field("pod/orders-0", "{.metadata.uid}")? != killed, "the pod was not replaced");
        Ok(())
    }

    /// The messages of the queue, read from outside, where they stay.
    pub(crate) fn messages(self) -> Result<Vec<String>> {
        found(Client::here(&self.access()?, reader(&["orders", "keep"]))?)
    }

    /// The messages of the queue, taken away by a pod.
    pub(crate) fn take_messages(self) -> Result<Vec<String>> {
        found(Client::in_pod(self.0, NAMESPACE, BINDING, reader(&["orders", "take"]))?)
    }

    /// How programs outside the cluster connect, by the Service's port of every node.
    fn access(self) -> Result<Access> {
        let port = self.field("service/orders", "{.spec.ports[0].nodePort}")?;
        access_at(self.0, NAMESPACE, BINDING, &format!("{}:{port}", self.0.node_address()?))
    }
}

/// A MessageQueue, as JSON.
pub(crate) fn manifest(name: &str, spec: Value) -> String {
    json!({
        "apiVersion": "warrenmq.dev/v1alpha1",
        "kind": "MessageQueue",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    })
    .to_string()
}

fn reader<'a>(arguments: &'a [&'a str]) -> Program<'a> {
    Program { name: "reader", source: include_str!("../read.py"), arguments }
}

fn found(reader: Client<'_>) -> Result<Vec<String>> {
    let lines = reader.finish()?;
    lines.iter().map(|line| Ok(line.strip_prefix("found ").context(line.clone())?.to_owned())).collect()
}

fn note_until_halfway(ledger: &mut Ledger, publisher: &Client<'_>) -> Result<()> {
    let mut said = Vec::new();
    loop {
        let line = publisher.next_line()?.with_context(|| format!("a publisher ended: {said:#?}"))?;
        if line == "halfway" {
            return Ok(());
        }
        ledger.note(&line);
        said.push(line);
    }
}
