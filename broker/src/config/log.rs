//! `[log]`: how the node's log is laid out on its volume.

use serde::{Deserialize, Serialize};
use warren_storage::Options;

use super::Mistakes;

/// How the log is laid out. By default all of it follows from the size of the volume that it is on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Octets of a segment, a multiple of 4096 from 8 KiB to 1 GiB; a larger record gets a segment of its own. Default: 1/64 of
    /// the volume, from 1 MiB to 64 MiB. Segments that are there keep the length they have.
    pub segment_bytes: Option<u32>,
    /// Octets of log after which a checkpoint is made, or four times the size of the last checkpoint if that is more.
    /// From 4 KiB on. Default: 1/16 of the volume, at most 64 MiB.
    pub checkpoint_bytes: Option<u64>,
}

impl LogConfig {
    pub(super) fn check(&self, mistakes: &mut Mistakes) {
        if let Some(len) = self.segment_bytes
            && !Options::is_segment_len(len)
        {
            let text = format!("it is {len}: it has to be a multiple of 4096 from 8192 to 1073741824");
            mistakes.add("log.segment_bytes", text);
        }
        if let Some(len) = self.checkpoint_bytes
            && len < 4_096
        {
            mistakes.add("log.checkpoint_bytes", format!("it is {len}: it has to be at least 4096"));
        }
    }
}
