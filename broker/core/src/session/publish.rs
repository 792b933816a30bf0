//! `basic.publish`: putting the content together, routing it, handing it to the shards.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use warren_amqp::delivery::{Content, encode_return};
use warren_amqp::{ReplyCode, WholePublish, basic};

use super::direct_reply::send_replies;
use super::properties::{Checked, check_size, kept_header};
use super::routing::{Names, Traits, Unroutable};
use super::{Origin, Session, SessionOutput, World};
use crate::batch::{Parts, RunKind};
use crate::command::Attributes;
use crate::error::Exception;
use crate::limits::UNFINISHED_BYTES;
use crate::queue::Receipt;
use crate::topology::Route;

/// A content on its way in, frame by frame. Names and header reuse their buffers; a body that came in one frame needs
/// none.
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

    /// Another frame came than the one that is awaited.
    #[cold]
    pub(super) fn interrupted(&self) -> Exception {
        let text = match self.awaited {
            Awaited::Method => "expected method frame, got non method frame instead",
            Awaited::Header => "expected content header for class 60, got non content header frame instead",
            Awaited::Body(_) => "expected content body, got non content body frame instead",
        };
        Exception::connection(ReplyCode::UnexpectedFrame, text)
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

    /// Takes in a publish whose frames are all there, which is how nearly all of them come. False: nothing has been
    /// done, and the frames have to be looked at one by one; all mistakes are found there.
    #[inline]
    pub(super) fn whole_publish(
        &mut self,
        publish: &WholePublish<'_>,
        world: &mut World<'_>,
        out: &mut SessionOutput,
    ) -> bool {
        let channel = self.channels.get(publish.channel);
        if self.alarm.is_on() || !channel.is_some_and(|channel| channel.takes_publish()) {
            return false;
        }
        let Ok(content) = Checked::of(publish.header_payload, self.identity.name(), self.message_bytes) else {
            return false;
        };
        let parts = Parts {
            exchange: publish.exchange,
            routing_key: publish.routing_key,
            header: publish.header_payload,
            body: publish.body,
            attributes: content.attributes,
        };
        self.published(publish.channel, parts, publish.mandatory, content, world, out).is_ok()
    }

    pub(super) fn content_header(
        &mut self,
        number: u16,
        payload: &[u8],
        world: &mut World<'_>,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        let message_bytes = self.message_bytes;
        let Some(assembly) = self.assembly(number)? else {
            return Ok(());
        };
        if assembly.awaited != Awaited::Header {
            return Err(assembly.interrupted());
        }
        let body_size = check_size(payload, message_bytes)?;
        assembly.header.extend_from_slice(payload);
        assembly.awaited = Awaited::Body(body_size);
        if body_size == 0 {
            return self.assembled(number, &[], world, out);
        }
        Ok(())
    }

    pub(super) fn content_body(
        &mut self,
        number: u16,
        payload: &[u8],
        world: &mut World<'_>,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        let Some(assembly) = self.assembly(number)? else {
            return Ok(());
        };
        let Awaited::Body(missing) = assembly.awaited else {
            return Err(assembly.interrupted());
        };
        let Some(missing) = missing.checked_sub(payload.len() as u64) else {
            let text = "content body frame exceeds remaining content size";
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
            return self.assembled(number, payload, world, out);
        }
        assembly.body.extend_from_slice(payload);
        let body = core::mem::take(&mut assembly.body);
        self.unfinished_bytes -= (body.len() - payload.len()) as u64;
        self.assembled(number, &body, world, out)
    }

    /// A client may begin a body on every channel and finish none of them.
    fn check_unfinished(&self) -> Result<(), Exception> {
        // The largest message must get through.
        let limit = UNFINISHED_BYTES.max(self.message_bytes);
        if self.unfinished_bytes <= limit {
            return Ok(());
        }
        let text = format!("unfinished bodies on this connection exceed {limit} octets; finish some first");
        Err(Exception::connection(ReplyCode::ResourceError, text))
    }

    /// The assembly of an open channel; `None`: the channel is closing and its contents are dropped.
    fn assembly(&mut self, number: u16) -> Result<Option<&mut Assembly>, Exception> {
        if !self.channels.contains(number) {
            return Err(Assembly::default().interrupted());
        }
        Ok(self.channel(number).map(|channel| &mut channel.assembly))
    }

    /// All frames of a message have come.
    fn assembled(
        &mut self,
        number: u16,
        body: &[u8],
        world: &mut World<'_>,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        let Some(channel) = self.channels.get_mut(number) else {
            return Ok(());
        };
        let mut assembly = core::mem::take(&mut channel.assembly);
        assembly.awaited = Awaited::Method;
        let parts = Parts {
            exchange: assembly.exchange.as_bytes(),
            routing_key: assembly.routing_key.as_bytes(),
            header: &assembly.header,
            body,
            attributes: Attributes::default(),
        };
        let result = match Checked::of(parts.header, self.identity.name(), self.message_bytes) {
            Ok(content) => {
                let parts = Parts { attributes: content.attributes, ..parts };
                self.published(number, parts, assembly.mandatory, content, world, out)
            }
            Err(exception) => self.check_exchange(parts, world).and(Err(exception)),
        };
        if let Some(channel) = self.channels.get_mut(number) {
            channel.assembly = assembly;
        }
        result
    }

    /// What is wrong with the exchange is said before what is wrong with the message (RabbitMQ).
    #[cold]
    fn check_exchange(&mut self, parts: Parts<'_>, world: &mut World<'_>) -> Result<(), Exception> {
        let names = Names { exchange: parts.exchange, routing_key: parts.routing_key };
        let found = self.routes.find(world, &self.vhost, names, Traits::NONE);
        found.map(drop).map_err(|error| unroutable(error, &self.vhost, parts.exchange))
    }

    /// Takes in a complete message; without effect if it is refused.
    #[inline]
    fn published(
        &mut self,
        number: u16,
        parts: Parts<'_>,
        mandatory: bool,
        content: Checked<'_>,
        world: &mut World<'_>,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        if content.is_plain() {
            return self.route(number, parts, mandatory, content, world, out);
        }
        let header = self.changed_header(number, parts, content, world)?;
        self.route(number, Parts { header: &header, ..parts }, mandatory, content, world, out)
    }

    #[cold]
    fn changed_header(
        &mut self,
        number: u16,
        parts: Parts<'_>,
        content: Checked<'_>,
        world: &mut World<'_>,
    ) -> Result<Vec<u8>, Exception> {
        self.check_exchange(parts, world)?;
        let reply_to = content.asks_for_reply.then(|| self.reply_to(number)).transpose()?;
        Ok(kept_header(parts.header, &content, reply_to.as_deref()))
    }

    /// Routes a message in the form in which it is kept, and hands it to its shards.
    #[inline]
    fn route(
        &mut self,
        number: u16,
        parts: Parts<'_>,
        mandatory: bool,
        content: Checked<'_>,
        world: &mut World<'_>,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        let connection = self.id;
        let Some(channel) = self.channels.get_mut(number) else {
            return Ok(());
        };
        let names = Names { exchange: parts.exchange, routing_key: parts.routing_key };
        let routes = match content.selected {
            None => self.routes.find(world, &self.vhost, names, content.traits),
            Some(selected) => self.routes.find_all(world, &self.vhost, names, selected.keys(), content.traits),
        };
        let routes = routes.map_err(|error| unroutable(error, &self.vhost, parts.exchange))?;
        let in_transaction = channel.transaction.is_some();
        let (answers, out) = match &mut channel.transaction {
            None => (channel.confirms.as_mut(), out),
            Some(transaction) => {
                let copies = routes.by_shard().count().max(1) as u64;
                transaction.reserve(copies * parts.len(), &mut self.uncommitted_bytes)?;
                (Some(&mut transaction.answers), &mut transaction.output)
            }
        };
        out.counts.received += 1;
        out.counts.received_confirm += u64::from(answers.is_some() && !in_transaction);
        out.counts.routed += routes.len() as u64;
        let may_reply = routes.is_empty() || content.selected.is_some();
        let replies = if may_reply { send_replies(parts, content.selected, out) } else { 0 };
        if routes.is_empty() && replies == 0 {
            drop_or_return(number, parts, mandatory, self.frame_max, out);
        }
        let first = answers.as_ref().map(|answers| answers.next());
        let receipt = first.map(|first| Receipt { connection, channel: number, first, len: 1, index: 0 });
        let mut runs = 0;
        for routes in routes.by_shard() {
            runs += hand_over(routes, content.persistent, parts, receipt, out);
        }
        let Some(answers) = answers else {
            return Ok(());
        };
        answers.published(runs);
        if !in_transaction {
            self.unconfirmed += 1;
            if runs == 0 {
                self.confirms_due(number);
            }
        }
        Ok(())
    }
}

