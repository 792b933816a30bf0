//! The operator as a process: connects, starts one controller per watched namespace and the HTTP endpoints, and ends all of
//! them on SIGTERM or SIGINT.

use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::rand;
use futures::FutureExt;
use futures::future::join_all;
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::config::Config;
use crate::controller::{Scope, Shutdown, control};
use crate::health::Health;
use crate::leader::Candidate;
use crate::metrics::Metrics;
use crate::names::FIELD_MANAGER;
use crate::reconcile::Context;
use crate::token_reviews::TokenReviews;

/// Why the operator could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is neither a service account nor a kubeconfig to connect with, or it is unusable.
    #[error("cannot connect to a Kubernetes API server (neither by service account nor by kubeconfig): {0}")]
    Connect(#[source] Box<kube::Error>),
    /// The address for health checks and metrics cannot be used.
    #[error("cannot listen on {address} for health checks and metrics: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The operating system refuses signal handlers.
    #[error("cannot handle signals: {0}")]
    Signal(#[source] std::io::Error),
    /// The operating system gave no randomness for a name in the Lease.
    #[error("the operating system gives no randomness for this operator's name in the Lease; give one with --identity")]
    Randomness,
    /// The metrics could not be registered.
    #[error("cannot register metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// See [`RunError`].
pub async fn run(config: Config) -> Result<(), RunError> {
    let shutdown = shutdown_signal()?;
    let client = Client::try_default().await.map_err(|error| RunError::Connect(Box::new(error)))?;
    let scopes = scopes(&config.watch_namespaces);
    let identity = config.identity.clone().map_or_else(drawn_identity, Ok)?;
    let metrics = Arc::new(Metrics::new()?);
    let health = Health::new(metrics.clone());
    let failed = |source| RunError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
    let listen = listener.local_addr().map_err(failed)?;
    let recorder = Recorder::new(client.clone(), Reporter::from(FIELD_MANAGER));
    info!(version = env!("CARGO_PKG_VERSION"), broker_image = config.broker_image, ?scopes, %listen, "operator started");
    // Everything that only one of several operators does. It is dropped when another one takes over.
    let work = || {
        health.leads(scopes.len());
        join_all(scopes.iter().map(|scope| {
            let context = |owned, scalers, keepers| Context {
                keepers,
                scalers,
                client: client.clone(),
                metrics: metrics.clone(),
                recorder: recorder.clone(),
                owned,
                token_reviews: TokenReviews::new(
                    client.clone(),
                    metrics.clone(),
                    config.token_review_binding.clone(),
                    scopes.clone(),
                ),
                broker_image: config.broker_image.clone(),
                cluster_domain: config.cluster_domain.clone(),
                operator_namespace: config.namespace.clone(),
            };
            control(&client, scope, &metrics, context, || health.synced(), shutdown.clone())
        }))
    };
    let elected = async {
        let Some(lease) = config.lease.clone() else { return drop(work().await) };
        let candidate = Candidate::new(client.clone(), lease, identity.clone());
        candidate.run(shutdown.clone(), || health.follows(), work).await;
    };
    let endpoints = axum::serve(listener, health.clone().router()).with_graceful_shutdown(shutdown.clone());
    let ((), served) = futures::join!(elected, endpoints.into_future());
    info!("operator ended");
    served.map_err(failed)
}

/// A name that no other operator has.
fn drawn_identity() -> Result<String, RunError> {
    let mut octets = [0; 8];
    rand::fill(&mut octets).map_err(|_| RunError::Randomness)?;
    Ok(octets.iter().fold(format!("{FIELD_MANAGER}-"), |name, octet| format!("{name}{octet:02x}")))
}

fn scopes(namespaces: &[String]) -> Vec<Scope> {
    match namespaces {
        [] => vec![Scope::All],
        some => some.iter().cloned().map(Scope::Namespace).collect(),
    }
}

fn shutdown_signal() -> Result<Shutdown, RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signal)?;
    let either = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    Ok(either.boxed().shared())
}
