//! The Kubernetes operator for MessageQueue resources.
//!
//! In reading order: [`api`] is what people write. [`controller`] watches and calls [`reconcile`], which runs the pipeline
//! [`observe`] (IO) → [`validate`] (pure) → [`build`] (pure) → [`apply`] (IO, writes only what [`difference`] finds, prunes what
//! [`owned`] finds) → [`status`] (pure) → [`events`]. The pure modules contain no `async` and take no client, so they cannot
//! fetch anything; every rule in them is tested without a cluster.
//!
//! The operator knows the broker only by its wire: an image, a configuration file, two ports and three HTTP paths.

pub mod api;
pub mod apply;
pub mod backoff;
pub mod broker_api;
pub mod build;
pub mod certificates;
pub mod config;
pub mod consumers;
pub mod controller;
pub mod credentials;
pub mod declarations;
pub mod difference;
pub mod events;
pub mod fingerprint;
pub mod growth;
pub mod health;
pub mod leader;
pub mod metrics;
pub mod names;
pub mod observe;
pub mod owned;
pub mod prometheus_operator;
pub mod quantity;
pub mod reconcile;
pub mod release;
pub mod run;
pub mod secret_changes;
pub mod server_error;
pub mod status;
pub mod telemetry;
pub mod token_reviews;
pub mod validate;
