//! The operator as a process that reaches a real API server through a proxy: what it asks is counted, and answers fail on
//! demand. KUBECONFIG names the cluster.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../api_server/cluster.rs"]
mod cluster;
mod drift;
mod election;
mod operator;
mod proxy;
mod stress;
mod token_reviews;

/// Held by a test that makes or removes kinds of objects, and by one whose operator must not lose any meanwhile: kinds are the whole
/// cluster's.
static KINDS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
