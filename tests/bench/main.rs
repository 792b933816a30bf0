//! `bench`: measures our broker beside RabbitMQ, each alone, with the same loads, beside what the machine can do.

mod broker;
mod cores;
mod limits;
mod load;
mod machine;
mod perf_test;
mod plot;
mod report;
mod run;
mod sample;
mod scenario;
mod usage;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use warren_tests::programs::install_missing;
use warren_tests::rabbitmq::Chroot;
use warren_tests::release::{Release, workspace};
use warren_tests::sandbox;

use broker::{Installation, Product};
use cores::{Cores, Sharing};
use load::{Edge, Latency, Load, Outcome};
use machine::Machine;
use perf_test::PerfTest;
use report::Report;
use run::Bench;
use scenario::{Group, Scenario};
use usage::{Disk, processor_time};

/// Measure brokers.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Subcommand)]
enum Deed {
    /// Measure our broker beside RabbitMQ. Needs root. Installs and builds what it needs the first time.
    Run(RunArguments),
    /// Put a load on a broker that runs, and say how fast it was. Every message is looked for: a lost one, a double one or
    /// one out of order is an error.
    #[command(after_help = EXAMPLES)]
    Load(LoadArguments),
}

const EXAMPLES: &str = "Examples:
  bench load --port 5672
        transient 16-octet messages, one producer, one consumer, as fast as it goes
  bench load --port 5672 --size 1024 --persistent --window 200 --ack 100 --prefetch 400
        each message logged and confirmed; at most 200 wait for their confirm
  bench load --port 5672 --size 1024 --persistent --window 200 --rate 2000 --ack 100 --prefetch 400
        latency at a rate
  bench load --port 5672 --persistent --window 1000 --count 1000000 --consumers 0 --keep
  bench load --port 5672 --producers 0 --count 1000000 --ack 100 --prefetch 400
        a backlog, and its drain

Pin the broker and this program to cores of their own (`taskset -c 0`, `taskset -c 1`), and use a release build of both.";

#[derive(Args)]
struct RunArguments {
    /// Only the loads on one queue, three times: under six minutes.
    #[arg(long)]
    quick: bool,
    /// Only scenarios whose names contain one of these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How often each scenario runs, instead of as often as it takes to trust it.
    #[arg(long)]
    repeats: Option<u32>,
    /// Only ours.
    #[arg(long)]
    alone: bool,
    /// How the processors are shared out.
    #[arg(long, value_enum, default_value = "split")]
    cores: Sharing,
    /// Our program, instead of a release build of this checkout.
    #[arg(long)]
    warren: Option<PathBuf>,
    /// Where results go, and the brokers' data while they run.
    #[arg(long, default_value_os_t = workspace().join("target/bench"))]
    results: PathBuf,
    /// Write docs/benchmarks.md and its picture.
    #[arg(long)]
    publish: bool,
}

#[derive(Args)]
struct LoadArguments {
    /// Where the broker listens on this machine.
    #[arg(long, default_value_t = 5672)]
    port: u16,
    /// Process number of the broker, to say what it used per message.
    #[arg(long)]
    pid: Option<u32>,
    /// The broker's data folder, to say what its disk wrote per message.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Print the outcome as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    load: Load,
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().deed {
        Deed::Load(arguments) => load(&arguments).map(|()| ExitCode::SUCCESS),
        Deed::Run(arguments) => run(&arguments),
    }
}

