//! The parts: what each runs, and how its outcome is counted.

use std::io::{BufRead, BufReader, Write};
use std::ops::AddAssign;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use warren_tests::cluster::{Cluster, Options};
use warren_tests::programs::{Programs, cache_folder};

use crate::tool;

/// How long each fuzz target runs.
const FUZZ_SECONDS: u32 = 60;

/// The cluster of the operator's tests.
const OPERATOR_CLUSTER: &str = "operator-tests";

/// What passed and what did not.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// One part of the tests.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) purpose: &'static str,
    /// Names under which several parts run together.
    pub(crate) groups: &'static [&'static str],
    kind: Kind,
}

enum Kind {
    /// A command that is one check: it passes or it does not.
    Check(&'static [&'static str]),
    /// `cargo test` with these arguments; its own counts are added up.
    Tests(&'static [&'static str]),
    /// `cargo deny`, installed if missing.
    Deny,
    /// The chart's tests, with the Helm of the cluster's programs.
    Chart,
    /// The operator's tests that need a cluster, in one of their own.
    Operator,
    /// The quick part of other projects' suites, which this program runs, so many at a time.
    Others(&'static str, &'static str),
    /// All fuzz targets at once.
    Fuzz,
}

/// A fuzz target: its package's folder, its name, and the longest input that makes sense for it.
const FUZZ_TARGETS: [(&str, &str, u32); 4] = [
    ("broker/amqp", "decoder", 16_384),
    ("broker/core", "session", 4_096),
    ("broker/core", "snapshot", 4_096),
    ("broker/storage", "recovery", 65_536),
];

/// Every part, in the order of `all`: what fails fast first.
pub(crate) fn all() -> Vec<Part> {
    let part = |name, purpose, groups, kind| Part { name, purpose, groups, kind };
    const QUICK: &[&str] = &["check", "all"];
    const SLOW: &[&str] = &["all"];
    vec![
        part("fmt", "the code is formatted", QUICK, Kind::Check(&["fmt", "--all", "--check"])),
        part(
            "clippy",
            "no lint complains",
            QUICK,
            Kind::Check(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]),
        ),
        part("deny", "licences, sources and bans of what we depend on", QUICK, Kind::Deny),
        part(
            "unit",
            "unit and property tests, storage crash tests",
            QUICK,
            Kind::Tests(&["--workspace", "--exclude", "warren-tests"]),
        ),
        part("harness", "the harness's own tests", QUICK, Kind::Tests(&["-p", "warren-tests", "--lib", "--bins"])),
        part(
            "doc",
            "the documentation has no broken link",
            SLOW,
            Kind::Check(&["doc", "--workspace", "--no-deps", "--quiet"]),
        ),
        part("chart", "the Helm chart is valid and renders what it should", SLOW, Kind::Chart),
        part("broker", "a real broker process and stock clients", SLOW, crowd(&["broker"], &MEASURING)),
        part(
            "limits",
            "what a broker process may take, and how long clients wait",
            SLOW,
            alone(&["broker"], &MEASURING),
        ),
        part("differential", "random scripts answered as RabbitMQ answers them", SLOW, warren_tests(&["differential"])),
        part("simulation", "a node on a disk that loses power", SLOW, warren_tests(&["simulation"])),
        part("faults", "kill -9 under load, full and failing disks", SLOW, warren_tests(&["faults"])),
        part(
            "conformance",
            "clients that we did not write, and their own tests",
            SLOW,
            Kind::Others("conformance", "1"),
        ),
        part("management", "real tools against the management API", SLOW, Kind::Others("management", "2")),
        part(
            "fuzz",
            "frame decoder, sessions in every state, snapshots and log recovery, a minute each",
            SLOW,
            Kind::Fuzz,
        ),
        part("cluster", "a real Kubernetes comes up and goes", SLOW, warren_tests(&["cluster"])),
        part("operator", "the operator on a real API server", SLOW, Kind::Operator),
        part("e2e", "chart, operator, broker and clients on a real cluster", SLOW, warren_tests(&["e2e"])),
    ]
}

