//! Shards: ordered, committed commands over the log.
