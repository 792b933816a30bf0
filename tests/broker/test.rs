//! A real broker process: what it costs, how it takes bad input, slow clients and signals, and what pika makes of it.

mod audit;
mod cli;
mod cli_files;
mod cli_tls;
mod deaf;
mod definitions;
mod forwarding;
mod identity;
mod limits;
mod log_inspect;
mod metrics;
mod pki;
mod refusals;
mod slow;
mod strangers;
mod tls;
mod tls_reload;
mod tls_versions;
mod traces;

use std::io::{ErrorKind, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use warren_amqp::content::encode_header;
use warren_amqp::frame::PROTOCOL_HEADER;
use warren_amqp::{BasicProperties, Frame, ToClient, ToServer, basic, connection};
use warren_tests::client::{Access, Client, Program};
use warren_tests::harness::{Broker, Connection, DataFolder, Event, Settings};

const MIB: u64 = 1 << 20;

fn broker() -> Result<(DataFolder, Broker)> {
    let folder = DataFolder::new()?;
    let broker = Broker::start(&folder)?;
    Ok((folder, broker))
}

/// Declares durable queues, over so many connections that many of them become durable together.
fn declare_all(broker: &Broker, names: &[String]) -> Result<()> {
    const CONNECTIONS: usize = 50;
    /// Declared before an answer is waited for, which comes when all of them are there.
    const AT_ONCE: usize = 100;
    thread::scope(|scope| {
        let declare = |names: &'_ [String]| {
            let mut connection = Connection::with_channel(broker.address)?;
            names.chunks(AT_ONCE).try_for_each(|names| connection.declare_queues(names.iter().map(String::as_str)))
        };
        let parts = names.chunks(names.len().div_ceil(CONNECTIONS));
        let threads: Vec<_> = parts.map(|names| scope.spawn(move || declare(names))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })
}

fn to_queue(queue: &str) -> basic::Publish<'_> {
    basic::Publish { exchange: "", routing_key: queue, mandatory: false, immediate: false }
}

/// Frames, as octets.
fn frames(frames: &[Frame<'_>]) -> Vec<u8> {
    let mut octets = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut octets));
    octets
}

/// A publish on channel 1 that announces `body_size` octets.
fn publish_head(body_size: u64) -> Vec<u8> {
    let mut octets = Vec::new();
    ToServer::BasicPublish(to_queue("q")).encode(1, &mut octets);
    encode_header(1, body_size, &BasicProperties::default(), &mut octets);
    octets
}

/// A client that has to be served whatever others do.
fn bystander(broker: &Broker) -> Result<Connection> {
    let mut connection = Connection::with_channel(broker.address)?;
    connection.declare_queue("bystander", true, false)?;
    connection.confirm_select()?;
    Ok(connection)
}

fn is_served(connection: &mut Connection) -> Result<()> {
    connection.publish(to_queue("bystander"), true, b"still here")?;
    connection.expect(1, |method| matches!(method, ToClient::BasicAck(_)))?;
    let message = connection.get("bystander")?.context("the message is in the queue")?;
    ensure!(message.body == b"still here");
    Ok(())
}

#[test]
fn malformed_input_costs_its_connection_the_right_code_and_others_nothing() -> Result<()> {
    let (_folder, broker) = broker()?;
    let mut bystander = bystander(&broker)?;
    let body = |payload| frames(&[Frame::Body { channel: 1, payload }]);
    let method = |channel, payload| frames(&[Frame::Method { channel, payload }]);
    let cases: [(&str, Vec<u8>, u16); 13] = [
        ("a wrong frame end", b"\x01\x00\x01\x00\x00\x00\x01Ax".to_vec(), 501),
        ("an unknown frame type", b"\x05\x00\x01\x00\x00\x00\x00\xce".to_vec(), 501),
        ("a frame of 4 GiB", b"\x03\x00\x01\xff\xff\xff\xff".to_vec(), 501),
        ("a method without ids", method(1, &[0, 60]), 501),
        ("a method with octets left over", method(1, &[0, 60, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]), 501),
        ("an unknown method", method(1, &[0, 60, 0, 200]), 540),
        ("a method for clients", method(1, &[0, 60, 0, 60, 0]), 503),
        ("a method of a channel on channel 0", method(0, &[0, 20, 0, 10, 0]), 504),
        ("a channel that is not open", method(2, &[0, 60, 0, 110, 1]), 504),
        ("a heartbeat on channel 1", frames(&[Frame::Heartbeat { channel: 1 }]), 505),
        ("a body without a publish", body(b"abc"), 505),
        ("a publish within a publish", [publish_head(3), publish_head(3)].concat(), 505),
        ("a body longer than announced", [publish_head(3), body(b"abcd")].concat(), 501),
    ];
    for (what, octets, code) in cases {
        let mut connection = Connection::with_channel(broker.address)?;
        connection.send_octets(&octets)?;
        let (closed, text) = connection.closed_with().context(what)?;
        ensure!(closed == code, "{what} was answered by {closed} {text}");
        is_served(&mut bystander).context(what)?;
    }
    Ok(())
}

