//! rabbit-hole: the Go client of the API, below the Terraform provider and RabbitMQ's topology operator. Its module has its
//! tests.
//!
//! They wait five seconds a hundred times, because that is how old RabbitMQ's statistics may be. Ours are of the moment, so
//! how long they wait is said by us.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use warren_tests::trial::case::{Case, Tally};
use warren_tests::trial::suite::{Exception, Installation, Quick, Run, Suite, cases_of, put};
use warren_tests::trial::{api, go};

pub(crate) const SUITE: Suite = Suite {
    name: "rabbit-hole",
    version: "2.12.0",
    covers: "every noun of the API as Go types, errors, bindings by properties key, paging, definitions",
    rabbitmq: Tally { passed: 94, failed: 0, skipped: 0 },
    left_out: LEFT_OUT,
    limit: Duration::from_secs(900),
    quick: Quick::All,
    manages: true,
    install,
    recipe: &[BEGINNING, WAIT],
    run,
};

const MODULE: &str = "github.com/michaelklishin/rabbit-hole/v2@v2.12.0";
/// Takes the place of the file that begins the tests, and prints a line for each.
const BEGINNING: &str = include_str!("programs/rabbit_hole.go");
/// The wait in the tests; a variable of the file above takes its place.
const WAIT: &str = "5000 * time.Millisecond";

const LEFT_OUT: &[Exception] = &[
    Exception { case: "federation", reason: "federation is a plugin of RabbitMQ, and not enabled there by default" },
    Exception { case: "shovel", reason: "shovels are a plugin of RabbitMQ, and not enabled there by default" },
    Exception { case: "reports status of Shovels", reason: "shovels are a plugin of RabbitMQ" },
    Exception { case: "when the parameter does not exist creates the parameter", reason: "a parameter of federation" },
    Exception { case: "when there are runtime parameters returns the list", reason: "parameters of federation" },
    Exception { case: "synchronises queue", reason: "mirrored queues went with RabbitMQ 4.0" },
    Exception { case: "cancels queue synchronisation", reason: "mirrored queues went with RabbitMQ 4.0" },
    Exception { case: "node-is-mirror-sync-critical", reason: "mirrored queues went with RabbitMQ 4.0" },
    Exception { case: "policies when policy exists", reason: "sets a policy for mirrored queues" },
    Exception { case: "polices/{vhost} when policy exists", reason: "sets a policy for mirrored queues" },
    Exception { case: "policies/{vhost}/{name} when policy exists", reason: "sets a policy for mirrored queues" },
    Exception { case: "deletes the policy", reason: "sets a policy for mirrored queues" },
    Exception { case: "creates the policy", reason: "sets a policy for mirrored queues" },
    Exception { case: "updates the policy", reason: "sets a policy for mirrored queues" },
    Exception {
        case: "deletes one topic permissions",
        reason: "gives rights on an exchange that is not there, which RabbitMQ 4 refuses",
    },
    Exception {
        case: "GET /queues with arguments",
        reason: "looks for samples: a rate is of the last five seconds here",
    },
    Exception { case: "GET /queues/{vhost} with arguments", reason: "looks for samples too" },
    Exception { case: "when there are no runtime parameters", reason: "deletes parameters of federation first" },
    Exception { case: "returns all global parameters", reason: "counts the parameters of an older RabbitMQ" },
];

fn install(installation: &Installation<'_>) -> Result<()> {
    let source = go::source(installation, MODULE)?;
    put(&source, "rabbithole_suite_test.go", BEGINNING)?;
    let tests = source.join("rabbithole_test.go");
    let text = std::fs::read_to_string(&tests).context("read the tests")?;
    ensure!(text.contains(WAIT), "the tests wait otherwise now");
    std::fs::write(&tests, text.replace(WAIT, "wait")).context("write the tests")?;
    go::go(&source, &["test", "-mod=mod", "-c", "-o", "../rabbit-hole.test", "."])
}

fn run(run: &Run<'_>) -> Result<Vec<Case>> {
    let mut tests = Command::new(run.folder.join("rabbit-hole.test"));
    // What its own set-up script makes.
    api::put("/api/vhosts/rabbit%2Fhole", "{}")?;
    api::put("/api/permissions/rabbit%2Fhole/guest", r#"{"configure":".*","write":".*","read":".*"}"#)?;
    let left_out: Vec<_> = LEFT_OUT.iter().map(|exception| exception.case).collect();
    tests.arg("-test.timeout=15m").env("WAIT_MS", run.statistics_age()).env("LEFT_OUT", left_out.join("\n"));
    cases_of(&mut tests)
}
