//! Clients that connect and do not go on, and clients that connect too often.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{slice, thread};

use anyhow::{Context, Result, bail, ensure};
use warren_amqp::frame::PROTOCOL_HEADER;
use warren_tests::harness::{Broker, Connection, DataFolder, Settings, wait_until};

use super::pki::{Authority, TlsClient, Volume, client_config};
use super::{MIB, bystander, is_served};

/// Half-open connections that a broker keeps.
const HANDSHAKES: usize = 2_000;

/// As many connections in a second as a test can make.
const AT_ONCE: &str = "[accept]\nper_second = 100000\n";

fn start(config: &str) -> Result<(DataFolder, Broker)> {
    let folder = DataFolder::new()?;
    let broker = Broker::start_with(&folder, Settings { config, ..Settings::default() })?;
    Ok((folder, broker))
}

/// The value of a metric.
fn metric(broker: &Broker, name: &str) -> Result<u64> {
    let (_, text) = broker.http("/metrics")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("there is no {name}"))?.parse()?)
}

/// Whether the other side has closed it, or has dropped it.
fn has_ended(stream: &mut TcpStream) -> Result<bool> {
    stream.set_nonblocking(true)?;
    let mut octets = [0; 4_096];
    loop {
        match stream.read(&mut octets) {
            Ok(0) => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(_) => return Ok(true),
        }
    }
}

/// How long somebody who is logged in waits for a message to be confirmed and got, and somebody new to be let in: the 99th
/// percentile and the worst, while `attack` runs.
fn latency_during<T>(broker: &Broker, attack: impl FnOnce() -> Result<T> + Send) -> Result<(T, Latency)>
where
    T: Send,
{
    let mut bystander = bystander(broker)?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let attacking = scope.spawn(|| {
            let result = attack();
            over.store(true, Ordering::Relaxed);
            result
        });
        let (mut served, mut let_in) = (Vec::new(), Vec::new());
        while !over.load(Ordering::Relaxed) || served.len() < 100 {
            let begin = Instant::now();
            is_served(&mut bystander)?;
            served.push(begin.elapsed());
            let begin = Instant::now();
            Connection::open(broker.address).context("somebody new is not let in")?.close()?;
            let_in.push(begin.elapsed());
        }
        let Ok(result) = attacking.join() else { bail!("the attack panicked") };
        Ok((result?, Latency { served: percentile(served), let_in: percentile(let_in) }))
    })
}

/// 99th percentile and worst.
struct Latency {
    served: (Duration, Duration),
    let_in: (Duration, Duration),
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { served: (served, served_worst), let_in: (let_in, let_in_worst) } = self;
        write!(
            f,
            "served in {served:?} (p99), {served_worst:?} at worst; let in in {let_in:?}, {let_in_worst:?} at worst"
        )
    }
}

fn percentile(mut all: Vec<Duration>) -> (Duration, Duration) {
    all.sort_unstable();
    (all[all.len() * 99 / 100], all[all.len() - 1])
}

/// What half-open clients say on a port: nothing, and what begins and does not end. Of AMQP it is a part of the header, and all but
/// the end of the largest frame that they may send; of TLS it is the head of a record.
fn first_words(is_tls: bool) -> Vec<Vec<u8>> {
    if is_tls {
        return vec![Vec::new(), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()];
    }
    let frame = [&PROTOCOL_HEADER[..], b"\x01\x00\x00\x00\x00\x1f\xf8", &[0; 8_000]].concat();
    vec![Vec::new(), b"AMQ".to_vec(), frame]
}

fn connect_all(address: SocketAddr, count: usize, words: &[Vec<u8>]) -> Result<Vec<TcpStream>> {
    let connect = |number: usize| -> Result<TcpStream> {
        let mut stream = TcpStream::connect(address)?;
        // It may have been shed by now.
        stream.write_all(&words[number % words.len()]).ok();
        Ok(stream)
    };
    (0..count).map(connect).collect()
}

