//! A client's socket: octets read and written, and how long the client may take over those that it is sent.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout};

use crate::limits::{FAREWELL_TIMEOUT, SEND_BYTES_PER_SECOND, SEND_TIMEOUT, UNSENT_BYTES};
use crate::scratch::with_scratch;

/// A socket, and how far what its client is sent has gone.
#[derive(Debug)]
pub(super) struct Socket<S> {
    stream: S,
    /// How much of what there is to send has been written.
    written: usize,
    /// Some of that may still be in the stream: TLS has a buffer.
    unflushed: bool,
    patience: Patience,
}

/// What happened to a socket.
#[derive(Debug)]
pub(super) enum Passed {
    /// So many octets are in the scratch buffer, behind the partial ones.
    Read(usize),
    Wrote(usize),
    /// It is of no use any more.
    Lost(io::Error),
}

/// What may be read: the octets that it belongs behind, and how much at most; `None`: nothing.
pub(super) type Reading<'a> = Option<(&'a [u8], usize)>;

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, written: 0, unflushed: false, patience: Patience::default() }
    }

    /// How much of `octets` has not been written.
    pub(super) fn unsent(&self, octets: &[u8]) -> usize {
        octets.len() - self.written
    }

    /// Sends what there is to send, without setting up anything to wait for; `None`: nothing is taken now.
    pub(super) fn write_now(&mut self, octets: &[u8]) -> Option<Passed> {
        let unsent = octets.get(self.written..).filter(|unsent| !unsent.is_empty())?;
        let passed = poll_fn(|context| poll_write(&mut self.stream, unsent, context)).now_or_never();
        if passed.is_none() {
            self.patience.begin(Instant::now());
        }
        passed
    }

    /// Writes what can be written of `octets`, else reads what can be read.
    pub(super) fn poll(&mut self, octets: &[u8], reading: Reading<'_>, context: &mut Context<'_>) -> Poll<Passed> {
        let unsent = &octets[self.written..];
        if !unsent.is_empty()
            && let Poll::Ready(passed) = poll_write(&mut self.stream, unsent, context)
        {
            return Poll::Ready(passed);
        }
        if unsent.is_empty() && self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(context) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => return Poll::Ready(Passed::Lost(error)),
                Poll::Pending => {}
            }
        }
        match reading {
            None => Poll::Pending,
            Some((partial, most)) => poll_read(&mut self.stream, partial, most, context),
        }
    }

    /// So much more of `octets` has been written; they become less. True when all of them have been.
    pub(super) fn wrote(&mut self, len: usize, octets: &mut Vec<u8>) -> bool {
        self.written += len;
        self.unflushed = true;
        let all = self.written == octets.len();
        if all {
            self.written = 0;
            octets.clear();
            self.patience.end();
        } else {
            self.patience.took(len, Instant::now());
            if self.written >= UNSENT_BYTES {
                // A client that is always a little behind never lets the buffer run empty.
                octets.drain(..self.written);
                self.written = 0;
            }
        }
        all
    }

    /// The connection is over: for all that is left to send, the client has so long.
    pub(super) fn finish_within(&mut self, time: Duration) {
        self.patience.all_by.get_or_insert_with(|| Instant::now() + time);
    }

    /// When the client has to have taken something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.patience.deadline()
    }

    /// Closes it. `client_closes`: the client does so first, if it is there.
    pub(super) async fn close(mut self, client_closes: bool) {
        if client_closes {
            let _ = timeout(FAREWELL_TIMEOUT, end_of(&mut self.stream)).await;
        }
        // TLS says goodbye; the client may be gone.
        let _ = timeout(FAREWELL_TIMEOUT, self.stream.shutdown()).await;
    }
}

/// How long a client may take. One that takes a little now and then, so that it is never silent for long, has to take
/// [`SEND_BYTES_PER_SECOND`] on the whole: each octet is worth so much more time, and there is never more of that than
/// [`SEND_TIMEOUT`].
#[derive(Debug, Default)]
struct Patience {
    /// When it has to have taken more. `None`: nothing is in its way.
    more_by: Option<Instant>,
    /// When it has to have taken all.
    all_by: Option<Instant>,
}