#[test]
fn who_says_goodbye_closes_the_socket_as_with_rabbitmq() -> Result<()> {
    let (_folder, broker) = broker()?;
    let mut leaving = Connection::open(broker.address)?;
    let close = connection::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
    leaving.call(0, ToServer::ConnectionClose(close))?;
    let (mut socket, rest) = leaving.into_parts();
    ensure!(rest.is_empty(), "something is behind close-ok: {rest:?}");
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let read = socket.read(&mut [0]);
    ensure!(read.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "it is not open: {read:?}");
    socket.shutdown(std::net::Shutdown::Write)?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    ensure!(socket.read(&mut [0])? == 0, "nothing comes any more");
    Ok(())
}

#[test]
fn octets_that_are_not_amqp_are_answered_by_our_header_and_closed() -> Result<()> {
    let (_folder, broker) = broker()?;
    for octets in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01", b"AMQP\x00\x01\x00\x00"] {
        let mut stream = std::net::TcpStream::connect(broker.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(octets)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        ensure!(answer == PROTOCOL_HEADER, "{octets:?} was answered by {answer:?}");
    }
    Ok(())
}

#[test]
fn connections_that_do_not_log_in_are_dropped_after_five_to_ten_seconds() -> Result<()> {
    let (_folder, broker) = broker()?;
    let mut bystander = bystander(&broker)?;
    let first_words: [&[u8]; 4] = [b"", b"AMQ", &PROTOCOL_HEADER, b"AMQP\x00\x00\x09\x01\x01\x00\x00\x00\x00\x00"];
    let waiting = first_words.map(|octets| {
        let connection = Connection::raw(broker.address);
        thread::spawn(move || -> Result<Duration> {
            let mut connection = connection?;
            let start = Instant::now();
            connection.send_octets(octets)?;
            connection.wait_for_end()?;
            Ok(start.elapsed())
        })
    });
    let port_scan: Vec<_> = (0..200).map(|_| Connection::raw(broker.address)).collect::<Result<_>>()?;
    drop(port_scan);
    is_served(&mut bystander)?;
    for thread in waiting {
        let Ok(waited) = thread.join() else { bail!("a waiting thread panicked") };
        let waited = waited?;
        ensure!((Duration::from_secs(4)..Duration::from_secs(15)).contains(&waited), "dropped after {waited:?}");
    }
    is_served(&mut bystander)
}

#[test]
fn an_idle_broker_takes_at_most_10_mib_and_1000_idle_connections_20_kib_each() -> Result<()> {
    const CONNECTIONS: u64 = 1_000;
    let (_folder, broker) = broker()?;
    let idle = broker.resident_bytes()?;
    println!("start to open port: {:?}; resident when idle: {} KiB", broker.start_duration, idle / 1024);
    ensure!(idle <= 10 * MIB, "{idle} octets are resident");
    // Some, so that what is allocated once is not counted.
    let _first: Vec<_> = (0..8).map(|_| Connection::with_channel(broker.address)).collect::<Result<_>>()?;
    let before = broker.resident_bytes()?;
    let connections: Vec<_> =
        (0..CONNECTIONS).map(|_| Connection::with_channel(broker.address)).collect::<Result<_>>()?;
    let each = (broker.resident_bytes()? - before) / CONNECTIONS;
    println!("resident for each of {CONNECTIONS} idle connections: {each} octets");
    ensure!(each <= 20 << 10, "{each} octets");
    drop(connections);
    is_served(&mut bystander(&broker)?)
}

