//! Runs the scenarios: repeat after repeat, the brokers in turn, each on an empty folder.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use warren_amqp::{Table, ToClient, ToServer, queue};
use warren_tests::harness::Connection;

use crate::broker::{Broker, Installation, Product};
use crate::cores::stay_on;
use crate::limits::{Limits, SyncFile};
use crate::load::{self, Edge, Load, Outcome};
use crate::perf_test::PerfTest;
use crate::sample::{Metric, Sample};
use crate::scenario::{Deed, Group, Scenario};
use crate::usage::{Disk, load_average};

/// How long brokers may tidy up between two loads.
const PAUSE: Duration = Duration::from_millis(300);
/// Connections that declare queues at the same time.
const DECLARERS: u64 = 16;
const DECLARED_AT_ONCE: u64 = 100;
/// Octets around a body: what frames, method and header take, when it is published and when it is delivered.
const PUBLISH_OVERHEAD: f64 = 58.0;
const DELIVER_OVERHEAD: f64 = 74.0;
/// What a log adds to a body at least, for an estimate of how much one sync writes.
const LOG_OVERHEAD: usize = 60;

/// A run of all or some scenarios.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) installation: Installation,
    /// Nothing is judged without it.
    pub(crate) perf_test: Option<PerfTest>,
    pub(crate) scenarios: Vec<Scenario>,
    /// Which brokers.
    pub(crate) products: Vec<Product>,
    /// How often each group runs.
    pub(crate) repeats: Repeats,
    sync_file: SyncFile,
    /// None if it keeps no counters.
    disk: Option<Disk>,
    /// What was measured.
    pub(crate) samples: Vec<Sample>,
    /// The machine's limits, beside each scenario.
    pub(crate) limits: Vec<Limits>,
    /// What went wrong.
    pub(crate) failures: Vec<String>,
}

/// How often groups run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Repeats {
    /// All so often, if given.
    pub(crate) all: Option<u32>,
    /// In a hurry.
    pub(crate) quick: bool,
}

impl Repeats {
    /// A long queue takes a minute, and memory does not vary.
    fn of(self, group: Group) -> u32 {
        let usual = match group {
            Group::PerfTest if self.quick => 1,
            Group::OneQueue | Group::PerfTest | Group::Wide => 3,
            Group::Backlog | Group::Connections | Group::Queues => 1,
        };
        self.all.unwrap_or(usual)
    }
}

/// One scenario on one broker.
struct Place {
    scenario: Scenario,
    product: Product,
    repeat: u32,
    load_average: f64,
    limits: Limits,
}

