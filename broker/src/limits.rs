//! Every bound of the shell, in one table, with what happens at it. The machines' own are in `warren_core::limits`.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Connections that wait to be accepted on a port. The kernel keeps at most `net.core.somaxconn`; those beyond are not answered,
/// and try again after a second.
pub(crate) const LISTEN_BACKLOG: u32 = 4_096;

/// Octets read from a socket at once; what is left of a frame waits in front of the next read. What becomes of one read
/// (frames, runs, events, deliveries) should fit a core's second-level cache: four times as much takes a third longer.
pub(crate) const READ_BYTES: usize = 128 << 10;

/// Octets read at once from a client that has not published yet while memory is at the hard stop: what it publishes then is
/// left in its socket but for so much.
pub(crate) const HARD_STOP_READ_BYTES: usize = 8 << 10;

/// Octets that the front of a frame may leave unused in the buffer it waits in; a larger buffer is shrunk.
pub(crate) const PARTIAL_SLACK_BYTES: usize = 8 << 10;

/// Octets that a write buffer may have room for and still be kept by its thread, to be used again; a larger one is freed.
pub(crate) const KEPT_BUFFER_BYTES: usize = 2 << 20;

/// Octets waiting for a client's socket; beyond, we stop reading from that client until it reads.
pub(crate) const UNSENT_BYTES: usize = 1 << 20;

/// Octets of direct replies that wait for a connection to take them; the reply that reaches it is the last, and more are
/// dropped.
pub(crate) const REPLY_BYTES: usize = 8 << 20;

/// How long a client may leave its socket full before it is dropped (RabbitMQ's `send_timeout` is 15 s).
pub(crate) const SEND_TIMEOUT: Duration = Duration::from_secs(15);

/// Octets in a second that a client takes at least, on the whole, as long as some wait for its socket; one that is slower than
/// that for [`SEND_TIMEOUT`] is dropped.
pub(crate) const SEND_BYTES_PER_SECOND: u32 = 1 << 10;

/// How long a client may take for the rest that it is sent when we have ended its connection, and to close its side when it
/// has; and how long a stream may take to send its last octets then. After that it is dropped. For the rest of what it is sent
/// a client that has ended the connection itself has [`SEND_TIMEOUT`].
pub(crate) const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// How long settlements may wait for something else to be logged with. After a crash, messages that were acknowledged in
/// that time may be delivered again.
pub(crate) const SETTLE_DELAY: Duration = Duration::from_millis(50);

/// How long a shard sleeps at most if something in it becomes due. What is due in ten years lies within what timers can do.
pub(crate) const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// How often the node looks what was active, for rates (RabbitMQ's `collect_statistics_interval`).
pub(crate) const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);

/// How long a connection may take to say what it is like; after that it is shown as it was before.
pub(crate) const DESCRIBE_TIMEOUT: Duration = Duration::from_millis(500);

/// For how long what a connection has said of itself is shown to all who ask; then it is asked again.
pub(crate) const DESCRIPTION_LIFETIME: Duration = Duration::from_secs(1);

/// Octets of a page of metrics that are sent at once, where the page is written while it is sent.
pub(crate) const SCRAPE_PIECE_BYTES: usize = 64 << 10;

/// Pages of metrics of single objects that are written at once; one more is answered with 503.
pub(crate) const SCRAPES: usize = 2;

/// For how long, all in all, the reader of such a page is waited for; then it is cut off. The time to write it does not count.
pub(crate) const SCRAPE_TIMEOUT: Duration = Duration::from_secs(30);

/// For how long one page of sums over everything is what all who ask are answered.
pub(crate) const SUMS_LIFETIME: Duration = Duration::from_secs(1);

/// Octets read from the log beyond what was asked for, when a backlog is delivered.
pub(crate) const READ_AHEAD_BYTES: u32 = 256 << 10;

