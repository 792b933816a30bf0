//! Consumers that the MessageQueue `jobs` scales: woken by the first message, as many as a burst needs, never taken away from
//! their work, and gone when there is none.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use warren_tests::client::{Access, access_at};
use warren_tests::cluster::{Cluster, Container};
use warren_tests::installation::{self, wait_until_ready};
use warren_tests::workers::{Results, Sent, Sizes, Work, Workers};

use crate::orders::{NAMESPACE, manifest};

const BINDING: &str = "jobs-default-user";

/// For what takes the cluster its own time, such as pods that start while others do.
const PATIENCE: Duration = Duration::from_secs(120);

/// How much is tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Messages that wake consumers, a multiple of [`SLEEPERS`].
    pub(crate) wakes: usize,
    /// Pods that go while jobs are under way, and how many Deployments they are of.
    pub(crate) scale_ins: u32,
    pub(crate) crews: u32,
    /// For how long figures are missing, after that was noticed.
    pub(crate) silence: Duration,
}

/// What is promised: so long after a publish to an idle queue, in 99 of 100 cases, its consumers are asked for.
const WAKE_LIMIT_MS: f64 = 250.0;

/// Deployments that are woken.
const SLEEPERS: usize = 10;

/// Jobs of a burst, and in which time they are to be done.
const BURST: u32 = 10_000;
const DRAIN_WITHIN: f64 = 60.0;

/// For how long nothing is to do when the last pod goes, in seconds.
const COOLDOWN: f64 = 5.0;

/// Pods at most of each Deployment whose pods come and go.
const CREW: u32 = 4;

/// Goes through all of it, one after the other.
pub(crate) fn check(cluster: &Cluster, extent: Extent) -> Result<()> {
    let jobs = Jobs::apply(cluster)?;
    jobs.the_first_message_wakes_consumers(extent.wakes).context("waking")?;
    jobs.a_burst_is_done_in_time().context("a burst")?;
    jobs.pods_at_work_do_not_go(extent.crews, extent.scale_ins).context("scaling in")?;
    jobs.no_pod_goes_without_figures(extent.silence).context("without figures")?;
    jobs.kubectl(&["delete", "mq", "jobs", "--timeout=60s"]).map(drop)
}

/// The MessageQueue.
struct Jobs<'a> {
    cluster: &'a Cluster,
    access: Access,
}

impl<'a> Jobs<'a> {
    fn apply(cluster: &'a Cluster) -> Result<Self> {
        cluster.apply(&queue(cluster, &[])?)?;
        wait_until_ready(cluster, NAMESPACE, "mq/jobs")?;
        let port = "jsonpath={.spec.ports[0].nodePort}";
        let port = cluster.kubectl(&["-n", NAMESPACE, "get", "service", "jobs", "-o", port])?;
        let access = access_at(cluster, NAMESPACE, BINDING, &format!("{}:{port}", cluster.node_address()?))?;
        Ok(Self { cluster, access })
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.cluster.kubectl(&[&["-n", NAMESPACE], arguments].concat())
    }

    /// Has these consumers scaled, by these rules, and no others.
    fn scale(&self, consumers: &[(&str, Value)]) -> Result<()> {
        self.cluster.apply(&queue(self.cluster, consumers)?).map(drop)
    }

    /// Waits until the status of a consumer gives this reason.
    fn wait_for_reason(&self, consumer: &str, reason: &str) -> Result<()> {
        let path = format!("--for=jsonpath={{.status.consumers[?(@.name==\"{consumer}\")].reason}}={reason}");
        self.kubectl(&["wait", &path, "mq/jobs", "--timeout=60s"]).map(drop)
    }

