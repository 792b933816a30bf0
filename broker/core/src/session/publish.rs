//! `basic.publish`: putting the content together, routing it, handing it to the shards.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use warren_amqp::delivery::{Content, encode_return};
use warren_amqp::{ReplyCode, WholePublish, basic};

use super::confirm::{ConfirmWatch, Confirms};
use super::direct_reply::send_replies;
use super::properties::{Checked, check_size, kept_header};
use super::routing::{Names, Publisher, Traits};
use super::trace::Seen;
use super::{ChannelCounters, Origin, Session, SessionOutput, World};
use crate::batch::{Parts, RunKind};
use crate::error::Exception;
use crate::limits::UNFINISHED_BYTES;
use crate::queue::Receipt;
use crate::topology::{Route, Routes};

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
        let Ok(content) = Checked::of(publish.header_payload, self.message_bytes, &self.identity, world.topology)
        else {
            return false;
        };
        let published = Published {
            channel: publish.channel,
            mandatory: publish.mandatory,
            exchange: publish.exchange,
            routing_key: publish.routing_key,
            header: publish.header_payload,
            body: publish.body,
        };
        self.published(published, &content, world, out).is_ok()
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
        let published = Published {
            channel: number,
            mandatory: assembly.mandatory,
            exchange: assembly.exchange.as_bytes(),
            routing_key: assembly.routing_key.as_bytes(),
            header: &assembly.header,
            body,
        };
        let result = match Checked::of(published.header, self.message_bytes, &self.identity, world.topology) {
            Ok(content) => self.published(published, &content, world, out),
            Err(exception) => self.check_exchange(published, world).and(Err(exception)),
        };
        if let Some(channel) = self.channels.get_mut(number) {
            channel.assembly = assembly;
        }
        result
    }

    /// What is wrong with the exchange is said before what is wrong with the message (RabbitMQ).
    #[cold]
    fn check_exchange(&mut self, published: Published<'_>, world: &mut World<'_>) -> Result<(), Exception> {
        let publisher = Publisher { identity: &self.identity, vhost: &self.vhost };
        self.routes.find(world, publisher, published.names(), Traits::NONE).map(drop)
    }

    /// Takes in a complete message; without effect if it is refused.
    #[inline]
    fn published(
        &mut self,
        published: Published<'_>,
        content: &Checked<'_>,
        world: &mut World<'_>,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        let changed;
        let mut published = published;
        if !content.is_plain() {
            changed = self.changed_header(published, content, world)?;
            published.header = &changed;
        }
        self.route(published, content, world, out)
    }

    #[cold]
    fn changed_header(
        &mut self,
        published: Published<'_>,
        content: &Checked<'_>,
        world: &mut World<'_>,
    ) -> Result<Vec<u8>, Exception> {
        self.check_exchange(published, world)?;
        let reply_to = content.asks_for_reply.then(|| self.reply_to(published.channel)).transpose()?;
        Ok(kept_header(published.header, content, reply_to.as_deref()))
    }

    /// Routes a message in the form in which it is kept, and hands it to its shards or to its channel's transaction.
    #[inline]
    fn route(
        &mut self,
        published: Published<'_>,
        content: &Checked<'_>,
        world: &mut World<'_>,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        let (connection, number) = (self.id, published.channel);
        let Some(channel) = self.channels.get_mut(number) else {
            return Ok(());
        };
        let counters = &mut channel.counters;
        let surroundings = Surroundings { vhost: &self.vhost, frame_max: self.frame_max, counters };
        let publisher = Publisher { identity: &self.identity, vhost: &self.vhost };
        let routes = if content.has_copies() {
            self.routes.find_all(world, publisher, published.names(), content)?
        } else {
            self.routes.find(world, publisher, published.names(), content.traits)?
        };
        let copies = routes.len() as u64;
        let receipt = |first| Receipt { connection, channel: number, first, len: 1, index: 0 };
        if let Some(transaction) = &mut channel.transaction {
            let uncommitted = &mut self.uncommitted_bytes;
            transaction.publish(published, content, routes, receipt(0), surroundings, uncommitted)?;
            self.publishers += usize::from(channel.counters.published == 1);
            self.routes.count(content.has_copies(), published.exchange, copies);
            if let Some(tracing) = &mut self.tracing {
                tracing.published(number, published.seen(content), copies, None, out);
            }
            return Ok(());
        }
        let receipt = channel.confirms.as_ref().map(Confirms::next).map(receipt);
        let runs = published.hand_over(content, routes, receipt, surroundings, out);
        self.publishers += usize::from(channel.counters.published == 1);
        self.routes.count(content.has_copies(), published.exchange, copies);
        if let Some(tracing) = &mut self.tracing {
            let confirm = channel.confirms.as_ref().map(Confirms::next);
            tracing.published(number, published.seen(content), copies, confirm, out);
        }
        if let Some(confirms) = &mut channel.confirms {
            out.counts.received_confirm += 1;
            if self.confirm_watch == ConfirmWatch::Wanted {
                self.confirm_watch = ConfirmWatch::On { channel: number, number: confirms.next() };
            }
            confirms.published(runs);
            self.unconfirmed += 1;
            if runs == 0 {
                self.confirms_due(number);
            }
        }
        Ok(())
    }
}

