//! Placeholder for the map of the topology machine's files.
