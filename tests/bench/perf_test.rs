//! PerfTest, the load generator that RabbitMQ's makers wrote: the judge that none of us had a hand in.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use warren_tests::command::output_of;
use warren_tests::programs::{Lock, cache_folder, install_missing};
use warren_tests::release::workspace;

use crate::load::{Latency, Load, Outcome, QueueType};

/// Maven's description of what to fetch. The version is in it.
const POM: &str = "tests/bench/perf-test";
/// Seconds until the Java machine has compiled what it uses.
const WARM_UP: u64 = 4;

/// PerfTest, ready to run.
#[derive(Debug, Clone)]
pub(crate) struct PerfTest {
    /// The folder of its jars.
    folder: PathBuf,
    /// Its version.
    pub(crate) version: String,
}

/// What one line of PerfTest says about about a second.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Interval {
    time: f64,
    sent: f64,
    received: f64,
    /// Median and 99th percentile of the consumers' latency, in microseconds.
    delivery: Option<(f64, f64)>,
    /// The same of the confirms'.
    confirm: Option<(f64, f64)>,
}

impl PerfTest {
    /// The jars in the cache, resolved by Maven if they are not there. Installs Java and Maven if they are missing.
    ///
    /// # Errors
    /// They cannot be installed or resolved.
    pub(crate) fn prepare() -> Result<Self> {
        let pom = workspace().join(POM);
        let text = std::fs::read_to_string(pom.join("pom.xml")).context("read PerfTest's pom.xml")?;
        let version = version(&text).context("pom.xml names no version of perf-test")?.to_owned();
        let folder = cache_folder()?.join(format!("perf-test-{version}"));
        let _lock = Lock::of(&folder.with_extension("lock"), "another run fetches PerfTest")?;
        install_missing(&[("java", "default-jre-headless")])?;
        if !folder.is_dir() {
            eprintln!("fetching PerfTest {version}");
            install_missing(&[("mvn", "maven")])?;
            let unfinished = folder.with_extension("unfinished");
            let mut maven = Command::new("mvn");
            maven.args(["--quiet", "--batch-mode", "dependency:copy-dependencies"]).current_dir(&pom);
            output_of(maven.arg(format!("-DoutputDirectory={}", unfinished.display())))?;
            std::fs::rename(&unfinished, &folder).context("keep PerfTest")?;
        }
        Ok(Self { folder, version })
    }

    /// Puts `load` on the broker at `address`, on a queue called `queue`.
    ///
    /// # Errors
    /// PerfTest fails, or says nothing that can be read.
    pub(crate) fn run(&self, address: SocketAddr, queue: &str, load: &Load) -> Result<Outcome> {
        let seconds = WARM_UP + load.seconds.ceil() as u64;
        let mut java = Command::new("java");
        java.arg("-cp").arg(format!("{}/*", self.folder.display())).arg("com.rabbitmq.perf.PerfTest");
        java.args(["-h", &format!("amqp://guest:guest@{address}")]).args(arguments(load, queue, seconds));
        outcome(&output_of(&mut java)?)
    }
}

/// The same load in PerfTest's words.
fn arguments(load: &Load, queue: &str, seconds: u64) -> Vec<String> {
    let mut words = vec!["-ad".to_owned(), "false".to_owned()];
    let mut put = |name: &str, value: String| words.extend([name.to_owned(), value]);
    put("-u", queue.to_owned());
    put("-x", load.producers.to_string());
    put("-y", load.consumers.to_string());
    put("-s", load.size.to_string());
    put("-z", seconds.to_string());
    if load.persistent {
        put("-f", "persistent".to_owned());
    }
    if load.window > 0 {
        put("-c", load.window.to_string());
    }
    if load.prefetch > 0 {
        put("-q", load.prefetch.to_string());
    }
    if load.rate > 0 {
        put("-r", load.rate.to_string());
    }
    if let Some(kind) = load.queue_type {
        let kind = if kind == QueueType::Quorum { "quorum" } else { "classic" };
        put("-qa", format!("x-queue-type={kind}"));
    }
    if load.ack > 0 {
        put("-A", load.ack.to_string());
    } else {
        words.push("-a".to_owned());
    }
    words
}

