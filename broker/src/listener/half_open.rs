//! Connections that have not logged in yet: how many there may be, what each may send, and how long each may let us wait.
//!
//! Together they hold at most [`HANDSHAKES`] times [`HANDSHAKE_BYTES`], which is below 64 MiB, whatever they send. One that is one
//! too many takes the place of the oldest: who means it has logged in long before. That it can, nobody's place is taken before
//! [`HANDSHAKE_TURN`] is over, however many come in that time: they wait to be accepted.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep, timeout_at};
use warren_core::ConnectionId;

use crate::limits::{HANDSHAKE_BYTES, HANDSHAKE_BYTES_PER_SECOND, HANDSHAKE_GRACE, HANDSHAKE_TURN, HANDSHAKES};
use crate::metrics::Metrics;

const _: () = assert!(HANDSHAKES * HANDSHAKE_BYTES <= 64 << 20, "what all of them may send");

/// The connections of all ports that have not opened a virtual host.
#[derive(Debug, Default)]
pub(crate) struct HalfOpen {
    /// By age.
    connections: Mutex<BTreeMap<ConnectionId, Arc<Handshake>>>,
    /// Notified when one of them has logged in or is gone.
    ended: Notify,
}

/// The state of one, as its place and its stream see it.
#[derive(Debug)]
pub(super) struct Handshake {
    began: Instant,
    state: AtomicU8,
    /// The connection's task: it reads the stream, and waits for what else there is.
    task: AtomicWaker,
}

/// The client has not logged in.
const UNDER_WAY: u8 = 0;
/// The client has logged in, and its stream is like any other.
const OVER: u8 = 1;
/// Another connection has its place.
const SHED: u8 = 2;

impl HalfOpen {
    /// One more, as soon as there is a place, or the oldest has had its turn and makes room.
    pub(super) async fn begin(&self, connection: ConnectionId, metrics: &Metrics) -> Arc<Handshake> {
        loop {
            match self.try_begin(connection, metrics) {
                Ok(handshake) => return handshake,
                // Whether it is a place or the time that has come, the next try tells.
                Err(turn_ends) => _ = timeout_at(turn_ends, self.ended.notified()).await,
            }
        }
    }

    /// Fails, with the end of the oldest one's turn, if all places are taken until then.
    fn try_begin(&self, connection: ConnectionId, metrics: &Metrics) -> Result<Arc<Handshake>, Instant> {
        let handshake = Arc::new(Handshake::new());
        let mut connections = self.connections();
        if connections.len() >= HANDSHAKES
            && let Some(oldest) = connections.first_entry()
        {
            let turn_ends = oldest.get().began + HANDSHAKE_TURN;
            if turn_ends > handshake.began {
                return Err(turn_ends);
            }
            metrics.accepting.shed.inc();
            oldest.remove().become_(SHED);
        }
        connections.insert(connection, Arc::clone(&handshake));
        Ok(handshake)
    }

    /// The client has logged in, or is gone.
    pub(super) fn end(&self, connection: ConnectionId, handshake: &Handshake) {
        if self.connections().remove(&connection).is_some() {
            self.ended.notify_one();
        }
        handshake.become_(OVER);
    }

    fn connections(&self) -> MutexGuard<'_, BTreeMap<ConnectionId, Arc<Handshake>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handshake {
    fn new() -> Self {
        Self { began: Instant::now(), state: AtomicU8::new(UNDER_WAY), task: AtomicWaker::new() }
    }

    fn become_(&self, state: u8) {
        self.state.store(state, Ordering::Release);
        self.task.wake();
    }