/// Tests of the part `broker` that measure memory and time, and are not to be disturbed.
const MEASURING: [&str; 4] = ["limits::", "slow::", "an_idle_broker_takes", "metrics::of_100_000_queues"];

/// The named integration tests of this package.
fn warren_tests(names: &[&'static str]) -> Kind {
    Kind::Tests(named(names).leak())
}

/// The same without those that measure, many at once: most of the time they wait for time to pass.
fn crowd(names: &[&'static str], measuring: &[&'static str]) -> Kind {
    let mut arguments = named(names);
    arguments.extend(["--", "--test-threads", "6"]);
    measuring.iter().for_each(|test| arguments.extend(["--skip", test]));
    Kind::Tests(arguments.leak())
}

/// Those that measure.
fn alone(names: &[&'static str], measuring: &[&'static str]) -> Kind {
    let mut arguments = named(names);
    arguments.push("--");
    arguments.extend(measuring);
    Kind::Tests(arguments.leak())
}

fn named(names: &[&'static str]) -> Vec<&'static str> {
    let mut arguments = vec!["-p", "warren-tests"];
    names.iter().for_each(|name| arguments.extend(["--test", name]));
    arguments
}

impl Part {
    /// Runs the part and shows what it prints.
    pub(crate) fn run(&self) -> Result<Tally> {
        match &self.kind {
            Kind::Check(arguments) => {
                let mut cargo = cargo(arguments);
                cargo.env("RUSTDOCFLAGS", "-D warnings");
                one(cargo.status().context("start cargo")?.success())
            }
            Kind::Tests(arguments) => tests(cargo(&["test", "--no-fail-fast"]).args(*arguments)),
            Kind::Chart => {
                let helm = Programs::clients()?.path("helm");
                let test = ["test", "-p", "warren-operator", "--features", "helm-tests", "--test", "chart"];
                tests(cargo(&test).env("HELM", helm))
            }
            Kind::Operator => operator(),
            Kind::Others(program, jobs) => {
                let run = ["run", "--quiet", "-p", "warren-tests", "--bin", program, "--", "--quick", "--jobs", jobs];
                others(&mut cargo(&run))
            }
            Kind::Deny => {
                let deny = tool::cargo_tool("cargo-deny", "0.20.2")?;
                let check = ["--all-features", "check", "bans", "licenses", "sources"];
                one(Command::new(deny).args(check).status().context("start cargo-deny")?.success())
            }
            Kind::Fuzz => fuzz(),
        }
    }
}

fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(arguments);
    cargo
}

fn one(passed: bool) -> Result<Tally> {
    Ok(Tally { passed: u64::from(passed), failed: u64::from(!passed) })
}

/// Runs `cargo test`, passes on its output and adds up its `test result` lines. A run that does not compile, or ends
/// without saying so, is one failure.
fn tests(cargo_test: &mut Command) -> Result<Tally> {
    let mut child = cargo_test.stdout(Stdio::piped()).spawn().context("start cargo test")?;
    let output = child.stdout.take().context("the output of cargo test")?;
    let mut tally = Tally::default();
    for line in BufReader::new(output).lines() {
        let line = line.context("read the output of cargo test")?;
        writeln!(std::io::stdout(), "{line}")?;
        tally += result_line(&line).unwrap_or_default();
    }
    let succeeded = child.wait().context("wait for cargo test")?.success();
    if !succeeded && tally.failed == 0 {
        tally.failed = 1;
    }
    Ok(tally)
}

/// Reads `test result: ok. 3 passed; 1 failed; …`.
fn result_line(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |what: &str| counts.split("; ").find_map(|part| part.strip_suffix(what)?.trim().parse().ok());
    Some(Tally { passed: count("passed")?, failed: count("failed")? })
}

/// Runs the suites of other projects and takes over what they count in their last line.
fn others(command: &mut Command) -> Result<Tally> {
    let output = command.stderr(Stdio::inherit()).output().context("start the suites")?;
    let said = String::from_utf8_lossy(&output.stdout);
    write!(std::io::stdout(), "{said}")?;
    let counted = said.lines().last().and_then(last_line);
    Ok(counted.unwrap_or(Tally { passed: 0, failed: 1 }))
}

/// Reads `3 passed, 1 failed`.
fn last_line(line: &str) -> Option<Tally> {
    let (passed, failed) = line.strip_suffix(" failed")?.split_once(" passed, ")?;
    Some(Tally { passed: passed.parse().ok()?, failed: failed.parse().ok()? })
}

/// Runs the operator's tests against the API server of a cluster that is there for them alone.
fn operator() -> Result<Tally> {
    let options = Options { name: OPERATOR_CLUSTER.to_owned(), ..Options::default() };
    let cluster = Cluster::up(&options)?;
    let test = ["test", "--no-fail-fast", "-p", "warren-operator", "--features", "api-server-tests"];
    let targets = ["--test", "api_server", "--test", "process"];
    let tally = tests(cargo(&test).args(targets).env("KUBECONFIG", cluster.kubeconfig()));
    Cluster::down(OPERATOR_CLUSTER)?;
    tally
}

/// Builds the fuzz targets one after the other and runs them side by side.
fn fuzz() -> Result<Tally> {
    let cache = cache_folder()?;
    let tool = tool::cargo_tool("cargo-fuzz", "0.13.2")?;
    let mut tally = Tally::default();
    let mut running: Vec<(&str, Child)> = Vec::new();
    for (package, target, max_len) in FUZZ_TARGETS {
        if !fuzz_command(&tool, &cache, package, "build").arg(target).status()?.success() {
            tally += one(false)?;
            continue;
        }
        let corpus = cache.join("fuzz").join(target);
        std::fs::create_dir_all(&corpus).with_context(|| format!("make {}", corpus.display()))?;
        let mut command = fuzz_command(&tool, &cache, package, "run");
        command.arg(target).arg(corpus).arg("--");
        command.args([format!("-max_total_time={FUZZ_SECONDS}"), format!("-max_len={max_len}")]);
        command.args(["-verbosity=0", "-print_final_stats=1"]);
        running.push((target, command.spawn().context("start cargo-fuzz")?));
    }
    for (target, mut child) in running {
        let passed = child.wait()?.success();
        writeln!(std::io::stdout(), "fuzz target {target}: {}", if passed { "no finding" } else { "FAILED" })?;
        tally += one(passed)?;
    }
    Ok(tally)
}

/// `cargo fuzz` on the pinned compiler: its sanitizer is there, only asking for it needs the bootstrap switch.
fn fuzz_command(tool: &Path, cache: &Path, package: &str, verb: &str) -> Command {
    let target_folder: PathBuf = cache.join("fuzz-target").join(package.replace('/', "-"));
    let mut command = Command::new(tool);
    command
        .current_dir(package)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", target_folder)
        .args(["fuzz", verb]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_read_and_others_are_not() {
        let line = "test result: FAILED. 30 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.15s";
        assert_eq!(result_line(line), Some(Tally { passed: 30, failed: 1 }));
        assert_eq!(result_line("test queue::order ... ok"), None);
    }

    #[test]
    fn the_last_line_of_the_suites_is_read_and_others_are_not() {
        assert_eq!(last_line("112 passed, 3 failed"), Some(Tally { passed: 112, failed: 3 }));
        assert_eq!(last_line("kombu: 2 passed, 3 failed, 1 skipped"), None);
    }

    /// What libtest runs is what no `--skip` names; the other part runs what the same words name.
    #[test]
    fn no_test_of_a_broker_is_left_out_between_the_two_parts() {
        let (Kind::Tests(crowd), Kind::Tests(alone)) = (crowd(&["broker"], &MEASURING), alone(&["broker"], &MEASURING))
        else {
            panic!("both are tests");
        };
        let skipped: Vec<_> = crowd.windows(2).filter(|pair| pair[0] == "--skip").map(|pair| pair[1]).collect();
        let named: Vec<_> = alone.iter().skip_while(|word| **word != "--").skip(1).copied().collect();
        assert_eq!(skipped, named);
    }

    #[test]
    fn every_part_has_a_name_of_its_own_and_belongs_to_all() {
        let parts = all();
        let mut names: Vec<&str> = parts.iter().map(|part| part.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), parts.len());
        assert!(parts.iter().all(|part| part.groups.contains(&"all")));
    }
}