/// Reads that a shard remembers, each with up to [`READ_AHEAD_BYTES`]: of so many backlogs that it delivers at a time none has
/// to be read message by message. The one that was not used for longest makes room for one more.
pub(crate) const READ_AHEADS: usize = 4;

/// Octets that may lie between two messages of a queue for the second to be read ahead with more.
pub(crate) const READ_AHEAD_GAP: u32 = 4 << 10;

/// Octets of messages in one relocation record; the message that reaches it is the last.
pub(crate) const RELOCATION_BYTES: usize = 256 << 10;

/// How often the volume is asked for its free space, beside each new segment.
pub(crate) const SPACE_INTERVAL: Duration = Duration::from_secs(1);

/// How often memory is measured at least; near the watermark it is more often.
pub(crate) const MEMORY_INTERVAL: Duration = Duration::from_millis(250);

/// Octets a second that clients may bring and not overrun the watermark unseen.
pub(crate) const MEMORY_FILL_BYTES: u64 = 1 << 30;

/// How long shards may take to say how much of memory is messages; without an answer all that is resident counts.
pub(crate) const MEMORY_ANSWER_TIMEOUT: Duration = Duration::from_millis(100);

/// Measurements of memory between two looks at its limit.
pub(crate) const MEMORY_LIMIT_LOOKS: u32 = 40;

/// Batches that a shard takes in before it looks at the log again.
pub(crate) const SHARD_BATCHES_AT_ONCE: usize = 64;

/// Octets of publishes that the forwarder gathers before it hands them over; the message that reaches it is the last. If
/// shards have no room for them it waits, so that what goes to many queues does not become that much more at once.
pub(crate) const FORWARDER_BATCH_BYTES: u64 = 256 << 10;

/// Batches of events that the forwarder takes in before it hands over what they became.
pub(crate) const FORWARDER_BATCHES_AT_ONCE: usize = 64;

/// Requests that go into one entry of the metadata's log.
pub(crate) const METADATA_REQUESTS_AT_ONCE: usize = 256;

/// How long shards may take to answer before the node is not ready. It is less than the second that Kubernetes waits.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_millis(900);

/// How long the runtime may not come round to a task that is due four times a second; then the node is not alive.
pub(crate) const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(30);

/// Characters of a value in a log line; of a longer one the rest is left out. Names are at most 255 octets long.
pub(crate) const LOG_VALUE_CHARS: usize = 256;

/// Characters of a message, an error or a reason in a log line, which may name several values; the rest is left out.
pub(crate) const LOG_SENTENCE_CHARS: usize = 1_024;

/// How long who logs in waits for the files of the node's own user, and a question about a token for our own one, to be read.
pub(crate) const SECRET_TIMEOUT: Duration = Duration::from_secs(2);

/// Octets of log lines that wait for standard error to be read; lines beyond are dropped and counted.
pub(crate) const LOG_QUEUE_BYTES: usize = 1 << 20;

/// Refused logins of one source in [`LOGINS_TOLD_INTERVAL`] that the audit trail tells one by one, and TLS handshakes that failed,
/// and requests over HTTP that one user lacks the right for; of more, and of logins that are not looked at, it tells how many
/// there were.
pub(crate) const LOGINS_TOLD: u32 = 60;
/// See [`LOGINS_TOLD`].
pub(crate) const LOGINS_TOLD_INTERVAL: Duration = Duration::from_secs(60);

/// Sources, or users, of which these are told in that time; those of more are told as one number.
pub(crate) const SOURCES_TOLD: usize = 1_000;

/// How often the audit trail tells that a user makes requests to the management API from one place.
pub(crate) const REQUESTS_TOLD_INTERVAL: Duration = Duration::from_secs(600);

/// Users and places of which is remembered that this was told, to twice as many; others are told again.
pub(crate) const REQUESTS_TOLD: usize = 4_096;

/// Connections that have not opened a virtual host yet; one more takes the place of the oldest.
pub(crate) const HANDSHAKES: usize = 2_000;

