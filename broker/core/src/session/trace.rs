//! Traces: what becomes of messages that belong to a trace (W3C Trace Context, header `traceparent` of a message).
//!
//! A message belongs to one if its publisher says so: the header names the trace and its span, and that the trace is
//! sampled. The session tells when such a message was taken in and answered, and when it was sent and settled; the shell
//! knows what time it is then. The message itself stays as it is.
//!
//! A session that does not trace pays a branch for each message; one that does looks for the header in messages that have
//! headers, and remembers only messages that belong to a trace.

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::num::NonZeroU32;
use core::ops::RangeBounds;

use warren_amqp::{Header, Table, Value};

use super::SessionOutput;
use super::direct_reply::DIRECT_REPLY_TO;
use crate::identity::QueueId;
use crate::limits::{TRACED_UNDER_WAY, TRACESTATE_BYTES};
use crate::queue::Settlement;

/// The trace that a message belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The publisher's span.
    pub span_id: [u8; 8],
    /// What systems of tracing say to each other (header `tracestate`); empty: nothing.
    pub state: String,
}

/// Something that happened to a message of a trace. `span` is a number of this session's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceEvent {
    /// A span begins.
    Begun {
        /// Its number.
        span: u64,
        /// What it is about.
        message: TracedMessage,
    },
    /// A span ends.
    Ended {
        /// Its number.
        span: u64,
        /// How.
        outcome: TraceOutcome,
    },
    /// One more could not be followed, because [`TRACED_UNDER_WAY`] are.
    Missed,
}

/// What a span is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracedMessage {
    /// The trace that the message belongs to.
    pub context: TraceContext,
    /// The queue that it comes from, if it was sent to a client; `None`: a client has published it.
    pub queue: Option<QueueId>,
    /// The exchange it was published to.
    pub exchange: String,
    /// Its routing key; of a direct reply without its secret part.
    pub routing_key: String,
    /// Octets of its body.
    pub body_bytes: usize,
}

/// How a span ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceOutcome {
    /// Of a publish on a channel without confirms, or in a transaction: it was taken, and routed to a queue.
    Taken,
    /// Of such a publish: no queue wanted it. It was returned if it was mandatory, otherwise dropped.
    Unroutable,
    /// The publish was confirmed.
    Confirmed,
    /// The publish was refused with `basic.nack`.
    Refused,
    /// The message was sent to somebody who does not acknowledge.
    Sent,
    /// The client has settled the message.
    Settled(Settlement),
    /// The channel ended before it was answered or settled.
    Abandoned,
}

/// The messages of traces that are under way on a connection.
#[derive(Debug)]
pub(super) struct Tracing {
    /// One in so many traces is followed.
    one_in: NonZeroU32,
    last: u64,
    /// Publishes that wait for their confirms.
    publishes: UnderWay,
    /// Messages that the client has not settled.
    deliveries: UnderWay,
}

/// Spans that have not ended, by channel, and the confirm's number or the delivery tag.
type UnderWay = BTreeMap<(u16, u64), u64>;

/// A message as a client sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) exchange: &'a [u8],
    pub(super) routing_key: &'a [u8],
    pub(super) headers: Option<Table<'a>>,
    pub(super) body_bytes: usize,
}

impl<'a> Seen<'a> {
    /// What is sent to a client.
    pub(super) fn sent(message: &'a crate::Message) -> Self {
        // It was readable when it came in.
        let headers = Header::decode(message.header()).and_then(|header| header.properties.headers());
        Self {
            exchange: message.exchange().as_bytes(),
            routing_key: message.routing_key().as_bytes(),
            headers: headers.ok().flatten(),
            body_bytes: message.body().len(),
        }
    }
}

impl Tracing {
    pub(super) fn new(one_in: NonZeroU32) -> Self {
        Self { one_in, last: 0, publishes: UnderWay::new(), deliveries: UnderWay::new() }
    }