#[test]
fn a_consumer_that_does_not_read_takes_no_memory() -> Result<()> {
    let (_folder, broker) = broker()?;
    let mut publisher = bystander(&broker)?;
    publisher.declare_queue("q", false, false)?;
    let body = vec![b'x'; 64 << 10];
    for _ in 0..1_000 {
        publisher.publish(to_queue("q"), false, &body)?;
    }
    ensure!(publisher.wait_for_confirms(1_000)? == 1_000);
    let before = broker.resident_bytes()?;
    let mut consumer = Connection::with_channel(broker.address)?;
    consumer.consume("q", false, 0)?;
    is_served(&mut publisher)?;
    let grown = broker.resident_bytes()?.saturating_sub(before);
    println!("resident for a consumer that does not read 62 MiB: {} KiB", grown / 1024);
    ensure!(grown < 16 * MIB, "{grown} octets");
    for number in 1..=1_000 {
        let Event::Message(message) = consumer.receive()? else { bail!("expected a message") };
        ensure!(message.delivery_tag == number && message.body.len() == body.len());
    }
    Ok(())
}

#[test]
fn a_publisher_that_does_not_read_its_returns_is_held_back_and_then_dropped() -> Result<()> {
    let (_folder, broker) = broker()?;
    let mut bystander = bystander(&broker)?;
    let mut publisher = Connection::with_channel(broker.address)?;
    publisher.set_send_patience(Duration::from_secs(2))?;
    let before = broker.resident_bytes()?;
    let body = vec![b'x'; 64 << 10];
    let nowhere = basic::Publish { mandatory: true, ..to_queue("nowhere") };
    let sent = (0..4_000).take_while(|_| publisher.publish(nowhere, false, &body).is_ok()).count();
    ensure!(sent < 4_000, "nothing held the publisher back");
    let grown = broker.resident_bytes()?.saturating_sub(before);
    println!("resident for a publisher that does not read {} MiB: {} KiB", sent >> 4, grown / 1024);
    ensure!(grown < 16 * MIB, "{grown} octets");
    is_served(&mut bystander)?;
    // What had been sent to it before can still be read; then comes the end.
    let start = Instant::now();
    while broker.http("/metrics")?.1.contains("rabbitmq_connections 2") {
        ensure!(start.elapsed() < Duration::from_secs(25), "it is not dropped");
        is_served(&mut bystander)?;
    }
    publisher.wait_for_end()
}

#[test]
fn a_client_that_is_always_a_little_behind_takes_no_memory() -> Result<()> {
    const MESSAGES: usize = 3_000;
    let (_folder, broker) = broker()?;
    let mut reader = Connection::with_small_window(broker.address)?;
    let mut sender = reader.sender()?;
    let before = broker.resident_bytes()?;
    let body = vec![b'x'; 64 << 10];
    let writing = thread::spawn(move || -> Result<()> {
        let nowhere = basic::Publish { mandatory: true, ..to_queue("nowhere") };
        (0..MESSAGES).try_for_each(|_| sender.publish(nowhere, false, &body)).context("publish")
    });
    let mut most = 0;
    for number in 0..MESSAGES {
        let Event::Message(_) = reader.receive()? else { bail!("expected a returned message") };
        if number % 100 == 0 {
            most = most.max(broker.resident_bytes()?.saturating_sub(before));
        }
    }
    let Ok(written) = writing.join() else { bail!("the writing thread panicked") };
    written?;
    println!("resident at most while {} MiB went in and out: {} KiB", MESSAGES >> 4, most / 1024);
    ensure!(most < 12 * MIB, "{most} octets");
    Ok(())
}

#[test]
fn a_publisher_that_reads_its_confirms_late_finds_them_all() -> Result<()> {
    const MESSAGES: u64 = 100_000;
    let (_folder, broker) = broker()?;
    let mut publisher = bystander(&broker)?;
    for _ in 0..MESSAGES {
        publisher.publish(to_queue("bystander"), true, b"a message of some octets")?;
    }
    ensure!(publisher.wait_for_confirms(MESSAGES)? == MESSAGES);
    ensure!(publisher.declare_queue("bystander", true, true)?.0 == 100_000);
    Ok(())
}

