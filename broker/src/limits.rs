//! Every bound of the shell, in one table, with what happens at it. The machines' own are in `warren_core::limits`.

use std::time::Duration;

/// Octets read from a socket at once; what is left of a frame waits in front of the next read.
pub(crate) const READ_BYTES: usize = 256 << 10;

/// Octets waiting for a client's socket; beyond, we stop reading from that client until it reads.
pub(crate) const UNSENT_BYTES: usize = 1 << 20;

/// How long a client may leave its socket full before it is dropped (RabbitMQ's `send_timeout` is 15 s).
pub(crate) const SEND_TIMEOUT: Duration = Duration::from_secs(15);

/// Batches of inputs waiting for a shard; beyond, their senders wait.
pub(crate) const SHARD_BATCHES: usize = 256;

/// How long settlements may wait for something else to be logged with. After a crash, messages that were acknowledged in
/// that time may be delivered again.
pub(crate) const SETTLE_DELAY: Duration = Duration::from_millis(50);

/// Octets read from the log beyond what was asked for, when a backlog is delivered.
pub(crate) const READ_AHEAD_BYTES: u32 = 256 << 10;

/// Octets of messages in one relocation record; the message that reaches it is the last.
pub(crate) const RELOCATION_BYTES: usize = 256 << 10;

/// Octets of messages moved after one checkpoint; what is left waits for the next.
pub(crate) const RELOCATIONS_BYTES: u64 = 64 << 20;

/// How often the volume is asked for its free space, beside each new segment.
pub(crate) const SPACE_INTERVAL: Duration = Duration::from_secs(1);

/// Batches that a shard takes in before it looks at the log again.
pub(crate) const SHARD_BATCHES_AT_ONCE: usize = 64;

/// Requests that go into one entry of the metadata's log.
pub(crate) const METADATA_REQUESTS_AT_ONCE: usize = 256;

/// How long connections have to say goodbye when the node stops.
pub(crate) const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that have not opened a virtual host yet; beyond, new ones are closed at once.
pub(crate) const HANDSHAKES: usize = 2_000;