/// For how long nobody takes that place: a login over a slow network needs several round trips. Where a port's rate is the default,
/// the oldest is far older.
pub(crate) const HANDSHAKE_TURN: Duration = Duration::from_secs(1);

/// Octets that a client may send until it has opened a virtual host; beyond, it is dropped. It is four of the largest frames that
/// it may send, with room for TLS and a certificate.
pub(crate) const HANDSHAKE_BYTES: usize = 32 << 10;

/// For how long in all a client may let us wait until it has opened a virtual host, and how many octets make that a second more;
/// beyond, it is dropped.
pub(crate) const HANDSHAKE_GRACE: Duration = Duration::from_secs(5);
/// See [`HANDSHAKE_GRACE`].
pub(crate) const HANDSHAKE_BYTES_PER_SECOND: u32 = 256;

/// Connections that a port takes at once before its rate counts: as many as may be half open.
pub(crate) const ACCEPT_BURST: u32 = 2_000;

/// The same for one source: as many clients as a network behind one address has, when all of them come back. It is half of those
/// that may be half open, so that no source can have all places.
pub(crate) const ACCEPT_BURST_OF_SOURCE: u32 = 1_000;

/// Sources of which is remembered how often they have connected, for each port, to twice as many; of more, those that have not
/// connected for longest are forgotten.
pub(crate) const ACCEPT_SOURCES: usize = 4_096;

/// Octets of a file of definitions; a larger one is refused, and the node does not start.
pub(crate) const DEFINITIONS_BYTES: u64 = 64 << 20;

/// Passwords that are hashed at once, each with 19 MiB; further logins wait.
pub(crate) const HASHES_AT_ONCE: usize = 2;

/// For how many seconds at most the password that was replaced counts beside the new one: a day. More is refused with 400.
pub(crate) const PREVIOUS_PASSWORD_SECONDS: u64 = 86_400;

/// Passwords that were right lately and are known again, to twice as many; of more, those that were not used for longest cost
/// another hash.
pub(crate) const VERIFIED_PASSWORDS: usize = 1_024;

/// HTTP connections per port. One more takes the place of the one that has waited longest for a request of its client; while
/// all of them are being answered, of the one that has been answered for longest, if that is [`HTTP_PLACE_TIME`]; else it is
/// closed at once.
pub(crate) const HTTP_CONNECTIONS: usize = 512;

/// See [`HTTP_CONNECTIONS`].
pub(crate) const HTTP_PLACE_TIME: Duration = Duration::from_secs(5);

/// How long an HTTP client may take in all to read an answer that is longer than [`HTTP_SHORT_ANSWER`], or whose length is not
/// known; then its connection is closed. A short answer holds little, and those who read nothing of it have [`SEND_TIMEOUT`].
pub(crate) const HTTP_READ_TIME: Duration = Duration::from_secs(120);

/// See [`HTTP_READ_TIME`]; octets.
pub(crate) const HTTP_SHORT_ANSWER: u64 = 64 << 10;

/// Octets of an HTTP request's head; a longer one is answered by 431.
pub(crate) const HTTP_HEADER_BYTES: usize = 16 << 10;

/// How long an HTTP client may take for its TLS handshake, for a request's head, and between two requests; then its
/// connection is closed.
pub(crate) const HTTP_HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the body of an HTTP request may take to come; then reading it fails.
pub(crate) const HTTP_BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Octets of a request's body to the management API; a larger one is refused with 413. A body of definitions may have
/// [`DEFINITIONS_BYTES`].
pub(crate) const BODY_BYTES: u64 = 1 << 20;

/// How long the body of a request to the management API may take; after that it is refused with 408.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Items of a page of the management API; more are refused with 400, as by RabbitMQ.
pub(crate) const PAGE_ITEMS: usize = 500;

/// Users whose requests are counted; beyond, those are forgotten who have made none for a second.
pub(crate) const REQUEST_RATES: usize = 10_000;