    /// From a client's publish to the number of pods in the API, on queues where nothing happens.
    fn the_first_message_wakes_consumers(&self, wakes: usize) -> Result<()> {
        let names: Vec<String> = (0..SLEEPERS).map(|number| format!("sleeper-{number}")).collect();
        let rule = json!({"depthPerReplica": 1, "maxReplicas": 1, "cooldown": "0s"});
        let mut sleepers = names.iter().map(|name| self.sleeper(name)).collect::<Result<Vec<_>>>()?;
        self.scale(&names.iter().map(|name| (name.as_str(), rule.clone())).collect::<Vec<_>>())?;
        let mut latencies = Vec::new();
        while latencies.len() < wakes {
            for Crew { workers, sizes, .. } in &mut sleepers {
                self.wait_for_reason(workers.name, "Idle")?;
                sizes.wait_for(PATIENCE, |replicas| replicas == 0)?;
                let sent = workers.send(&self.access, "wake", 1)?;
                let woken = sizes.wait_for(PATIENCE, |replicas| replicas == 1)?;
                latencies.push(woken.at - sent.first_at);
                ensure!(workers.take_jobs(&self.access)? == ["wake-1"], "nobody works, and the job is gone");
            }
        }
        latencies.sort_by(f64::total_cmp);
        let part = |part: usize| latencies[(latencies.len() * part).div_ceil(100) - 1] * 1e3;
        let (median, p99, most) = (part(50), part(99), part(100));
        eprintln!("publish to replicas, {wakes} times: p50 {median:.0} ms, p99 {p99:.0} ms, max {most:.0} ms");
        ensure!(p99 <= WAKE_LIMIT_MS, "{p99} ms from publish to replicas");
        Ok(())
    }

