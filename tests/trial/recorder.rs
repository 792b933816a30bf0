//! A way to the management API on which every request is written down.
//!
//! Tools find the API on `localhost:15672`; the broker offers it on another address of the loopback network, with the same
//! port because its health checks name that. What passes is copied as it is. HTTP is read only as far as it takes to know
//! which request an answer belongs to: both begin where a read begins, because no tool asks before it was answered.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Where the broker offers the API in a trial.
pub const MANAGEMENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), PORT);
/// The port that tools know.
const PORT: u16 = 15672;

/// A request that was answered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Request {
    /// As in HTTP, in capitals.
    pub method: String,
    /// The path as it was sent, without the query.
    pub path: String,
    /// The status of the answer.
    pub status: u16,
}

/// What was asked since the recorder was opened.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    requests: Arc<Mutex<BTreeSet<Request>>>,
}

/// What was asked last on a connection and is not answered yet.
type Question = Mutex<Option<(String, String)>>;

impl Recorder {
    /// Takes connections on both loopback addresses. Its threads end with the process.
    ///
    /// # Errors
    /// A port is in use.
    pub fn open() -> Result<Self> {
        let recorder = Self::default();
        for address in [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)] {
            let listener = TcpListener::bind((address, PORT)).with_context(|| format!("open {address}:{PORT}"))?;
            let recorder = recorder.clone();
            thread::spawn(move || listener.incoming().flatten().for_each(|client| recorder.connect(client)));
        }
        Ok(recorder)
    }

    /// Everything that was asked, once each.
    #[must_use]
    pub fn requests(&self) -> BTreeSet<Request> {
        lock(&self.requests).clone()
    }

    /// Passes octets both ways, in a thread each, until either side ends.
    fn connect(&self, client: TcpStream) {
        let begin = || -> std::io::Result<()> {
            let broker = TcpStream::connect(MANAGEMENT)?;
            let (to_client, to_broker) = (client.try_clone()?, broker.try_clone()?);
            let question = Arc::new(Question::default());
            let (asked, requests) = (question.clone(), self.requests.clone());
            thread::spawn(move || pass(client, to_broker, |octets| ask(octets, &asked)));
            thread::spawn(move || pass(broker, to_client, |octets| answer(octets, &question, &requests)));
            Ok(())
        };
        // A client that is gone already, or a broker that is not there: the client sees the end.
        begin().ok();
    }
}

/// Copies what comes from one side to the other, shows it to `look` first, and ends both.
fn pass(mut from: TcpStream, mut to: TcpStream, look: impl Fn(&[u8])) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length) = from.read(&mut buffer)
        && length > 0
    {
        look(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    for (stream, end) in [(from, Shutdown::Read), (to, Shutdown::Write)] {
        // It fails only if that side has ended.
        stream.shutdown(end).ok();
    }
}

/// Keeps what is asked, if a request begins here.
fn ask(octets: &[u8], question: &Question) {
    let mut words = first_line(octets).split(' ');
    if let (Some(method), Some(target), Some("HTTP/1.1")) = (words.next(), words.next(), words.next()) {
        let path = target.split('?').next().unwrap_or(target);
        *lock(question) = Some((method.to_owned(), path.to_owned()));
    }
}

/// Writes down what was asked and answered, if an answer begins here.
fn answer(octets: &[u8], question: &Question, requests: &Mutex<BTreeSet<Request>>) {
    let status = first_line(octets).strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let Some(status @ 200..) = status else { return };
    if let Some((method, path)) = lock(question).take() {
        lock(requests).insert(Request { method, path, status });
    }
}

/// The first line of what may be the head of a message of HTTP.
fn first_line(octets: &[u8]) -> &str {
    let line = octets.split(|octet| *octet == b'\r').next().unwrap_or_default();
    std::str::from_utf8(line).unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_written_down_with_the_status_of_its_answer() {
        let (question, requests) = (Question::default(), Mutex::default());
        ask(b"PUT /api/queues/%2F/a%20b?x=y HTTP/1.1\r\nHost: x\r\n\r\n", &question);
        ask(b"{\"durable\":true}", &question);
        answer(b"HTTP/1.1 100 Continue\r\n\r\n", &question, &requests);
        answer(b"HTTP/1.1 201 Created\r\n\r\n", &question, &requests);
        answer(b"HTTP/1.1 204 No Content\r\n\r\n", &question, &requests);
        let expected = Request { method: "PUT".to_owned(), path: "/api/queues/%2F/a%20b".to_owned(), status: 201 };
        assert_eq!(requests.into_inner().unwrap().into_iter().collect::<Vec<_>>(), [expected]);
    }
}