/// Octets of a token; a longer one is refused.
pub(crate) const TOKEN_BYTES: usize = 16 << 10;

/// Keys of an issuer; a document with more is refused, and the keys before it go on to count.
pub(crate) const ISSUER_KEYS: usize = 64;

/// Octets of an answer of another server, and of its head; a longer one is refused.
pub(crate) const ANSWER_BYTES: usize = 256 << 10;
pub(crate) const ANSWER_HEAD_BYTES: usize = 64 << 10;

/// How long another server may take to answer.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How often an issuer is asked for its keys.
pub(crate) const KEYS_REFRESH: Duration = Duration::from_secs(600);

/// How long after an answer, whatever it was, an issuer is not asked again, even for a key that is missing.
pub(crate) const KEYS_REFRESH_MIN: Duration = Duration::from_secs(10);

/// How long after an answer that could not be used an issuer is asked again.
pub(crate) const KEYS_RETRY: Duration = Duration::from_secs(30);

/// How long keys count when there are no newer ones; after that the issuer's tokens are refused.
pub(crate) const KEYS_LIFETIME: Duration = Duration::from_secs(24 * 3_600);

/// How long a login waits for a key that is missing.
pub(crate) const KEYS_PATIENCE: Duration = Duration::from_secs(3);

/// How far in the future `nbf` may lie, because clocks differ. `exp` has no such room.
pub(crate) const NOT_BEFORE_LEEWAY: Duration = Duration::from_secs(30);

/// Logins that may fail in a minute, of one user from one source; beyond, attempts wait for turns that are
/// [`FAILURE_PAUSE_MIN`] to [`FAILURE_PAUSE_MAX`] apart, and who would wait longer is refused unasked.
pub(crate) const FAILURES_PER_MINUTE: u32 = 5;

/// The same from one source, whatever users it names.
pub(crate) const FAILURES_PER_MINUTE_AND_SOURCE: u32 = 50;
pub(crate) const FAILURE_PAUSE_MIN: Duration = Duration::from_millis(500);
pub(crate) const FAILURE_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Users and sources whose failures are remembered, to twice as many; of more, those are forgotten that have not tried for
/// longest.
pub(crate) const FAILURE_SOURCES: usize = 10_000;

/// Requests to the management API that hold an AMQP client inside at once; others wait for them. Each may hold
/// [`GET_BYTES`] and one message more.
pub(crate) const INSIDE_AT_ONCE: usize = 8;

/// How long what the management API does with messages may take; after that it is answered by 503.
pub(crate) const INSIDE_TIMEOUT: Duration = Duration::from_secs(30);

/// Octets on their way to or from an AMQP client inside.
pub(crate) const INSIDE_PIPE_BYTES: usize = 64 << 10;

/// Messages that one request to the management API gets; more are refused with 400.
pub(crate) const GET_MESSAGES: usize = 1_000;

/// Octets of messages, with their headers, that one request to the management API gets, as long as they are in its answer;
/// the message that reaches it is the last.
pub(crate) const GET_BYTES: usize = 16 << 20;

/// Tokens of ServiceAccounts of which is remembered what the API server said, to twice as many; it is asked again about those
/// that were not used for longest.
pub(crate) const REVIEWS: usize = 4_096;

/// Logins by tokens at once that wait for a key that is missing, in all and of one source. One more does not wait for it.
pub(crate) const UNVERIFIED_WAITERS: usize = 128;
pub(crate) const UNVERIFIED_WAITERS_OF_SOURCE: usize = 32;

/// Questions to the API server at once; further logins by such tokens wait for [`REVIEW_PATIENCE`].
pub(crate) const REVIEWS_AT_ONCE: usize = 8;

/// The same about tokens of one source: half of all, so that no source keeps the others from being asked about.
pub(crate) const REVIEWS_OF_SOURCE_AT_ONCE: usize = 4;

