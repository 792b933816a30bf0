//! How a queue behaves: its declaration and the policies on it.
//!
//! Where both say something, the smaller number counts, and of names the declaration's. In three cases the policy counts:
//! `overflow` and `delayed-retry-type` of quorum queues, and all that is said of streams. Those are RabbitMQ's rules.

use alloc::sync::Arc;

use warren_amqp::Value;

use super::Topology;
use super::arguments::queue::millis_of;
use super::arguments::{QueueType, lookup};
use super::policy::EffectivePolicy;
use super::records::QueueRecord;
use crate::limits;
use crate::queue::{DeadLettering, Deduplication, Overflow, QueueKind, QueueSettings, RetryDelay, Returned};

/// How often a message of a quorum queue may come back if nothing else is said (RabbitMQ 4.3).
const DELIVERY_LIMIT: u32 = 20;
/// Milliseconds that a consumer of a quorum queue may hold a message if nothing else is said: 30 minutes (RabbitMQ 4.3).
const CONSUMER_TIMEOUT: u64 = 1_800_000;

impl Topology {
    /// How the queue's shard is to treat it.
    pub fn settings(&self, queue: &QueueRecord) -> QueueSettings {
        let settings = QueueSettings {
            logged: queue.is_logged(),
            auto_delete: queue.auto_delete,
            paused: self.is_paused(queue.id),
            ..QueueSettings::default()
        };
        if queue.delayed_exchange().is_some() {
            return QueueSettings { kind: QueueKind::Delayed, ..settings };
        }
        let said = Said { arguments: &queue.arguments, policy: self.policy_of(queue) };
        match QueueType::of(&queue.arguments) {
            QueueType::Classic => said.classic(settings),
            QueueType::Quorum => said.quorum(settings),
            QueueType::Stream => said.stream(settings),
        }
    }

    /// Where the queue's dead letters go: the exchange, and the routing key if it is not the messages' own. `None`:
    /// what dies is gone.
    pub fn dead_letter(&self, queue: &QueueRecord) -> Option<(Arc<str>, Option<Arc<str>>)> {
        let said = Said { arguments: &queue.arguments, policy: self.policy_of(queue) };
        let exchange = said.name("x-dead-letter-exchange")?;
        Some((Arc::from(exchange), said.name("x-dead-letter-routing-key").map(Arc::from)))
    }
}

/// What is said of a queue. Everything is called by the argument's name; the policy's key is that without `x-`.
struct Said<'a> {
    arguments: &'a [u8],
    policy: EffectivePolicy,
}