fn run(arguments: &RunArguments) -> Result<ExitCode> {
    let scenarios = choose(arguments)?;
    if !sandbox::is_inside() {
        // What comes from the network has to be here before there is none.
        prepare(arguments, &scenarios)?;
        return Err(sandbox::enter());
    }
    sandbox::furnish()?;
    let begin = Instant::now();
    let (installation, perf_test) = prepare(arguments, &scenarios)?;
    let version = perf_test.as_ref().map(|perf_test| perf_test.version.clone());
    std::fs::create_dir_all(&installation.data).context("make a place for data")?;
    let Installation { warren, rabbitmq, data, cores } = &installation;
    let machine = Machine::describe(warren, rabbitmq, version, data, cores)?;
    let products = if arguments.alone { vec![Product::Warren] } else { Product::ALL.to_vec() };
    let mut bench = Bench::new(installation, perf_test, scenarios, products, arguments.plan())?;
    bench.run()?;
    let Bench { scenarios, samples, limits, failures, .. } = bench;
    let report = Report::new(machine, scenarios, samples, limits, failures);
    write(&report, arguments)?;
    eprintln!("measured in {:.0} s; results are in {}", begin.elapsed().as_secs_f64(), arguments.results.display());
    Ok(if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl RunArguments {
    /// How often each group runs.
    fn plan(&self) -> run::Repeats {
        run::Repeats { all: self.repeats, quick: self.quick }
    }
}

fn choose(arguments: &RunArguments) -> Result<Vec<Scenario>> {
    let is_quick = |scenario: &Scenario| match scenario.group {
        Group::OneQueue => true,
        Group::PerfTest => scenario.name.contains("-16") || scenario.name.contains("-1024"),
        _ => false,
    };
    let is_named = |scenario: &Scenario| {
        arguments.only.is_empty() || arguments.only.iter().any(|part| scenario.name.contains(part.as_str()))
    };
    let mut scenarios = scenario::all();
    scenarios.retain(|scenario| !arguments.quick || is_quick(scenario));
    let names = scenarios.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(", ");
    scenarios.retain(is_named);
    let run = if arguments.quick { "a quick run" } else { "a run" };
    ensure!(!scenarios.is_empty(), "there is no such scenario in {run}; there are: {names}");
    Ok(scenarios)
}

fn prepare(arguments: &RunArguments, scenarios: &[Scenario]) -> Result<(Installation, Option<PerfTest>)> {
    install_missing(&[("ip", "iproute2"), ("unshare", "util-linux"), ("taskset", "util-linux")])?;
    let is_judged = scenarios.iter().any(|scenario| scenario.group == Group::PerfTest);
    let perf_test = is_judged.then(PerfTest::prepare).transpose()?;
    let installation = Installation {
        warren: arguments.warren.clone().map_or_else(Release::broker_program, Ok)?,
        rabbitmq: Chroot::of_rabbitmq()?,
        data: arguments.results.join("data"),
        cores: Cores::shared_out(arguments.cores)?,
    };
    Ok((installation, perf_test))
}

fn write(report: &Report, arguments: &RunArguments) -> Result<()> {
    let keep =
        |path: &Path, text: &str| std::fs::write(path, text).with_context(|| format!("write {}", path.display()));
    let (lines, picture, page) = (report.lines(), plot::picture(report), report.page());
    keep(&arguments.results.join("results.json"), &serde_json::to_string_pretty(report)?)?;
    keep(&arguments.results.join("benchmarks.svg"), &picture)?;
    keep(&arguments.results.join("benchmarks.md"), &page)?;
    if arguments.publish {
        keep(&workspace().join("docs/benchmarks.svg"), &picture)?;
        keep(&workspace().join("docs/benchmarks.md"), &page)?;
    }
    let mut out = std::io::stdout().lock();
    if !arguments.quick {
        writeln!(out, "{}", report.tables())?;
    }
    write!(out, "{lines}")?;
    for failure in &report.failures {
        writeln!(out, "failed: {failure}")?;
    }
    Ok(())
}

fn load(arguments: &LoadArguments) -> Result<()> {
    let LoadArguments { port, pid, data, json, load } = arguments;
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), *port);
    let disk = data.as_deref().map(Disk::under).transpose()?.flatten();
    let written = || disk.as_ref().map(Disk::written).transpose();
    let (mut edges, before) = (Vec::new(), written()?);
    let outcome = load::run(address, load, |_: Edge| {
        edges.extend(pid.map(processor_time).transpose()?);
        Ok(())
    })?;
    let mut out = std::io::stdout().lock();
    if *json {
        writeln!(out, "{}", serde_json::to_string(&outcome)?)?;
        return Ok(());
    }
    write!(out, "{}", describe(&outcome))?;
    if let [begin, end] = edges[..] {
        let used = (end - begin) * 1e6 / (outcome.rate() * outcome.seconds);
        writeln!(out, "broker     {used:.2} µs of processor time per message")?;
    }
    if let Some((before, after)) = before.zip(written()?) {
        let each = after.saturating_sub(before) as f64 / outcome.verified as f64;
        writeln!(out, "disk       {each:.0} octets written per message, by whomever")?;
    }
    Ok(())
}

fn describe(outcome: &Outcome) -> String {
    let Outcome { seconds, published, consumed, verified, confirm_latency, delivery_latency } = outcome;
    let rate = |count: &u64| *count as f64 / seconds;
    let latency = |what: &str, latency: &Option<Latency>| {
        latency.map_or(String::new(), |Latency { p50, p95, p99, p999, max }| {
            format!("{what:<10} p50 {p50:.0}  p95 {p95:.0}  p99 {p99:.0}  p99.9 {p999:.0}  max {max:.0} µs\n")
        })
    };
    format!(
        "published  {:.0}/s\nconsumed   {:.0}/s\n{}{}measured   {seconds:.2} s; {verified} messages in all, every one found again\n",
        rate(published),
        rate(consumed),
        latency("confirm", confirm_latency),
        latency("delivery", delivery_latency),
    )
}
