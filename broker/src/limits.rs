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

/// Octets in a shard waiting for the log; beyond, it takes no inputs until the log has taken some.
pub(crate) const SHARD_WAITING_BYTES: usize = 8 << 20;

/// Batches that a shard takes in before it looks at the log again.
pub(crate) const SHARD_BATCHES_AT_ONCE: usize = 64;

/// Requests that go into one entry of the metadata's log.
pub(crate) const METADATA_REQUESTS_AT_ONCE: usize = 256;

/// How long connections have to say goodbye when the node stops.
pub(crate) const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that have not opened a virtual host yet; beyond, new ones are closed at once.
pub(crate) const HANDSHAKES: usize = 2_000;