#[cold]
fn unroutable(error: Unroutable, vhost: &str, exchange: &[u8]) -> Exception {
    match error {
        Unroutable::NotUtf8 => Exception::connection(ReplyCode::SyntaxError, "exchange or routing key is not UTF-8"),
        Unroutable::NoVhost => Exception::connection(ReplyCode::NotAllowed, format!("vhost {vhost} not found")),
        Unroutable::Refused(error) => error.into_exception(&String::from_utf8_lossy(exchange), vhost),
    }
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

/// No queue wants the message. What is returned goes out before the confirm, which says no more than that the broker
/// is done with it (RabbitMQ, confirms).
fn drop_or_return(number: u16, parts: Parts<'_>, mandatory: bool, frame_max: u32, out: &mut SessionOutput) {
    if !mandatory {
        out.counts.unroutable_dropped += 1;
        return;
    }
    out.counts.unroutable_returned += 1;
    // Routing has found that both are text.
    let text = |octets| core::str::from_utf8(octets).unwrap_or_default();
    let method = basic::Return {
        reply_code: ReplyCode::NoRoute.code(),
        reply_text: ReplyCode::NoRoute.name(),
        exchange: text(parts.exchange),
        routing_key: text(parts.routing_key),
    };
    let content = Content { header_payload: parts.header, body: parts.body };
    encode_return(number, &method, content, frame_max, &mut out.octets);
}
