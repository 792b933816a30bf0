//! Consumers that are scaled from what their queue has to do.
//!
//! [`figures`] is what the broker says, [`rates`] and [`erlang`] what follows from it, [`plan`] how many pods that takes, and
//! [`scaler`] asks for them. Which pods go when there are to be fewer is in `departures.rs`. [`report`] is what is said about it,
//! [`series`] how Prometheus hears it.

mod departures;
pub mod erlang;
pub mod figures;
mod history;
pub mod plan;
pub mod rates;
pub mod report;
mod scale;
pub mod scaler;
pub mod series;
