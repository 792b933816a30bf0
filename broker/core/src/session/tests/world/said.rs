//! What the broker sends a client: frames, and the messages they make.

use std::string::String;
use std::vec;
use std::vec::Vec;

use warren_amqp::{BasicProperties, ToClient, basic, channel, connection};

/// A frame that the broker sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) channel: u16,
    pub(super) kind: Kind,
    pub(super) payload: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Method,
    Header,
    Body,
    Heartbeat,
}

/// A message that came by `basic.deliver`, `basic.get-ok` or `basic.return`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) tag: u64,
    pub(crate) redelivered: bool,
    pub(crate) body: String,
}

impl Said {
    pub(crate) fn method(&self) -> ToClient<'_> {
        assert_eq!(self.kind, Kind::Method, "{self:?}");
        ToClient::decode(&self.payload).expect("we send methods")
    }

    /// The payload, if it is a content header.
    pub(crate) fn content_header(&self) -> Option<&[u8]> {
        (self.kind == Kind::Header).then_some(&*self.payload)
    }

    pub(crate) fn properties(&self) -> BasicProperties<'_> {
        assert_eq!(self.kind, Kind::Header, "{self:?}");
        let header = warren_amqp::Header::decode(&self.payload).expect("we send headers");
        BasicProperties::decode(header.properties).expect("and good ones")
    }

    pub(crate) fn is_heartbeat(&self) -> bool {
        self.kind == Kind::Heartbeat
    }

    /// Asserts that it closes its channel, with this code and text, over the method `id`.
    #[track_caller]
    pub(crate) fn closes_channel(&self, code: u16, text: &str, (class_id, method_id): (u16, u16)) {
        let expected = channel::Close { reply_code: code, reply_text: text, class_id, method_id };
        assert_eq!(self.method(), ToClient::ChannelClose(expected));
    }

    /// Asserts that it closes the connection, with this code and text, over the method `id`.
    #[track_caller]
    pub(crate) fn closes_connection(&self, code: u16, text: &str, (class_id, method_id): (u16, u16)) {
        let expected = connection::Close { reply_code: code, reply_text: text, class_id, method_id };
        assert_eq!((self.channel, self.method()), (0, ToClient::ConnectionClose(expected)));
    }
}

/// Puts messages together from their frames; other methods between them are left out.
pub(crate) fn messages(heard: &[Said]) -> Vec<Message> {
    let mut messages: Vec<Message> = vec![];
    for said in heard {
        match said.kind {
            Kind::Method => match said.method() {
                ToClient::BasicDeliver(basic::Deliver { delivery_tag: tag, redelivered, .. })
                | ToClient::BasicGetOk(basic::GetOk { delivery_tag: tag, redelivered, .. }) => {
                    messages.push(Message { tag, redelivered, body: String::new() });
                }
                ToClient::BasicReturn(_) => messages.push(Message { tag: 0, redelivered: false, body: String::new() }),
                _ => {}
            },
            Kind::Body => {
                let message = messages.last_mut().expect("a body follows its method");
                message.body.push_str(core::str::from_utf8(&said.payload).expect("bodies of tests are text"));
            }
            Kind::Header | Kind::Heartbeat => {}
        }
    }
    messages
}

pub(crate) fn bodies(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.body.as_str()).collect()
}
