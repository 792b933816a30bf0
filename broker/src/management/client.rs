//! An AMQP client inside the process: what the API does with messages goes the way of everybody's messages, through a
//! connection of its own, and all rules of AMQP hold for it.
//!
//! It is let in as the caller, who has logged in to the API already. It has one channel, asks one thing at a time, and is dropped after that.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tracing::{Instrument, error_span};
use warren_amqp::{
    BasicProperties, DecodeError, Frame, ReplyCode, Table, ToClient, ToServer, basic, channel, confirm, content,
    decode_frame, queue,
};
use warren_core::{ConnectionId, Exception};

use super::answer::Failure;
use super::call::Call;
use super::caller::Caller;
use crate::authentication::Authenticated;
use crate::connection;
use crate::limits::INSIDE_PIPE_BYTES;
use crate::listener::InHandshake;
use crate::statistics::connection::ConnectionFacts;

/// Octets of a frame, which is the broker's own proposal.
const FRAME_MAX: u32 = 131_072;

/// The channel that everything is asked on.
const CHANNEL: u16 = 1;

/// Octets in front of a frame's payload.
const FRAME_HEAD: usize = 7;

/// A connection with its channel.
#[derive(Debug)]
pub(super) struct Client {
    stream: DuplexStream,
    received: BytesMut,
}

/// What the broker sent.
#[derive(Debug)]
enum Received {
    Method(Bytes),
    Header(Bytes),
    Body(Bytes),
}

/// A message that was got.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) tag: u64,
    pub(super) redelivered: bool,
    pub(super) exchange: String,
    pub(super) routing_key: String,
    /// How many are left in the queue.
    pub(super) message_count: u32,
    /// The payload of its header frame.
    pub(super) header: Bytes,
    pub(super) body: Vec<u8>,
}

/// What becomes of messages that were got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settle {
    /// They are done with.
    Ack,
    /// They are back in the queue.
    Requeue,
    /// They are dropped or dead-lettered.
    Reject,
}

impl Client {
    /// Connects as the caller, to a virtual host.
    pub(super) async fn open(call: &Call, vhost: &str) -> Result<Self, Failure> {
        let mut client = Self { stream: connect(call)?, received: BytesMut::new() };
        client.stream.write_all(b"AMQP\x00\x00\x09\x01").await.map_err(|_| Failure::stopping())?;
        client.ask(0, None, |answer| matches!(answer, ToClient::ConnectionStart(_))).await?;
        // Who it is has been found out already.
        let response = [b"\0", call.caller.identity.name().as_bytes(), b"\0"].concat();
        let start_ok = ToServer::ConnectionStartOk(warren_amqp::connection::StartOk {
            client_properties: Table::default(),
            mechanism: "PLAIN",
            response: &response,
            locale: "en_US",
        });
        client.ask(0, Some(start_ok), |answer| matches!(answer, ToClient::ConnectionTune(_))).await?;
        let tune_ok = warren_amqp::connection::TuneOk { channel_max: CHANNEL, frame_max: FRAME_MAX, heartbeat: 0 };
        client.say(0, &ToServer::ConnectionTuneOk(tune_ok)).await?;
        let open = ToServer::ConnectionOpen(warren_amqp::connection::Open { virtual_host: vhost });
        client.ask(0, Some(open), |answer| matches!(answer, ToClient::ConnectionOpenOk(_))).await?;
        let open = ToServer::ChannelOpen(channel::Open);
        client.ask(CHANNEL, Some(open), |answer| matches!(answer, ToClient::ChannelOpenOk(_))).await?;
        Ok(client)
    }

    /// Publishes, and waits until the message is as safe as it can be. Answers whether a queue took it.
    pub(super) async fn publish(
        &mut self,
        (exchange, routing_key): (&str, &str),
        properties: &BasicProperties<'_>,
        body: &[u8],
    ) -> Result<bool, Failure> {
        let select = ToServer::ConfirmSelect(confirm::Select { no_wait: false });
        self.ask(CHANNEL, Some(select), |answer| matches!(answer, ToClient::ConfirmSelectOk(_))).await?;
        let publish = basic::Publish { exchange, routing_key, mandatory: true, immediate: false };
        let mut octets = Vec::new();
        ToServer::BasicPublish(publish).encode(CHANNEL, &mut octets);
        content::encode_header(CHANNEL, body.len() as u64, properties, &mut octets);
        content::encode_body_frames(CHANNEL, body, FRAME_MAX, &mut octets);
        self.send(&octets).await?;
        let mut routed = true;
        loop {
            let Received::Method(payload) = self.receive().await? else { continue };
            match decoded(&payload)? {
                ToClient::BasicReturn(_) => routed = false,
                ToClient::BasicAck(_) => return Ok(routed),
                ToClient::BasicNack(_) => {
                    let reason = "a queue has refused the message: it is full, or has had it";
                    return Err(Failure::bad_request(reason));
                }
                _ => {}
            }
        }
    }

    /// The next message of a queue; `None` if there is none.
    pub(super) async fn get(&mut self, queue: &str) -> Result<Option<Got>, Failure> {
        self.say(CHANNEL, &ToServer::BasicGet(basic::Get { queue, no_ack: false })).await?;
        let payload = self.method().await?;
        let ToClient::BasicGetOk(got) = decoded(&payload)? else { return Ok(None) };
        let (header, body) = self.content().await?;
        Ok(Some(Got {
            tag: got.delivery_tag,
            redelivered: got.redelivered,
            exchange: got.exchange.to_owned(),
            routing_key: got.routing_key.to_owned(),
            message_count: got.message_count,
            header,
            body,
        }))
    }