    /// A message was taken in, for so many queues. `confirm`: the number of the confirm that it waits for.
    pub(super) fn published(
        &mut self,
        channel: u16,
        message: Seen<'_>,
        copies: u64,
        confirm: Option<u64>,
        out: &mut SessionOutput,
    ) {
        if let Some(span) = self.begin(message, None, out) {
            let outcome = if copies == 0 { TraceOutcome::Unroutable } else { TraceOutcome::Taken };
            match confirm {
                Some(number) => drop(self.publishes.insert((channel, number), span)),
                None => out.traces.push(TraceEvent::Ended { span, outcome }),
            }
        }
    }

    /// A message was sent. `tag`: its delivery tag, if it has to be acknowledged.
    pub(super) fn sent(
        &mut self,
        channel: u16,
        queue: QueueId,
        message: Seen<'_>,
        tag: Option<u64>,
        out: &mut SessionOutput,
    ) {
        if let Some(span) = self.begin(message, Some(queue), out) {
            match tag {
                Some(number) => drop(self.deliveries.insert((channel, number), span)),
                None => out.traces.push(TraceEvent::Ended { span, outcome: TraceOutcome::Sent }),
            }
        }
    }

    /// Begins a span, if the message belongs to a trace that is followed.
    fn begin(&mut self, message: Seen<'_>, queue: Option<QueueId>, out: &mut SessionOutput) -> Option<u64> {
        let context = TraceContext::of(message.headers?, self.one_in)?;
        let under_way = if queue.is_none() { &self.publishes } else { &self.deliveries };
        if under_way.len() >= TRACED_UNDER_WAY {
            out.traces.push(TraceEvent::Missed);
            return None;
        }
        let text = |octets| String::from_utf8_lossy(octets).into_owned();
        let (exchange, routing_key) = (text(message.exchange), text(shown_key(message.routing_key)));
        let message = TracedMessage { context, queue, exchange, routing_key, body_bytes: message.body_bytes };
        self.last += 1;
        out.traces.push(TraceEvent::Begun { span: self.last, message });
        Some(self.last)
    }

    /// The channel's publishes before the confirm `next` have been answered.
    pub(super) fn answered(&mut self, channel: u16, next: u64, refused: bool, out: &mut SessionOutput) {
        let outcome = if refused { TraceOutcome::Refused } else { TraceOutcome::Confirmed };
        end(&mut self.publishes, (channel, 0)..(channel, next), outcome, out);
    }

    /// The client has settled a delivery, or all up to it, 0 being the last (AMQP 0-9-1 `basic.ack`).
    pub(super) fn settled(
        &mut self,
        channel: u16,
        tag: u64,
        multiple: bool,
        settlement: Settlement,
        out: &mut SessionOutput,
    ) {
        let first = if multiple { 0 } else { tag };
        let last = if multiple && tag == 0 { u64::MAX } else { tag };
        end(&mut self.deliveries, (channel, first)..=(channel, last), TraceOutcome::Settled(settlement), out);
    }

    /// A channel has ended, or all of them.
    pub(super) fn abandon(&mut self, channel: Option<u16>, out: &mut SessionOutput) {
        let (first, last) = channel.map_or((0, u16::MAX), |channel| (channel, channel));
        for under_way in [&mut self.publishes, &mut self.deliveries] {
            end(under_way, (first, 0)..=(last, u64::MAX), TraceOutcome::Abandoned, out);
        }
    }
}

/// A routing key as others may see it: who knows the whole address of somebody who waits for replies can send some.
fn shown_key(routing_key: &[u8]) -> &[u8] {
    let pseudo_queue = DIRECT_REPLY_TO.as_bytes();
    match routing_key.strip_prefix(pseudo_queue) {
        Some([b'.', ..]) => pseudo_queue,
        _ => routing_key,
    }
}

