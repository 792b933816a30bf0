//! Pods that have the token of their ServiceAccount and nothing else.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use warren_tests::client::{Account, Client, Program};
use warren_tests::cluster::Cluster;
use warren_tests::installation::wait_until_ready;

use crate::orders::{NAMESPACE, manifest};

/// The MessageQueue that pods log in to.
const QUEUE: &str = "accounts";

/// An account publishes and consumes over TLS if it is declared. Its token is refused with 403 where none is, and with 530 where it is
/// known whose it is and that is nobody's user.
pub(crate) fn pods_log_in_with_the_token_of_their_service_account(cluster: &Cluster) -> Result<()> {
    for name in ["billing", "stranger"] {
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": NAMESPACE}});
        cluster.apply(&account.to_string())?;
    }
    declare(cluster, json!([]))?;
    wait_until_ready(cluster, NAMESPACE, &format!("mq/{QUEUE}"))?;
    ensure!(said_by(cluster, "billing")? == ["refused 403"], "no account is declared");

    let right = json!({"configure": "", "write": "^amq[.]default$", "read": "^invoices$"});
    declare(cluster, json!([{"name": "billing", "permissions": [right]}]))?;
    wait_for(cluster, "condition=UsersReady=true")?;
    // The first account restarts the broker, which may have had its user before.
    cluster.kubectl(&["-n", NAMESPACE, "rollout", "status", &format!("statefulset/{QUEUE}"), "--timeout=90s"])?;
    let said = said_by(cluster, "billing")?;
    ensure!(said == ["took one"], "billing is declared: {said:?}");
    let said = said_by(cluster, "stranger")?;
    ensure!(said == ["refused 530"], "stranger is not declared: {said:?}");

    ensure!(reviewers(cluster)? == format!("{NAMESPACE}/{QUEUE}-broker "), "{}", reviewers(cluster)?);
    cluster.kubectl(&["-n", NAMESPACE, "delete", "mq", QUEUE, "--timeout=60s"])?;
    let deleted = Instant::now();
    while !reviewers(cluster)?.is_empty() {
        ensure!(deleted.elapsed() < Duration::from_secs(60), "a MessageQueue is gone, and its account may still ask");
    }
    Ok(())
}

/// Who may ask about tokens.
fn reviewers(cluster: &Cluster) -> Result<String> {
    let names = "jsonpath={range .subjects[*]}{.namespace}/{.name} {end}";
    cluster.kubectl(&["get", "clusterrolebinding", "warren-token-reviews", "-o", names])
}

fn declare(cluster: &Cluster, accounts: Value) -> Result<()> {
    let spec = json!({
        "storage": {"size": "1Gi", "deletionPolicy": "Delete"},
        "auth": {"serviceAccounts": accounts},
        "topology": {"queues": [{"name": "invoices"}]},
    });
    cluster.apply(&manifest(QUEUE, spec))?;
    wait_for(cluster, "condition=TopologyReady=true")
}

fn wait_for(cluster: &Cluster, what: &str) -> Result<()> {
    cluster
        .kubectl(&["-n", NAMESPACE, "wait", &format!("--for={what}"), &format!("mq/{QUEUE}"), "--timeout=90s"])
        .map(drop)
}

/// What a pod of the account says.
fn said_by(cluster: &Cluster, account: &str) -> Result<Vec<String>> {
    let host = format!("{QUEUE}.{NAMESPACE}.svc");
    let program = Program { name: account, source: include_str!("token.py"), arguments: &[&host] };
    let authorities = format!("{QUEUE}-ca");
    let account = Account { name: account, audience: &host, authorities: &authorities };
    Client::in_pod_of(cluster, NAMESPACE, account, program)?.finish()
}
