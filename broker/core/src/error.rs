//! What a client's mistake costs it.

use alloc::string::String;

use warren_amqp::ReplyCode;

/// A refusal with its scope. AMQP 0-9-1 has only these two sizes (spec 1.5.2.5 and 1.4.2.6).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Exception {
    /// The channel is closed; others on the connection go on. Example: `queue.declare passive` of an unknown queue, 404.
    #[error("channel exception {code:?}: {text}")]
    Channel {
        /// The reply code of `channel.close`.
        code: ReplyCode,
        /// The reply text, without the code's name, as RabbitMQ words it where clients match on it.
        text: String,
    },
    /// The connection is closed. Example: a frame longer than the negotiated frame-max, 501.
    #[error("connection exception {code:?}: {text}")]
    Connection {
        /// The reply code of `connection.close`.
        code: ReplyCode,
        /// The reply text, without the code's name.
        text: String,
    },
}

impl Exception {
    /// A channel exception.
    pub fn channel(code: ReplyCode, text: impl Into<String>) -> Self {
        Self::Channel { code, text: text.into() }
    }

    /// A connection exception.
    pub fn connection(code: ReplyCode, text: impl Into<String>) -> Self {
        Self::Connection { code, text: text.into() }
    }
}
