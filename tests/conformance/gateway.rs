//! A way to the broker that can be cut, for clients that test how they recover.
//!
//! amqp091-go's tests ask RabbitMQ's management plugin to end a connection: `GET /api/connections/` lists connections by the
//! names that clients gave them, `DELETE /api/connections/<name>` ends one. Here these two requests are answered by the
//! gateway that the octets pass through, and the connection is cut as if the network had failed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Where clients connect to the gateway.
pub(crate) const GATEWAY_PORT: u16 = 5670;
/// Where the broker is.
const BROKER_PORT: u16 = 5672;
/// Where the management plugin would be.
const MANAGEMENT_PORT: u16 = 15672;
/// What a client says before it opens its virtual host is shorter than this.
const GREETING_BYTES: usize = 16 << 10;

/// The open connections, by the port of the client.
type Connections = Arc<Mutex<BTreeMap<u16, Connection>>>;

/// An open connection.
struct Connection {
    /// What the client calls it, once it has said so.
    name: Option<String>,
    client: TcpStream,
    broker: TcpStream,
}

/// Opens both ports. Their threads end with the process.
///
/// # Errors
/// A port is in use.
pub(crate) fn open() -> Result<()> {
    let connections = Connections::default();
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| format!("open port {port}"));
    let (clients, requests) = (bind(GATEWAY_PORT)?, bind(MANAGEMENT_PORT)?);
    let known = connections.clone();
    thread::spawn(move || clients.incoming().flatten().for_each(|client| connect(client, &known)));
    // A request that breaks off is the client's affair.
    thread::spawn(move || requests.incoming().flatten().for_each(|stream| drop(answer(stream, &connections))));
    Ok(())
}

/// Passes octets both ways, in a thread each, until either side ends.
fn connect(client: TcpStream, connections: &Connections) {
    let begin = || -> std::io::Result<()> {
        let broker = TcpStream::connect((Ipv4Addr::LOCALHOST, BROKER_PORT))?;
        broker.set_nodelay(true)?;
        client.set_nodelay(true)?;
        let port = client.peer_addr()?.port();
        let (from_client, from_broker) = (client.try_clone()?, broker.try_clone()?);
        let (to_client, to_broker) = (client.try_clone()?, broker.try_clone()?);
        lock(connections).insert(port, Connection { name: None, client: client.try_clone()?, broker });
        let known = connections.clone();
        thread::spawn(move || {
            pass(from_client, to_broker, |greeting| {
                if let Some(connection) = lock(&known).get_mut(&port) {
                    connection.name = connection.name.take().or_else(|| connection_name(greeting));
                }
            });
            lock(&known).remove(&port);
        });
        thread::spawn(move || pass(from_broker, to_client, |_| ()));
        Ok(())
    };
    // A client that is gone already, or a broker that is not there: both sides see the end.
    begin().ok();
}

/// Copies what comes from one side to the other, shows what came first to `greeting`, and ends both.
fn pass(mut from: TcpStream, mut to: TcpStream, mut greeting: impl FnMut(&[u8])) {
    let (mut first, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    while let Ok(length) = from.read(&mut buffer)
        && length > 0
        && to.write_all(&buffer[..length]).is_ok()
    {
        if first.len() < GREETING_BYTES {
            first.extend_from_slice(&buffer[..length]);
            greeting(&first);
        }
    }
    for stream in [from, to] {
        // It fails only if that side has ended.
        stream.shutdown(Shutdown::Both).ok();
    }
}

/// The long string behind the key `connection_name` of the client's properties.
fn connection_name(greeting: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"connection_nameS";
    let start = greeting.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let (length, rest) = greeting.get(start..)?.split_first_chunk::<4>()?;
    let name = rest.get(..u32::from_be_bytes(*length) as usize)?;
    Some(String::from_utf8_lossy(name).into_owned())
}

/// Answers one request of HTTP.
fn answer(stream: TcpStream, connections: &Connections) -> std::io::Result<()> {
    let mut request = String::new();
    let mut reader = BufReader::new(&stream);
    reader.read_line(&mut request)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let name = path.trim_start_matches("/api/connections/");
    let (status, body) = match request.split(' ').next() {
        Some("GET") => ("200 OK", list(&lock(connections)).to_string()),
        Some("DELETE") if cut(name, &lock(connections)) => ("204 No Content", String::new()),
        _ => ("404 Not Found", String::new()),
    };
    let length = body.len();
    write!(&stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

fn list(connections: &BTreeMap<u16, Connection>) -> Value {
    let describe = |(port, connection): (&u16, &Connection)| {
        let name = connection.name.as_ref()?;
        Some(json!({"name": port.to_string(), "client_properties": {"connection_name": name}}))
    };
    connections.iter().filter_map(describe).collect()
}

/// Cuts the connection of this name, which is its client's port; returns whether there is one.
fn cut(name: &str, connections: &BTreeMap<u16, Connection>) -> bool {
    let Some(connection) = name.parse().ok().and_then(|port: u16| connections.get(&port)) else { return false };
    for stream in [&connection.client, &connection.broker] {
        // It fails only if that side has ended.
        stream.shutdown(Shutdown::Both).ok();
    }
    true
}

fn lock(connections: &Connections) -> std::sync::MutexGuard<'_, BTreeMap<u16, Connection>> {
    connections.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_connection_is_found_once_it_is_there_whole() {
        let mut greeting = b"\x07productS\x00\x00\x00\x01x\x0fconnection_nameS\x00\x00\x00\x03abc\x05other".to_vec();
        assert_eq!(connection_name(&greeting).as_deref(), Some("abc"));
        greeting.truncate(greeting.len() - 7);
        assert_eq!(connection_name(&greeting), None);
    }
}
