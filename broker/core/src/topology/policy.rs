//! Policies: settings for all queues and exchanges whose names match a pattern.
//!
//! Of the policies that match, the one of the highest priority counts, whole; of several with that priority, the one
//! whose name comes first. (RabbitMQ's choice among equals depends on a hash.) Operator policies are a second list of
//! the same kind. Where both lists have a value for a key, [`KEYS`] says which one is in force. A policy with a key
//! that a queue's type has no use for does not match the queue at all, as in RabbitMQ.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use warren_amqp::{Table, Value};

use super::Topology;
use super::pattern::Pattern;
use super::records::QueueRecord;
use super::vhost::Vhost;

/// A policy or an operator policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The virtual host it is in.
    pub vhost: Arc<str>,
    /// Its name, unique among the policies of its kind in the virtual host.
    pub name: Arc<str>,
    /// Whether it is an operator policy.
    pub operator: bool,
    /// Names that it is for.
    pub pattern: Pattern,
    /// What else it is for.
    pub apply_to: ApplyTo,
    /// The higher one counts.
    pub priority: i64,
    /// Keys and values: a field table's octets without the length in front.
    pub definition: Bytes,
}

impl Policy {
    /// The value of a key of the definition.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        Table::new(&self.definition).get(key).ok().flatten()
    }

    fn matches(&self, target: Target, name: &str) -> bool {
        self.apply_to.includes(target) && self.pattern.matches(name) && self.has_use_for(target)
    }

    fn has_use_for(&self, target: Target) -> bool {
        KEYS.iter().all(|key| key.suits(target) || self.get(key.name).is_none())
    }
}

/// What a policy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyTo {
    /// Queues and exchanges.
    All,
    /// Queues of all types.
    Queues,
    /// Classic queues.
    ClassicQueues,
    /// Quorum queues.
    QuorumQueues,
    /// Streams.
    Streams,
    /// Exchanges.
    Exchanges,
}

impl ApplyTo {
    /// All of them, in the order of their stored numbers.
    pub const ALL: [Self; 6] =
        [Self::All, Self::Queues, Self::ClassicQueues, Self::QuorumQueues, Self::Streams, Self::Exchanges];

    /// The name in definitions.
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Queues => "queues",
            Self::ClassicQueues => "classic_queues",
            Self::QuorumQueues => "quorum_queues",
            Self::Streams => "streams",
            Self::Exchanges => "exchanges",
        }
    }

    /// The one of that name; `None` if there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|apply_to| apply_to.name() == name)
    }

    fn includes(self, target: Target) -> bool {
        match self {
            Self::All => true,
            Self::Queues => target != Target::Exchange,
            Self::ClassicQueues => target == Target::Classic,
            Self::QuorumQueues => target == Target::Quorum,
            Self::Streams => target == Target::Stream,
            Self::Exchanges => target == Target::Exchange,
        }
    }
}

/// What a policy may meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Classic,
    Quorum,
    Stream,
    Exchange,
}

impl Target {
    fn of(queue: &QueueRecord) -> Self {
        match queue.argument("x-queue-type").and_then(|value| value.as_str()) {
            Some("quorum") => Self::Quorum,
            Some("stream") => Self::Stream,
            _ => Self::Classic,
        }
    }
}

/// The policies of a virtual host, those that count first.
#[derive(Debug, Clone, Default)]
pub(super) struct Policies {
    users: Arc<Vec<Arc<Policy>>>,
    operators: Arc<Vec<Arc<Policy>>>,
}