#[test]
fn bodies_of_5_mib_come_as_they_went_and_survive_a_kill() -> Result<()> {
    let folder = DataFolder::new()?;
    let broker = Broker::start(&folder)?;
    let mut publisher = bystander(&broker)?;
    let body: Vec<u8> = (0..5 * MIB).map(|at| (at % 251) as u8).collect();
    for _ in 0..3 {
        publisher.publish(to_queue("bystander"), true, &body)?;
    }
    ensure!(publisher.wait_for_confirms(3)? == 3);
    ensure!(publisher.get("bystander")?.context("the first")?.body == body);
    broker.kill()?;
    let broker = Broker::start(&folder)?;
    let mut consumer = Connection::with_channel(broker.address)?;
    consumer.consume("bystander", false, 1)?;
    let Event::Message(message) = consumer.receive()? else { bail!("expected a message") };
    ensure!(message.body == body);
    Ok(())
}

#[test]
fn a_connection_may_have_2047_channels() -> Result<()> {
    let (_folder, broker) = broker()?;
    let mut connection = Connection::open(broker.address)?;
    (1..=2_047).try_for_each(|number| connection.open_channel(number))?;
    is_served_on_channel_1(&mut connection)?;
    connection.send(2_048, ToServer::ChannelOpen(warren_amqp::channel::Open))?;
    let (code, text) = connection.closed_with()?;
    ensure!(code == 530, "{code} {text}");
    Ok(())
}

fn is_served_on_channel_1(connection: &mut Connection) -> Result<()> {
    connection.declare_queue("bystander", true, false)?;
    connection.confirm_select()?;
    is_served(connection)
}

#[test]
fn sigterm_says_goodbye_with_320_and_ends_with_0() -> Result<()> {
    let (_folder, broker) = broker()?;
    let mut open = Connection::with_channel(broker.address)?;
    let mut in_handshake = Connection::raw(broker.address)?;
    in_handshake.send_octets(&PROTOCOL_HEADER)?;
    in_handshake.expect(0, |method| matches!(method, ToClient::ConnectionStart(_)))?;
    ensure!(broker.http("/readyz")?.0 == "HTTP/1.1 200 OK");
    broker.terminate()?;
    let (code, text) = open.closed_with()?;
    let expected = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'";
    ensure!((code, text.as_str()) == (320, expected), "{code} {text}");
    in_handshake.wait_for_end()?;
    let status = broker.wait()?;
    ensure!(status.code() == Some(0), "{status}");
    Ok(())
}

#[test]
fn a_node_that_stops_says_so_to_its_probes_while_it_waits_for_its_clients() -> Result<()> {
    let folder = DataFolder::new()?;
    let config = "[shutdown]\ngrace_seconds = 2\n";
    let broker = Broker::start_with(&folder, Settings { config, ..Settings::default() })?;
    for probe in ["/startupz", "/readyz", "/livez"] {
        ensure!(broker.http(probe)?.0 == "HTTP/1.1 200 OK", "{probe}");
    }
    // This client never answers connection.close.
    let mut stubborn = Connection::with_channel(broker.address)?;
    let begin = Instant::now();
    broker.terminate()?;
    stubborn.expect(0, |method| matches!(method, ToClient::ConnectionClose(_)))?;
    let (status, reason) = broker.http("/readyz")?;
    ensure!(status == "HTTP/1.1 503 Service Unavailable" && reason == "stopping\n", "{status} {reason}");
    ensure!(broker.http("/livez")?.0 == "HTTP/1.1 200 OK", "it is not to be killed");
    ensure!(Connection::open(broker.address).is_err(), "it takes no more clients");
    let status = broker.wait()?;
    ensure!(status.code() == Some(0), "{status}");
    ensure!(begin.elapsed() < Duration::from_secs(10), "it took {:?}", begin.elapsed());
    Ok(())
}

