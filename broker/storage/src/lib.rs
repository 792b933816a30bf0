//! The node's segment log: one append-only, checksummed, crash-safe sequence of records for all shards of a node.
//!
//! A record is a payload (opaque here) with a [`Tag`]: which shard, which term, which index, what kind. Everything that
//! arrives while one `fdatasync` runs is made durable by the next one (group commit), and a record is reported as
//! synced only after that. Payloads are read back from the log itself, so a message body is written once.
//!
//! Reading order:
//! - [`disk`]: the few calls made on a folder, and the real folder;
//! - [`segment`]: the file format, byte by byte;
//! - [`log`]: append, sync, roll over to the next segment;
//! - [`recovery`]: what a folder means after a crash, and when opening is refused;
//! - [`reader`]: payloads by [`Position`], from any thread;
//! - [`writer`]: the log thread with its bounded queue and its completions;
//! - [`checkpoint`]: what makes the older part unnecessary, and its file, byte by byte;
//! - [`retention`]: writing checkpoints and giving segments up;
//! - [`inspection`]: a look at all of that which changes nothing;
//! - [`faulty`]: a disk in memory that loses, tears and refuses, for the tests of this and other packages.
//!   `random` has the numbers for them, and for the epochs of segments.
//!
//! This package knows no AMQP, no Tokio and no wall clock, and starts no thread except in [`writer`].

pub mod checkpoint;
pub mod disk;
pub mod faulty;
mod folder;
pub mod inspection;
pub mod log;
mod random;
pub mod reader;
pub mod recovery;
pub mod retention;
pub mod segment;
mod window;
pub mod writer;

pub use checkpoint::{Checkpoint, CheckpointPlan, Reclaimed, Retained, Snapshot};
pub use disk::{Disk, FileDisk, Files, FolderError, ReadOnlyFolder, Space};
pub use faulty::FaultyDisk;
pub use inspection::{Inspection, Seen, inspect};
pub use log::{Log, LogError, Options, Record, RecordError};
pub use random::Random;
pub use reader::{LogReader, ReadError};
pub use recovery::{OpenError, Recovered};
pub use retention::Retention;
pub use segment::{Identity, Kind, LogPoint, MAX_PAYLOAD_LEN, Position, Tag};
pub use writer::{AppendError, Appended, Batch, Completion, LogHandle, LogWriter, Statistics};
