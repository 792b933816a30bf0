//! What a peer's mistake costs it: reply codes, and the error of everything decoded inside a frame.

use crate::table::TableError;

/// Why a method, a channel or a connection ended (AMQP 0-9-1 §1.7, `reply-code`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum ReplyCode {
    /// Nothing went wrong.
    ReplySuccess = 200,
    /// The content is larger than the server takes.
    ContentTooLarge = 311,
    /// A mandatory message reached no queue.
    NoRoute = 312,
    /// An immediate message found no consumer.
    NoConsumers = 313,
    /// An operator closed the connection.
    ConnectionForced = 320,
    /// The virtual host cannot be used.
    InvalidPath = 402,
    /// The client may not do this.
    AccessRefused = 403,
    /// The named object does not exist.
    NotFound = 404,
    /// Another connection owns the object.
    ResourceLocked = 405,
    /// The object exists, but differently, or the request contradicts itself.
    PreconditionFailed = 406,
    /// A frame could not be decoded.
    FrameError = 501,
    /// A field holds a value that is not allowed.
    SyntaxError = 502,
    /// The method makes no sense at this point.
    CommandInvalid = 503,
    /// The channel number makes no sense at this point.
    ChannelError = 504,
    /// A well-formed frame came where another kind was due.
    UnexpectedFrame = 505,
    /// The request asks for more than the server gives.
    ResourceError = 506,
    /// The client may never do this.
    NotAllowed = 530,
    /// The server does not have this feature.
    NotImplemented = 540,
    /// The server failed. RabbitMQ also answers undecodable field tables with it.
    InternalError = 541,
}

/// How far a mistake reaches. AMQP 0-9-1 has only these two sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The channel is closed; others on the connection go on.
    Soft,
    /// The connection is closed.
    Hard,
}

impl ReplyCode {
    /// All codes, in rising order.
    pub const ALL: [Self; 19] = [
        Self::ReplySuccess,
        Self::ContentTooLarge,
        Self::NoRoute,
        Self::NoConsumers,
        Self::ConnectionForced,
        Self::InvalidPath,
        Self::AccessRefused,
        Self::NotFound,
        Self::ResourceLocked,
        Self::PreconditionFailed,
        Self::FrameError,
        Self::SyntaxError,
        Self::CommandInvalid,
        Self::ChannelError,
        Self::UnexpectedFrame,
        Self::ResourceError,
        Self::NotAllowed,
        Self::NotImplemented,
        Self::InternalError,
    ];

    /// The number on the wire.
    pub const fn code(self) -> u16 {
        #[expect(clippy::as_conversions, reason = "the discriminants of a repr(u16) enum are the wire's numbers")]
        {
            self as u16
        }
    }

    /// The code of a number from the wire; `None` if AMQP 0-9-1 does not define it.
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.code() == code)
    }

    /// The name as it begins a reply text: `NOT_FOUND`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReplySuccess => "REPLY_SUCCESS",
            Self::ContentTooLarge => "CONTENT_TOO_LARGE",
            Self::NoRoute => "NO_ROUTE",
            Self::NoConsumers => "NO_CONSUMERS",
            Self::ConnectionForced => "CONNECTION_FORCED",
            Self::InvalidPath => "INVALID_PATH",
            Self::AccessRefused => "ACCESS_REFUSED",
            Self::NotFound => "NOT_FOUND",
            Self::ResourceLocked => "RESOURCE_LOCKED",
            Self::PreconditionFailed => "PRECONDITION_FAILED",
            Self::FrameError => "FRAME_ERROR",
            Self::SyntaxError => "SYNTAX_ERROR",
            Self::CommandInvalid => "COMMAND_INVALID",
            Self::ChannelError => "CHANNEL_ERROR",
            Self::UnexpectedFrame => "UNEXPECTED_FRAME",
            Self::ResourceError => "RESOURCE_ERROR",
            Self::NotAllowed => "NOT_ALLOWED",
            Self::NotImplemented => "NOT_IMPLEMENTED",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }

    /// The specification's class of the code. A few errors close the connection although their code is soft (a login
    /// refused with 403); that is the caller's knowledge. `None` for 200, which is no error.
    pub const fn severity(self) -> Option<Severity> {
        match self {
            Self::ReplySuccess => None,
            Self::ContentTooLarge
            | Self::NoRoute
            | Self::NoConsumers
            | Self::AccessRefused
            | Self::NotFound
            | Self::ResourceLocked
            | Self::PreconditionFailed => Some(Severity::Soft),
            Self::ConnectionForced
            | Self::InvalidPath
            | Self::FrameError
            | Self::SyntaxError
            | Self::CommandInvalid
            | Self::ChannelError
            | Self::UnexpectedFrame
            | Self::ResourceError
            | Self::NotAllowed
            | Self::NotImplemented
            | Self::InternalError => Some(Severity::Hard),
        }
    }
}

impl core::fmt::Display for ReplyCode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// What is wrong inside the payload of a method or header frame. The text is fit for a `reply-text`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The payload ended inside a field.
    #[error("cannot decode {what}: {field} is cut short")]
    Truncated {
        /// The method, such as `basic.publish`, or `content header`.
        what: &'static str,
        /// The field that did not fit.
        field: &'static str,
    },
    /// The payload goes on after the last field.
    #[error("cannot decode {what}: {count} octets after the last field")]
    TrailingOctets {
        /// The method, such as `basic.publish`, or `content header`.
        what: &'static str,
        /// How many octets are left over.
        count: usize,
    },
    /// A short string is not UTF-8.
    #[error("cannot decode {what}: {field} is not UTF-8")]
    NotUtf8 {
        /// The method, such as `basic.publish`, or `content header`.
        what: &'static str,
        /// The field that holds the string.
        field: &'static str,
    },
    /// A field table, or a table inside it, cannot be walked or is beyond its limits.
    #[error("{0}")]
    Table(#[from] TableError),
    /// No such method in AMQP 0-9-1 or RabbitMQ's extensions.
    #[error("unknown method {method_id} of class {class_id}")]
    UnknownMethod {
        /// Class id as received.
        class_id: u16,
        /// Method id as received.
        method_id: u16,
    },
    /// A method that only the other side may send.
    #[error("unimplemented method")]
    WrongDirection {
        /// The method, such as `basic.deliver`.
        name: &'static str,
        /// Class id as received.
        class_id: u16,
        /// Method id as received.
        method_id: u16,
    },
    /// A property flag that class `basic` does not have.
    #[error("content header has unknown properties: flags {flags:#06x}")]
    UnknownProperty {
        /// All flags as received.
        flags: u16,
    },
    /// A content header's weight is not 0.
    #[error("content header has weight {weight} instead of 0")]
    WeightNotZero {
        /// The weight as received.
        weight: u16,
    },
}

impl DecodeError {
    /// The code to close the connection with. All of these are [`Severity::Hard`].
    ///
    /// RabbitMQ differs: 501 for a short string that is not UTF-8, and only in methods without content.
    pub const fn reply_code(&self) -> ReplyCode {
        match self {
            Self::Truncated { .. } | Self::TrailingOctets { .. } => ReplyCode::FrameError,
            Self::NotUtf8 { .. } | Self::UnknownProperty { .. } => ReplyCode::SyntaxError,
            Self::Table(error) => error.reply_code(),
            Self::UnknownMethod { .. } => ReplyCode::NotImplemented,
            Self::WrongDirection { .. } => ReplyCode::CommandInvalid,
            Self::WeightNotZero { .. } => ReplyCode::UnexpectedFrame,
        }
    }
}