/// Ends those spans, oldest first in each channel.
fn end(under_way: &mut UnderWay, ended: impl RangeBounds<(u16, u64)>, outcome: TraceOutcome, out: &mut SessionOutput) {
    let ended = under_way.extract_if(ended, |_, _| true);
    out.traces.extend(ended.map(|(_, span)| TraceEvent::Ended { span, outcome }));
}

impl TraceContext {
    /// The trace that a message with these headers belongs to, if it is sampled and one of those that are followed: the
    /// same ones everywhere.
    fn of(headers: Table<'_>, one_in: NonZeroU32) -> Option<Self> {
        let (trace_id, span_id) = traceparent(text(headers, "traceparent")?)?;
        let lot = trace_id.last_chunk().map_or(0, |chunk: &[u8; 8]| u64::from_be_bytes(*chunk));
        if !lot.is_multiple_of(u64::from(one_in.get())) {
            return None;
        }
        let state = text(headers, "tracestate").filter(|state| state.len() <= TRACESTATE_BYTES);
        let state = state.and_then(|state| core::str::from_utf8(state).ok()).unwrap_or_default();
        Some(Self { trace_id, span_id, state: String::from(state) })
    }
}

fn text<'a>(headers: Table<'a>, name: &str) -> Option<&'a [u8]> {
    match headers.get(name) {
        Ok(Some(Value::LongString(value))) => Some(value),
        _ => None,
    }
}

/// Trace and span of a header `version-trace_id-parent_id-flags` in hexadecimal digits that is sampled (W3C Trace Context
/// §3.2). Versions to come may have more behind it.
fn traceparent(octets: &[u8]) -> Option<([u8; 16], [u8; 8])> {
    let (known, rest) = octets.split_first_chunk::<55>()?;
    let [version] = hex(&known[..2])?;
    let is_long_enough = rest.is_empty() || (version > 0 && rest[0] == b'-');
    let has_dashes = known[2] == b'-' && known[35] == b'-' && known[52] == b'-';
    if version == 0xff || !is_long_enough || !has_dashes {
        return None;
    }
    let (trace_id, span_id, [flags]) = (hex(&known[3..35])?, hex(&known[36..52])?, hex(&known[53..])?);
    let is_sampled = flags & 1 == 1;
    (is_sampled && trace_id != [0; 16] && span_id != [0; 8]).then_some((trace_id, span_id))
}

/// `N` octets in lower-case hexadecimal digits.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |octet: u8| match octet {
        b'0'..=b'9' => Some(octet - b'0'),
        b'a'..=b'f' => Some(octet - b'a' + 10),
        _ => None,
    };
    let mut octets = [0; N];
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    for (octet, [high, low]) in octets.iter_mut().zip(pairs) {
        *octet = digit(*high)? << 4 | digit(*low)?;
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use warren_amqp::TableBuilder;

    use super::*;

    #[test]
    fn a_tracestate_of_512_octets_is_told_and_a_longer_one_is_not() {
        for (len, told) in [(TRACESTATE_BYTES, TRACESTATE_BYTES), (TRACESTATE_BYTES + 1, 0)] {
            let headers = TableBuilder::build(|table| {
                table.put("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
                table.put("tracestate", "x".repeat(len).as_str());
            });
            let context = TraceContext::of(Table::new(&headers), NonZeroU32::MIN).expect("a sampled trace");
            assert_eq!(context.state.len(), told);
        }
    }

    #[test]
    fn a_traceparent_is_read_as_the_standard_says() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let (trace_id, span_id) = traceparent(good.as_bytes()).expect("a sampled trace");
        assert_eq!(u128::from_be_bytes(trace_id), 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!(u64::from_be_bytes(span_id), 0xb7ad_6b71_6920_3331);
        for sampled in [
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        ] {
            assert!(traceparent(sampled.as_bytes()).is_some(), "{sampled}");
        }
        for refused in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333x-01",
        ] {
            assert_eq!(traceparent(refused.as_bytes()), None, "{refused}");
        }
    }
}