impl Patience {
    /// The client takes nothing now.
    fn begin(&mut self, now: Instant) {
        self.more_by.get_or_insert(now + SEND_TIMEOUT);
    }

    /// It has taken so much of what there was.
    fn took(&mut self, octets: usize, now: Instant) {
        if let Some(more_by) = &mut self.more_by {
            let octets = u32::try_from(octets).unwrap_or(u32::MAX);
            *more_by = (*more_by + Duration::from_secs(1) * octets / SEND_BYTES_PER_SECOND).min(now + SEND_TIMEOUT);
        }
    }

    /// It has taken all.
    fn end(&mut self) {
        self.more_by = None;
    }

    fn deadline(&self) -> Option<Instant> {
        self.more_by.into_iter().chain(self.all_by).min()
    }
}

/// Waits until the client closes its side, as RabbitMQ does: clients tell the end that they asked for from one that
/// surprises them by who closes first. That side's port also stays in use for a while.
async fn end_of<S: AsyncRead + Unpin>(stream: &mut S) {
    while stream.read(&mut [0; 64]).await.is_ok_and(|len| len > 0) {}
}

fn poll_write<S: AsyncWrite + Unpin>(stream: &mut S, unsent: &[u8], context: &mut Context<'_>) -> Poll<Passed> {
    Pin::new(stream).poll_write(context, unsent).map(|result| match result {
        Ok(0) => Passed::Lost(io::ErrorKind::WriteZero.into()),
        Ok(len) => Passed::Wrote(len),
        Err(error) => Passed::Lost(error),
    })
}

/// Reads at most so many octets into the scratch buffer, behind a copy of the partial ones.
fn poll_read<S: AsyncRead + Unpin>(
    stream: &mut S,
    partial: &[u8],
    most: usize,
    context: &mut Context<'_>,
) -> Poll<Passed> {
    let read = with_scratch(|scratch| {
        let (front, room) = scratch.split_at_mut(partial.len());
        let len = most.min(room.len());
        let mut buffer = ReadBuf::new(&mut room[..len]);
        let result = ready!(Pin::new(stream).poll_read(context, &mut buffer));
        let len = buffer.filled().len();
        if len > 0 {
            front.copy_from_slice(partial);
        }
        Poll::Ready(result.map(|()| len))
    });
    Poll::Ready(match ready!(read) {
        Ok(0) => Passed::Lost(io::ErrorKind::UnexpectedEof.into()),
        Ok(len) => Passed::Read(len),
        Err(error) => Passed::Lost(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a client is kept that takes so many octets each time such a pause is over; `None`: for an hour.
    fn kept(octets: usize, pause: Duration) -> Option<Duration> {
        let (begin, mut patience) = (Instant::now(), Patience::default());
        patience.begin(begin);
        let mut now = begin;
        while now < begin + Duration::from_secs(3_600) {
            let deadline = patience.deadline()?;
            now += pause;
            if deadline <= now {
                return Some(deadline - begin);
            }
            patience.took(octets, now);
        }
        None
    }

    #[test]
    fn a_client_that_takes_an_octet_now_and_then_is_not_kept_and_a_slow_one_is() {
        let second = Duration::from_secs(1);
        let rate = SEND_BYTES_PER_SECOND as usize;
        assert_eq!(kept(0, second), Some(SEND_TIMEOUT));
        let trickle = kept(1, second * 14).expect("it is not kept");
        assert!(trickle < SEND_TIMEOUT + second, "{trickle:?}");
        assert_eq!(kept(rate, second), None, "as slow as it may be");
        assert_eq!(kept(14 * rate, 14 * second), None, "the same in larger pieces");
        assert!(kept(rate - rate / 10, second).is_some(), "a tenth slower");
        assert!(kept(100 * rate, SEND_TIMEOUT).is_some(), "silent for too long, whatever it takes then");
    }

    #[test]
    fn what_was_taken_quickly_is_worth_no_more_than_the_timeout() {
        let begin = Instant::now();
        let mut patience = Patience::default();
        patience.begin(begin);
        patience.took(UNSENT_BYTES, begin);
        assert_eq!(patience.deadline(), Some(begin + SEND_TIMEOUT));
        patience.end();
        assert_eq!(patience.deadline(), None);
    }
}