/// A complete message from a client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Published<'a> {
    channel: u16,
    mandatory: bool,
    exchange: &'a [u8],
    routing_key: &'a [u8],
    header: &'a [u8],
    body: &'a [u8],
}

/// What a message meets at the connection that it came by.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    vhost: &'a Arc<str>,
    frame_max: u32,
    counters: &'a mut ChannelCounters,
}

impl<'a> Published<'a> {
    #[inline]
    fn names(&self) -> Names<'a> {
        Names { exchange: self.exchange, routing_key: self.routing_key }
    }

    fn seen(&self, content: &Checked<'a>) -> Seen<'a> {
        let Self { exchange, routing_key, body, .. } = *self;
        Seen { exchange, routing_key, headers: content.traits.headers, body_bytes: body.len() }
    }

    /// Octets of names, header and body.
    pub(super) fn len(&self) -> u64 {
        (self.exchange.len() + self.routing_key.len() + self.header.len() + self.body.len()) as u64
    }

    /// Hands the message to the shards of its queues, or to whom it is a reply, or back to the client. Answers to how many
    /// runs.
    #[inline]
    pub(super) fn hand_over(
        self,
        content: &Checked<'_>,
        routes: &Routes,
        receipt: Option<Receipt>,
        surroundings: Surroundings<'_>,
        out: &mut SessionOutput,
    ) -> u16 {
        let Surroundings { vhost, frame_max, counters } = surroundings;
        let Self { channel, mandatory, exchange, routing_key, header, body } = self;
        let attributes = content.attributes_for(routes);
        let parts = Parts { exchange, routing_key, header, body, attributes };
        counters.published += 1;
        out.counts.received(body.len());
        out.counts.routed += routes.len() as u64;
        let may_reply = routes.is_empty() || content.has_copies();
        let replies = if may_reply { send_replies(parts, vhost, content.further_keys(), out) } else { 0 };
        if routes.is_empty() && replies == 0 {
            if mandatory {
                counters.returned += 1;
                give_back(channel, parts, frame_max, out);
            } else {
                counters.dropped += 1;
                out.counts.unroutable_dropped += 1;
            }
        }
        routes.by_shard().map(|routes| add_to_runs(routes, content.persistent, parts, receipt, out)).sum()
    }
}

/// Adds the message to the runs of one shard; answers to how many.
fn add_to_runs(
    routes: &[Route],
    persistent: bool,
    parts: Parts<'_>,
    receipt: Option<Receipt>,
    out: &mut SessionOutput,
) -> u16 {
    let mut runs = 0;
    for (kind, queues) in RunKind::split(routes, persistent) {
        if let Some(first) = routes.first() {
            out.shards.publish(first.shard, kind, queues, parts, receipt);
            runs += 1;
        }
    }
    runs
}

/// No queue wants the message. What is returned goes out before the confirm, which says no more than that the broker
/// is done with it (RabbitMQ, confirms).
fn give_back(number: u16, parts: Parts<'_>, frame_max: u32, out: &mut SessionOutput) {
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
