//! Traces: spans of messages that belong to one, as a collector gets them from a real broker by OTLP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use warren_tests::client::{Access, Client, Program};
use warren_tests::harness::{Broker, DataFolder, Settings, wait_until};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// Publishes three messages to `orders` (one of a sampled trace, one of another trace, one of none), gets them back and
/// acknowledges them; prints the headers that it gets.
const PROGRAM: &str = r#"
import json, os, pika
connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URI"]))
channel = connection.channel()
channel.queue_declare("orders", durable=True)
channel.confirm_delivery()
trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"
for headers in [{"traceparent": trace + "01", "tracestate": "vendor=1"}, {"traceparent": trace + "00"}, None]:
    properties = pika.BasicProperties(delivery_mode=2, headers=headers)
    channel.basic_publish("", "orders", b"canary-body", properties)
for method, properties, body in channel.consume("orders", inactivity_timeout=30):
    print(json.dumps(properties.headers), flush=True)
    channel.basic_ack(method.delivery_tag)
    if method.delivery_tag == 3:
        break
channel.cancel()
connection.close()
"#;

/// A collector: an HTTP server that keeps what it is sent, and answers with a status.
struct Collector {
    address: SocketAddr,
    documents: Receiver<Value>,
}

impl Collector {
    fn start(status: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (sender, documents) = channel();
        // It ends with the process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever sends nonsense is not answered, and the test misses a document.
                let _ = serve(stream, status, &sender);
            }
        });
        Ok(Self { address, documents })
    }

    fn config(&self, more: &str) -> String {
        format!("[telemetry.traces]\nendpoint = \"http://{}/v1/traces\"\nallow_http = true\n{more}", self.address)
    }

    /// The next so many spans.
    fn spans(&self, count: usize) -> Result<Vec<Value>> {
        let mut spans = Vec::new();
        while spans.len() < count {
            let document = self.documents.recv_timeout(Duration::from_secs(30)).context("no spans come")?;
            let resource = &document["resourceSpans"][0];
            ensure!(resource["resource"]["attributes"][0]["value"]["stringValue"] == "warren-broker", "{document:#}");
            spans.extend(resource["scopeSpans"][0]["spans"].as_array().context("spans")?.iter().cloned());
        }
        Ok(spans)
    }
}

fn serve(stream: TcpStream, status: u16, documents: &Sender<Value>) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(&stream);
    let (mut head, mut length) = (String::new(), 0);
    reader.read_line(&mut head)?;
    ensure!(head.starts_with("POST /v1/traces HTTP/1.1"), "{head}");
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse()?;
        }
        ensure!(!line.starts_with("content-type") || line == "content-type: application/json", "{line}");
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    documents.send(serde_json::from_slice(&body)?)?;
    (&stream).write_all(format!("HTTP/1.1 {status} answer\r\nContent-Length: 2\r\n\r\n{{}}").as_bytes())?;
    Ok(())
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a str {
    let attributes = span["attributes"].as_array().into_iter().flatten();
    let value = attributes.filter(|attribute| attribute["key"] == key).map(|attribute| &attribute["value"]).next();
    value.and_then(|value| value["stringValue"].as_str().or_else(|| value["intValue"].as_str())).unwrap_or_default()
}

fn counted(broker: &Broker, sample: &str) -> Result<u64> {
    let (_, page) = broker.http("/metrics")?;
    let value = page.lines().find_map(|line| line.strip_prefix(sample)).context("no such metric")?;
    Ok(value.trim().parse()?)
}

fn publish_and_consume(broker: &Broker) -> Result<Vec<String>> {
    let uri = format!("amqp://guest:guest@{}", broker.address);
    Client::here(&Access::plain(uri), Program { name: "traced", source: PROGRAM, arguments: &[] })?.finish()
}