    /// Settles all messages up to that one.
    pub(super) async fn settle(&mut self, delivery_tag: u64, settle: Settle) -> Result<(), Failure> {
        let nack = |requeue| ToServer::BasicNack(basic::Nack { delivery_tag, multiple: true, requeue });
        match settle {
            Settle::Ack => self.say(CHANNEL, &ToServer::BasicAck(basic::Ack { delivery_tag, multiple: true })).await,
            Settle::Requeue => self.say(CHANNEL, &nack(true)).await,
            Settle::Reject => self.say(CHANNEL, &nack(false)).await,
        }
    }

    /// Drops the messages that wait in a queue.
    pub(super) async fn purge(&mut self, queue: &str) -> Result<(), Failure> {
        let purge = ToServer::QueuePurge(queue::Purge { queue, no_wait: false });
        self.ask(CHANNEL, Some(purge), |answer| matches!(answer, ToClient::QueuePurgeOk(_))).await
    }

    /// Says goodbye. What was asked before has been done when this returns.
    pub(super) async fn close(mut self) -> Result<(), Failure> {
        let close = warren_amqp::connection::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
        let close = ToServer::ConnectionClose(close);
        self.ask(0, Some(close), |answer| matches!(answer, ToClient::ConnectionCloseOk(_))).await
    }

    async fn say(&mut self, channel: u16, method: &ToServer<'_>) -> Result<(), Failure> {
        let mut octets = Vec::new();
        method.encode(channel, &mut octets);
        self.send(&octets).await
    }

    async fn send(&mut self, octets: &[u8]) -> Result<(), Failure> {
        // If the broker has hung up, what it said before is still to be read.
        let _ = self.stream.write_all(octets).await;
        Ok(())
    }

    /// Says something and waits for the answer.
    async fn ask(
        &mut self,
        channel: u16,
        method: Option<ToServer<'_>>,
        is_answer: impl Fn(&ToClient<'_>) -> bool,
    ) -> Result<(), Failure> {
        if let Some(method) = method {
            self.say(channel, &method).await?;
        }
        loop {
            if is_answer(&decoded(&self.method().await?)?) {
                return Ok(());
            }
        }
    }

    async fn method(&mut self) -> Result<Bytes, Failure> {
        loop {
            if let Received::Method(payload) = self.receive().await? {
                return Ok(payload);
            }
        }
    }

    /// Header and body behind a method that has them.
    async fn content(&mut self) -> Result<(Bytes, Vec<u8>), Failure> {
        let Received::Header(header) = self.receive().await? else { return Err(confused()) };
        let length = warren_amqp::Header::decode(&header).map_err(|_| confused())?.body_size;
        let mut body = Vec::new();
        while (body.len() as u64) < length {
            let Received::Body(part) = self.receive().await? else { return Err(confused()) };
            body.extend_from_slice(&part);
        }
        Ok((header, body))
    }

    /// The next frame. One that closes the channel or the connection is a failure.
    async fn receive(&mut self) -> Result<Received, Failure> {
        loop {
            let found = decode_frame(&self.received, FRAME_MAX).map_err(|_| confused())?;
            let Some((frame, length)) = found else {
                if self.stream.read_buf(&mut self.received).await.unwrap_or_default() == 0 {
                    // Without a word it does so if it does not let the caller in, and when the node stops.
                    return Err(Failure::not_authenticated());
                }
                continue;
            };
            let kind: fn(Bytes) -> Received = match frame {
                Frame::Method { .. } => Received::Method,
                Frame::Header { .. } => Received::Header,
                Frame::Body { .. } => Received::Body,
                Frame::Heartbeat { .. } => {
                    let _ = self.received.split_to(length);
                    continue;
                }
            };
            let frame = self.received.split_to(length).freeze();
            let received = kind(frame.slice(FRAME_HEAD..length - 1));
            if let Received::Method(payload) = &received {
                refuse_close(payload)?;
            }
            return Ok(received);
        }
    }
}

/// Connects the two ends of a pipe: the broker's is served as a client's socket is.
fn connect(call: &Call) -> Result<DuplexStream, Failure> {
    let shared = &call.shared;
    let handshake = InHandshake::inside(shared);
    let (ours, theirs) = duplex(INSIDE_PIPE_BYTES);
    let local: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    let id = ConnectionId(shared.last_connection.fetch_add(1, Ordering::Relaxed) + 1);
    let connected_at_ms = shared.clock.unix_millis();
    let Caller { identity, expires, .. } = &call.caller;
    let inside = Some(Authenticated { identity: identity.clone(), expires: *expires, revocable: None });
    let facts = ConnectionFacts { inside, ..ConnectionFacts::new(id, (call.peer, local), connected_at_ms) };
    let span = error_span!("connection", connection_id = id.0, peer = %call.peer);
    shared.tasks.spawn(connection::serve(facts, theirs, handshake).instrument(span));
    Ok(ours)
}

fn decoded(payload: &Bytes) -> Result<ToClient<'_>, Failure> {
    ToClient::decode(payload).map_err(|_: DecodeError| confused())
}

/// Our own broker does not send what cannot be read.
fn confused() -> Failure {
    let status = axum::http::StatusCode::INTERNAL_SERVER_ERROR;
    Failure::new(status, "internal_error", "the broker's own answer cannot be read")
}

fn refuse_close(payload: &Bytes) -> Result<(), Failure> {
    let (code, text) = match decoded(payload)? {
        ToClient::ChannelClose(close) => (close.reply_code, close.reply_text),
        ToClient::ConnectionClose(close) => (close.reply_code, close.reply_text),
        _ => return Ok(()),
    };
    let code = ReplyCode::from_code(code).unwrap_or(ReplyCode::InternalError);
    // The code's name is in front of the text.
    let text = text.split_once(" - ").map_or(text, |(_, text)| text);
    Err(Exception::channel(code, text).into())
}
