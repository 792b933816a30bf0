//! How the node fares: what it has, and what it may have.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};
use warren_storage::{FileDisk, Retention};

/// What is asked of the operating system and of the log's folder.
#[derive(Clone)]
pub(crate) struct NodeProbe {
    retention: Retention<FileDisk>,
    /// Below so many free octets of the volume publishers wait.
    disk_reserve: u64,
    started: std::time::Instant,
}

/// What the node has and may have. Sizes are octets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NodeReport {
    /// What is free on the volume.
    pub(crate) disk_free: u64,
    /// Below that publishers wait.
    pub(crate) disk_limit: u64,
    /// Open files, sockets among them.
    pub(crate) files_open: u64,
    /// How many may be open.
    pub(crate) files_max: u64,
    /// Since when the process runs.
    pub(crate) uptime: Duration,
    /// The same as seconds since 1970.
    pub(crate) started_at: u64,
    /// Files of the log.
    pub(crate) log_segments: u64,
    /// Octets of these.
    pub(crate) log_bytes: u64,
}

impl NodeProbe {
    pub(crate) fn new(retention: Retention<FileDisk>, disk_reserve: u64, started: std::time::Instant) -> Self {
        Self { retention, disk_reserve, started }
    }

    /// Asks. Blocks for a few system calls: what cannot be found out is 0.
    pub(crate) fn look(&self) -> NodeReport {
        let uptime = self.started.elapsed();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        NodeReport {
            disk_free: self.retention.space().map_or(0, |space| space.available),
            disk_limit: self.disk_reserve,
            files_open: fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64),
            files_max: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            uptime,
            started_at: now.saturating_sub(uptime).as_secs(),
            log_segments: self.retention.segments().len() as u64,
            log_bytes: self.retention.segment_bytes(),
        }
    }
}