/// Settings of a port for TLS, with the folder of its files.
fn with_tls() -> Result<(Volume, String)> {
    let server = Authority::new()?.sign(|_| ())?;
    let volume = Volume::new(&[("tls.crt", &server.certificate), ("tls.key", &server.key)])?;
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| volume.path(name).display().to_string());
    let config =
        format!("listeners.amqps = [\"127.0.0.1:0\"]\n{AT_ONCE}[tls]\ncertificate = {certificate:?}\nkey = {key:?}");
    Ok((volume, config))
}

#[test]
fn five_thousand_half_open_connections_keep_nobody_out_and_are_gone_after_ten_seconds() -> Result<()> {
    const CONNECTIONS: usize = 5_000;
    let (_files, config) = with_tls()?;
    let (_folder, broker) = start(&config)?;
    let tls_address = broker.tls_address.context("the broker takes TLS")?;
    let (_, calm) = latency_during(&broker, || Ok(()))?;
    let before = broker.resident_bytes()?;
    let (mut strangers, under_attack) = latency_during(&broker, || {
        let attack = |is_tls| {
            let address = if is_tls { tls_address } else { broker.address };
            move || connect_all(address, CONNECTIONS / 4, &first_words(is_tls))
        };
        thread::scope(|scope| -> Result<Vec<_>> {
            let attackers = [true, false, true, false].map(|is_tls| scope.spawn(attack(is_tls)));
            let mut all = Vec::new();
            for attacker in attackers {
                let Ok(connections) = attacker.join() else { bail!("an attacker panicked") };
                all.extend(connections?);
            }
            Ok(all)
        })
    })?;
    let begin = Instant::now();
    let taken = broker.resident_bytes()?.saturating_sub(before);
    let shed = metric(&broker, "warren_connections_dropped_total{reason=\"half_open\"}")?;
    println!(
        "calm: {calm}\n{CONNECTIONS} half-open: {under_attack}; {} KiB more are resident; {shed} were shed",
        taken >> 10
    );
    ensure!(taken <= 64 * MIB, "{taken} octets more are resident");
    // Each has ten seconds from when it is accepted. Two thousand are at once, and the others wait two turns of a second at most.
    let all_are_over = Duration::from_secs(10 + 2);
    let (_, held) = latency_during(&broker, || {
        let all_ended = || strangers.iter_mut().try_fold(true, |ended, one| Ok(has_ended(one)? && ended));
        wait_until(all_are_over, all_ended).context("all places are free")
    })?;
    println!("until all places were free, {:?} later: {held}", begin.elapsed());
    ensure!(held.let_in.1 < Duration::from_secs(10), "somebody waited for {:?}", held.let_in.1);
    Ok(())
}

/// Times that somebody is served, with and without others who are half open.
const SAMPLES: usize = 300;

/// What it costs to serve somebody who is logged in.
struct Service {
    /// Processor time of the broker, for all [`SAMPLES`].
    work: Duration,
    /// The 99th percentile of the waits, which is this machine's too.
    wait: Duration,
}

fn service(broker: &Broker, bystander: &mut Connection) -> Result<Service> {
    let (mut waits, before) = (Vec::new(), broker.processor_time()?);
    for _ in 0..SAMPLES {
        let begin = Instant::now();
        is_served(bystander)?;
        waits.push(begin.elapsed());
    }
    Ok(Service { work: broker.processor_time()?.saturating_sub(before), wait: percentile(waits).0 })
}

/// As many half-open connections as a broker keeps, each of which it has greeted: nothing of them is still to be done. They
/// have said so much that each of them has its ten seconds.
fn greeted_strangers(broker: &Broker) -> Result<Vec<TcpStream>> {
    let words = [&PROTOCOL_HEADER[..], b"\x01\x00\x00\x00\x00\x1f\xf8", &[0; 1_300]].concat();
    let mut strangers = connect_all(broker.address, HANDSHAKES, slice::from_ref(&words))?;
    for stranger in &mut strangers {
        stranger.set_read_timeout(Some(Duration::from_secs(10)))?;
        stranger.read_exact(&mut [0]).context("a connection is greeted")?;
    }
    Ok(strangers)
}

