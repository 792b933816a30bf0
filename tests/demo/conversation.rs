//! Ten messages from a producer to consumers, as the first programs that anybody writes send and take them.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use warren_tests::client::{Access, Client, Program};
use warren_tests::cluster::Cluster;

const PRODUCER: Program<'_> = program("producer", include_str!("producer.py"));
const CONSUMER: Program<'_> = program("consumer", include_str!("consumer.py"));
const FORGETFUL_CONSUMER: Program<'_> = program("forgetful-consumer", include_str!("forgetful_consumer.py"));

const fn program(name: &'static str, source: &'static str) -> Program<'static> {
    Program { name, source, arguments: &[] }
}

/// Where the programs run, and how they learn where the broker is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    /// Each in a pod of its own, with the URI from this Secret.
    Pod { cluster: &'a Cluster, namespace: &'a str, binding: &'a str },
    /// On this machine, outside the cluster.
    Outside { access: &'a Access },
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) sent: usize,
    pub(crate) received: usize,
}

impl std::iter::Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), |sum, next| Self {
            sent: sum.sent + next.sent,
            received: sum.received + next.received,
        })
    }
}

impl Place<'_> {
    fn start(&self, program: Program<'_>) -> Result<Client<'_>> {
        match self {
            Self::Pod { cluster, namespace, binding } => Client::in_pod(cluster, namespace, binding, program),
            Self::Outside { access } => Client::here(access, program),
        }
        .with_context(|| format!("start the {}", program.name))
    }
}

/// Runs all programs one after the other.
///
/// # Errors
/// A program fails, or messages are not given back as they should be. One that is lost is no error but counted.
pub(crate) fn converse(place: Place<'_>) -> Result<Tally> {
    let said = place.start(PRODUCER)?.finish()?;
    let sent: Vec<String> = said.iter().filter_map(|line| line.strip_prefix("sent ")).map(str::to_owned).collect();

    // Stopped and started again, the consumer that never acknowledges gets everything back, in order and marked.
    for expected in ["received ", "redelivered "] {
        let given = take(&place.start(FORGETFUL_CONSUMER)?, &sent)?;
        let wanted: Vec<_> = sent.iter().map(|body| format!("{expected}{body}")).collect();
        ensure!(given == wanted, "the consumer that never acknowledges got {given:#?} instead of {wanted:#?}");
    }

    let received = take(&place.start(CONSUMER)?, &sent)?;
    let distinct: BTreeSet<_> = received.iter().filter_map(|line| line.strip_prefix("received ")).collect();
    ensure!(distinct.len() == received.len(), "messages were delivered twice: {received:#?}");
    Ok(Tally { sent: sent.len(), received: distinct.len() })
}

/// Reads what `consumer` prints about messages of `sent`, until it has had as many or says nothing more. Others are of an
/// earlier run.
fn take(consumer: &Client<'_>, sent: &[String]) -> Result<Vec<String>> {
    let mut taken = Vec::new();
    while taken.len() < sent.len() {
        let line = match consumer.next_line() {
            Ok(line) => line.with_context(|| format!("the consumer ended after {taken:#?}"))?,
            Err(error) => {
                eprintln!("    {} of {} messages came: {error:#}", taken.len(), sent.len());
                break;
            }
        };
        ensure!(!line.starts_with("Traceback"), "the consumer failed: {}", rest(consumer, line));
        if sent.iter().any(|body| line.ends_with(body.as_str())) {
            taken.push(line);
        }
    }
    Ok(taken)
}

/// Everything that a failed program says, after its first line.
fn rest(client: &Client<'_>, first: String) -> String {
    std::iter::from_fn(|| client.next_line().ok().flatten()).fold(first, |text, line| text + "\n    " + &line)
}