/// The same about tokens of connections that are open; they wait for one another, so that logins do not wait for all of them.
pub(crate) const REVIEWS_AGAIN_AT_ONCE: usize = 2;

/// How long a login waits until the API server may be asked about its token; then it is refused. A connection gives up as soon.
pub(crate) const REVIEW_PATIENCE: Duration = Duration::from_secs(10);

/// How long the API server may take to answer; less than a connection may take to log in, so that its client is answered.
pub(crate) const REVIEW_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the API server is asked again about the token of a connection that is open; for the first time at a random time
/// within that, so that those that came together do not ask together.
pub(crate) const REVIEW_INTERVAL: Duration = Duration::from_secs(300);

/// How long an answer of the API server counts, if the token is known and if not.
pub(crate) const REVIEW_LIFETIME: Duration = Duration::from_secs(60);
pub(crate) const REVIEW_LIFETIME_REFUSED: Duration = Duration::from_secs(5);

/// How often the files for TLS are looked at.
pub(crate) const TLS_POLL_INTERVAL: Duration = Duration::from_secs(10);

/// Octets of a file for TLS; a longer one is refused. A list of 100,000 revoked certificates has about half of that.
pub(crate) const TLS_FILE_BYTES: u64 = 8 << 20;

/// Octets of a user's name in a client's certificate; a longer one logs nobody in.
pub(crate) const CERTIFICATE_USER_BYTES: usize = 255;

/// Octets a second that a user may be limited to at least; a lower limit is refused, for it would hold back heartbeats.
pub(crate) const PUBLISH_RATE_MIN: u64 = 64 << 10;

/// Lists of the management API, with those of messages, that are made or read at once; one user has half of the places. More
/// wait for [`ANSWER_PATIENCE`], and are then answered by 503.
pub(crate) const ANSWERS_AT_ONCE: usize = 4;

/// The same for answers about single objects, which have lists of what belongs to them: consumers of a queue.
pub(crate) const OBJECTS_AT_ONCE: usize = 16;

/// See [`ANSWERS_AT_ONCE`].
pub(crate) const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// Items of a list of the management API that are put together at once.
pub(crate) const LIST_PART: usize = 200;

/// Columns that a request to the management API names; more are refused with 400.
pub(crate) const COLUMNS: usize = 100;

/// Readers of figures at once; one more is answered with 503.
pub(crate) const FIGURES_AT_ONCE: usize = 16;

/// Queues that one of them may name; more are refused with 400.
pub(crate) const FIGURES_QUEUES: usize = 256;

/// For how long figures are told to one request; then they end, and who reads on logs in again.
pub(crate) const FIGURES_LIFETIME: Duration = Duration::from_secs(600);

/// Addresses that are drained at once; one more is refused with 503.
pub(crate) const DRAINS: usize = 1_024;

/// For how many seconds an address may be drained; others are refused with 400. An hour is longer than pods get to end.
pub(crate) const DRAIN_SECONDS: RangeInclusive<u64> = 1..=3_600;

/// How long a request to the management API may take to be answered; then it is by 503.
pub(crate) const HANDLER_TIMEOUT: Duration = Duration::from_secs(30);

/// The same for definitions.
pub(crate) const IMPORT_TIMEOUT: Duration = Duration::from_secs(300);

/// Octets of each message's body that a look at the log shows at most; more are a mistake in its usage.
pub const INSPECTED_BODY_BYTES: u64 = 1 << 20;

/// Finished spans that wait to be sent; one more is dropped and counted.
pub(crate) const SPANS_WAITING: usize = 2_048;

/// Spans in one request to the collector; more go with the next.
pub(crate) const SPANS_AT_ONCE: usize = 512;

/// How long a span waits for others to be sent with it.
pub(crate) const SPANS_DELAY: Duration = Duration::from_secs(1);

/// How long a node that stops waits for its last spans to be sent; those that are left then are lost.
pub(crate) const TRACES_FAREWELL: Duration = Duration::from_secs(2);
