//! What comes from a broker, split into frames without a copy. Only as much is decoded as a load needs.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;

use anyhow::{Context, Result, bail, ensure};
use rustix::net::{RecvFlags, recv};
use warren_amqp::{ToClient, connection, limits};

/// Type octets of frames (AMQP 0-9-1, 2.3.5).
pub(super) const METHOD: u8 = 1;
pub(super) const HEADER: u8 = 2;
pub(super) const BODY: u8 = 3;
const FRAME_END: u8 = 0xce;
/// Type, channel and size.
const HEAD_LEN: usize = 7;
const OVERHEAD: usize = limits::FRAME_OVERHEAD as usize;

/// Octets that were received and not looked at yet. A frame has to fit in it as a whole.
const BUFFER_LEN: usize = 256 << 10;

/// The receiving end of a connection.
#[derive(Debug)]
pub(super) struct Frames {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// A frame's type octet and payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawFrame<'a> {
    pub(super) kind: u8,
    pub(super) payload: &'a [u8],
}

/// What a look at the socket brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// Octets.
    Some,
    /// Nothing within the socket's timeout, or nothing now.
    Nothing,
}

impl Frames {
    /// `received` came before and is looked at first.
    pub(super) fn new(received: &[u8]) -> Self {
        let mut buffer = vec![0; BUFFER_LEN.max(received.len())];
        buffer[..received.len()].copy_from_slice(received);
        Self { buffer, start: 0, end: received.len() }
    }

    /// Waits for octets, as long as the socket's timeout says.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) fn wait(&mut self, mut stream: &TcpStream) -> Result<Filled> {
        self.make_room();
        let received = stream.read(&mut self.buffer[self.end..]);
        self.took(received)
    }

    /// Takes what is there already.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) fn look(&mut self, stream: &TcpStream) -> Result<Filled> {
        self.make_room();
        let received = recv(stream, &mut self.buffer[self.end..], RecvFlags::DONTWAIT).map(|(len, _)| len);
        self.took(received.map_err(std::io::Error::from))
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// These are not frames.
    pub(super) fn next(&mut self) -> Result<Option<RawFrame<'_>>> {
        let rest = &self.buffer[self.start..self.end];
        let Some(head) = rest.first_chunk::<HEAD_LEN>() else { return Ok(None) };
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        ensure!(size + OVERHEAD <= BUFFER_LEN, "a frame of {size} octets is larger than was agreed");
        let Some(frame) = rest.get(..size + OVERHEAD) else { return Ok(None) };
        ensure!(frame[size + HEAD_LEN] == FRAME_END, "a frame does not end as frames do");
        self.start += frame.len();
        Ok(Some(RawFrame { kind: head[0], payload: &frame[HEAD_LEN..size + HEAD_LEN] }))
    }

    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }

    fn took(&mut self, received: std::io::Result<usize>) -> Result<Filled> {
        match received {
            Ok(0) => bail!("the broker closed the connection"),
            Ok(len) => {
                self.end += len;
                Ok(Filled::Some)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(Filled::Nothing),
            Err(error) => Err(error).context("receive from the broker"),
        }
    }
}

/// Fails if the broker said in `payload`, a method, that it gives up the connection, the channel or the consumer. Other
/// methods that are not asked for do not concern a load.
pub(super) fn refuse_end(payload: &[u8]) -> Result<()> {
    match ToClient::decode(payload)? {
        ToClient::ConnectionClose(connection::Close { reply_code, reply_text, .. }) => {
            bail!("the broker closed the connection: {reply_code} {reply_text}")
        }
        ToClient::ChannelClose(close) => {
            bail!("the broker closed the channel: {} {}", close.reply_code, close.reply_text)
        }
        ToClient::BasicCancel(_) => bail!("the broker cancelled the consumer"),
        ToClient::BasicNack(nack) => bail!("the broker refused message {}", nack.delivery_tag),
        _ => Ok(()),
    }
}

/// The eight octets at `at` as a number.
pub(super) fn number_at(octets: &[u8], at: usize) -> Option<u64> {
    octets.get(at..)?.first_chunk().map(|octets| u64::from_be_bytes(*octets))
}