impl Policies {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.users.iter().chain(self.operators.iter())
    }

    pub(super) fn len(&self) -> usize {
        self.users.len() + self.operators.len()
    }

    pub(super) fn get(&self, operator: bool, name: &str) -> Option<&Arc<Policy>> {
        let list = if operator { &self.operators } else { &self.users };
        list.iter().find(|policy| *policy.name == *name)
    }

    pub(super) fn put(&mut self, policy: &Arc<Policy>) {
        self.delete(policy.operator, &policy.name);
        let list = Arc::make_mut(self.list_mut(policy.operator));
        let at = list.partition_point(|other| {
            (-i128::from(other.priority), &other.name) < (-i128::from(policy.priority), &policy.name)
        });
        list.insert(at, Arc::clone(policy));
    }

    pub(super) fn delete(&mut self, operator: bool, name: &str) {
        if self.get(operator, name).is_some() {
            Arc::make_mut(self.list_mut(operator)).retain(|policy| *policy.name != *name);
        }
    }

    /// Whether it is the same list, unchanged.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.users, &other.users) && Arc::ptr_eq(&self.operators, &other.operators)
    }

    fn list_mut(&mut self, operator: bool) -> &mut Arc<Vec<Arc<Policy>>> {
        if operator { &mut self.operators } else { &mut self.users }
    }

    fn effective(&self, target: Target, name: &str) -> EffectivePolicy {
        let first = |list: &[Arc<Policy>]| list.iter().find(|policy| policy.matches(target, name)).cloned();
        EffectivePolicy { policy: first(&self.users), operator: first(&self.operators) }
    }
}

/// The policies in force for one queue or exchange.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EffectivePolicy {
    /// The policy that counts.
    pub policy: Option<Arc<Policy>>,
    /// The operator policy that counts.
    pub operator: Option<Arc<Policy>>,
}

impl EffectivePolicy {
    /// The value in force.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        let user = self.policy.as_ref().and_then(|policy| policy.get(key));
        let operator = self.operator.as_ref().and_then(|policy| policy.get(key));
        let (Some(user), Some(operator)) = (user, operator) else {
            return user.or(operator);
        };
        let merge =
            KEYS.iter().find(|known| known.name == key).and_then(|known| known.merge).unwrap_or(Merge::Operator);
        Some(merge.of(user, operator))
    }
}

impl EffectivePolicy {
    /// Keys and values in force, by key.
    pub fn values(&self) -> Vec<(&str, Value<'_>)> {
        let policies = self.policy.iter().chain(&self.operator);
        let entries = policies.flat_map(|policy| Table::new(&policy.definition).iter().map_while(Result::ok));
        let mut keys: Vec<_> = entries.map(|(key, _)| key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter().filter_map(|key| Some((key, self.get(key)?))).collect()
    }
}

/// Which value is in force if a policy and an operator policy have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Merge {
    /// The smaller one.
    Least,
    /// The smaller one, where a negative one is no limit.
    LeastOrNone,
    /// The greater one.
    Greatest,
    /// The operator's.
    Operator,
}

impl Merge {
    fn of<'v>(self, user: Value<'v>, operator: Value<'v>) -> Value<'v> {
        let (Some(own), Some(given)) = (user.as_integer(), operator.as_integer()) else {
            return operator;
        };
        let users = match self {
            Self::Least => own < given,
            Self::LeastOrNone => own >= 0 && (given < 0 || own < given),
            Self::Greatest => own > given,
            Self::Operator => false,
        };
        if users { user } else { operator }
    }
}

/// What a key's value has to be.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    AtLeast(i64),
    Between(i64, i64),
    Integer,
    Text,
    OneOf(&'static [&'static str]),
    /// A number and one of `Y`, `M`, `D`, `h`, `m`, `s`.
    Age,
}

impl Wanted {
    fn accepts(self, value: Value<'_>) -> bool {
        match self {
            Self::AtLeast(least) => value.as_integer().is_some_and(|number| number >= least),
            Self::Between(least, most) => value.as_integer().is_some_and(|number| (least..=most).contains(&number)),
            Self::Integer => value.as_integer().is_some(),
            Self::Text => value.as_str().is_some(),
            Self::OneOf(texts) => value.as_str().is_some_and(|text| texts.contains(&text)),
            Self::Age => value.as_str().is_some_and(is_age),
        }
    }
}

fn is_age(text: &str) -> bool {
    let digits = text.strip_suffix(['Y', 'M', 'D', 'h', 'm', 's']).unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit())
}

/// A key of a policy's definition.
struct Key {
    name: &'static str,
    wanted: Wanted,
    /// How the refusal of another value ends, in RabbitMQ's words.
    what: &'static str,
    /// Queue types that have no use for it.
    useless_for: &'static [Target],
    /// How operator policies may have it.
    merge: Option<Merge>,
}

impl Key {
    fn suits(&self, target: Target) -> bool {
        !self.useless_for.contains(&target)
    }
}

