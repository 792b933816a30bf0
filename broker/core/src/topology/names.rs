//! Names of exchanges and queues: what texts call them, and which are allowed.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use warren_amqp::ReplyCode;

use super::access::Resource;
use crate::{Exception, limits};

/// What a name is of, as error texts have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thing {
    Exchange,
    Queue,
}

impl Thing {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Queue => "queue",
        }
    }

    pub(super) const fn resource(self) -> Resource {
        match self {
            Self::Exchange => Resource::Exchange,
            Self::Queue => Resource::Queue,
        }
    }

    /// `queue 'orders' in vhost '/'`
    pub(super) fn named(self, name: &str, vhost: &str) -> String {
        format!("{} '{name}' in vhost '{vhost}'", self.word())
    }
}

/// The name without carriage returns and line feeds, which RabbitMQ drops from declared names.
pub(super) fn stripped(name: &str) -> Arc<str> {
    if name.contains(['\r', '\n']) { Arc::from(name.replace(['\r', '\n'], "")) } else { Arc::from(name) }
}

/// Checks the name of something new.
pub(super) fn check(thing: Thing, name: &str) -> Result<(), Exception> {
    let word = thing.word();
    if name.starts_with("amq.") {
        let text = format!("{word} name '{name}' contains reserved prefix 'amq.*'");
        return Err(Exception::channel(ReplyCode::AccessRefused, text));
    }
    if name.len() > limits::NAME_BYTES {
        let text = format!("{word} name of {} bytes is longer than {}", name.len(), limits::NAME_BYTES);
        return Err(Exception::channel(ReplyCode::PreconditionFailed, text));
    }
    if name.chars().any(char::is_control) {
        let text = format!("{word} name '{}' contains control characters", name.escape_debug());
        return Err(Exception::channel(ReplyCode::PreconditionFailed, text));
    }
    Ok(())
}
