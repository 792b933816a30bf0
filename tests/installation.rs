//! Warren in a cluster, put there as its users do: the chart by helm, MessageQueues by kubectl.

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::release::{Release, workspace};

/// Namespace of the operator.
pub const NAMESPACE: &str = "warren";

/// Annotation of the operator's pod that says which build of the images runs.
const BUILD_ANNOTATION: &str = "warrenmq.dev/build";

/// Loads the images and installs the chart, or upgrades what is installed, and waits until the operator is ready.
///
/// Images keep their tag from build to build, so what runs is started anew if it is of another build. Returns whether
/// brokers were.
///
/// # Errors
/// helm or kubectl fail, or the operator is not ready in time; the error carries what they said.
pub fn install(cluster: &Cluster, release: &Release) -> Result<bool> {
    cluster.load_image(&release.broker.archive)?;
    cluster.load_image(&release.operator.archive)?;
    let (build, installed) = (release.fingerprint(), installed_build(cluster)?);
    let chart = workspace().join("charts/warren").display().to_string();
    let annotation = format!("podAnnotations.{}={build}", BUILD_ANNOTATION.replace('.', "\\."));
    cluster
        .helm(&[
            "upgrade", "--install", "warren", &chart, "--namespace", NAMESPACE, "--create-namespace", "--set-string",
            &annotation, "--wait", "--timeout", "90s",
        ])
        .with_context(|| format!("install the chart; see `kubectl -n {NAMESPACE} describe pod` and `kubectl -n {NAMESPACE} logs deploy/warren`"))?;
    let outdated = !installed.is_empty() && installed != build;
    if outdated {
        restart_brokers(cluster)?;
    }
    Ok(outdated)
}

/// Empty if nothing is installed.
fn installed_build(cluster: &Cluster) -> Result<String> {
    let path =
        format!("jsonpath={{.items[*].spec.template.metadata.annotations.{}}}", BUILD_ANNOTATION.replace('.', "\\."));
    cluster.kubectl(&["-n", NAMESPACE, "get", "deployment", "-l", "app.kubernetes.io/instance=warren", "-o", &path])
}

/// Deletes the brokers' pods and waits for those that come in their place.
fn restart_brokers(cluster: &Cluster) -> Result<()> {
    const BROKERS: &str = "app.kubernetes.io/name=warren-broker";
    const NAMES: &str = "jsonpath={range .items[*]}{.metadata.namespace} {.metadata.name}{\"\\n\"}{end}";
    let pods = cluster.kubectl(&["get", "pods", "--all-namespaces", "-l", BROKERS, "-o", NAMES])?;
    for (namespace, pod) in pods.lines().filter_map(|line| line.split_once(' ')) {
        cluster.kubectl(&["-n", namespace, "delete", "pod", pod, "--timeout=60s"])?;
        wait_until_ready(cluster, namespace, &format!("pod/{pod}"))?;
    }
    Ok(())
}

/// Waits until `object`, such as `mq/hello`, exists and has the condition Ready.
///
/// # Errors
/// It does not within a minute; the error says what its status is instead.
pub fn wait_until_ready(cluster: &Cluster, namespace: &str, object: &str) -> Result<()> {
    let wait = |what: &str| cluster.kubectl(&["-n", namespace, "wait", what, object, "--timeout=60s"]);
    wait("--for=create").and_then(|_| wait("--for=condition=Ready")).map(drop).with_context(|| {
        let status = cluster.kubectl(&["-n", namespace, "get", object, "-o", "jsonpath={.status.conditions}"]);
        format!("{object} is not ready; its conditions: {}", status.unwrap_or_else(|error| error.to_string()))
    })
}
