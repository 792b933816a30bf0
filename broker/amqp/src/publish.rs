//! Whole messages from a client: method, header and body frames at one go. This is the broker's hottest path inwards.

use crate::basic;
use crate::frame::{Frame, decode_frame};
use crate::wire::{self, FRAME_METHOD, Reader};

/// A `basic.publish` with its content, whose frames all stand one behind the other in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WholePublish<'a> {
    /// Channel number.
    pub channel: u16,
    /// The exchange's name. Not checked to be UTF-8.
    pub exchange: &'a [u8],
    /// The routing key. Not checked to be UTF-8.
    pub routing_key: &'a [u8],
    /// Return the message if no queue takes it.
    pub mandatory: bool,
    /// The header frame's payload, for [`crate::Header::decode`].
    pub header_payload: &'a [u8],
    /// The body, as long as the header says.
    pub body: &'a [u8],
}

/// Octets of a method frame before its fields, when it is a `basic.publish`.
const METHOD_HEAD: usize = 11;

/// Splits a publish off the front of `buffer`, and answers how many octets it took.
///
/// `None` is for everything else, whatever it is: another frame, one that is not complete, a body in several frames,
/// `immediate`, a mistake. [`decode_frame`] tells, frame by frame. `frame_max` is as it is there.
#[inline]
pub fn decode_whole_publish(buffer: &[u8], frame_max: u32) -> Option<(WholePublish<'_>, usize)> {
    let [class1, class0] = basic::Publish::ID.0.to_be_bytes();
    let [method1, method0] = basic::Publish::ID.1.to_be_bytes();
    // A look ahead, so that other frames cost next to nothing here.
    match buffer.first_chunk::<METHOD_HEAD>()? {
        &[FRAME_METHOD, _, _, _, _, _, _, c1, c0, m1, m0] if [c1, c0, m1, m0] == [class1, class0, method1, method0] => {
        }
        _ => return None,
    }
    let (Frame::Method { channel, payload }, method_len) = decode_frame(buffer, frame_max).ok()?? else {
        return None;
    };
    let fields = payload.get(4..)?;
    let rest = buffer.get(method_len..)?;
    let (Frame::Header { channel: header_channel, payload: header_payload }, header_len) =
        decode_frame(rest, frame_max).ok()??
    else {
        return None;
    };
    let (body, body_len) = whole_body(channel, header_payload, rest.get(header_len..)?, frame_max)?;
    if header_channel != channel {
        return None;
    }
    let mut reader = Reader::new(basic::Publish::NAME, fields);
    reader.short("reserved").ok()?;
    let exchange = reader.shortstr_octets("exchange").ok()?;
    let routing_key = reader.shortstr_octets("routing-key").ok()?;
    let bits = reader.octet("mandatory, immediate").ok()?;
    let (mandatory, immediate) = (wire::bit(bits, 0), wire::bit(bits, 1));
    reader.finish().ok()?;
    let len = method_len.checked_add(header_len)?.checked_add(body_len)?;
    let publish = WholePublish { channel, exchange, routing_key, mandatory, header_payload, body };
    (!immediate).then_some((publish, len))
}

/// The body that the header announces, if it is all in one frame, and that frame's octets.
#[inline]
fn whole_body<'a>(channel: u16, header: &[u8], buffer: &'a [u8], frame_max: u32) -> Option<(&'a [u8], usize)> {
    // Behind class and weight, which the header's own decoder judges.
    let size = u64::from_be_bytes(*header.get(4..)?.first_chunk::<8>()?);
    if size == 0 {
        return Some((&[], 0));
    }
    match decode_frame(buffer, frame_max).ok()?? {
        (Frame::Body { channel: body_channel, payload }, len)
            if body_channel == channel && u64::try_from(payload.len()) == Ok(size) =>
        {
            Some((payload, len))
        }
        _ => None,
    }
}