const fn key(name: &'static str, wanted: Wanted, what: &'static str) -> Key {
    Key { name, wanted, what, useless_for: &[], merge: None }
}

impl Key {
    const fn useless_for(self, useless_for: &'static [Target]) -> Self {
        Self { useless_for, ..self }
    }

    const fn operators(self, merge: Merge) -> Self {
        Self { merge: Some(merge), ..self }
    }
}

/// The keys that RabbitMQ 4.3 knows. Those for several nodes and for memory that queues do not use any more have no
/// effect there on one node, and none here.
const KEYS: [Key; 25] = {
    use Target::{Classic, Quorum, Stream};
    [
        key("message-ttl", Wanted::AtLeast(0), "is not a valid message TTL")
            .useless_for(&[Stream])
            .operators(Merge::Least),
        key("expires", Wanted::AtLeast(1), "is not a valid queue expiry")
            .useless_for(&[Stream])
            .operators(Merge::Least),
        key("max-length", Wanted::AtLeast(0), "is not a valid maximum length")
            .useless_for(&[Stream])
            .operators(Merge::Least),
        key("max-length-bytes", Wanted::AtLeast(0), "is not a valid maximum length in bytes").operators(Merge::Least),
        key("max-in-memory-length", Wanted::AtLeast(0), "is not a valid maximum memory in bytes")
            .useless_for(&[Classic, Stream])
            .operators(Merge::Least),
        key("max-in-memory-bytes", Wanted::AtLeast(0), "is not a valid maximum memory in bytes")
            .useless_for(&[Classic, Stream])
            .operators(Merge::Least),
        key("delivery-limit", Wanted::Integer, "is not a valid delivery limit")
            .useless_for(&[Classic, Stream])
            .operators(Merge::LeastOrNone),
        key(
            "overflow",
            Wanted::OneOf(&["drop-head", "reject-publish", "reject-publish-dlx"]),
            "is not a valid overflow value",
        )
        .useless_for(&[Stream])
        .operators(Merge::Operator),
        key("dead-letter-exchange", Wanted::Text, "is not a valid dead letter exchange name").useless_for(&[Stream]),
        key("dead-letter-routing-key", Wanted::Text, "is not a valid dead letter routing key").useless_for(&[Stream]),
        key(
            "dead-letter-strategy",
            Wanted::OneOf(&["at-most-once", "at-least-once"]),
            "is not a valid dead letter strategy",
        )
        .useless_for(&[Classic, Stream]),
        key("alternate-exchange", Wanted::Text, "is not a valid alternate exchange name"),
        key("max-age", Wanted::Age, "is not a valid max age").useless_for(&[Classic, Quorum]),
        key("stream-max-segment-size-bytes", Wanted::AtLeast(0), "is not a valid segment size")
            .useless_for(&[Classic, Quorum]),
        key("stream-filter-size-bytes", Wanted::Between(16, 255), "is not a valid filter size. Valid range is 16-255"),
        key(
            "queue-leader-locator",
            Wanted::OneOf(&["client-local", "balanced"]),
            "is not a valid queue leader locator value",
        ),
        key("queue-mode", Wanted::OneOf(&["default", "lazy"]), "is not a valid queue-mode value")
            .useless_for(&[Quorum, Stream]),
        key("queue-version", Wanted::Between(2, 2), "is not a valid queue-version value"),
        key("consumer-timeout", Wanted::AtLeast(0), "is not a valid consumer timeout"),
        key("consumer-disconnected-timeout", Wanted::AtLeast(0), "is not a valid consumer disconnected timeout"),
        key(
            "delayed-retry-type",
            Wanted::OneOf(&["all", "failed", "returned", "disabled"]),
            "is not a valid delayed retry type. Must be one of: all, failed, returned, disabled",
        )
        .operators(Merge::Operator),
        key(
            "delayed-retry-min",
            Wanted::AtLeast(1),
            "is not a valid delayed retry minimum delay. Must be a positive integer",
        )
        .operators(Merge::Greatest),
        key(
            "delayed-retry-max",
            Wanted::AtLeast(1),
            "is not a valid delayed retry maximum delay. Must be a positive integer",
        )
        .operators(Merge::Least),
        key("target-group-size", Wanted::AtLeast(1), "is not a valid qq target count value")
            .useless_for(&[Classic, Stream])
            .operators(Merge::Greatest),
        key("initial-cluster-size", Wanted::AtLeast(0), "is not a valid cluster size").useless_for(&[Classic, Quorum]),
    ]
};