/// As many half-open connections as a broker keeps make serving others at most twice as much work. Work is processor time of the
/// broker: how long others wait is printed, because other programs of this machine make it longer as well. Both are measured in
/// turn, and the least of each is compared. While thousands connect it is the machine that is short, whoever they connect to;
/// that is printed above.
#[test]
fn serving_others_is_at_most_twice_the_work_while_thousands_are_half_open() -> Result<()> {
    const ROUNDS: usize = 4;
    let (_folder, broker) = start(AT_ONCE)?;
    let mut bystander = bystander(&broker)?;
    let (mut calm, mut held) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        calm.push(service(&broker, &mut bystander)?);
        let mut strangers = greeted_strangers(&broker)?;
        held.push(service(&broker, &mut bystander)?);
        let ended = strangers.iter_mut().map(has_ended).collect::<Result<Vec<_>>>()?;
        ensure!(ended.iter().filter(|ended| **ended).count() < HANDSHAKES / 10, "they were there all the while");
        drop(strangers);
        wait_until(Duration::from_secs(10), || Ok(metric(&broker, "rabbitmq_connections")? <= 1))?;
    }
    let waits = |all: &[Service]| all.iter().map(|service| service.wait).collect::<Vec<_>>();
    println!("p99: {:?} alone, {:?} beside {HANDSHAKES} half-open connections", waits(&calm), waits(&held));
    let least = |all: &[Service]| all.iter().map(|service| service.work).min().context("rounds");
    let (calm, held) = (least(&calm)?, least(&held)?);
    println!("{SAMPLES} times served: {calm:?} of processor time alone, {held:?} beside them");
    ensure!(held <= calm * 2, "{held:?} instead of {calm:?}");
    Ok(())
}

#[test]
fn the_oldest_half_open_connection_makes_room_for_one_more() -> Result<()> {
    let (_folder, broker) = start(AT_ONCE)?;
    let mut strangers = greeted_strangers(&broker)?;
    let before = strangers.iter_mut().map(has_ended).collect::<Result<Vec<_>>>()?;
    ensure!(before.iter().all(|ended| !ended), "all of them are kept");
    let mut connection = Connection::open(broker.address)?;
    wait_until(Duration::from_secs(1), || has_ended(&mut strangers[0])).context("the oldest is closed")?;
    ensure!(metric(&broker, "warren_connections_dropped_total{reason=\"half_open\"}")? == 1);
    let later = strangers[1..].iter_mut().map(has_ended).collect::<Result<Vec<_>>>()?;
    ensure!(later.iter().all(|ended| !ended), "the others are kept");
    connection.open_channel(1)
}

#[test]
fn who_sends_next_to_nothing_is_dropped_after_five_seconds_and_who_sends_more_has_ten() -> Result<()> {
    let (_folder, broker) = start("")?;
    let trickles = |pause: Duration, piece: usize| {
        let stream = TcpStream::connect(broker.address);
        thread::spawn(move || -> Result<Duration> {
            let (mut stream, begin) = (stream?, Instant::now());
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            stream.write_all(&PROTOCOL_HEADER)?;
            stream.write_all(b"\x01\x00\x00\x00\x00\x1f\xf0")?;
            while stream.write_all(&vec![0; piece]).is_ok() && !has_ended(&mut stream)? {
                // So slow is this client.
                thread::sleep(pause);
            }
            Ok(begin.elapsed())
        })
    };
    let slow = trickles(Duration::from_millis(200), 1);
    let faster = trickles(Duration::from_millis(200), 120);
    for (thread, expected) in [(slow, 4..8), (faster, 9..13)] {
        let Ok(dropped) = thread.join() else { bail!("a client panicked") };
        let dropped = dropped?;
        ensure!(expected.contains(&dropped.as_secs()), "dropped after {dropped:?} and not {expected:?} s");
    }
    Ok(())
}