    /// A Deployment whose pods no node runs: only their number is looked at.
    fn sleeper<'b>(&self, name: &'b str) -> Result<Crew<'b>>
    where
        'a: 'b,
    {
        let sleeper = self.crew(name, Work { seconds: 0.0, prefetch: 1 })?;
        let unscheduled = json!({"spec": {"template": {"spec": {"schedulerName": "nobody"}}}}).to_string();
        self.kubectl(&["patch", "deployment", name, "--type=merge", "-p", &unscheduled])?;
        Ok(sleeper)
    }

    /// Ten thousand messages at once, after one from which it was learned what a pod can do.
    fn a_burst_is_done_in_time(&self) -> Result<()> {
        let mut crew = self.crew("burst", Work { seconds: 0.01, prefetch: 10 })?;
        let rule = json!({
            "drainWithin": format!("{DRAIN_WITHIN}s"), "maxReplicas": 10, "cooldown": format!("{COOLDOWN}s"),
        });
        self.scale(&[(crew.workers.name, rule)])?;
        self.wait_for_reason(crew.workers.name, "Idle")?;
        crew.sent.push(crew.workers.send(&self.access, "first", 1)?);
        crew.sizes.wait_for(PATIENCE, |replicas| replicas == 1)?;
        let rate = "jsonpath={.status.consumers[0].messagesPerSecondAndPod}";
        self.kubectl(&["wait", &format!("--for={rate}"), "mq/jobs", "--timeout=60s"])?;
        let rate: f64 = self.kubectl(&["get", "mq/jobs", "-o", rate])?.parse().context("a rate")?;

        let burst = crew.workers.send(&self.access, "burst", BURST)?;
        crew.sent.push(burst.clone());
        let grown = crew.sizes.wait_for(PATIENCE, |replicas| replicas > 1)?;
        let enough = (f64::from(BURST) / DRAIN_WITHIN / rate).min(10.0);
        ensure!(f64::from(grown.replicas) >= enough, "at {rate} a second {} pods are no {enough}", grown.replicas);
        let gone = crew.sizes.wait_for(2 * PATIENCE, |replicas| replicas == 0)?;
        let results = crew.results(&self.access)?;
        let (drained, idle) = (results.last_at - burst.last_at, gone.at - results.last_at);
        eprintln!(
            "{BURST} messages came in {:.1} s, and were done {drained:.1} s later; pods: {:?}, {:.1} s after the last message came, and none {idle:.1} s \
             after it was done; {results}",
            burst.last_at - burst.first_at,
            crew.sizes.numbers(),
            grown.at - burst.last_at,
        );
        ensure!(results.is_exact(), "messages were done twice");
        ensure!(drained <= DRAIN_WITHIN, "it took {drained} s");
        ensure!(idle >= COOLDOWN, "the last pod went {idle} s after the last message");
        Ok(())
    }

    /// The number goes up and down while there is more to do than anybody can.
    fn pods_at_work_do_not_go(&self, crews: u32, scale_ins: u32) -> Result<()> {
        let names: Vec<String> = (0..crews).map(|number| format!("crew-{number}")).collect();
        let work = Work { seconds: 5.0, prefetch: 1 };
        let mut crews = names.iter().map(|name| self.crew(name, work)).collect::<Result<Vec<_>>>()?;
        let scale = |most: u32| {
            let rule = json!({"depthPerReplica": 1, "maxReplicas": most, "cooldown": "1s"});
            self.scale(&names.iter().map(|name| (name.as_str(), rule.clone())).collect::<Vec<_>>())
        };
        let mut gone = 0;
        while gone < scale_ins {
            for crew in &mut crews {
                crew.sent.push(crew.workers.send(&self.access, &format!("job-{gone}"), 10 * CREW)?);
            }
            for most in [CREW, 1] {
                scale(most)?;
                for crew in &mut crews {
                    crew.sizes.wait_for(PATIENCE, |replicas| replicas == most)?;
                }
            }
            gone += (CREW - 1) * u32::try_from(crews.len())?;
        }
        let patches: usize = crews.iter().map(|crew| crew.sizes.decreases()).sum();
        eprintln!("{gone} pods went, by {patches} patches, while all of them had jobs of 5 s");
        for (crew, results) in self.finish(&mut crews)? {
            eprintln!("{}: {results}; pods: {:?}", crew.workers.name, crew.sizes.numbers());
            ensure!(results.is_exact(), "jobs of {} were done twice", crew.workers.name);
        }
        Ok(())
    }

    /// Whoever fails, and whatever is not known, the number stays while there is work, and grows afterwards.
    fn no_pod_goes_without_figures(&self, silence: Duration) -> Result<()> {
        let work = Work { seconds: 1.0, prefetch: 1 };
        let mut crews = [self.crew("by-depth", work)?, self.crew("by-time", work)?];
        for crew in &mut crews {
            crew.sent.push(crew.workers.send(&self.access, "job", 1_000)?);
        }
        self.grow(&mut crews, 2)?;
        self.kill_the_broker().context("kill the broker")?;
        self.grow(&mut crews, 3)?;
        Container::of(self.cluster, installation::NAMESPACE, &self.leader()?)?.kill().context("kill the operator")?;
        self.grow(&mut crews, 4)?;
        self.cut_off_the_broker(&mut crews, silence).context("cut off the broker")?;
        self.grow(&mut crews, 5)?;
        for crew in &crews {
            let numbers = crew.sizes.numbers();
            ensure!(numbers.is_sorted(), "{} had {numbers:?} pods", crew.workers.name);
        }
        for (crew, results) in self.finish(&mut crews)? {
            eprintln!("{}: {results}; pods: {:?}", crew.workers.name, crew.sizes.numbers());
        }
        Ok(())
    }

    /// Lets so many pods come, which shows that figures arrive and somebody acts on them.
    fn grow(&self, crews: &mut [Crew<'_>; 2], most: u32) -> Result<()> {
        let rules = [json!({"depthPerReplica": 1}), json!({"drainWithin": "1s"})];
        let consumers = crews.iter().zip(rules).map(|(crew, mut rule)| {
            rule["maxReplicas"] = json!(most);
            rule["cooldown"] = json!("1s");
            (crew.workers.name, rule)
        });
        self.scale(&consumers.collect::<Vec<_>>())?;
        crews.iter_mut().try_for_each(|crew| crew.sizes.wait_for(PATIENCE, |replicas| replicas == most).map(drop))
    }

    fn kill_the_broker(&self) -> Result<()> {
        Container::of(self.cluster, NAMESPACE, "jobs-0")?.kill()?;
        let again = "--for=jsonpath={.status.containerStatuses[0].restartCount}=1";
        self.kubectl(&["wait", again, "pod/jobs-0", "--timeout=60s"])?;
        wait_until_ready(self.cluster, NAMESPACE, "pod/jobs-0")
    }

    /// Nobody tells the operator anything, while all else goes on.
    fn cut_off_the_broker(&self, crews: &mut [Crew<'_>], silence: Duration) -> Result<()> {
        let broker = self.kubectl(&["get", "pod", "jobs-0", "-o", "jsonpath={.status.podIP}"])?;
        let _cut = Container::of(self.cluster, installation::NAMESPACE, &self.leader()?)?.cut_off(&broker)?;
        for crew in &*crews {
            self.wait_for_reason(crew.workers.name, "FiguresMissing")?;
        }
        crews.iter_mut().try_for_each(|crew| crew.sizes.look_on(silence))
    }

    /// Does what is left to do, waits until all pods are gone, and answers what became of the jobs.
    fn finish<'b, 'c>(&self, crews: &'b mut [Crew<'c>]) -> Result<Vec<(&'b Crew<'c>, Results)>> {
        let help = crews.iter().map(|crew| crew.workers.help(&self.access)).collect::<Result<Vec<_>>>()?;
        crews.iter_mut().try_for_each(|crew| crew.sizes.wait_for(PATIENCE, |replicas| replicas == 0).map(drop))?;
        drop(help);
        crews.iter().map(|crew| Ok((crew, crew.results(&self.access)?))).collect()
    }

    fn crew<'b>(&self, name: &'b str, work: Work) -> Result<Crew<'b>>
    where
        'a: 'b,
    {
        let workers = Workers { cluster: self.cluster, namespace: NAMESPACE, name };
        workers.apply(BINDING, work)?;
        Ok(Crew { workers, sizes: workers.sizes()?, sent: Vec::new() })
    }

    /// The pod of the operator that works.
    fn leader(&self) -> Result<String> {
        let holder = "jsonpath={.items[0].spec.holderIdentity}";
        self.cluster.kubectl(&["-n", installation::NAMESPACE, "get", "lease", "-o", holder])
    }
}