impl Bench {
    /// Prepares a run; from now on this process stays on the processors of the load.
    ///
    /// # Errors
    /// There is no place for data, or no such processors.
    pub(crate) fn new(
        installation: Installation,
        perf_test: Option<PerfTest>,
        scenarios: Vec<Scenario>,
        products: Vec<Product>,
        repeats: Repeats,
    ) -> Result<Self> {
        std::fs::create_dir_all(&installation.data).context("make a place for data")?;
        let sync_file = SyncFile::new(&installation.data)?;
        let disk = Disk::under(&installation.data)?;
        stay_on(&installation.cores.load)?;
        let limit = getrlimit(Resource::Nofile);
        // Brokers inherit it: both need a descriptor per connection.
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).context("raise the file limit")?;
        let (samples, limits, failures) = Default::default();
        Ok(Self { installation, perf_test, scenarios, products, repeats, sync_file, disk, samples, limits, failures })
    }

    /// Runs everything. A scenario that fails on a broker is noted, and the next begins.
    ///
    /// # Errors
    /// A broker cannot be started at all.
    pub(crate) fn run(&mut self) -> Result<()> {
        let repeats = self.repeats;
        let most = Group::ALL.into_iter().map(|group| repeats.of(group)).max().unwrap_or_default();
        for repeat in 0..most {
            for group in Group::ALL.into_iter().filter(|group| repeat < repeats.of(*group)) {
                let scenarios: Vec<_> =
                    self.scenarios.iter().filter(|scenario| scenario.group == group).cloned().collect();
                let mut products = self.products.clone();
                // What the machine does meanwhile is not to hit always the same.
                if repeat % 2 == 1 {
                    products.reverse();
                }
                for product in products {
                    self.run_group(&scenarios, product, repeat)?;
                }
            }
        }
        Ok(())
    }

    fn run_group(&mut self, scenarios: &[Scenario], product: Product, repeat: u32) -> Result<()> {
        let mut broker = None;
        for scenario in scenarios {
            let running = match broker.take() {
                Some(running) => running,
                None => Broker::start(product, &self.installation)?,
            };
            std::thread::sleep(PAUSE);
            let limits = Limits::measure(&self.sync_file, &self.installation.cores)?;
            self.limits.push(limits);
            let place = Place { scenario: scenario.clone(), product, repeat, load_average: load_average(), limits };
            match self.measure(&place, running) {
                Ok(running) => broker = Some(running),
                // What it left behind goes with the broker.
                Err(error) => {
                    let failure = format!("{} {} (repeat {repeat}): {error:#}", product.name(), scenario.name);
                    eprintln!("failed: {failure}");
                    self.failures.push(failure);
                }
            }
        }
        Ok(())
    }

    fn measure(&mut self, place: &Place, broker: Broker) -> Result<Broker> {
        match &place.scenario.deed {
            Deed::Start => self.start(place, &broker)?,
            Deed::Throughput(load) if place.scenario.group == Group::PerfTest => {
                let outcome = self.judge(place, load)?;
                self.put(place, Metric::Rate, outcome.rate(), Some(place.rate_limit(load)));
            }
            Deed::Latency(load) if place.scenario.group == Group::PerfTest => {
                let outcome = self.judge(place, load)?;
                self.put_latency(place, &outcome);
            }
            Deed::Throughput(load) => {
                let outcome = self.load(place, &broker, load)?;
                self.put(place, Metric::Rate, outcome.rate(), Some(place.rate_limit(load)));
            }
            Deed::Latency(load) => {
                let outcome = self.load(place, &broker, load)?;
                self.put_latency(place, &outcome);
            }
            Deed::HalfLatency(load, of) => {
                let maximum = self.rate_of(place, of).with_context(|| format!("{of} was not measured"))?;
                let outcome = self.load(place, &broker, &Load { rate: (maximum / 2.0) as u64, ..load.clone() })?;
                self.put_latency(place, &outcome);
            }
            Deed::Backlog(load) => return self.backlog(place, broker, load),
            Deed::Connections { warren, peer } => self.connections(place, &broker, place.either(*warren, *peer))?,
            Deed::Queues { warren, peer } => self.queues(place, &broker, place.either(*warren, *peer))?,
        }
        Ok(broker)
    }

    fn start(&mut self, place: &Place, broker: &Broker) -> Result<()> {
        self.put(place, Metric::Start, broker.start_duration.as_secs_f64() * 1e3, None);
        self.put(place, Metric::Resident, broker.resident()? as f64 / 1e6, None);
        Ok(())
    }

    fn judge(&self, place: &Place, load: &Load) -> Result<Outcome> {
        let perf_test = self.perf_test.as_ref().context("PerfTest is not prepared")?;
        perf_test.run(Broker::ADDRESS, place.scenario.name, load)
    }

    /// Our own load, and what the broker uses for it.
    fn load(&mut self, place: &Place, broker: &Broker, load: &Load) -> Result<Outcome> {
        let written = || self.disk.as_ref().map(Disk::written).transpose();
        let (mut edges, before) = (Vec::new(), written()?);
        let outcome = load::run(Broker::ADDRESS, load, |_: Edge| {
            edges.push(broker.processor_time()?);
            Ok(())
        })?;
        let after = written()?;
        ensure!(outcome.rate() > 0.0, "no message came while it was measured");
        let [begin, end] = edges[..] else { bail!("a load has two edges") };
        self.put(place, Metric::Processor, (end - begin) * 1e6 / (outcome.rate() * outcome.seconds), None);
        if let Some((before, after)) = before.zip(after).filter(|_| load.persistent) {
            let written = after.saturating_sub(before) as f64 / outcome.verified as f64;
            self.put(place, Metric::Written, written, Some(load.size as f64));
        }
        Ok(outcome)
    }

    fn put_latency(&mut self, place: &Place, outcome: &Outcome) {
        let sync = place.limits.sync_1k;
        if let Some(latency) = outcome.confirm_latency {
            self.put(place, Metric::ConfirmP50, latency.p50, Some(sync.p50));
            self.put(place, Metric::ConfirmP99, latency.p99, Some(sync.p99));
        }
        if let Some(latency) = outcome.delivery_latency {
            self.put(place, Metric::DeliveryP50, latency.p50, Some(sync.p50));
            self.put(place, Metric::DeliveryP99, latency.p99, Some(sync.p99));
        }
    }

    /// The rate that this broker reached in the scenario `name`, in this repeat if it ran in it.
    fn rate_of(&self, place: &Place, name: &str) -> Option<f64> {
        let is_it =
            |sample: &&Sample| (sample.scenario, sample.product, sample.metric) == (name, place.product, Metric::Rate);
        self.samples.iter().rev().find(is_it).map(|sample| sample.value)
    }

    fn backlog(&mut self, place: &Place, broker: Broker, load: &Load) -> Result<Broker> {
        let idle = broker.resident()?;
        let publish = Load { consumers: 0, keep: true, ..load.clone() };
        let outcome = self.load(place, &broker, &publish)?;
        self.put(place, Metric::PublishRate, outcome.rate(), Some(place.rate_limit(&publish)));
        let resident = broker.resident()?;
        self.put(place, Metric::Resident, resident as f64 / 1e6, None);
        self.put(place, Metric::PerThing, resident.saturating_sub(idle) as f64 / load.count as f64, None);
        let broker = broker.restart(&self.installation)?;
        load.wait_until_ready(&mut Connection::with_channel(Broker::ADDRESS)?, load.count)?;
        self.put(place, Metric::Restart, broker.started.elapsed().as_secs_f64() * 1e3, None);
        let drain = Load { producers: 0, window: 0, ..load.clone() };
        let outcome = load::run(Broker::ADDRESS, &drain, |_| Ok(()))?;
        let limit = place.limits.loopback / (load.size as f64 + DELIVER_OVERHEAD);
        self.put(place, Metric::DrainRate, outcome.rate(), Some(limit));
        Ok(broker)
    }

    fn connections(&mut self, place: &Place, broker: &Broker, count: u64) -> Result<()> {
        let idle = broker.resident()?;
        let connections: Vec<_> =
            (0..count).map(|_| Connection::with_channel(Broker::ADDRESS)).collect::<Result<_>>()?;
        std::thread::sleep(PAUSE);
        self.put_things(place, idle, broker.resident()?, connections.len() as u64);
        Ok(())
    }

    fn queues(&mut self, place: &Place, broker: &Broker, count: u64) -> Result<()> {
        let idle = broker.resident()?;
        std::thread::scope(|scope| {
            let threads = (0..DECLARERS)
                .map(|first| scope.spawn(move || declare_queues((first..count).step_by(DECLARERS as usize))));
            // All have to run before the first is waited for.
            for thread in threads.collect::<Vec<_>>() {
                let Ok(declared) = thread.join() else { bail!("a thread that declares queues panicked") };
                declared?;
            }
            Ok(())
        })?;
        self.put_things(place, idle, broker.resident()?, count);
        Ok(())
    }

    fn put_things(&mut self, place: &Place, idle: u64, resident: u64, count: u64) {
        self.put(place, Metric::Resident, resident as f64 / 1e6, None);
        self.put(place, Metric::PerThing, resident.saturating_sub(idle) as f64 / count as f64, None);
    }

    fn put(&mut self, place: &Place, metric: Metric, value: f64, limit: Option<f64>) {
        let Place { scenario, product, repeat, load_average, .. } = place;
        let limit_said = limit.map_or(String::new(), |limit| format!(", limit {limit:.0}"));
        eprintln!(
            "{}{} {}: {value:.1}{limit_said} (repeat {repeat}, load average {load_average})",
            scenario.name,
            metric.suffix(),
            product.name()
        );
        self.samples.push(Sample {
            scenario: scenario.name,
            metric,
            product: *product,
            repeat: *repeat,
            value,
            limit,
            load_average: *load_average,
        });
    }
}

