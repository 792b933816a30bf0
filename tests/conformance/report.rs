//! What a run says: its failures for whoever repairs them, and a page for the docs.

use std::fmt::Write;

use crate::case::{Tally, Verdict};
use crate::trial::Outcome;

/// What came of all suites.
#[derive(Debug)]
pub(crate) struct Report {
    outcomes: Vec<Outcome>,
    /// The broker that was judged.
    broker: String,
}

const INTRODUCTION: &str = "\
# Conformance

Written by `make conformance PUBLISH=1`; not edited. All numbers of this page come from one run.

Code that works with RabbitMQ works with Warren: that is the bar, and the judges are clients that we did not write. Where their
packages carry their own tests, those run; where not, programs of ours use them as anybody would. Each suite meets a fresh broker in
a network namespace of its own. Versions are pinned, and everything is installed from the package registries by name.

The last column is what the same program counted with RabbitMQ 4.3.6 when it was asked by `make conformance CONFORMANCE=\"--broker rabbitmq\"`.
";

impl Report {
    pub(crate) fn new(broker: String, outcomes: Vec<Outcome>) -> Self {
        Self { outcomes, broker }
    }

    /// How many cases passed, and how many failed that may not; a suite that could not be run is one of these.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let passed = self.outcomes.iter().map(|outcome| u64::from(outcome.tally().passed)).sum();
        let failed = |outcome: &Outcome| outcome.failures().count() + outcome.complaints().len();
        (passed, self.outcomes.iter().map(failed).sum::<usize>() as u64)
    }

    /// A line for each failure; of a suite that fails in many ways, for the first of them.
    pub(crate) fn failures(&self) -> String {
        const LINES: usize = 40;
        let mut text = String::new();
        for outcome in &self.outcomes {
            let name = outcome.suite.name;
            for case in outcome.failures().take(LINES) {
                let _ = writeln!(text, "failed: {name}: {}: {}", case.name, case.detail);
            }
            let more = outcome.failures().count().saturating_sub(LINES);
            if more > 0 {
                let _ = writeln!(text, "failed: {name}: and {more} cases more");
            }
            for complaint in outcome.complaints() {
                let _ = writeln!(text, "failed: {name}: {complaint}");
            }
        }
        text
    }

    /// The page `docs/conformance.md`.
    pub(crate) fn page(&self) -> String {
        let (passed, failed) = self.totals();
        format!(
            "{INTRODUCTION}\n{}: **{passed} passed, {failed} failed.**\n\n{}{}",
            self.broker,
            self.table(),
            self.not_passed()
        )
    }

    fn table(&self) -> String {
        let mut text = String::from("| suite | covers | passed | failed | skipped | seconds | RabbitMQ |\n");
        text += "| --- | --- | ---: | ---: | ---: | ---: | --- |\n";
        for outcome in &self.outcomes {
            let suite = &outcome.suite;
            let Tally { passed, failed, skipped } = outcome.tally();
            let (seconds, rabbitmq) = (outcome.duration.as_secs(), counts(suite.rabbitmq));
            let (name, version, covers) = (suite.name, suite.version, suite.covers);
            let _ = writeln!(
                text,
                "| {name} {version} | {covers} | {passed} | {failed} | {skipped} | {seconds} | {rabbitmq} |"
            );
        }
        text
    }

    /// Each case that did not pass, with its reason.
    fn not_passed(&self) -> String {
        let mut rows = String::new();
        for outcome in &self.outcomes {
            for case in outcome.cases.iter().filter(|case| case.verdict != Verdict::Passed) {
                let verdict = if case.verdict == Verdict::Failed { "failed" } else { "skipped" };
                let reason = case.detail.replace('|', "\\|");
                let _ = writeln!(rows, "| {} | `{}` | {verdict} | {reason} |", outcome.suite.name, case.name);
            }
        }
        let left_out = self
            .outcomes
            .iter()
            .flat_map(|outcome| outcome.suite.left_out.iter().map(move |exception| (outcome.suite.name, exception)));
        for (suite, exception) in left_out {
            let _ = writeln!(rows, "| {suite} | `{}` | left out | {} |", exception.case, exception.reason);
        }
        if rows.is_empty() {
            return rows;
        }
        format!(
            "\n## What did not pass or was left out, and why\n\n| suite | case | | reason |\n| --- | --- | --- | --- |\n{rows}"
        )
    }
}

/// `3 passed`, and what else there is.
fn counts(tally: Tally) -> String {
    let Tally { passed, failed, skipped } = tally;
    let part = |count: u32, what: &str| if count == 0 { String::new() } else { format!(", {count} {what}") };
    format!("{passed} passed{}{}", part(failed, "failed"), part(skipped, "skipped"))
}
