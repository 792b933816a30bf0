//! What a run says: its failures for whoever repairs them, and a page for the docs.

use std::fmt::Write;

use super::Outcome;
use super::case::{Tally, Verdict};

/// What came of all suites.
#[derive(Debug)]
pub struct Report {
    /// What is said before all numbers.
    pub introduction: &'static str,
    /// The broker that was judged.
    pub broker: String,
    /// What came of each suite.
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// How many cases passed, and how many failed that may not; a suite that could not be run is one of these.
    pub fn totals(&self) -> (u64, u64) {
        let passed = self.outcomes.iter().map(|outcome| u64::from(outcome.tally().passed)).sum();
        let failed = |outcome: &Outcome| outcome.failures().count() + outcome.complaints().len();
        (passed, self.outcomes.iter().map(failed).sum::<usize>() as u64)
    }

    /// A line for each failure; of a suite that fails in many ways, for the first of them.
    pub fn failures(&self) -> String {
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

    /// A page of the docs.
    pub fn page(&self) -> String {
        let (passed, failed) = self.totals();
        format!(
            "{}\n{}: **{passed} passed, {failed} failed.**\n\n{}{}",
            self.introduction,
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
