//! Test harness of the workspace: a real Kubernetes ([`cluster`]), a real broker process ([`harness`]) and the images it runs ([`image`]).
//!
//! Nothing here is part of the product. It runs on a developer's or a build machine, as root where it says so, and keeps
//! what it builds and starts in the [cache](programs::cache_folder), never in the work tree.

pub mod client;
pub mod cluster;
pub mod command;
pub mod harness;
pub mod image;
pub mod installation;
mod process;
pub mod programs;
pub mod prometheus;
pub mod rabbitmq;
pub mod release;
pub mod sandbox;
pub mod trial;
pub mod workers;
