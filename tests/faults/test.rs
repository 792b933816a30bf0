//! Brokers that are killed, disks that fail and disks that are full: no confirmed message may be lost, and none invented.

mod disk;
mod flood;
mod kills;
mod letters;
mod memory;
mod volume;
mod world;