/// Checks the definition of a policy.
///
/// # Errors
/// Why it cannot be one, as RabbitMQ says it.
pub(super) fn check_definition(definition: &[u8], operator: bool) -> Result<(), String> {
    let table = Table::new(definition);
    if table.iter().next().is_none() {
        return Err(String::from("no policy provided"));
    }
    for entry in table.iter() {
        let (name, value) = entry.map_err(|error| error.to_string())?;
        let known = KEYS.iter().find(|key| key.name == name && (!operator || key.merge.is_some()));
        let Some(key) = known else {
            let kind = if operator { "operator policy" } else { "policy" };
            return Err(format!("'{}' is not a recognised {kind} setting", name.escape_debug()));
        };
        if !key.wanted.accepts(value) {
            return Err(format!("{} {}", shown(value), key.what));
        }
    }
    check_retry(table)
}

/// A retry delay that is not there has no shortest, and its longest is not below its shortest.
fn check_retry(table: Table<'_>) -> Result<(), String> {
    let get = |name| table.get(name).ok().flatten();
    let number = |name| get(name).and_then(|value: Value<'_>| value.as_integer());
    if let (Some(least), Some(most)) = (number("delayed-retry-min"), number("delayed-retry-max"))
        && most < least
    {
        return Err(format!("delayed-retry-max ({most}) must not be smaller than delayed-retry-min ({least})"));
    }
    match get("delayed-retry-type").and_then(|value| value.as_str()) {
        Some(kind) if kind != "disabled" && number("delayed-retry-min").is_none() => {
            Err(format!("delayed-retry-min is required when delayed-retry-type is {kind}"))
        }
        _ => Ok(()),
    }
}

fn shown(value: Value<'_>) -> String {
    match (value.as_integer(), value.as_str()) {
        (Some(number), _) => number.to_string(),
        (_, Some(text)) => format!("'{}'", text.chars().take(64).collect::<String>().escape_debug()),
        _ => format!("a value of type {}", value.type_name()),
    }
}

impl Vhost {
    /// The policies in force for a queue of this virtual host.
    pub fn policy_of_queue(&self, queue: &QueueRecord) -> EffectivePolicy {
        self.policies.effective(Target::of(queue), &queue.name)
    }

    /// The policies in force for an exchange of this virtual host.
    pub fn policy_of_exchange(&self, name: &str) -> EffectivePolicy {
        self.policies.effective(Target::Exchange, name)
    }

    /// All policies, then all operator policies; of each kind those that count first.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.iter()
    }
}

impl Topology {
    /// The policies in force for a queue.
    pub fn policy_of(&self, queue: &QueueRecord) -> EffectivePolicy {
        self.vhost(&queue.vhost).map(|vhost| vhost.policy_of_queue(queue)).unwrap_or_default()
    }

    /// The queues that were there `before` and whose settings have changed since, by a change of policies or a pause: their
    /// shards have to be told.
    pub fn reconfigured(&self, before: &Self) -> Vec<Arc<QueueRecord>> {
        let changed = self.vhosts().filter(|vhost| {
            before.vhost(vhost.name()).is_some_and(|earlier| !earlier.policies.is_same(&vhost.policies))
        });
        let queues = changed.flat_map(Vhost::queues);
        let differs = |queue: &&Arc<QueueRecord>| {
            before.queue_by_id(queue.id).is_some_and(|earlier| before.settings(earlier) != self.settings(queue))
        };
        // Mostly they are the same, and there may be many.
        let is_same = Arc::ptr_eq(&self.paused, &before.paused);
        let both = self.paused.iter().chain(before.paused.iter()).filter(|_| !is_same);
        let toggled = both.filter(|id| self.is_paused(**id) != before.is_paused(**id));
        let toggled = toggled.filter_map(|id| self.queue_by_id(*id));
        queues.filter(differs).chain(toggled).map(Arc::clone).collect()
    }
}
