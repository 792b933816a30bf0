//! What Prometheus reads, as promtool and a real Prometheus take it, and what `deploy/` and `docs/` say about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use warren_tests::command::output_of;
use warren_tests::harness::{Broker, Connection, DataFolder, Settings, wait_until};
use warren_tests::prometheus::Programs;

use super::{MIB, broker, declare_all, to_queue};

const PAGES: [&str; 3] = ["/metrics", "/metrics/per-object", DETAILED];
const DETAILED: &str = "/metrics/detailed?family=queue_coarse_metrics&family=queue_metrics&family=queue_consumer_count\
    &family=queue_delivery_metrics&family=exchange_metrics&family=exchange_names&family=exchange_bindings\
    &family=vhost_status&family=connection_churn_metrics&family=connection_metrics&family=connection_coarse_metrics\
    &family=channel_metrics&family=channel_exchange_metrics&family=channel_queue_metrics&family=node_metrics\
    &family=node_coarse_metrics&family=auth_attempt_metrics&family=alarm_metrics&family=ra_metrics";

/// An issuer of tokens that nobody is asked about: it has metrics of its own.
const ISSUER: &str =
    "[[authentication.issuers]]\nissuer = \"http://127.0.0.1:9\"\naudience = \"a\"\nallow_http_on_loopback = true\n";

/// A page, without what HTTP puts around it.
fn page(broker: &Broker, path: &str) -> Result<String> {
    output_of(Command::new("curl").args(["-sfg", "--max-time", "60"]).arg(format!("http://{}{path}", broker.metrics)))
}

/// Uses a broker so that every family has a sample: two queues, one with messages, consumers and an exchange.
fn use_it(broker: &Broker) -> Result<Connection> {
    let mut connection = Connection::with_channel(broker.address)?;
    connection.declare_queue("depth", true, false)?;
    connection.declare_queue("quotes \" and \\", true, false)?;
    connection.confirm_select()?;
    for _ in 0..7 {
        connection.publish(to_queue("depth"), true, b"body")?;
    }
    connection.wait_for_confirms(7)?;
    connection.consume("quotes \" and \\", false, 1)?;
    Ok(connection)
}