#[test]
fn a_client_may_send_32_kib_until_it_has_logged_in_and_more_afterwards() -> Result<()> {
    let authority = Authority::new()?;
    let server = authority.sign(|_| ())?;
    let volume = Volume::new(&[("tls.crt", &server.certificate), ("tls.key", &server.key)])?;
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| volume.path(name).display().to_string());
    let config = format!(
        "listeners.amqps = [\"127.0.0.1:0\"]\n[tls]\ncertificate = {certificate:?}\nkey = {key:?}\nmin_version = \"1.3\""
    );
    let (_folder, broker) = start(&config)?;
    let address = broker.tls_address.context("the broker takes TLS")?;
    // Records that a client may send, and that do not count as anything: with TLS 1.3, so that old middleboxes are content.
    let records = b"\x14\x03\x03\x00\x01\x01".repeat(40 << 10);
    let mut stream = TcpStream::connect(address)?;
    let sent = stream.write_all(&records);
    ensure!(sent.is_err() || has_ended_soon(&mut stream)?, "the client is not dropped");
    let mut client =
        TlsClient::connect(address, &client_config(&authority.pem(), None)?)?.log_in("PLAIN", b"\0guest\0guest")?;
    for channel in 2..2_002 {
        client.open_channel(channel)?;
    }
    ensure!(client.stream.sock.peer_addr()? == address);
    Ok(())
}

fn has_ended_soon(stream: &mut TcpStream) -> Result<bool> {
    Ok(wait_until(Duration::from_secs(3), || has_ended(stream)).is_ok())
}

#[test]
fn a_source_that_connects_too_often_is_closed_and_a_thousand_that_come_back_at_once_are_not() -> Result<()> {
    let (_folder, broker) = start("[accept]\nunlimited_sources = []\n")?;
    // As many as a network behind one address has.
    let together = |count: usize| -> Result<Vec<Connection>> {
        thread::scope(|scope| {
            let connect = || (0..count / 10).map(|_| Connection::open(broker.address)).collect::<Result<Vec<_>>>();
            let threads: Vec<_> = (0..10).map(|_| scope.spawn(connect)).collect();
            let mut all = Vec::new();
            for thread in threads {
                let Ok(connections) = thread.join() else { bail!("a client panicked") };
                all.extend(connections?);
            }
            Ok(all)
        })
    };
    let clients = together(1_000).context("a thousand clients come back at once")?;
    let mut refused = 0;
    wait_until(Duration::from_secs(10), || {
        for _ in 0..100 {
            refused += usize::from(Connection::open(broker.address).is_err());
        }
        Ok(refused > 0)
    })
    .context("nobody who comes too often is closed")?;
    wait_until(Duration::from_secs(10), || Ok(broker.has_said("accept.per_second_and_source")))
        .context("the log says which setting it is")?;
    // The thousand are served, and there is room again for one who waits.
    drop(clients);
    wait_until(Duration::from_secs(10), || Ok(Connection::open(broker.address).is_ok()))
}

#[test]
fn http_clients_that_do_not_go_on_keep_no_probe_out() -> Result<()> {
    const CONNECTIONS: usize = 1_500;
    // A port with these limits takes 1,000 of them, and one more in a second.
    let strict = "[accept]\nper_second = 1\nper_second_and_source = 1\nunlimited_sources = []\n";
    let (_folder, broker) = start(strict)?;
    let before = broker.resident_bytes()?;
    let mut strangers = Vec::new();
    for number in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(broker.metrics)?;
        // Some say nothing, some a part of a head.
        if number % 2 == 0 {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nx: ").ok();
        }
        strangers.push(stream);
        if number % 100 == 0 {
            ensure!(broker.http("/livez")?.0.contains("200"), "after {number}");
        }
    }
    ensure!(broker.http("/livez")?.0.contains("200"));
    let taken = broker.resident_bytes()?.saturating_sub(before);
    println!("{CONNECTIONS} slow HTTP clients: {} KiB more are resident", taken >> 10);
    ensure!(taken <= 64 * MIB, "{taken} octets more are resident");
    let all_ended = || strangers.iter_mut().try_fold(true, |ended, one| Ok(has_ended(one)? && ended));
    wait_until(Duration::from_secs(13), all_ended).context("all of them are closed")
}