/// Adds up the intervals after the warm-up. PerfTest tells quantiles per interval only; of those we take the middle one.
fn outcome(printed: &str) -> Result<Outcome> {
    let intervals: Vec<Interval> = printed.lines().filter_map(Interval::parse).collect();
    let (warm_up, measured): (Vec<&Interval>, Vec<&Interval>) =
        intervals.iter().partition(|interval| interval.time < WARM_UP as f64);
    ensure!(!measured.is_empty(), "PerfTest said nothing about its last seconds:\n{printed}");
    let mut time = warm_up.last().map_or(0.0, |interval| interval.time);
    let (mut seconds, mut sent, mut received) = (0.0, 0.0, 0.0);
    for interval in &measured {
        let length = interval.time - time;
        (time, seconds) = (interval.time, seconds + length);
        (sent, received) = (sent + interval.sent * length, received + interval.received * length);
    }
    let latency = |of: fn(&Interval) -> Option<(f64, f64)>| {
        let (mut p50, mut p99): (Vec<f64>, Vec<f64>) = measured.iter().filter_map(|interval| of(interval)).unzip();
        let max = p99.iter().copied().fold(0.0, f64::max);
        let (p50, p99) = (middle(&mut p50)?, middle(&mut p99)?);
        Some(Latency { p50, p95: p99, p99, p999: max, max })
    };
    Ok(Outcome {
        seconds,
        published: sent as u64,
        consumed: received as u64,
        verified: 0,
        confirm_latency: latency(|interval| interval.confirm),
        delivery_latency: latency(|interval| interval.delivery),
    })
}

fn middle(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

impl Interval {
    /// Reads a line such as `id: …, time 3.005 s, sent: 11 msg/s, received: 12 msg/s, min/median/75th/95th/99th consumer
    /// latency: 1/2/3/4/5 µs, confirm latency: 1/2/3/4/5 µs`; with confirms a field `confirmed:` is among them.
    fn parse(line: &str) -> Option<Self> {
        let field = |name: &str| line.split(", ").find_map(|field| field.strip_prefix(name));
        let number = |text: &str| text.split_whitespace().next()?.parse().ok();
        Some(Self {
            time: number(field("time ").or_else(|| field("time: "))?)?,
            sent: field("sent: ").and_then(number).unwrap_or_default(),
            received: field("received: ").and_then(number).unwrap_or_default(),
            delivery: quantiles(line, "consumer latency: "),
            confirm: quantiles(line, "confirm latency: "),
        })
    }
}

/// Median and 99th percentile after `name`, in microseconds, if anything was measured.
fn quantiles(line: &str, name: &str) -> Option<(f64, f64)> {
    let rest = line.split_once(name)?.1;
    let (values, unit) = rest.split_once(' ')?;
    let factor = if unit.starts_with("ms") { 1e3 } else { 1.0 };
    let values: Vec<f64> = values.split('/').map(|value| value.parse().ok()).collect::<Option<_>>()?;
    Some((values.get(1)? * factor, values.get(4)? * factor))
}

/// The version in the dependency on perf-test.
fn version(pom: &str) -> Option<&str> {
    let after = pom.split_once("<artifactId>perf-test</artifactId>")?.1;
    Some(after.split_once("<version>")?.1.split_once("</version>")?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_perf_test_is_read() {
        let line = "id: t, time 5.000 s, sent: 200 msg/s, received: 210 msg/s, confirmed: 200 msg/s, nacked: 0 msg/s, \
                    min/median/75th/95th/99th consumer latency: 1/20/30/40/50 µs, confirm latency: 2/3/4/5/6 ms";
        let expected = Interval {
            time: 5.0,
            sent: 200.0,
            received: 210.0,
            delivery: Some((20.0, 50.0)),
            confirm: Some((3e3, 6e3)),
        };
        assert_eq!(Interval::parse(line), Some(expected));
        assert_eq!(Interval::parse("id: t, sending rate avg: 10790 msg/s"), None);
    }

    #[test]
    fn seconds_of_the_warm_up_do_not_count() {
        let line = |time, received| format!("id: t, time {time} s, sent: 1 msg/s, received: {received} msg/s\n");
        let printed = (1..=6).map(|time| line(time, if time < 4 { 1_000_000 } else { 10 * time })).collect::<String>();
        let outcome = outcome(&printed).unwrap();
        assert_eq!((outcome.seconds, outcome.consumed), (3.0, 150));
    }

    #[test]
    fn the_checked_in_pom_names_a_version() {
        let text = std::fs::read_to_string(workspace().join(POM).join("pom.xml")).unwrap();
        assert!(version(&text).unwrap().starts_with(char::is_numeric));
    }
}