#[test]
fn a_volume_that_does_not_answer_does_not_keep_a_node_from_ending() -> Result<()> {
    let folder = DataFolder::new()?;
    let [name, password, pipe] = ["name", "password", "pipe"].map(|file| folder.path().join(file));
    std::fs::write(&name, "operator")?;
    std::fs::write(&password, "secret")?;
    let config =
        format!("[default_user]\nname_file = {name:?}\npassword_file = {password:?}\n[shutdown]\ngrace_seconds = 2\n");
    let broker = Broker::start_with(&folder, Settings { config: &config, ..Settings::default() })?;
    Connection::open_as(broker.address, "operator", "secret", "/")?;
    // Who reads the password from now on waits until somebody writes.
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0)?;
    std::fs::rename(&pipe, &password)?;
    ensure!(Connection::open_as(broker.address, "operator", "secret", "/").is_err());
    let begin = Instant::now();
    broker.terminate()?;
    let status = broker.wait()?;
    ensure!(status.code() == Some(0), "{status}");
    ensure!(begin.elapsed() < Duration::from_secs(4), "it took {:?}", begin.elapsed());
    Ok(())
}

#[test]
fn a_second_signal_ends_a_node_at_once() -> Result<()> {
    let folder = DataFolder::new()?;
    let config = "[shutdown]\ngrace_seconds = 3600\n";
    let broker = Broker::start_with(&folder, Settings { config, ..Settings::default() })?;
    let mut stubborn = Connection::with_channel(broker.address)?;
    broker.terminate()?;
    stubborn.expect(0, |method| matches!(method, ToClient::ConnectionClose(_)))?;
    broker.terminate()?;
    let status = broker.wait()?;
    ensure!(status.code() == Some(130), "{status}");
    Ok(())
}