#[test]
fn a_collector_gets_a_span_of_the_publish_and_one_of_the_delivery() -> Result<()> {
    let (collector, folder) = (Collector::start(200)?, DataFolder::new()?);
    let broker = Broker::start_with(&folder, Settings { config: &collector.config(""), ..Settings::default() })?;
    let headers = publish_and_consume(&broker)?;
    let unchanged = format!(r#"{{"traceparent": "00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}}"#);
    ensure!(headers[0] == unchanged && headers[2] == "null", "consumers get what was published: {headers:?}");
    let spans = collector.spans(2)?;
    ensure!(spans.len() == 2, "one message belongs to a sampled trace: {spans:#?}");
    for (span, name, kind, outcome, destination) in [
        (&spans[0], "publish amq.default", 2, "confirmed", "amq.default:orders"),
        (&spans[1], "deliver orders", 3, "acknowledged", "amq.default:orders"),
    ] {
        ensure!(span["name"] == name && span["kind"] == kind, "{span:#}");
        ensure!(span["traceId"] == TRACE && span["parentSpanId"] == PARENT, "{span:#}");
        ensure!(span["traceState"] == "vendor=1" && span["status"] == serde_json::json!({}), "{span:#}");
        ensure!(span["spanId"].as_str().is_some_and(|id| id.len() == 16 && id != PARENT), "{span:#}");
        ensure!(attribute(span, "messaging.system") == "rabbitmq", "{span:#}");
        ensure!(attribute(span, "messaging.destination.name") == destination, "{span:#}");
        ensure!(attribute(span, "messaging.message.body.size") == "11", "{span:#}");
        ensure!(attribute(span, "warren.outcome") == outcome, "{span:#}");
        ensure!(!span.to_string().contains("canary"), "a body is no part of a span: {span:#}");
    }
    ensure!(spans[0]["spanId"] != spans[1]["spanId"]);
    let time = |span: &Value, key: &str| span[key].as_str().and_then(|time| time.parse::<u64>().ok());
    let [begun, ended] = ["startTimeUnixNano", "endTimeUnixNano"].map(|key| time(&spans[0], key));
    ensure!(begun > Some(1_700_000_000_000_000_000) && begun < ended, "a confirm takes its time: {:#}", spans[0]);
    ensure!(time(&spans[1], "startTimeUnixNano") >= begun, "{:#}", spans[1]);
    wait_until(Duration::from_secs(30), || Ok(counted(&broker, "warren_trace_spans_exported_total ")? == 2))
}

#[test]
fn a_node_that_stops_sends_its_last_spans_first() -> Result<()> {
    let (collector, folder) = (Collector::start(200)?, DataFolder::new()?);
    let broker = Broker::start_with(&folder, Settings { config: &collector.config(""), ..Settings::default() })?;
    publish_and_consume(&broker)?;
    broker.terminate()?;
    ensure!(broker.wait()?.success());
    ensure!(collector.documents.try_iter().count() >= 1, "the spans are lost");
    Ok(())
}

#[test]
fn a_collector_that_takes_nothing_costs_spans_and_no_messages() -> Result<()> {
    let (collector, folder) = (Collector::start(503)?, DataFolder::new()?);
    let broker = Broker::start_with(&folder, Settings { config: &collector.config(""), ..Settings::default() })?;
    ensure!(publish_and_consume(&broker)?.len() == 3, "messages go their way");
    let dropped = "warren_trace_spans_dropped_total{reason=\"collector\"} ";
    wait_until(Duration::from_secs(30), || Ok(counted(&broker, dropped)? == 2))?;
    wait_until(Duration::from_secs(30), || Ok(broker.has_said("the collector of traces takes no spans")))
        .context("the log says why")
}

#[test]
fn without_the_section_nobody_looks_for_traces_and_plain_http_has_to_be_allowed() -> Result<()> {
    let (collector, folder) = (Collector::start(200)?, DataFolder::new()?);
    let broker = Broker::start(&folder)?;
    publish_and_consume(&broker)?;
    broker.terminate()?;
    broker.wait()?;
    ensure!(collector.documents.try_recv().is_err());
    let config = collector.config("").replace("allow_http = true", "");
    let refused = Broker::start_with(&folder, Settings { config: &config, ..Settings::default() });
    let text = format!("{:#}", refused.err().context("it starts")?);
    ensure!(text.contains("telemetry.traces.endpoint: it does not begin with https://"), "{text}");
    Ok(())
}
