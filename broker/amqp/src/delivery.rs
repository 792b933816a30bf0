//! Whole messages for a client: method, header and body frames in one go. This is the broker's hottest path outwards.

use alloc::vec::Vec;

use crate::basic;
use crate::content::{body_frame_payload, encode_body_frames, encode_header_raw};
use crate::limits::FRAME_OVERHEAD;
use crate::wire::{self, FRAME_END, FRAME_METHOD};

/// A message's content as a broker keeps it.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    /// The header frame's payload, as received or from [`crate::content::encode_header_payload`].
    pub header_payload: &'a [u8],
    /// The whole body; its length is the `body-size` inside `header_payload`.
    pub body: &'a [u8],
}

/// Appends `basic.deliver`, the header frame and the body frames. `frame_max` as in
/// [`crate::content::encode_body_frames`].
///
/// The octets of the method are those of [`basic::Deliver::encode`], put together in a few large pieces instead of
/// field by field: that takes a third off a small delivery's cost.
#[inline]
pub fn encode_deliver(
    channel: u16,
    method: &basic::Deliver<'_>,
    content: Content<'_>,
    frame_max: u32,
    out: &mut Vec<u8>,
) {
    reserve(content, frame_max, out);
    let (tag_length, consumer_tag) = wire::shortstr_octets(method.consumer_tag);
    let (exchange_length, exchange) = wire::shortstr_octets(method.exchange);
    let (key_length, routing_key) = wire::shortstr_octets(method.routing_key);
    // Ids, the strings' three length octets, the delivery tag, the bit, and the strings.
    let size = [4 + 3 + 8 + 1, tag_length.into(), exchange_length.into(), key_length.into()].into_iter().sum::<u32>();
    let [c1, c0] = channel.to_be_bytes();
    let [s3, s2, s1, s0] = size.to_be_bytes();
    let [class1, class0] = basic::Deliver::ID.0.to_be_bytes();
    let [method1, method0] = basic::Deliver::ID.1.to_be_bytes();
    let [t7, t6, t5, t4, t3, t2, t1, t0] = method.delivery_tag.to_be_bytes();

    out.extend_from_slice(&[FRAME_METHOD, c1, c0, s3, s2, s1, s0, class1, class0, method1, method0, tag_length]);
    out.extend_from_slice(consumer_tag);
    let redelivered = u8::from(method.redelivered);
    out.extend_from_slice(&[t7, t6, t5, t4, t3, t2, t1, t0, redelivered, exchange_length]);
    out.extend_from_slice(exchange);
    out.push(key_length);
    out.extend_from_slice(routing_key);
    out.push(FRAME_END);
    encode_content(channel, content, frame_max, out);
}

/// Appends `basic.get-ok`, the header frame and the body frames.
pub fn encode_get_ok(channel: u16, method: &basic::GetOk<'_>, content: Content<'_>, frame_max: u32, out: &mut Vec<u8>) {
    reserve(content, frame_max, out);
    method.encode(channel, out);
    encode_content(channel, content, frame_max, out);
}

/// Appends `basic.return`, the header frame and the body frames.
pub fn encode_return(
    channel: u16,
    method: &basic::Return<'_>,
    content: Content<'_>,
    frame_max: u32,
    out: &mut Vec<u8>,
) {
    reserve(content, frame_max, out);
    method.encode(channel, out);
    encode_content(channel, content, frame_max, out);
}

/// Appends the header frame and the body frames.
#[inline]
pub fn encode_content(channel: u16, content: Content<'_>, frame_max: u32, out: &mut Vec<u8>) {
    encode_header_raw(channel, content.header_payload, out);
    encode_body_frames(channel, content.body, frame_max, out);
}

/// Makes room for the whole message, so that no octet of a large body is moved twice.
#[inline]
fn reserve(content: Content<'_>, frame_max: u32, out: &mut Vec<u8>) {
    let overhead = usize::try_from(FRAME_OVERHEAD).unwrap_or(usize::MAX);
    let payload = body_frame_payload(frame_max);
    // A division is dear beside a small delivery, and most bodies fit one frame.
    let frames = if content.body.len() <= payload { 1 } else { content.body.len().div_ceil(payload) };
    let body = content.body.len().saturating_add(frames.saturating_mul(overhead));
    let header = content.header_payload.len().saturating_add(overhead);
    out.reserve(METHOD_FRAME_MAX.saturating_add(header).saturating_add(body));
}

/// More than the largest of these method frames: three short strings of 256 octets, framing, ids and numbers.
const METHOD_FRAME_MAX: usize = 3 * 256 + 32;
