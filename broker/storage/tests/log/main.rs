//! The log as a whole: against a model, through crashes, damage, failing disks and killed processes.

mod crash;
mod damage;
mod faults;
mod folder;
mod kill;
mod model;
mod world;
mod writer;
