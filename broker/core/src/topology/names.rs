//! Names of exchanges and queues: how they are kept, and which are allowed.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::hash::BuildHasher;

use rpds::HashTrieMapSync;
use warren_amqp::ReplyCode;

use crate::{Exception, limits};

/// A persistent map from names, found by a hash. Its order of iteration means nothing.
#[derive(Debug, Clone)]
pub(super) struct NameMap<V> {
    map: HashTrieMapSync<Arc<str>, V, NameHash>,
}

impl<V> NameMap<V> {
    pub(super) fn new() -> Self {
        Self { map: HashTrieMapSync::new_with_hasher_and_ptr_kind(NameHash) }
    }

    pub(super) fn get(&self, name: &str) -> Option<&V> {
        self.map.get(name)
    }

    pub(super) fn len(&self) -> usize {
        self.map.size()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.map.values()
    }

    pub(super) fn insert(&mut self, name: Arc<str>, value: V) {
        self.map.insert_mut(name, value);
    }

    pub(super) fn remove(&mut self, name: &str) -> bool {
        self.map.remove_mut(name)
    }

    /// Puts what `change` makes of the present value in its place, or removes it.
    pub(super) fn update(&mut self, name: &Arc<str>, change: impl FnOnce(Option<&V>) -> Option<V>) {
        match change(self.map.get(name)) {
            Some(value) => self.map.insert_mut(Arc::clone(name), value),
            None => {
                self.map.remove_mut(name);
            }
        }
    }
}

impl<V: Clone> NameMap<V> {
    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut V> {
        self.map.get_mut(name)
    }
}

/// SipHash with a fixed key. Names whose whole 64 bits of hash agree share a list; with a good hash nobody can make
/// many such names at a sensible price, so no random key is needed and iteration is the same in every run.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct NameHash;

#[expect(deprecated, reason = "the standard library's other hashers are not in core")]
impl BuildHasher for NameHash {
    type Hasher = core::hash::SipHasher;

    fn build_hasher(&self) -> Self::Hasher {
        Self::Hasher::new()
    }
}

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