/// The value of a sample.
fn value(page: &str, sample: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn promtool_finds_nothing_to_complain_about_on_any_page() -> Result<()> {
    let (_folder, broker) = broker()?;
    let programs = Programs::of_debian()?;
    let _connection = use_it(&broker)?;
    for path in PAGES {
        let said = programs.check_metrics(&page(&broker, path)?)?;
        ensure!(said.is_empty(), "{path}: {said}");
    }
    Ok(())
}

#[test]
fn a_real_prometheus_knows_that_the_broker_is_up_and_how_deep_a_queue_is() -> Result<()> {
    let (_folder, broker) = broker()?;
    let programs = Programs::of_debian()?;
    let _connection = use_it(&broker)?;
    let server = programs.serve(&broker.metrics.to_string(), &PAGES)?;
    for job in 0..PAGES.len() {
        server.wait_for_value(&format!("up{{job=\"warren-{job}\"}}"), |up| up == 1.0)?;
    }
    let depth = "rabbitmq_detailed_queue_messages{queue=\"depth\"}";
    ensure!(server.wait_for_value(depth, |_| true)? == 7.0);
    ensure!(server.wait_for_value("rabbitmq_queue_messages{job=\"warren-0\"}", |_| true)? == 7.0);
    Ok(())
}

#[test]
fn counters_say_what_was_done() -> Result<()> {
    let (_folder, broker) = broker()?;
    let mut connection = use_it(&broker)?;
    let got = connection.get_to_acknowledge("depth")?.context("there is a message")?;
    connection.ack(got.delivery_tag, false)?;
    ensure!(connection.get("depth")?.is_some());
    connection.publish(to_queue("nobody"), true, b"")?;
    connection.wait_for_confirms_after(7, 8)?;
    let all = page(&broker, "/metrics")?;
    let amqp = "{protocol=\"amqp091\"}";
    let classic = "{protocol=\"amqp091\",queue_type=\"rabbit_classic_queue\"}";
    for (sample, expected) in [
        (format!("rabbitmq_global_messages_received_total{amqp}"), 8.0),
        (format!("rabbitmq_global_messages_confirmed_total{amqp}"), 8.0),
        (format!("rabbitmq_global_messages_routed_total{amqp}"), 7.0),
        (format!("rabbitmq_global_messages_unroutable_dropped_total{amqp}"), 1.0),
        (format!("rabbitmq_global_messages_delivered_total{classic}"), 2.0),
        (format!("rabbitmq_global_messages_delivered_get_manual_ack_total{classic}"), 1.0),
        (format!("rabbitmq_global_messages_delivered_get_auto_ack_total{classic}"), 1.0),
        (format!("rabbitmq_global_messages_acknowledged_total{classic}"), 1.0),
        (format!("rabbitmq_global_publishers{amqp}"), 1.0),
        ("rabbitmq_message_size_bytes_bucket{protocol=\"amqp091\",le=\"100\"}".to_owned(), 8.0),
        ("rabbitmq_queue_messages_ready".to_owned(), 5.0),
        ("rabbitmq_consumers".to_owned(), 1.0),
        ("rabbitmq_connections".to_owned(), 1.0),
        ("rabbitmq_channels".to_owned(), 1.0),
        ("rabbitmq_queues_created_total".to_owned(), 2.0),
    ] {
        ensure!(value(&all, &sample) == Some(expected), "{sample} is {:?}, not {expected}", value(&all, &sample));
    }
    ensure!(value(&all, "warren_confirm_duration_seconds_count").is_some_and(|count| count >= 1.0));
    connection.close()?;
    // A page is shown for a second.
    let is_closed = || Ok(value(&page(&broker, "/metrics")?, "rabbitmq_channels_closed_total") == Some(1.0));
    wait_until(Duration::from_secs(5), is_closed).context("the channel is closed")
}

#[test]
fn detailed_has_the_families_and_queues_that_were_asked_for_and_no_others() -> Result<()> {
    let (_folder, broker) = broker()?;
    let _connection = use_it(&broker)?;
    let some = page(&broker, "/metrics/detailed?family=queue_coarse_metrics&vhost=%2F&queue=%5Edep")?;
    ensure!(value(&some, "rabbitmq_detailed_queue_messages{vhost=\"/\",queue=\"depth\"}") == Some(7.0));
    ensure!(!some.contains("quotes") && !some.contains("queue_consumers") && !some.contains("connections_opened"));
    let none = page(&broker, "/metrics/detailed?family=queue_coarse_metrics&vhost=other")?;
    ensure!(!none.contains("queue=\""));
    let (status, text) = broker.http("/metrics/detailed?family=queue_metrics&queue=%28")?;
    ensure!(status.contains("400") && text.contains("queue"), "{status}: {text}");
    Ok(())
}

/// So many queues that a sample for each is too much for one page.
const MANY: usize = 100_000;

#[test]
fn of_100_000_queues_the_sums_take_less_than_a_second_and_each_is_streamed() -> Result<()> {
    let folder = DataFolder::new()?;
    let broker = Broker::start_with(&folder, Settings::default())?;
    let started = Instant::now();
    let names: Vec<String> = (0..MANY).map(|number| format!("queue-{number:06}")).collect();
    declare_all(&broker, &names)?;
    println!("{MANY} queues are declared in {:?}", started.elapsed());
    let resident = broker.resident_bytes()?;
    let (sums, elapsed) = timed(|| page(&broker, "/metrics"))?;
    println!("/metrics: {} octets in {elapsed:?}", sums.len());
    ensure!(value(&sums, "rabbitmq_queues") == Some(MANY as f64));
    ensure!(sums.len() < MIB as usize && elapsed.as_secs_f64() < 1.0, "{} octets in {elapsed:?}", sums.len());
    let (each, elapsed) =
        timed(|| page(&broker, "/metrics/detailed?family=queue_coarse_metrics&family=queue_metrics"))?;
    let grown = broker.resident_bytes()?.saturating_sub(resident);
    println!("detailed: {} octets in {elapsed:?}, {} KiB more resident", each.len(), grown >> 10);
    for name in [&names[0], &names[MANY / 2], &names[MANY - 1]] {
        let sample = format!("rabbitmq_detailed_queue_messages_ready{{vhost=\"/\",queue=\"{name}\"}}");
        ensure!(value(&each, &sample) == Some(0.0), "{sample} is missing");
    }
    ensure!(each.lines().filter(|line| line.starts_with("rabbitmq_detailed_queue_consumers{")).count() == MANY);
    ensure!(grown < 16 * MIB, "the page took {grown} octets of memory");
    Ok(())
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let started = Instant::now();
    Ok((work()?, started.elapsed()))
}

/// What pages say about a metric.
#[derive(Debug, Default)]
struct Metric {
    kind: String,
    help: String,
    /// By page.
    labels: BTreeMap<&'static str, BTreeSet<String>>,
}

/// All metrics of a broker that has been used, by name.
fn metrics(broker: &Broker) -> Result<BTreeMap<String, Metric>> {
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    for (path, name) in PAGES.into_iter().zip(["metrics", "per-object", "detailed"]) {
        let text = page(broker, path)?;
        let mut family = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').context("help is a sentence")?;
                name.clone_into(&mut family);
                help.clone_into(&mut metrics.entry(family.clone()).or_default().help);
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let kind = rest.split(' ').nth(1).context("a type")?;
                kind.clone_into(&mut metrics.entry(family.clone()).or_default().kind);
                metrics.entry(family.clone()).or_default().labels.entry(name).or_default();
            } else {
                let labels = metrics.entry(family.clone()).or_default().labels.entry(name).or_default();
                labels.extend(label_names(line));
            }
        }
    }
    Ok(metrics)
}

/// The names of the labels of a sample or of the selectors of a query.
fn label_names(line: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("=\"").or_else(|| rest.split_once("=~\"")) {
        let name = before.rsplit(['{', ',', ' ']).next().unwrap_or_default().trim_end_matches(['=', '~', '!']);
        names.push(name.to_owned());
        // A quote in a value has a backslash before it.
        let end =
            after.match_indices('"').find(|(at, _)| !after[..*at].ends_with('\\') || after[..*at].ends_with("\\\\"));
        rest = end.map_or("", |(at, _)| &after[at + 1..]);
    }
    names
}

