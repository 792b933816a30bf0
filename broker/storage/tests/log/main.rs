//! The log as a whole: against a model, through crashes, damage, failing disks and killed processes.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests fail and speak like the tests themselves"
)]

mod checkpoint;
mod crash;
mod damage;
mod faults;
mod folder;
mod inspection;
mod kill;
mod model;
mod store;
mod world;
mod writer;
