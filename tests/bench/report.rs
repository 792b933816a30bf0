//! What a run leaves: lines for machines, a table for people, a JSON file, a page for the docs.

use std::fmt::Write;

use serde::Serialize;

use crate::limits::Limits;
use crate::machine::Machine;
use crate::sample::{Metric, Row, Sample, Spread, rows};
use crate::scenario::{Group, Scenario};

/// Everything that came of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) rows: Vec<Row>,
    pub(crate) samples: Vec<Sample>,
    /// The machine's limits at each measurement.
    pub(crate) limits: Vec<Limits>,
    pub(crate) failures: Vec<String>,
    #[serde(skip)]
    pub(crate) scenarios: Vec<Scenario>,
}

impl Report {
    /// Puts together what was measured.
    pub(crate) fn new(
        machine: Machine,
        scenarios: Vec<Scenario>,
        samples: Vec<Sample>,
        limits: Vec<Limits>,
        failures: Vec<String>,
    ) -> Self {
        Self { machine, rows: rows(&samples), samples, limits, failures, scenarios }
    }

    /// A line for each number: `<scenario> warren=<n> rabbitmq=<n> ratio=<r> limit=<n>`. The ratio says how many times
    /// better ours is. What is not known is `-`.
    pub(crate) fn lines(&self) -> String {
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), plain);
        let mut lines = String::new();
        for row in &self.rows {
            let median = |spread: &Option<Spread>| number(spread.map(|spread| spread.median));
            let (warren, rabbitmq) = (median(&row.warren), median(&row.rabbitmq));
            let ratio = row.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let (name, limit) = (format!("{}{}", row.scenario, row.metric.suffix()), number(row.limit));
            lines += &format!("{name} warren={warren} rabbitmq={rabbitmq} ratio={ratio} limit={limit}\n");
        }
        lines
    }

    /// Tables in Markdown, one for each group.
    pub(crate) fn tables(&self) -> String {
        let mut text = String::new();
        for group in Group::ALL {
            let in_group = |row: &&Row| self.scenario(row.scenario).is_some_and(|scenario| scenario.group == group);
            let rows: Vec<&Row> = self.rows.iter().filter(in_group).collect();
            if rows.is_empty() {
                continue;
            }
            text += &format!("\n### {}\n\n", heading(group));
            text += "| what | number | Warren | RabbitMQ | times better | machine's limit |\n";
            text += "| --- | --- | ---: | ---: | ---: | ---: |\n";
            for row in rows {
                let title = self.scenario(row.scenario).map_or(row.scenario, |scenario| scenario.title);
                let _ = writeln!(
                    text,
                    "| {title} | {} | {} | {} | {} | {} |",
                    row.metric.title(),
                    cell(row.warren),
                    cell(row.rabbitmq),
                    row.ratio.map_or_else(|| "–".to_owned(), |ratio| format!("**{ratio:.1}**")),
                    row.limit.map_or_else(|| "–".to_owned(), grouped),
                );
            }
        }
        text
    }

    /// The page `docs/benchmarks.md`.
    pub(crate) fn page(&self) -> String {
        let Machine { date, processor, memory, kernel, file_system, cores, commit, program, rabbitmq, perf_test } =
            &self.machine;
        let judge = perf_test.as_deref().unwrap_or("not run");
        let failures = if self.failures.is_empty() {
            String::new()
        } else {
            format!(
                "\n## What failed\n\n{}\n",
                self.failures.iter().map(|line| format!("- {line}\n")).collect::<String>()
            )
        };
        format!(
            "# Benchmarks

Written by `make bench PUBLISH=1`; not edited. All numbers of this page come from one run.

![Warren beside RabbitMQ](benchmarks.svg)

| | |
| --- | --- |
| date | {date} UTC |
| machine | {processor}, {memory:.0} GB, Linux {kernel}, data on {file_system} |
| processors | {cores} |
| Warren | commit {commit}, program {program} |
| RabbitMQ | {rabbitmq}; its defaults and `+sbwt none` |
| PerfTest | {judge} |

## How to read it

Each broker runs alone, on an empty folder of the same file system, on the same processors, in the same network namespace. Numbers are
medians over the repeats, with the least and the greatest in parentheses. \"Times better\" is the quotient of the medians, the right
way round: above 1 Warren is better. \"Persistent\" messages go to quorum queues of RabbitMQ, because its classic queues confirm before
they are on the disk; both brokers get the same arguments. \"Window\" is how many messages may wait for their confirm.

\"Machine's limit\" is what the plainest code reached on the same machine a moment before: octets through one loopback connection,
divided by what a message needs there and back; for persistent messages, a window per write and `fdatasync` (the mean of some hundred), if
that is less; for latencies, one write of 1 KiB and its `fdatasync`; for bytes written, the body. Bytes written are the disk's own count, the file
system's journal included, and whatever else the machine wrote meanwhile.

The generator of ours is `bench load`: one thread per connection, frames that were encoded once, every message looked for at the other
end. PerfTest is RabbitMQ's own; on small messages it needs more processor time than the broker, and its numbers say so.

{}
## Numbers
{}{failures}",
            self.machine_limits(),
            self.tables(),
        )
    }

    /// The medians of the machine's limits over the run.
    fn machine_limits(&self) -> String {
        let of = |value: fn(&Limits) -> f64| {
            let mut values: Vec<f64> = self.limits.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            let at = |share: f64| {
                values.get(((values.len().max(1) - 1) as f64 * share) as usize).copied().unwrap_or_default()
            };
            format!("{} ({}–{})", grouped(at(0.5)), grouped(at(0.0)), grouped(at(1.0)))
        };
        let rows = [
            ("loopback, MB/s", of(|limits| limits.loopback / 1e6)),
            ("loopback round trip, µs", of(|limits| limits.round_trip)),
            ("write of 1 KiB and fdatasync, p50, µs", of(|limits| limits.sync_1k.p50)),
            ("the same, p99, µs", of(|limits| limits.sync_1k.p99)),
            ("write of 200 KiB and fdatasync, p50, µs", of(|limits| limits.sync_200k.p50)),
            ("the same, p99, µs", of(|limits| limits.sync_200k.p99)),
            ("memory copy, MB/s", of(|limits| limits.copy / 1e6)),
        ];
        let rows: String = rows.iter().map(|(what, value)| format!("| {what} | {value} |\n")).collect();
        format!("| the machine during the run | median (least–greatest) |\n| --- | ---: |\n{rows}")
    }

    fn scenario(&self, name: &str) -> Option<&Scenario> {
        self.scenarios.iter().find(|scenario| scenario.name == name)
    }

    /// The row of one number.
    pub(crate) fn row(&self, scenario: &str, metric: Metric) -> Option<&Row> {
        self.rows.iter().find(|row| row.scenario == scenario && row.metric == metric)
    }
}