/// Runs the broker with these arguments and answers with what it says as it fails.
fn failure(arguments: &[&std::ffi::OsStr]) -> Result<String> {
    let output = Broker::output(arguments)?;
    ensure!(!output.status.success(), "it runs with {arguments:?}");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_second_broker_on_a_data_folder_is_refused() -> Result<()> {
    let (folder, broker) = broker()?;
    let free_ports = ["--amqp", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--management", "127.0.0.1:0", "--data-dir"]
        .map(AsRef::as_ref);
    let arguments = [&["serve".as_ref()], &free_ports[..], &[folder.path().as_os_str()]].concat();
    let said = failure(&arguments)?;
    let path = folder.path().display().to_string();
    ensure!(said.contains(&path) && said.contains("in use by another broker"), "{said}");
    is_served(&mut bystander(&broker)?)
}

#[test]
fn a_port_in_use_is_named() -> Result<()> {
    let (_folder, broker) = broker()?;
    let other = DataFolder::new()?;
    let address = broker.address.to_string();
    let arguments =
        ["serve", "--amqp", &address, "--metrics", "127.0.0.1:0", "--management", "127.0.0.1:0", "--data-dir"]
            .map(AsRef::as_ref);
    let said = failure(&[&arguments[..], &[other.path().as_os_str()]].concat())?;
    ensure!(said.contains(&format!("cannot listen on {address}")) && said.contains("another program"), "{said}");
    Ok(())
}

#[test]
fn configuration_mistakes_are_named_with_file_and_key() -> Result<()> {
    let folder = DataFolder::new()?;
    let file = folder.path().join("warren.toml");
    let arguments = ["serve".as_ref(), "--config".as_ref(), file.as_os_str()];
    let path = file.display().to_string();
    let said = failure(&arguments)?;
    ensure!(said.contains(&path) && said.contains("No such file"), "{said}");
    for (text, expected) in [
        ("data_dri = 1", "data_dri"),
        ("[listeners]\namqp = []", "listeners.amqp: it is empty"),
        ("data_dir =", "line 1"),
    ] {
        std::fs::write(&file, text)?;
        let said = failure(&arguments)?;
        ensure!(said.contains(expected), "{text} led to {said}");
    }
    Ok(())
}

/// Runs a Python program against the broker and answers with the lines it printed.
fn pika(broker: &Broker, source: &str) -> Result<Vec<String>> {
    Client::here(&Access::plain(uri(broker)), Program { name: "pika", source, arguments: &[] })?.finish()
}

fn uri(broker: &Broker) -> String {
    format!("amqp://guest:guest@{}/%2f", broker.address)
}

const PRODUCER: &str = include_str!("../demo/producer.py");
const CONSUMER: &str = include_str!("../demo/consumer.py");
const FORGETFUL_CONSUMER: &str = include_str!("../demo/forgetful_consumer.py");

fn consumer(broker: &Broker, source: &str) -> Result<Client<'static>> {
    Client::here(&Access::plain(uri(broker)), Program { name: "consumer", source, arguments: &[] })
}

/// The next ten lines of a consumer, without what tells one run of the producer from another.
fn ten_lines(consumer: &Client<'_>) -> Result<Vec<String>> {
    let cut = |line: Option<String>| Some(line?.split_once(',')?.0.to_owned());
    (0..10).map(|_| cut(consumer.next_line()?).context("the consumer ended")).collect()
}

fn hellos(word: &str) -> Vec<String> {
    (1..=10).map(|number| format!("{word} Hello {number}")).collect()
}

#[test]
fn pika_sends_and_receives_as_a_beginner_writes_it() -> Result<()> {
    let (_folder, broker) = broker()?;
    let consumer = consumer(&broker, CONSUMER)?;
    ensure!(pika(&broker, PRODUCER)?.len() == 10);
    ensure!(ten_lines(&consumer)? == hellos("received"));
    Ok(())
}

#[test]
fn pika_gets_back_flagged_what_it_never_acknowledged() -> Result<()> {
    let (_folder, broker) = broker()?;
    pika(&broker, PRODUCER)?;
    let first = consumer(&broker, FORGETFUL_CONSUMER)?;
    ensure!(ten_lines(&first)? == hellos("received"));
    drop(first);
    let second = consumer(&broker, FORGETFUL_CONSUMER)?;
    ensure!(ten_lines(&second)? == hellos("redelivered"));
    Ok(())
}

#[test]
fn pika_publishes_with_confirms_and_finds_its_messages_after_a_kill() -> Result<()> {
    const PUBLISH: &str = r#"
import os, pika
connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URI"]))
channel = connection.channel()
channel.queue_declare(queue="task_queue", durable=True)
channel.confirm_delivery()
for number in range(10):
    channel.basic_publish("", "task_queue", f"task {number}", pika.BasicProperties(delivery_mode=2), mandatory=True)
try:
    channel.basic_publish("", "nowhere", "x", mandatory=True)
except pika.exceptions.UnroutableError as error:
    print(f"returned {error.messages[0].body.decode()}")
connection.close()
"#;
    const CONSUME: &str = r#"
import os, pika
connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URI"]))
channel = connection.channel()
channel.queue_declare(queue="task_queue", durable=True)
channel.basic_qos(prefetch_count=1)
def on_message(channel, method, properties, body):
    print(body.decode())
    channel.basic_ack(method.delivery_tag)
    if body == b"task 9":
        channel.stop_consuming()
channel.basic_consume(queue="task_queue", on_message_callback=on_message)
channel.start_consuming()
connection.close()
"#;
    let folder = DataFolder::new()?;
    let broker = Broker::start(&folder)?;
    ensure!(pika(&broker, PUBLISH)? == ["returned x"]);
    broker.kill()?;
    let broker = Broker::start(&folder)?;
    let expected: Vec<String> = (0..10).map(|number| format!("task {number}")).collect();
    ensure!(pika(&broker, CONSUME)? == expected);
    Ok(())
}

#[test]
fn pika_sees_the_errors_that_it_knows() -> Result<()> {
    const ERRORS: &str = r#"
import os, pika
parameters = pika.URLParameters(os.environ["AMQP_URI"])
connection = pika.BlockingConnection(parameters)
try:
    connection.channel().queue_declare(queue="missing", passive=True)
except pika.exceptions.ChannelClosedByBroker as error:
    print(error.reply_code, error.reply_text)
channel = connection.channel()
name = channel.queue_declare(queue="", exclusive=True).method.queue
print(name.startswith("amq.gen-"))
channel.exchange_declare("logs", "topic")
channel.queue_bind(name, "logs", "*.error")
channel.basic_publish("logs", "disk.error", "full")
print(channel.basic_get(name, auto_ack=True)[2].decode())
connection.close()
parameters.credentials = pika.PlainCredentials("guest", "wrong")
try:
    pika.BlockingConnection(parameters)
except pika.exceptions.ProbableAuthenticationError as error:
    print("refused")
"#;
    let (_folder, broker) = broker()?;
    let expected = ["404 NOT_FOUND - no queue 'missing' in vhost '/'", "True", "full", "refused"];
    ensure!(pika(&broker, ERRORS)? == expected);
    Ok(())
}