#[test]
fn the_table_of_metrics_is_what_a_broker_emits() -> Result<()> {
    let folder = DataFolder::new()?;
    let broker = Broker::start_with(&folder, Settings { config: ISSUER, ..Settings::default() })?;
    let _connection = use_it(&broker)?;
    let mut table = String::from("| metric | type | labels in sums | labels of single objects | what it is |\n");
    table.push_str("| --- | --- | --- | --- | --- |\n");
    for (name, metric) in metrics(&broker)? {
        if name.starts_with("rabbitmq_detailed_") {
            continue;
        }
        let labels = |page: &str| match metric.labels.get(page) {
            None => String::from("-"),
            Some(labels) => labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(" "),
        };
        let single = if name.starts_with("rabbitmq_cluster_") { labels("detailed") } else { labels("per-object") };
        writeln!(table, "| `{name}` | {} | {} | {single} | {} |", metric.kind, labels("metrics"), metric.help)?;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let document = std::fs::read_to_string(&path).context("read docs/metrics.md")?;
    let (head, old) = document.split_once("| metric |").context("docs/metrics.md has a table")?;
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{head}{table}"))?;
        return Ok(());
    }
    ensure!(format!("| metric |{old}") == table, "docs/metrics.md is out of date: run this test with WRITE_DOCS=1");
    Ok(())
}

/// What else queries name: labels that Prometheus adds, and metrics of its own.
const PROMETHEUS_LABELS: [&str; 2] = ["instance", "job"];
const PROMETHEUS_METRICS: [&str; 1] = ["up"];

#[test]
fn queries_of_rules_and_dashboards_name_metrics_and_labels_that_a_broker_emits() -> Result<()> {
    let folder = DataFolder::new()?;
    let broker = Broker::start_with(&folder, Settings { config: ISSUER, ..Settings::default() })?;
    let _connection = use_it(&broker)?;
    let metrics = metrics(&broker)?;
    let mut count = 0;
    for (place, query) in queries()? {
        count += 1;
        let mut labels: BTreeSet<&str> = PROMETHEUS_LABELS.into_iter().chain(["le"]).collect();
        for name in metric_names(&query) {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let histogram = base.and_then(|base| metrics.get(base)).filter(|metric| metric.kind == "histogram");
            let known = histogram.or_else(|| metrics.get(&name));
            let known = known.with_context(|| format!("{place}: no broker emits {name}"))?;
            labels.extend(known.labels.values().flatten().map(String::as_str));
        }
        for label in label_names(&query).into_iter().chain(grouped_by(&query)) {
            ensure!(labels.contains(label.as_str()), "{place}: no metric of this query has the label {label}: {query}");
        }
    }
    ensure!(count > 60, "only {count} queries were found");
    Ok(())
}

/// The metrics that a query names: words that begin as ours do.
fn metric_names(query: &str) -> Vec<String> {
    let outside: String = query.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    let words = outside.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    let ours =
        |word: &&str| word.starts_with("rabbitmq_") || word.starts_with("warren_") || PROMETHEUS_METRICS.contains(word);
    let labels = ["rabbitmq_node", "rabbitmq_endpoint", "rabbitmq_cluster", "up"];
    words.filter(ours).filter(|word| !labels.contains(word)).map(str::to_owned).collect()
}

/// The labels in `by (…)`, `on(…)` and `group_left(…)`.
fn grouped_by(query: &str) -> Vec<String> {
    let lists = ["by (", "on(", "group_left("].iter().flat_map(|word| query.split(word).skip(1));
    let names = lists.filter_map(|rest| rest.split(')').next()).flat_map(|list| list.split(','));
    names.map(|name| name.trim().to_owned()).collect()
}

/// The queries of the alerts and of the dashboards, each with where it stands.
fn queries() -> Result<Vec<(String, String)>> {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let rules = std::fs::read_to_string(deploy.join("prometheus/rules.yaml")).context("read the rules")?;
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    let mut queries: Vec<_> = alerts.map(|query| ("rules.yaml".to_owned(), query.to_owned())).collect();
    for entry in std::fs::read_dir(deploy.join("grafana"))? {
        let path = entry?.path();
        let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(&path)?).context("a dashboard is JSON")?;
        let place = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let panels = dashboard["panels"].as_array().context("a dashboard has panels")?.iter();
        let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
        queries.extend(targets.filter_map(|target| Some((place.clone(), target["expr"].as_str()?.to_owned()))));
    }
    Ok(queries)
}

#[test]
fn promtool_finds_the_alerts_sound_and_they_do_what_their_tests_say() -> Result<()> {
    let programs = Programs::of_debian()?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus");
    output_of(programs.promtool().args(["check", "rules", "rules.yaml"]).current_dir(&folder))?;
    output_of(programs.promtool().args(["test", "rules", "rules_test.yaml"]).current_dir(&folder))?;
    Ok(())
}