impl Said<'_> {
    fn classic(&self, settings: QueueSettings) -> QueueSettings {
        let max_priority = self.argument("x-max-priority").and_then(number);
        self.common(QueueSettings {
            kind: QueueKind::Classic,
            max_priority: max_priority.and_then(|priority| u8::try_from(priority).ok()).unwrap_or(0),
            dead_lettering: if self.has_dead_letter_exchange() {
                DeadLettering::AtMostOnce
            } else {
                DeadLettering::None
            },
            overflow: match self.name("x-overflow") {
                Some("reject-publish") => Overflow::RejectPublish,
                Some("reject-publish-dlx") => Overflow::RejectPublishDeadLetter,
                _ => Overflow::DropHead,
            },
            ..settings
        })
    }

    fn quorum(&self, settings: QueueSettings) -> QueueSettings {
        let rejects = self.ruled("x-overflow") == Some(Value::from("reject-publish"));
        let dead_lettering = match self.name("x-dead-letter-strategy") {
            _ if !self.has_dead_letter_exchange() => DeadLettering::None,
            Some("at-least-once") if rejects => DeadLettering::AtLeastOnce,
            _ => DeadLettering::AtMostOnce,
        };
        self.common(QueueSettings {
            kind: QueueKind::Quorum,
            max_priority: limits::QUORUM_PRIORITY_MAX,
            dead_lettering,
            overflow: if rejects { Overflow::RejectPublish } else { Overflow::DropHead },
            delivery_limit: self.delivery_limit(),
            retry_delay: self.retry_delay(),
            consumer_timeout: Some(self.least("x-consumer-timeout").unwrap_or(CONSUMER_TIMEOUT)),
            ..settings
        })
    }

    fn stream(&self, settings: QueueSettings) -> QueueSettings {
        let max_age = self.ruled("x-max-age").and_then(|age| millis_of(age.as_str()?.as_bytes()));
        let max_length_bytes = self.ruled("x-max-length-bytes").and_then(number);
        QueueSettings { kind: QueueKind::Stream, max_length_bytes, max_age, ..settings }
    }

    /// What classic and quorum queues have in common.
    fn common(&self, settings: QueueSettings) -> QueueSettings {
        QueueSettings {
            message_ttl: self.least("x-message-ttl"),
            expires: self.least("x-expires"),
            max_length: self.least("x-max-length"),
            max_length_bytes: self.least("x-max-length-bytes"),
            single_active_consumer: self.flag("x-single-active-consumer"),
            deduplication: self.deduplication(),
            ..settings
        }
    }

    /// A negative number is no limit; it counts only if nobody says another one.
    fn delivery_limit(&self) -> Option<u32> {
        let name = "x-delivery-limit";
        let said =
            [self.argument(name), self.policy_value(name)].map(|value| value.and_then(|value| value.as_integer()));
        if said == [None, None] {
            return Some(DELIVERY_LIMIT);
        }
        let limits = said.into_iter().flatten().filter_map(|limit| u64::try_from(limit).ok());
        limits.min().map(|limit| u32::try_from(limit).unwrap_or(u32::MAX))
    }

    fn retry_delay(&self) -> Option<RetryDelay> {
        let of = match self.ruled("x-delayed-retry-type")?.as_str()? {
            "all" => Returned::All,
            "failed" => Returned::Failed,
            "returned" => Returned::GivenBack,
            _ => return None,
        };
        let positive = |name| self.least(name).filter(|millis| *millis > 0);
        let min_millis = positive("x-delayed-retry-min")?;
        Some(RetryDelay { of, min_millis, max_millis: positive("x-delayed-retry-max").unwrap_or(min_millis) })
    }

    fn deduplication(&self) -> Option<Deduplication> {
        let cache_size = self.argument("x-cache-size").and_then(number).and_then(|size| u32::try_from(size).ok());
        self.flag("x-message-deduplication").then(|| Deduplication {
            cache_size: cache_size.unwrap_or(limits::DEDUPLICATION_KEYS_DEFAULT),
            cache_millis: self.argument("x-cache-ttl").and_then(number),
        })
    }

    fn has_dead_letter_exchange(&self) -> bool {
        self.name("x-dead-letter-exchange").is_some()
    }

    fn argument(&self, name: &str) -> Option<Value<'_>> {
        lookup(self.arguments, name)
    }

    fn policy_value(&self, name: &str) -> Option<Value<'_>> {
        self.policy.get(name.strip_prefix("x-")?)
    }

    /// A boolean that only declarations say.
    fn flag(&self, name: &str) -> bool {
        self.argument(name) == Some(Value::Bool(true))
    }

    /// The smaller of two numbers.
    fn least(&self, name: &str) -> Option<u64> {
        [self.argument(name), self.policy_value(name)].into_iter().flatten().filter_map(number).min()
    }

    /// The declaration's name, or else the policy's.
    fn name(&self, name: &str) -> Option<&str> {
        self.argument(name).or_else(|| self.policy_value(name))?.as_str()
    }

    /// The policy's value, or else the declaration's.
    fn ruled(&self, name: &str) -> Option<Value<'_>> {
        self.policy_value(name).or_else(|| self.argument(name))
    }
}

fn number(value: Value<'_>) -> Option<u64> {
    value.as_integer().and_then(|number| u64::try_from(number).ok())
}
