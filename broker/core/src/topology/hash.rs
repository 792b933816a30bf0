//! Exchanges that pick one binding by a hash: `x-consistent-hash` and `x-modulus-hash`.
//!
//! The consistent one gives each binding a score that depends on the message's hash and on the binding alone, and the
//! highest wins (weighted rendezvous hashing). So messages spread by weight, a new binding takes only what becomes its
//! own, the messages of one that goes are spread over the others, and nothing has to be remembered: the same bindings
//! give the same answers on every node and after every restart.

use alloc::sync::Arc;
use core::hash::{Hash, Hasher};

use rpds::RedBlackTreeMapSync;
use warren_amqp::{BasicProperties, Value};

use super::arguments::lookup;
use super::binding::Binding;
use super::routes::Envelope;
use super::trie::name_hasher;

/// What of a message a consistent-hash exchange goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hashed {
    RoutingKey,
    /// The header of that name (argument `hash-header`). Messages without it all go the same way.
    Header(Arc<str>),
    MessageId,
    CorrelationId,
    Timestamp,
}

impl Hashed {
    /// What the arguments of an exchange say.
    pub(super) fn of(arguments: &[u8]) -> Self {
        if let Some(name) = lookup(arguments, "hash-header").and_then(|value| value.as_str()) {
            return Self::Header(Arc::from(name));
        }
        match lookup(arguments, "hash-property") {
            Some(Value::LongString(name)) => Self::property(name).unwrap_or(Self::RoutingKey),
            _ => Self::RoutingKey,
        }
    }

    /// The property of that name, as the argument `hash-property` has it.
    pub(super) fn property(name: &[u8]) -> Option<Self> {
        match name {
            b"message_id" => Some(Self::MessageId),
            b"correlation_id" => Some(Self::CorrelationId),
            b"timestamp" => Some(Self::Timestamp),
            _ => None,
        }
    }

    /// Whether messages of one routing key may have different hashes.
    pub(super) fn is_in_the_message(&self) -> bool {
        *self != Self::RoutingKey
    }

    /// The hash of a message.
    pub(super) fn hash(&self, message: &Envelope<'_>) -> u64 {
        let properties = || BasicProperties::decode(message.properties).unwrap_or_default();
        match self {
            Self::RoutingKey => hash_octets(message.routing_key.as_bytes()),
            Self::Header(name) => {
                let value = message.headers.and_then(|headers| headers.get(name).ok().flatten());
                value.map_or_else(|| hash_octets(&[]), hash_value)
            }
            Self::MessageId => hash_octets(properties().message_id.unwrap_or_default().as_bytes()),
            Self::CorrelationId => hash_octets(properties().correlation_id.unwrap_or_default().as_bytes()),
            Self::Timestamp => hash_octets(&properties().timestamp.unwrap_or_default().to_le_bytes()),
        }
    }
}

fn hash_value(value: Value<'_>) -> u64 {
    match value {
        Value::LongString(octets) | Value::Binary(octets) => hash_octets(octets),
        Value::Timestamp(seconds) => hash_octets(&seconds.to_le_bytes()),
        Value::Bool(value) => hash_octets(&[value.into()]),
        Value::F32(float) => hash_octets(&f64::from(float).to_le_bytes()),
        Value::F64(float) => hash_octets(&float.to_le_bytes()),
        Value::Table(table) => hash_octets(table.octets()),
        other => hash_octets(&other.as_integer().unwrap_or_default().to_le_bytes()),
    }
}

pub(super) fn hash_octets(octets: &[u8]) -> u64 {
    let mut hasher = name_hasher();
    hasher.write(octets);
    hasher.finish()
}

/// The bindings of a consistent-hash exchange.
#[derive(Debug, Clone)]
pub(super) struct Shares {
    hashed: Hashed,
    bindings: RedBlackTreeMapSync<Arc<Binding>, Share>,
}

/// One binding's part of the messages.
#[derive(Debug, Clone, Copy)]
struct Share {
    /// The hash of what makes the binding different from others.
    seed: u64,
    weight: f64,
}

impl Shares {
    pub(super) fn new(hashed: Hashed) -> Self {
        Self { hashed, bindings: RedBlackTreeMapSync::new_sync() }
    }

    pub(super) fn hashed(&self) -> &Hashed {
        &self.hashed
    }

    pub(super) fn insert(&mut self, binding: Arc<Binding>) {
        let mut hasher = name_hasher();
        binding.hop.hash_identity(&mut hasher);
        (&*binding.routing_key, &*binding.arguments).hash(&mut hasher);
        let weight = binding.routing_key.parse::<u32>().unwrap_or(1).max(1).into();
        self.bindings.insert_mut(binding, Share { seed: hasher.finish(), weight });
    }

    pub(super) fn remove(&mut self, binding: &Binding) {
        self.bindings.remove_mut(binding);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Binding>> {
        self.bindings.keys()
    }

    /// The binding that a message goes to; `None` if there is none at all.
    pub(super) fn pick(&self, message: &Envelope<'_>) -> Option<&Arc<Binding>> {
        let hash = self.hashed.hash(message);
        let score = |share: &Share| {
            // Uniform in 0 to 1, both excluded: 2⁵³ steps are all that a float of this size has.
            #[expect(clippy::cast_precision_loss, reason = "the number has 53 bits")]
            let uniform = ((mixed(share.seed ^ hash) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
            share.weight / -logarithm(uniform)
        };
        let scores = self.bindings.iter().map(|(binding, share)| (binding, score(share)));
        scores.max_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(binding, _)| binding)
    }
}

/// Spreads each bit of a number over all of them (the last step of SplitMix64).
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The natural logarithm of a normal positive number, to about nine digits: `core` has none.
fn logarithm(number: f64) -> f64 {
    const MANTISSA_BITS: u32 = 52;
    let bits = number.to_bits();
    let exponent = i32::from((bits >> MANTISSA_BITS) as u16) - 1_023;
    let mantissa = f64::from_bits(bits & ((1 << MANTISSA_BITS) - 1) | 1_023 << MANTISSA_BITS);
    // ln m = 2 artanh s with s = (m - 1) / (m + 1), at most 1/3.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = (0..9_u8).rev().fold(0.0, |sum, step| sum * square + 1.0 / f64::from(2 * step + 1));
    f64::from(exponent) * core::f64::consts::LN_2 + 2.0 * s * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_right_to_nine_digits() {
        for step in 1..100_000 {
            let number = f64::from(step) / 100_000.0;
            let (ours, theirs) = (logarithm(number), number.ln());
            assert!((ours - theirs).abs() <= 1e-9 * theirs.abs().max(1.0), "{number}: {ours} is not {theirs}");
        }
    }

    #[test]
    fn each_bit_of_a_number_changes_half_of_all_bits() {
        for bit in 0..64 {
            let changed =
                (0..1_000_u64).map(|number| (mixed(number) ^ mixed(number ^ (1 << bit))).count_ones()).sum::<u32>();
            assert!((31_000..33_000).contains(&changed), "bit {bit}: {changed}");
        }
    }
}
