//! `basic.publish`: putting the content together, routing it, handing it to the shards.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use warren_amqp::delivery::{Content, encode_return};
use warren_amqp::{DecodeError, Header, ReplyCode, Table, basic, limits};

use super::output::{Parts, RunKind};
use super::{Origin, Session, SessionOutput};
use crate::error::Exception;
use crate::limits::{MESSAGE_BYTES, UNFINISHED_BYTES};
use crate::queue::Receipt;
use crate::topology::{Route, Routes, Topology};

/// The class of `basic`, which a content header has to name.
const BASIC_CLASS: u16 = 60;
/// `delivery-mode` of a message that is to survive a restart.
const PERSISTENT: u8 = 2;

/// A content on its way in. Names and header reuse their buffers; a body that came in one frame needs none.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    awaited: Awaited,
    exchange: String,
    routing_key: String,
    mandatory: bool,
    header: Vec<u8>,
    body: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// A `basic.publish`.
    #[default]
    Method,
    /// The content header.
    Header,
    /// So many more octets of the body.
    Body(u64),
}

impl Assembly {
    pub(super) fn is_under_way(&self) -> bool {
        self.awaited != Awaited::Method
    }

    /// Octets of an unfinished body.
    pub(super) fn unfinished_bytes(&self) -> u64 {
        self.body.len() as u64
    }

    fn begin(&mut self, publish: &basic::Publish<'_>) {
        self.awaited = Awaited::Header;
        self.exchange.clear();
        self.exchange.push_str(publish.exchange);
        self.routing_key.clear();
        self.routing_key.push_str(publish.routing_key);
        self.mandatory = publish.mandatory;
        self.header.clear();
        self.body.clear();
    }
}

impl Session {
    pub(super) fn basic_publish(&mut self, origin: Origin, publish: &basic::Publish<'_>) -> Result<(), Exception> {
        if publish.immediate {
            return Err(Exception::connection(ReplyCode::NotImplemented, "immediate=true"));
        }
        self.open_channel(origin)?.assembly.begin(publish);
        Ok(())
    }

    /// What a mistake in a content frame is put down to: the publish that it belongs to.
    pub(super) fn content_origin(&mut self, number: u16) -> Origin {
        let publishing = self.channel(number).is_some_and(|channel| channel.assembly.is_under_way());
        let (class_id, method_id) = if publishing { basic::Publish::ID } else { (0, 0) };
        Origin { channel: number, class_id, method_id }
    }

    pub(super) fn content_header(
        &mut self,
        number: u16,
        payload: &[u8],
        topology: &Topology,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        let Some(assembly) = self.assembly(number)? else {
            return Ok(());
        };
        if assembly.awaited != Awaited::Header {
            return Err(unexpected("content header", number));
        }
        let header =
            Header::decode(payload).map_err(|error| Exception::connection(error.reply_code(), format!("{error}")))?;
        if header.class_id != BASIC_CLASS {
            let text = format!("content header for class {}, expected class {BASIC_CLASS}", header.class_id);
            return Err(Exception::connection(ReplyCode::UnexpectedFrame, text));
        }
        if header.body_size > MESSAGE_BYTES {
            // The body follows and is dropped with the closing channel.
            let text = format!("message size {} is larger than configured max size {MESSAGE_BYTES}", header.body_size);
            return Err(Exception::channel(ReplyCode::PreconditionFailed, text));
        }
        assembly.header.extend_from_slice(payload);
        assembly.awaited = Awaited::Body(header.body_size);
        if header.body_size == 0 {
            return self.published(number, &[], topology, out);
        }
        Ok(())
    }

    pub(super) fn content_body(
        &mut self,
        number: u16,
        payload: &[u8],
        topology: &Topology,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        let Some(assembly) = self.assembly(number)? else {
            return Ok(());
        };
        let Awaited::Body(missing) = assembly.awaited else {
            return Err(unexpected("content body", number));
        };
        let Some(missing) = missing.checked_sub(payload.len() as u64) else {
            let text = format!("content body of channel {number} is longer than its header announced");
            return Err(Exception::connection(ReplyCode::FrameError, text));
        };
        assembly.awaited = Awaited::Body(missing);
        if missing > 0 {
            assembly.body.extend_from_slice(payload);
            self.unfinished_bytes += payload.len() as u64;
            return self.check_unfinished();
        }
        // The common case, a body in one frame, is taken from the frame without a copy here.
        if assembly.body.is_empty() {
            return self.published(number, payload, topology, out);
        }
        assembly.body.extend_from_slice(payload);
        let body = core::mem::take(&mut assembly.body);
        self.unfinished_bytes -= (body.len() - payload.len()) as u64;
        self.published(number, &body, topology, out)
    }

    /// A client may begin a body on every channel and finish none of them.
    fn check_unfinished(&self) -> Result<(), Exception> {
        if self.unfinished_bytes <= UNFINISHED_BYTES {
            return Ok(());
        }
        let text = format!("unfinished bodies on this connection exceed {UNFINISHED_BYTES} octets; finish some first");
        Err(Exception::connection(ReplyCode::ResourceError, text))
    }

