//! Metrics of the log: its syncs, its entries, its checkpoints and its size.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge, Registry};

use super::{SYNC_SECONDS, counter, gauge, histogram, unix_seconds};

/// Upper bounds of what one sync writes: in records, and in octets.
const BATCH_RECORDS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];
/// See [`BATCH_RECORDS`].
const BATCH_BYTES: [f64; 8] = [512.0, 4_096.0, 32_768.0, 131_072.0, 524_288.0, 2_097_152.0, 8_388_608.0, 33_554_432.0];

#[derive(Debug, Clone)]
pub(super) struct LogMetrics {
    sync_seconds: Histogram,
    batch_records: Histogram,
    batch_bytes: Histogram,
    bytes: IntCounter,
    records: IntCounter,
    commit_seconds: Histogram,
    checkpoints: IntCounter,
    checkpoint_seconds: IntGauge,
    size_bytes: IntGauge,
    segments: IntGauge,
}

impl LogMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let histogram = |name: &str, help: &str, bounds: &[f64]| histogram(registry, name, help, bounds);
        Ok(Self {
            sync_seconds: histogram(
                "warren_log_sync_duration_seconds",
                "Time of one fdatasync of the log",
                &SYNC_SECONDS,
            )?,
            batch_records: histogram(
                "warren_log_sync_records",
                "Records that one fdatasync made durable",
                &BATCH_RECORDS,
            )?,
            batch_bytes: histogram("warren_log_sync_bytes", "Octets that one fdatasync made durable", &BATCH_BYTES)?,
            bytes: counter(registry, "warren_log_written_bytes_total", "Octets written to the log")?,
            records: counter(registry, "warren_log_records_total", "Records written to the log")?,
            commit_seconds: histogram(
                "warren_entry_commit_duration_seconds",
                "Time from an entry's proposal to its commit",
                &SYNC_SECONDS,
            )?,
            checkpoints: counter(registry, "warren_checkpoints_total", "Checkpoints made")?,
            checkpoint_seconds: gauge(
                registry,
                "warren_checkpoint_timestamp_seconds",
                "When the last checkpoint was made, in seconds since 1970; 0: not since the process started",
            )?,
            size_bytes: gauge(registry, "warren_log_size_bytes", "Size of the log's files")?,
            segments: gauge(registry, "warren_log_segments", "Files of the log")?,
        })
    }

    /// One sync is done.
    pub(super) fn synced(&self, records: usize, bytes: u64, duration: Duration) {
        self.records.inc_by(records as u64);
        self.bytes.inc_by(bytes);
        self.batch_records.observe(records as f64);
        self.batch_bytes.observe(bytes as f64);
        self.sync_seconds.observe(duration.as_secs_f64());
    }

    /// An entry took so long to be committed.
    pub(super) fn committed(&self, latency: Duration) {
        self.commit_seconds.observe(latency.as_secs_f64());
    }

    /// A checkpoint has been made.
    pub(super) fn checkpoint_made(&self) {
        self.checkpoints.inc();
        self.checkpoint_seconds.set(unix_seconds());
    }

    /// It has so many files and octets.
    pub(super) fn set_size(&self, segments: u64, bytes: u64) {
        self.segments.set(segments.cast_signed());
        self.size_bytes.set(bytes.cast_signed());
    }
}