fn heading(group: Group) -> &'static str {
    match group {
        Group::OneQueue => "One queue, one producer, one consumer (our generator)",
        Group::PerfTest => "The same, driven by PerfTest",
        Group::Wide => "Other shapes",
        Group::Backlog => "A long queue",
        Group::Connections => "Many idle connections (10,000 to Warren, 2,000 to RabbitMQ)",
        Group::Queues => "Many idle durable queues (50,000 in Warren, 2,000 in RabbitMQ)",
    }
}

fn cell(spread: Option<Spread>) -> String {
    match spread {
        None => "–".to_owned(),
        Some(Spread { median, min, max }) if min >= max => grouped(median),
        Some(Spread { median, min, max }) => format!("{} ({}–{})", grouped(median), grouped(min), grouped(max)),
    }
}

/// A number for machines, with as many digits as it deserves.
fn plain(value: f64) -> String {
    if value.abs() < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

/// A number for people: thousands apart, three digits at least.
pub(crate) fn grouped(value: f64) -> String {
    if value.abs() < 10.0 {
        return format!("{value:.2}");
    }
    if value.abs() < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people_have_their_thousands_apart() {
        let check = |value, expected| assert_eq!(grouped(value), expected);
        check(0.5, "0.50");
        check(12.34, "12.3");
        check(123.4, "123");
        check(1234.0, "1,234");
        check(1_234_567.0, "1,234,567");
    }
}
