//! The operator as a process: connects, starts one controller per watched namespace and the HTTP endpoints, and ends all of
//! them on SIGTERM or SIGINT.

use std::net::SocketAddr;
use std::sync::Arc;

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
use crate::metrics::Metrics;
use crate::names::FIELD_MANAGER;
use crate::reconcile::Context;

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
    /// The metrics could not be registered.
    #[error("cannot register metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// See [`RunError`].
pub async fn run(config: Config) -> Result<(), RunError> {
    let Config { watch_namespaces, broker_image, cluster_domain, listen, log_format: _, log: _ } = config;
    let shutdown = shutdown_signal()?;
    let client = Client::try_default().await.map_err(|error| RunError::Connect(Box::new(error)))?;
    let scopes = scopes(&watch_namespaces);
    let metrics = Arc::new(Metrics::new()?);
    let health = Health::new(metrics.clone(), scopes.len());
    let listener = TcpListener::bind(listen).await.map_err(|source| RunError::Listen { address: listen, source })?;
    let recorder = Recorder::new(client.clone(), Reporter::from(FIELD_MANAGER));
    info!(version = env!("CARGO_PKG_VERSION"), %broker_image, ?scopes, %listen, "operator started");
    let controllers = join_all(scopes.iter().map(|scope| {
        let context = |owned, scalers| Context {
            scalers,
            client: client.clone(),
            metrics: metrics.clone(),
            recorder: recorder.clone(),
            owned,
            broker_image: broker_image.clone(),
            cluster_domain: cluster_domain.clone(),
        };
        control(&client, scope, context, || health.synced(), shutdown.clone())
    }));
    let endpoints = axum::serve(listener, health.clone().router()).with_graceful_shutdown(shutdown.clone());
    let (_, served) = futures::join!(controllers, endpoints.into_future());
    info!("operator ended");
    served.map_err(|source| RunError::Listen { address: listen, source })
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