    /// The assembly of an open channel; `None`: the channel is closing and its contents are dropped.
    fn assembly(&mut self, number: u16) -> Result<Option<&mut Assembly>, Exception> {
        if !self.channels.contains_key(&number) {
            return Err(unexpected("content", number));
        }
        Ok(self.channel(number).map(|channel| &mut channel.assembly))
    }

    /// Routes a complete message and hands it to its shards.
    fn published(
        &mut self,
        number: u16,
        body: &[u8],
        topology: &Topology,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        let connection = self.id;
        let Some(channel) = self.channels.get_mut(&number) else {
            return Ok(());
        };
        let assembly = &mut channel.assembly;
        assembly.awaited = Awaited::Method;
        let persistent = check_properties(&assembly.header, &self.user)?;
        route(topology, &self.vhost, assembly, &mut self.routes)?;
        let parts =
            Parts { exchange: &assembly.exchange, routing_key: &assembly.routing_key, header: &assembly.header, body };
        out.counts.received += 1;
        out.counts.received_confirm += u64::from(channel.confirms.is_some());
        out.counts.routed += self.routes.len() as u64;
        if self.routes.is_empty() && !assembly.mandatory {
            out.counts.unroutable_dropped += 1;
        } else if self.routes.is_empty() {
            // Before the confirm, which says no more than that the broker is done with it (RabbitMQ, confirms).
            out.counts.unroutable_returned += 1;
            return_unroutable(number, parts, self.frame_max, out);
        }
        let receipt = channel.confirms.as_ref().map(|confirms| Receipt {
            connection,
            channel: number,
            first: confirms.next(),
            len: 1,
        });
        let mut runs = 0;
        for routes in self.routes.by_shard() {
            runs += hand_over(routes, persistent, parts, receipt, out);
        }
        if let Some(confirms) = &mut channel.confirms {
            confirms.published(runs);
            self.confirms_due(number);
        }
        Ok(())
    }
}

/// Looks at the few properties that concern the broker; true if the message is persistent.
fn check_properties(header: &[u8], user: &str) -> Result<bool, Exception> {
    let malformed = |error: DecodeError| Exception::connection(error.reply_code(), format!("{error}"));
    let properties = Header::decode(header).map_err(malformed)?.properties;
    properties.validate(&limits::TABLE).map_err(malformed)?;
    if properties.has_user_id() {
        let claimed = properties.user_id().map_err(malformed)?.unwrap_or_default();
        if claimed != user {
            let text = format!("user_id property set to '{claimed}' but authenticated user was '{user}'");
            return Err(Exception::channel(ReplyCode::PreconditionFailed, text));
        }
    }
    if properties.has_expiration() {
        let text = "the expiration property (per-message TTL) is not available in this version; publish without it";
        return Err(Exception::channel(ReplyCode::NotImplemented, text));
    }
    if properties.has_headers() {
        refuse_sender_selected(properties.headers().map_err(malformed)?.unwrap_or_default())?;
    }
    Ok(properties.delivery_mode().map_err(malformed)? == Some(PERSISTENT))
}

/// RabbitMQ's sender-selected distribution: further routing keys in the headers `CC` and `BCC`.
fn refuse_sender_selected(headers: Table<'_>) -> Result<(), Exception> {
    for name in ["CC", "BCC"] {
        if matches!(headers.get(name), Ok(Some(_))) {
            let text = format!("the header '{name}' (sender-selected distribution) is not available in this version");
            return Err(Exception::channel(ReplyCode::NotImplemented, text));
        }
    }
    Ok(())
}

fn route(topology: &Topology, vhost: &str, assembly: &Assembly, routes: &mut Routes) -> Result<(), Exception> {
    routes.clear();
    let Some(vhost_state) = topology.vhost(vhost) else {
        return Err(Exception::connection(ReplyCode::NotAllowed, format!("vhost {vhost} not found")));
    };
    vhost_state
        .route(&assembly.exchange, &assembly.routing_key, || headers(&assembly.header), routes)
        .map_err(|error| error.into_exception(&assembly.exchange, vhost))
}

fn headers(header: &[u8]) -> Option<Table<'_>> {
    Header::decode(header).ok()?.properties.headers().ok()?
}

/// Adds the message to the runs of one shard; answers to how many.
fn hand_over(
    routes: &[Route],
    persistent: bool,
    parts: Parts<'_>,
    receipt: Option<Receipt>,
    out: &mut SessionOutput,
) -> u16 {
    let mut runs = 0;
    for (kind, queues) in RunKind::split(routes, persistent) {
        if let Some(first) = routes.first() {
            out.publish(first.shard, kind, queues, parts, receipt);
            runs += 1;
        }
    }
    runs
}

fn return_unroutable(number: u16, parts: Parts<'_>, frame_max: u32, out: &mut SessionOutput) {
    let method = basic::Return {
        reply_code: ReplyCode::NoRoute.code(),
        reply_text: ReplyCode::NoRoute.name(),
        exchange: parts.exchange,
        routing_key: parts.routing_key,
    };
    let content = Content { header_payload: parts.header, body: parts.body };
    encode_return(number, &method, content, frame_max, &mut out.octets);
}

fn unexpected(what: &str, number: u16) -> Exception {
    let text = format!("unexpected {what} on channel {number}: no basic.publish came before it");
    Exception::connection(ReplyCode::UnexpectedFrame, text)
}
