//! What can be declared, by what names it, and where the broker's management API has it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::api::{Arguments, DestinationType};
use crate::broker_api::encoded;

/// Something in a broker, by what names it. It is written into the broker in this form, so that the form never changes.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub enum Object {
    /// A virtual host.
    Vhost(String),
    /// A user.
    User(String),
    /// A policy: its virtual host and name.
    Policy(String, String),
    /// An exchange: its virtual host and name.
    Exchange(String, String),
    /// A queue: its virtual host and name.
    Queue(String, String),
    /// A binding, which is all that there is to it.
    Binding {
        /// Its virtual host.
        vhost: String,
        /// The exchange that it leads from.
        source: String,
        /// What it leads to.
        destination: String,
        /// What that is.
        to: DestinationType,
        /// The routing key.
        key: String,
        /// The arguments.
        arguments: Arguments,
    },
}

impl Object {
    /// Its path in the management API. Bindings are a list, of those with the same ends.
    pub fn path(&self) -> String {
        match self {
            Self::Vhost(name) => format!("/api/vhosts/{}", encoded(name)),
            Self::User(name) => format!("/api/users/{}", encoded(name)),
            Self::Policy(vhost, name) => format!("/api/policies/{}/{}", encoded(vhost), encoded(name)),
            Self::Exchange(vhost, name) => format!("/api/exchanges/{}/{}", encoded(vhost), encoded(name)),
            Self::Queue(vhost, name) => format!("/api/queues/{}/{}", encoded(vhost), encoded(name)),
            Self::Binding { vhost, source, destination, to, .. } => {
                let to = match to {
                    DestinationType::Queue => "q",
                    DestinationType::Exchange => "e",
                };
                let (vhost, source, destination) = (encoded(vhost), encoded(source), encoded(destination));
                format!("/api/bindings/{vhost}/e/{source}/{to}/{destination}")
            }
        }
    }

    /// The fields that a declaration decides. Others, such as the number of messages, are not looked at.
    pub fn fields(&self) -> &'static str {
        match self {
            Self::Vhost(_) => "description",
            Self::User(_) => "tags,password_hash,hashing_algorithm",
            Self::Policy(..) => "pattern,apply-to,priority,definition",
            Self::Exchange(..) => "type,durable,auto_delete,internal,arguments",
            Self::Queue(..) => "durable,auto_delete,exclusive,arguments",
            Self::Binding { .. } => "routing_key,arguments,properties_key",
        }
    }

    /// Whether it is about who may do what.
    pub fn is_user(&self) -> bool {
        matches!(self, Self::User(_))
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vhost(name) => write!(f, "virtual host {name}"),
            Self::User(name) => write!(f, "user {name}"),
            Self::Policy(vhost, name) => write!(f, "policy {name} in {vhost}"),
            Self::Exchange(vhost, name) => write!(f, "exchange {name} in {vhost}"),
            Self::Queue(vhost, name) => write!(f, "queue {name} in {vhost}"),
            Self::Binding { vhost, source, destination, key, .. } => {
                write!(f, "binding from {source} to {destination} by '{key}' in {vhost}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_in_paths() {
        assert_eq!(Object::Queue("/".into(), "a b/ü".into()).path(), "/api/queues/%2F/a%20b%2F%C3%BC");
        let binding = Object::Binding {
            vhost: "v".into(),
            source: "s".into(),
            destination: "d".into(),
            to: DestinationType::Exchange,
            key: "k".into(),
            arguments: Arguments::new(),
        };
        assert_eq!(binding.path(), "/api/bindings/v/e/s/e/d");
        assert_eq!(binding.to_string(), "binding from s to d by 'k' in v");
    }

    #[test]
    fn the_form_that_is_kept_in_brokers_does_not_change() {
        let all = [
            Object::Vhost("v".into()),
            Object::User("u".into()),
            Object::Policy("v".into(), "p".into()),
            Object::Exchange("v".into(), "x".into()),
            Object::Queue("v".into(), "q".into()),
            Object::Binding {
                vhost: "v".into(),
                source: "x".into(),
                destination: "q".into(),
                to: DestinationType::Queue,
                key: "k".into(),
                arguments: Arguments::from([("n".into(), 1.into())]),
            },
        ];
        let text = concat!(
            r#"[{"vhost":"v"},{"user":"u"},{"policy":["v","p"]},{"exchange":["v","x"]},{"queue":["v","q"]},"#,
            r#"{"binding":{"vhost":"v","source":"x","destination":"q","to":"queue","key":"k","arguments":{"n":1}}}]"#
        );
        assert_eq!(serde_json::to_string(&all).unwrap(), text);
        assert_eq!(serde_json::from_str::<Vec<Object>>(text).unwrap(), all);
    }
}
