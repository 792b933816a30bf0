//! Workers in a cluster: a Deployment of `worker.py`, whose number of pods somebody else decides, the jobs that it is given,
//! and what became of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::client::{Access, Client, Program, pod_spec};
use crate::cluster::Cluster;

/// A Deployment, which is called like the queue that its pods take jobs from.
#[derive(Debug, Clone, Copy)]
pub struct Workers<'a> {
    /// Where it is.
    pub cluster: &'a Cluster,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name, a DNS label. What its pods write about their jobs goes to the queue `<name>-results`.
    pub name: &'a str,
}

/// What each pod does.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// How long a job takes.
    pub seconds: f64,
    /// How many jobs a pod may have at a time, one of which it works on.
    pub prefetch: u16,
}

impl Workers<'_> {
    /// Applies the Deployment, with no pods. They connect with the Secret `binding`.
    ///
    /// # Errors
    /// The API server refuses.
    pub fn apply(&self, binding: &str, work: Work) -> Result<()> {
        let results = self.results_queue();
        let (seconds, prefetch) = (work.seconds.to_string(), work.prefetch.to_string());
        let arguments = [self.name, &seconds, &prefetch, &results];
        let labels = json!({"app": self.name});
        let deployment = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod_spec(binding, worker(&arguments))},
            },
        });
        self.cluster.apply(&deployment.to_string()).map(drop)
    }

    /// Follows how many pods it asks for, from now on.
    ///
    /// # Errors
    /// kubectl does not start.
    pub fn sizes(&self) -> Result<Sizes> {
        Sizes::of(self)
    }

    /// Sends `count` jobs, `<prefix>-1` and so on, from this machine. The broker has confirmed all of them.
    ///
    /// # Errors
    /// It refuses one, or the connection is lost.
    pub fn send(&self, access: &Access, prefix: &str, count: u32) -> Result<Sent> {
        let number = count.to_string();
        let arguments = [self.name, prefix, &number];
        let program = Program { name: "burst", source: include_str!("burst.py"), arguments: &arguments };
        let lines = Client::here(access, program)?.finish()?;
        Sent::read(prefix, count, &lines)
    }

    /// A worker on this machine, for jobs that take no time. It works until it is dropped.
    ///
    /// # Errors
    /// It does not start.
    pub fn help(&self, access: &Access) -> Result<Client<'static>> {
        let results = self.results_queue();
        Client::here(access, worker(&[self.name, "0", "50", &results]))
    }

    /// Takes what the pods have written about their jobs. To be asked for when none of them works any more.
    ///
    /// # Errors
    /// There is no such queue, or it holds something else.
    pub fn results(&self, access: &Access) -> Result<Results> {
        let mut results = Results::default();
        results.add(&self.take(access, &self.results_queue())?)?;
        Ok(results)
    }

    /// Takes the jobs that nobody works on. To be asked for when there are no pods.
    ///
    /// # Errors
    /// There is no such queue.
    pub fn take_jobs(&self, access: &Access) -> Result<Vec<String>> {
        self.take(access, self.name)
    }

    fn take(&self, access: &Access, queue: &str) -> Result<Vec<String>> {
        let program = Program { name: "reader", source: include_str!("read.py"), arguments: &[queue, "take"] };
        let lines = Client::here(access, program)?.finish()?;
        lines.iter().map(|line| Ok(line.strip_prefix("found ").context(line.clone())?.to_owned())).collect()
    }

    fn results_queue(&self) -> String {
        format!("{}-results", self.name)
    }
}

fn worker<'a>(arguments: &'a [&'a str]) -> Program<'a> {
    Program { name: "worker", source: include_str!("worker.py"), arguments }
}

/// Jobs that were sent at once. Times are seconds of Unix.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// What their names begin with.
    pub prefix: String,
    /// How many they are.
    pub count: u32,
    /// When the first was written to the connection.
    pub first_at: f64,
    /// When the last was confirmed.
    pub last_at: f64,
}

impl Sent {
    fn read(prefix: &str, count: u32, lines: &[String]) -> Result<Self> {
        let times = lines.iter().find_map(|line| line.strip_prefix("confirmed ")?.split_once(' '));
        let (first, last) = times.with_context(|| format!("nothing was confirmed: {lines:#?}"))?;
        Ok(Self { prefix: prefix.to_owned(), count, first_at: first.parse()?, last_at: last.parse()? })
    }

    fn jobs(&self) -> impl Iterator<Item = String> {
        (1..=self.count).map(|number| format!("{}-{number}", self.prefix))
    }
}

/// What workers wrote about their jobs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Results {
    /// How often each job was done.
    jobs: BTreeMap<String, usize>,
    /// How often a worker was given a job that had been delivered before.
    pub redelivered: usize,
    /// The hosts, which are pods, that did something.
    pub pods: BTreeSet<String>,
    /// When the last job was done, in seconds of Unix.
    pub last_at: f64,
}

impl Results {
    fn add(&mut self, bodies: &[String]) -> Result<()> {
        for body in bodies {
            let words: Vec<&str> = body.split(' ').collect();
            let [job, delivery @ ("first" | "again"), pod, at] = words[..] else {
                bail!("a worker wrote {body:?}");
            };
            *self.jobs.entry(job.to_owned()).or_default() += 1;
            self.redelivered += usize::from(delivery == "again");
            self.pods.insert(pod.to_owned());
            self.last_at = self.last_at.max(at.parse().context("the time of a result")?);
        }
        Ok(())
    }

