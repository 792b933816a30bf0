//! Consumers that come when there is work, as many as it takes, and go when there is none.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use warren_tests::client::Access;
use warren_tests::cluster::Cluster;
use warren_tests::workers::{Sent, Sizes, Work, Workers};

use crate::conversation::Tally;
use crate::step;

/// The Deployment, and its queue.
const NAME: &str = "workers";

/// Messages of the burst.
const BURST: u32 = 10_000;

/// What a message takes. A pod does some sixty in a second.
const WORK: Work = Work { seconds: 0.01, prefetch: 10 };

/// What is declared: what waits is done in this time, by at most so many pods, which go when there was nothing for so long.
const DRAIN_WITHIN: Duration = Duration::from_secs(60);
const PODS_MAX: u32 = 10;
const COOLDOWN: Duration = Duration::from_secs(5);

/// For what takes the cluster its own time.
const PATIENCE: Duration = Duration::from_secs(120);

/// What was seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Show {
    pub(crate) tally: Tally,
    /// The most pods that were asked for.
    pub(crate) peak: u32,
    /// The number in the end.
    pub(crate) last: u32,
}

/// Has the MessageQueue `queue` of `namespace` scale a Deployment, and gives that work.
pub(crate) fn show(cluster: &Cluster, namespace: &str, queue: &str, binding: &str, access: &Access) -> Result<Show> {
    let workers = Workers { cluster, namespace, name: NAME };
    let mut sizes = declare(workers, queue, binding)?;
    let run = std::process::id();
    let first = step("One message, on a queue where nothing happens", || {
        let sent = workers.send(access, &format!("first-{run}"), 1)?;
        let woken = sizes.wait_for(PATIENCE, |replicas| replicas == 1)?;
        // What it can do follows from that message.
        let rate = "--for=jsonpath={.status.consumers[0].messagesPerSecondAndPod}";
        cluster.kubectl(&["-n", namespace, "wait", rate, &format!("mq/{queue}"), "--timeout=60s"])?;
        let milliseconds = (woken.at - sent.first_at) * 1e3;
        Ok((format!("the Deployment asks for one pod {milliseconds:.0} ms after it was published"), sent))
    })?;
    let burst = step(&format!("{BURST} messages at once, persistent and confirmed"), || {
        let sent = workers.send(access, &format!("burst-{run}"), BURST)?;
        let grown = sizes.wait_for(PATIENCE, |replicas| replicas > 1)?;
        let said = format!(
            "all are confirmed after {:.1} s\nthe Deployment asks for {} pods {:.1} s later\n{}",
            sent.last_at - sent.first_at,
            grown.replicas,
            grown.at - sent.last_at,
            cluster.kubectl(&["-n", namespace, "get", "mq", queue, "-o", "jsonpath={.status.consumers}"])?,
        );
        Ok((said, sent))
    })?;
    step("They do the work, and go", || finish(workers, access, &mut sizes, &[first, burst]))
}

/// Applies the Deployment and has it scaled.
fn declare(workers: Workers<'_>, queue: &str, binding: &str) -> Result<Sizes> {
    let consumers = json!({"spec": {"consumers": [{
        "name": NAME,
        "queue": NAME,
        "target": {"kind": "Deployment", "name": NAME},
        "drainWithin": format!("{}s", DRAIN_WITHIN.as_secs()),
        "maxReplicas": PODS_MAX,
        "cooldown": format!("{}s", COOLDOWN.as_secs()),
    }]}});
    let patch = consumers.to_string();
    step(&format!("kubectl patch mq {queue} --type=merge -p '{patch}'"), || {
        workers.apply(binding, WORK)?;
        let kubectl = |arguments: &[&str]| workers.cluster.kubectl(&[&["-n", workers.namespace], arguments].concat());
        kubectl(&["patch", "mq", queue, "--type=merge", "-p", &patch])?;
        let is_scaled = format!("--for=jsonpath={{.status.consumers[0].name}}={NAME}");
        kubectl(&["wait", &is_scaled, &format!("mq/{queue}"), "--timeout=60s"])?;
        let mut sizes = workers.sizes()?;
        sizes.wait_for(PATIENCE, |replicas| replicas == 0)?;
        Ok((format!("the Deployment {NAME} has no pods; each will do {:?}", WORK), sizes))
    })
}

/// Waits until the pods are gone, and asks what became of the messages.
fn finish(workers: Workers<'_>, access: &Access, sizes: &mut Sizes, sent: &[Sent]) -> Result<(String, Show)> {
    let gone = sizes.wait_for(2 * PATIENCE, |replicas| replicas == 0)?;
    let results = workers.results(access)?;
    let count: usize = sent.iter().map(|sent| sent.count as usize).sum();
    let tally = Tally { sent: count, received: count - results.lost(sent) };
    let confirmed = sent.iter().map(|sent| sent.last_at).fold(0.0, f64::max);
    let drained = results.last_at - confirmed;
    ensure!(drained <= DRAIN_WITHIN.as_secs_f64(), "it took {drained:.1} s, and drainWithin says {DRAIN_WITHIN:?}");
    let numbers = sizes.numbers();
    let said = format!(
        "done {drained:.1} s after the last message was confirmed, by {} pods; declared: within {} s\n\
         {} redelivered, {} done twice\n\
         the last pod went {:.1} s after the last message was done\n\
         pods asked for: {numbers:?}",
        results.pods.len(),
        DRAIN_WITHIN.as_secs(),
        results.redelivered,
        results.duplicates(),
        gone.at - results.last_at,
    );
    let show = Show { tally, peak: numbers.into_iter().max().unwrap_or(0), last: gone.replicas };
    Ok((said, show))
}
