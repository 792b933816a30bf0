//! The picture of a report: bars, as SVG text.

use std::fmt::Write;

use crate::report::{Report, grouped};
use crate::sample::{Metric, Spread};

const WIDTH: f64 = 860.0;
const LABEL_WIDTH: f64 = 250.0;
const BAR_WIDTH: f64 = 430.0;
const BAR_HEIGHT: f64 = 15.0;
const ROW_HEIGHT: f64 = 48.0;
const TOP: f64 = 64.0;
const WARREN: &str = "#0f766e";
const RABBITMQ: &str = "#f59e0b";

/// What the picture shows: a number that is better if larger, and its words.
const BARS: [(&str, Metric, &str); 9] = [
    ("transient-16", Metric::Rate, "Transient, 16 B"),
    ("transient-1024", Metric::Rate, "Transient, 1 KiB"),
    ("persistent-16", Metric::Rate, "Persistent, confirmed, 16 B"),
    ("persistent-1024", Metric::Rate, "Persistent, confirmed, 1 KiB"),
    ("perftest-persistent-1024", Metric::Rate, "The same, by PerfTest"),
    ("window-1", Metric::Rate, "Persistent, one at a time"),
    ("fan-out", Metric::Rate, "Fan-out 1 → 10, 256 B"),
    ("ten-by-ten", Metric::Rate, "10 producers, 10 consumers"),
    ("backlog", Metric::DrainRate, "Drain of 1,000,000 × 1 KiB"),
];

/// Bars of messages per second, a pair for each scenario that was measured on both brokers. Each pair has a scale of its
/// own: the quotient is what is to be seen.
pub(crate) fn picture(report: &Report) -> String {
    let mut rows = String::new();
    let mut y = TOP;
    for (scenario, metric, label) in BARS {
        let Some(row) = report.row(scenario, metric) else { continue };
        let (Some(warren), Some(rabbitmq)) = (row.warren, row.rabbitmq) else { continue };
        let scale = BAR_WIDTH / warren.max.max(rabbitmq.max);
        let middle = y + BAR_HEIGHT + 5.0;
        let _ = writeln!(rows, r#"<text x="{}" y="{middle}" text-anchor="end">{label}</text>"#, LABEL_WIDTH - 12.0);
        rows += &bar(
            y,
            scale,
            WARREN,
            warren,
            &format!("{}/s · {:.1} ×", grouped(warren.median), row.ratio.unwrap_or(1.0)),
        );
        rows += &bar(y + BAR_HEIGHT + 2.0, scale, RABBITMQ, rabbitmq, &format!("{}/s", grouped(rabbitmq.median)));
        y += ROW_HEIGHT;
    }
    let machine = &report.machine;
    let note = escaped(&format!("{}, {} UTC; one node each, alone; medians", machine.processor, machine.date));
    let height = y + 24.0;
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" font-size="13" fill="#1f2937">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="20" y="28" font-size="17" font-weight="600">Messages per second</text>
<rect x="{LABEL_WIDTH}" y="17" width="12" height="12" fill="{WARREN}"/><text x="{}" y="28">Warren</text>
<rect x="{}" y="17" width="12" height="12" fill="{RABBITMQ}"/><text x="{}" y="28">RabbitMQ ({})</text>
{rows}<text x="20" y="{}" font-size="11" fill="#6b7280">{note}</text>
</svg>
"##,
        LABEL_WIDTH + 18.0,
        LABEL_WIDTH + 90.0,
        LABEL_WIDTH + 108.0,
        escaped(version(&machine.rabbitmq)),
        y + 8.0,
    )
}

/// A bar with a thin line from the least to the greatest value.
fn bar(y: f64, scale: f64, colour: &str, value: Spread, label: &str) -> String {
    let Spread { median, min, max } = value;
    let (length, middle) = ((median * scale).max(1.0), y + BAR_HEIGHT / 2.0);
    let (from, to) = (LABEL_WIDTH + min * scale, LABEL_WIDTH + max * scale);
    format!(
        r##"<rect x="{LABEL_WIDTH}" y="{y}" width="{length:.1}" height="{BAR_HEIGHT}" rx="2" fill="{colour}"/>
<line x1="{from:.1}" x2="{to:.1}" y1="{middle}" y2="{middle}" stroke="#111827" stroke-opacity="0.5"/>
<text x="{:.1}" y="{}" font-size="12">{label}</text>
"##,
        LABEL_WIDTH + length.max(max * scale) + 6.0,
        middle + 4.0,
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The version of RabbitMQ among the packages and their versions.
fn version(packages: &str) -> &str {
    let behind = packages.split("rabbitmq-server ").nth(1).unwrap_or_default();
    behind.split(',').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_says_cannot_break_the_picture() {
        assert_eq!(escaped("2 × <CPU> & more"), "2 × &lt;CPU&gt; &amp; more");
    }
}