/// Workers, how many pods they had, and what they have to do.
struct Crew<'a> {
    workers: Workers<'a>,
    sizes: Sizes,
    sent: Vec<Sent>,
}

impl Crew<'_> {
    /// What became of all jobs that were sent. None is lost.
    fn results(&self, access: &Access) -> Result<Results> {
        let results = self.workers.results(access)?;
        let lost = results.lost(&self.sent);
        ensure!(lost == 0, "of the jobs of {} {lost} are lost", self.workers.name);
        Ok(results)
    }
}

/// The MessageQueue with these consumers and the queues that they have jobs from.
fn queue(cluster: &Cluster, consumers: &[(&str, Value)]) -> Result<String> {
    let queues: Vec<_> = consumers.iter().map(|(name, _)| json!({"vhost": "/", "name": name})).collect();
    let consumers = consumers.iter().map(|(name, rule)| {
        let mut consumer = rule.clone();
        consumer["name"] = json!(name);
        consumer["queue"] = json!(name);
        consumer["target"] = json!({"kind": "Deployment", "name": name});
        consumer
    });
    let spec = json!({
        "storage": {"size": "1Gi"},
        "service": {"type": "NodePort"},
        "tls": {"ipAddresses": [cluster.node_address()?]},
        "topology": {"queues": queues},
        "consumers": consumers.collect::<Vec<_>>(),
    });
    Ok(manifest("jobs", spec))
}
