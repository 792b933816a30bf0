//! The broker: the IO shell around the pure machines of `warren-core`.
//!
//! ```text
//! listener ─▶ connection (one task each) ──▶ shard (one task each) ──▶ log thread (one)
//!                │      ▲                        │  ▲                       │
//!                │      └──────── events ────────┘  └────── synced ─────────┘
//!                └─▶ metadata (one task) ─▶ topology snapshot, read by all
//! ```
//!
//! The shell moves octets and batches, keeps time and owns files and sockets; every rule of AMQP is a decision of the
//! machines. A shard never waits for a connection: what it sends is bounded by the consumers' windows. A connection
//! waits for shards, which is how a full queue, disk or socket is felt at the publisher's end: we stop reading.

mod alarms;
mod audit;
mod authentication;
mod bodies;
mod checkpoint;
mod clock;
pub mod config;
mod connection;
mod connections;
mod definitions;
mod drains;
mod forwarder;
mod http;
mod inbox;
pub mod inspection;
mod limits;
mod listener;
mod log;
mod management;
mod metadata;
mod metrics;
pub mod node;
mod ports;
mod random;
mod rate;
mod recovery;
mod scratch;
mod shard;
mod space;
mod statistics;
pub mod telemetry;
pub mod tls;
mod told;

pub use authentication::password_hash;
pub use config::Config;
pub use node::Node;