    /// How many different jobs were done.
    pub fn received(&self) -> usize {
        self.jobs.len()
    }

    /// How often a job was done that had been done already.
    pub fn duplicates(&self) -> usize {
        self.jobs.values().map(|times| times - 1).sum()
    }

    /// Every job was delivered once and done once.
    pub fn is_exact(&self) -> bool {
        (self.duplicates(), self.redelivered) == (0, 0)
    }

    /// How many of those that were sent nobody has done.
    pub fn lost(&self, sent: &[Sent]) -> usize {
        sent.iter().flat_map(Sent::jobs).filter(|job| !self.jobs.contains_key(job)).count()
    }
}

impl std::fmt::Display for Results {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (done, twice, again) = (self.received(), self.duplicates(), self.redelivered);
        write!(formatter, "{done} done by {} pods, {twice} done twice, {again} redelivered", self.pods.len())
    }
}

/// How many pods a Deployment asks for, at every version of it.
#[derive(Debug)]
pub struct Sizes {
    kubectl: Child,
    versions: Receiver<Result<Size>>,
    /// Each number that was not the one before.
    changes: Vec<Size>,
}

/// How many pods one version asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size {
    /// The number.
    pub replicas: u32,
    /// When this was heard, in seconds of Unix.
    pub at: f64,
}

impl Sizes {
    fn of(workers: &Workers<'_>) -> Result<Self> {
        let mut kubectl = workers
            .cluster
            .client("kubectl")
            .args(["-n", workers.namespace, "get", "deployment", workers.name, "--watch"])
            .args(["-o", "jsonpath={.spec.replicas}{\"\\n\"}"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start kubectl")?;
        let output = kubectl.stdout.take().context("kubectl has an output")?;
        let (sender, versions) = channel();
        // In a thread of its own: when a version came does not depend on when somebody asks.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                if sender.send(line.context("read what kubectl prints").and_then(|line| Size::now(&line))).is_err() {
                    break;
                }
            }
        });
        Ok(Self { kubectl, versions, changes: Vec::new() })
    }

    /// Waits for a version that asks for as many pods as `is_so` says, from the last known one on.
    ///
    /// # Errors
    /// There is none for as long as `limit`, or kubectl ends.
    pub fn wait_for(&mut self, limit: Duration, is_so: impl Fn(u32) -> bool) -> Result<Size> {
        let end = Instant::now() + limit;
        loop {
            if let Some(last) = self.changes.last().filter(|last| is_so(last.replicas)) {
                return Ok(*last);
            }
            self.next(end.saturating_duration_since(Instant::now()))?
                .with_context(|| format!("after {} s the sizes were {:?}", limit.as_secs(), self.numbers()))?;
        }
    }

    /// Looks on for as long as `time`.
    ///
    /// # Errors
    /// kubectl ends.
    pub fn look_on(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while self.next(end.saturating_duration_since(Instant::now()))?.is_some() {}
        Ok(())
    }

    /// How often it became less.
    pub fn decreases(&self) -> usize {
        self.changes.windows(2).filter(|two| two[1].replicas < two[0].replicas).count()
    }

    /// Each number that was not the one before, as far as it was waited for.
    pub fn numbers(&self) -> Vec<u32> {
        self.changes.iter().map(|size| size.replicas).collect()
    }

    /// The next version, if there is one in time.
    fn next(&mut self, time: Duration) -> Result<Option<Size>> {
        use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
        match self.versions.recv_timeout(time) {
            Ok(size) => {
                let size = size?;
                if self.changes.last().is_none_or(|last| last.replicas != size.replicas) {
                    self.changes.push(size);
                }
                Ok(Some(size))
            }
            Err(Timeout) => Ok(None),
            Err(Disconnected) => bail!("kubectl does not watch any more"),
        }
    }
}

impl Drop for Sizes {
    fn drop(&mut self) {
        // Either fails only if the process has ended, which is what is wanted.
        self.kubectl.kill().ok();
        self.kubectl.wait().ok();
    }
}

impl Size {
    fn now(line: &str) -> Result<Self> {
        let replicas = line.trim().parse().with_context(|| format!("kubectl says {line:?}"))?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is set to before 1970")?;
        Ok(Self { replicas, at: since.as_secs_f64() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_say_what_was_lost_doubled_or_given_again() {
        let lines = ["confirmed 10.5 11.25".to_owned()];
        let sent = [Sent::read("a", 3, &lines).unwrap(), Sent::read("b", 1, &lines).unwrap()];
        assert_eq!((sent[0].first_at, sent[0].last_at), (10.5, 11.25));
        let mut results = Results::default();
        let bodies = ["a-1 first x 12.5", "a-2 first y 12.75", "a-2 again x 12.6", "b-1 first x 12.0"];
        results.add(&bodies.map(str::to_owned)).unwrap();
        assert_eq!((results.received(), results.duplicates(), results.redelivered), (3, 1, 1));
        assert_eq!((results.lost(&sent), results.lost(&sent[1..])), (1, 0));
        assert_eq!((results.pods.len(), results.last_at), (2, 12.75));
        assert!(results.add(&["a-1 twice x 1".to_owned()]).is_err());
    }

    #[test]
    fn a_burst_that_was_not_confirmed_is_an_error() {
        let error = Sent::read("a", 3, &["Traceback".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("Traceback"), "{error}");
    }
}