    /// Ready when another connection has its place. A connection that waits for its login does not read, and asks here.
    pub(super) fn poll_shed(&self, context: &Context<'_>) -> Poll<()> {
        self.task.register(context.waker());
        if self.state.load(Ordering::Acquire) == SHED { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// A client's socket. Until it has logged in, what it sends is counted, and so is the time for which it lets us wait.
#[derive(Debug)]
pub(super) struct ClientStream {
    stream: TcpStream,
    /// `None` from the login on.
    watched: Option<Box<Watched>>,
}

#[derive(Debug)]
struct Watched {
    handshake: Arc<Handshake>,
    received: usize,
    /// For how long the client has let us wait, before `waits_since`.
    waited: Duration,
    waits_since: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl ClientStream {
    pub(super) fn new(stream: TcpStream, handshake: Arc<Handshake>) -> Self {
        let timer = Box::pin(sleep(HANDSHAKE_GRACE));
        let watched = Watched { handshake, received: 0, waited: Duration::ZERO, waits_since: None, timer };
        Self { stream, watched: Some(Box::new(watched)) }
    }
}

impl Watched {
    /// Reads no more than the client may still send; fails if it has sent too much, or too slowly.
    fn poll_read(
        &mut self,
        stream: &mut TcpStream,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buffer.remaining().min(HANDSHAKE_BYTES - self.received);
        if room == 0 && buffer.remaining() > 0 {
            let text = format!("the client has sent {HANDSHAKE_BYTES} octets and not logged in");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::QuotaExceeded, text)));
        }
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
        let result = Pin::new(stream).poll_read(context, &mut part);
        let len = part.filled().len();
        buffer.advance(len);
        self.received += len;
        if result.is_pending() && self.poll_patience(context).is_ready() {
            let text = "the client sends next to nothing and does not log in";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)));
        }
        if result.is_ready() {
            self.waited += self.waits_since.take().map(|since| since.elapsed()).unwrap_or_default();
        }
        result
    }

    /// Ready when the client has let us wait for longer than what it has sent is worth.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let received = u32::try_from(self.received).unwrap_or(u32::MAX);
        let patience = HANDSHAKE_GRACE + Duration::from_secs(1) * received / HANDSHAKE_BYTES_PER_SECOND;
        let since = *self.waits_since.get_or_insert_with(Instant::now);
        let end = since + patience.saturating_sub(self.waited);
        if self.timer.deadline() != end {
            self.timer.as_mut().reset(end);
        }
        self.timer.as_mut().poll(context)
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, watched } = &mut *self;
        let Some(watch) = watched else { return Pin::new(stream).poll_read(context, buffer) };
        watch.handshake.task.register(context.waker());
        match watch.handshake.state.load(Ordering::Acquire) {
            UNDER_WAY => watch.poll_read(stream, context, buffer),
            SHED => Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "others need its place"))),
            _ => {
                *watched = None;
                Pin::new(stream).poll_read(context, buffer)
            }
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, octets)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use futures::FutureExt;

    use super::*;

    fn is_shed(handshake: &Handshake) -> bool {
        poll_fn(|context| handshake.poll_shed(context)).now_or_never().is_some()
    }

    /// As many as there may be, with the ids from 0.
    async fn full() -> (HalfOpen, Metrics, Vec<Arc<Handshake>>) {
        let (half_open, metrics) = (HalfOpen::default(), Metrics::new().expect("metrics"));
        let mut all = Vec::new();
        for id in 0..HANDSHAKES as u64 {
            all.push(half_open.begin(ConnectionId(id), &metrics).await);
        }
        (half_open, metrics, all)
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_shed_hears_of_it_without_reading_and_who_has_logged_in_is_not() {
        let (half_open, metrics, all) = full().await;
        assert!(!all.iter().any(|handshake| is_shed(handshake)), "there is room for all of them");
        half_open.end(ConnectionId(0), &all[0]);
        let first = half_open.begin(ConnectionId(1_000_000), &metrics).await;
        let second = half_open.begin(ConnectionId(1_000_001), &metrics).await;
        assert!(!is_shed(&all[0]), "it is not half open any more");
        assert!(is_shed(&all[1]), "it is the oldest");
        assert!(![&first, &second].into_iter().chain(&all[2..]).any(|handshake| is_shed(handshake)));
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_has_his_turn_however_many_come() {
        let (half_open, metrics, all) = full().await;
        let begin = Instant::now();
        half_open.begin(ConnectionId(1_000_000), &metrics).await;
        assert_eq!(begin.elapsed(), HANDSHAKE_TURN, "nobody makes room before");
        assert!(is_shed(&all[0]), "it is the oldest");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_has_the_place_of_the_first_that_logs_in() {
        let (half_open, metrics, all) = full().await;
        let begin = Instant::now();
        let mut next = pin!(half_open.begin(ConnectionId(1_000_000), &metrics));
        assert!(next.as_mut().now_or_never().is_none(), "there is no place");
        half_open.end(ConnectionId(7), &all[7]);
        next.await;
        assert_eq!(begin.elapsed(), Duration::ZERO, "it waits for nothing else");
        assert!(!all.iter().any(|handshake| is_shed(handshake)), "nobody has to make room");
    }
}