impl Place {
    fn either(&self, warren: u64, peer: u64) -> u64 {
        if self.product == Product::Warren { warren } else { peer }
    }

    /// Deliveries (or publishes, without consumers) per second that the machine allows: every octet goes through loopback
    /// in and out, and of the messages that may wait for their confirm, all can share a sync.
    fn rate_limit(&self, load: &Load) -> f64 {
        let deliveries = match (load.consumers, load.fanout) {
            (0, _) => 0.0,
            (_, true) => load.queues as f64,
            (_, false) => 1.0,
        };
        let size = load.size as f64;
        let octets = size + PUBLISH_OVERHEAD + deliveries * (size + DELIVER_OVERHEAD);
        let mut messages = self.limits.loopback / octets;
        if load.persistent && load.window > 0 {
            let window = load.producers as f64 * load.window as f64;
            let sync = self.limits.sync_of(load.window as usize * (load.size + LOG_OVERHEAD));
            messages = messages.min(window * 1e6 / sync.mean);
        }
        messages * deliveries.max(1.0)
    }
}

/// Declares idle durable queues with these numbers and waits for every [`DECLARED_AT_ONCE`]th.
fn declare_queues(numbers: impl Iterator<Item = u64>) -> Result<()> {
    let mut connection = Connection::with_channel(Broker::ADDRESS)?;
    let mut numbers = numbers.zip(1_u64..).peekable();
    let mut octets = Vec::new();
    while let Some((number, position)) = numbers.next() {
        let is_awaited = position.is_multiple_of(DECLARED_AT_ONCE) || numbers.peek().is_none();
        let declare = queue::Declare {
            queue: &format!("idle-{number}"),
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            no_wait: !is_awaited,
            arguments: Table::new(&[]),
        };
        ToServer::QueueDeclare(declare).encode(1, &mut octets);
        if is_awaited {
            connection.send_octets(&octets).context("declare queues")?;
            connection.expect(1, |method| matches!(method, ToClient::QueueDeclareOk(_))).context("declare queues")?;
            octets.clear();
        }
    }
    Ok(())
}
