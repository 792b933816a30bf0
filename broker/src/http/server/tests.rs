//! A real server on a real socket, and clients that write octets.

use axum::body::Bytes;
use axum::routing::{get, post};
use futures::future::pending;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use std::time::Duration;

use super::*;
use crate::config::AcceptConfig;
use crate::metrics::Metrics;

const BODY_BYTES: usize = 1_000;
const PLACES: usize = 4;

/// What a handler waits for, and what says that it does.
#[derive(Default)]
struct Gate {
    begun: Notify,
    go_on: Notify,
}

/// A server with a few routes.
async fn server(gate: Arc<Gate>) -> (HttpServer, SocketAddr) {
    let wait = move || async move {
        gate.begun.notify_one();
        gate.go_on.notified().await;
        "waited"
    };
    let router = Router::new()
        .route("/peer", get(|ConnectInfo(peer): ConnectInfo<Peer>| async move { peer.address.to_string() }))
        .route("/length", post(|body: Bytes| async move { body.len().to_string() }))
        .route("/wait", get(wait))
        .route("/for-ever", get(pending::<&str>));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let acceptor = Acceptor::new(listener, &AcceptConfig::default(), Metrics::new().expect("metrics"));
    (HttpServer::with_places(acceptor, None, limit_bodies(router, BODY_BYTES), PLACES), address)
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("the server listens")
}

/// All that comes on a connection on which `request` is sent, until it is closed.
async fn exchange(stream: &mut TcpStream, request: &str) -> String {
    // What is closed meanwhile is read all the same.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).expect("text")
}

async fn ask(address: SocketAddr, request: &str) -> String {
    exchange(&mut connect(address).await, request).await
}

fn get_of(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
}

#[tokio::test]
async fn handlers_learn_who_asks() {
    let (_server, address) = server(Arc::default()).await;
    let mut stream = connect(address).await;
    let own = stream.local_addr().expect("connected").to_string();
    let answer = exchange(&mut stream, &get_of("/peer")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(&own), "{answer}");
}

#[tokio::test]
async fn a_head_has_16_kib_and_not_an_octet_more() {
    let (_server, address) = server(Arc::default()).await;
    let start = "GET /peer HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx: ";
    for (len, status) in [(HTTP_HEADER_BYTES, "200"), (HTTP_HEADER_BYTES + 1, "431")] {
        let filling = "y".repeat(len - start.len() - 4);
        let answer = ask(address, &format!("{start}{filling}\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{len} octets: {answer}");
    }
}

#[tokio::test]
async fn bodies_have_their_limit_whether_their_length_is_announced_or_not() {
    let (_server, address) = server(Arc::default()).await;
    for (len, status) in [(BODY_BYTES, "200"), (BODY_BYTES + 1, "413")] {
        let head = "POST /length HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
        let body = "y".repeat(len);
        let announced = format!("{head}content-length: {len}\r\n\r\n{body}");
        let (first, second) = body.split_at(600);
        let chunked = format!(
            "{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
            first.len(),
            second.len()
        );
        for request in [announced, chunked] {
            let answer = ask(address, &request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{len} octets: {answer}");
        }
    }
}

#[tokio::test]
async fn when_all_places_are_taken_who_waits_longest_makes_room_and_who_is_answered_does_not() {
    let gate = Arc::new(Gate::default());
    let (_server, address) = server(Arc::clone(&gate)).await;
    let mut answered = connect(address).await;
    answered.write_all(get_of("/wait").as_bytes()).await.expect("sent");
    gate.begun.notified().await;
    let mut idle = Vec::new();
    for _ in 1..PLACES {
        idle.push(connect(address).await);
    }
    let answer = ask(address, &get_of("/peer")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(idle[0].read(&mut [0]).await.expect("it was closed in order"), 0);
    let still = idle[1].try_read(&mut [0]).expect_err("it is open and nothing was sent");
    assert_eq!(still.kind(), std::io::ErrorKind::WouldBlock);
    gate.go_on.notify_one();
    assert!(exchange(&mut answered, "").await.ends_with("waited"));
}

#[tokio::test]
async fn a_server_that_stops_lets_an_answer_end_and_does_not_wait_for_ever() {
    let gate = Arc::new(Gate::default());
    let (server, address) = server(Arc::clone(&gate)).await;
    let (mut ends, mut hangs, mut idle) = (connect(address).await, connect(address).await, connect(address).await);
    ends.write_all(get_of("/wait").as_bytes()).await.expect("sent");
    hangs.write_all(get_of("/for-ever").as_bytes()).await.expect("sent");
    gate.begun.notified().await;
    let stopped = tokio::spawn(server.stop());
    assert_eq!(idle.read(&mut [0]).await.expect("closed in order"), 0);
    gate.go_on.notify_one();
    assert!(exchange(&mut ends, "").await.ends_with("waited"));
    timeout(Duration::from_secs(10), stopped).await.expect("it stops").expect("no panic");
    assert_eq!(exchange(&mut hangs, "").await, "");
    assert!(TcpStream::connect(address).await.is_err());
}
