//! The node's ports: bound before anything else, so that an address that cannot be had is known at once; served when the rest
//! is there.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tracing::info;

use crate::config::{AcceptConfig, Config};
use crate::http::server::HttpServer;
use crate::limits::LISTEN_BACKLOG;
use crate::listener::Acceptor;
use crate::node::Shared;
use crate::tls::TlsFiles;
use crate::{http, listener, management};

/// All ports of a node.
pub(crate) struct Ports(Vec<Port>);

struct Port {
    service: Service,
    listener: TcpListener,
    address: SocketAddr,
}

/// What is spoken on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// AMQP 0-9-1.
    Amqp,
    /// AMQP 0-9-1 over TLS.
    Amqps,
    /// HTTP with probes and metrics.
    Metrics,
    /// The same over TLS.
    MetricsHttps,
    /// HTTP with the management API.
    Management,
    /// The same over TLS.
    ManagementHttps,
}

/// A port that is listened on.
#[derive(Debug, Clone)]
pub(crate) struct Listening {
    /// What is spoken there, as RabbitMQ names it.
    pub(crate) protocol: &'static str,
    /// With the port that was taken.
    pub(crate) address: SocketAddr,
}

/// The tasks that serve the ports.
pub(crate) struct Servers {
    /// Those of AMQP, which end when the node stops.
    pub(crate) amqp: Vec<JoinHandle<()>>,
    /// Those of HTTP, which answer until they are stopped.
    pub(crate) http: Vec<HttpServer>,
}

impl Service {
    /// RabbitMQ's name.
    fn protocol(self) -> &'static str {
        match self {
            Self::Amqp => "amqp",
            Self::Amqps => "amqp/ssl",
            Self::Metrics => "http/prometheus",
            Self::MetricsHttps => "https/prometheus",
            Self::Management => "http",
            Self::ManagementHttps => "https",
        }
    }
}

impl Ports {
    /// Binds all addresses of the configuration.
    ///
    /// # Errors
    /// One of them cannot be had.
    pub(crate) fn bind(config: &Config) -> anyhow::Result<Self> {
        let listeners = &config.listeners;
        let all = [
            (Service::Amqp, listeners.amqp.clone()),
            (Service::Amqps, config.amqps()),
            (Service::Metrics, vec![listeners.metrics]),
            (Service::MetricsHttps, listeners.metrics_https.clone()),
            (Service::Management, vec![listeners.management]),
            (Service::ManagementHttps, listeners.management_https.clone()),
        ];
        let mut ports = Vec::new();
        for (service, addresses) in all {
            for listener in bind(&addresses)? {
                ports.push(Port { service, address: listener.local_addr()?, listener });
            }
        }
        Ok(Self(ports))
    }

    /// Where a service is listened for, with the ports that were taken.
    pub(crate) fn addresses(&self, service: Service) -> Vec<SocketAddr> {
        self.0.iter().filter(|port| port.service == service).map(|port| port.address).collect()
    }

    /// All that is listened on.
    pub(crate) fn listening(&self) -> Vec<Listening> {
        let of = |port: &Port| Listening { protocol: port.service.protocol(), address: port.address };
        self.0.iter().map(of).collect()
    }

    /// Serves them. There is `tls` if a port wants it: the configuration was checked.
    pub(crate) fn serve(
        self,
        tls: Option<&TlsFiles>,
        accept: &AcceptConfig,
        requests_per_second: u32,
        shared: &Arc<Shared>,
    ) -> Servers {
        let metrics = http::router(shared.clone());
        let management = management::router(shared.clone(), requests_per_second);
        let mut servers = Servers { amqp: Vec::new(), http: Vec::new() };
        for Port { service, listener, .. } in self.0 {
            let tls = match service {
                Service::Amqps => tls.map(TlsFiles::amqps),
                Service::MetricsHttps | Service::ManagementHttps => tls.map(TlsFiles::https),
                Service::Amqp | Service::Metrics | Service::Management => None,
            };
            let acceptor = match service {
                // Kubernetes' probes come there: who floods it, also from their own address, does not keep them out. A new
                // connection always finds a place, and without TLS it costs next to nothing.
                Service::Metrics => Acceptor::unlimited(listener, shared.metrics.clone()),
                _ => Acceptor::new(listener, accept, shared.metrics.clone()),
            };
            match service {
                Service::Amqp | Service::Amqps => {
                    servers.amqp.push(tokio::spawn(listener::listen(acceptor, tls, shared.clone())));
                }
                Service::Metrics | Service::MetricsHttps => {
                    servers.http.push(HttpServer::start(acceptor, tls, metrics.clone()));
                }
                Service::Management | Service::ManagementHttps => {
                    servers.http.push(HttpServer::start(acceptor, tls, management.clone()));
                }
            }
        }
        servers
    }
}

/// Binds all addresses. An IPv6 loopback address that this host does not have is left out: it is a default.
fn bind(addresses: &[SocketAddr]) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        match listen(*address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if address.is_ipv6() && address.ip().is_loopback() && !listeners.is_empty() => {
                info!(%address, %error, "not listening there");
            }
            Err(error) => return Err(cannot_listen(*address, error)),
        }
    }
    Ok(listeners)
}

/// Listens as [`TcpListener::bind`] does, but with a backlog of our own: its 128 overflows when all clients come back at once.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A broker that starts again does not wait for the connections of the one before it to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(LISTEN_BACKLOG)
}

fn cannot_listen(address: SocketAddr, error: std::io::Error) -> anyhow::Error {
    let advice = match error.kind() {
        ErrorKind::AddrInUse => "another program uses it; stop that one or name another port",
        ErrorKind::PermissionDenied => {
            "ports below 1024 need rights that this process does not have; name another port"
        }
        ErrorKind::AddrNotAvailable => "this host does not have that address; name one that it has, or 0.0.0.0 for all",
        _ => "name another address",
    };
    anyhow::Error::new(error).context(format!("cannot listen on {address}: {advice}"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    /// More than the 128 that the standard library asks for, and fewer than a process may have open.
    const CLIENTS: usize = 400;

    /// Nobody accepts here: a client beyond the backlog would never be answered.
    #[tokio::test]
    async fn clients_that_come_all_at_once_wait_to_be_accepted() {
        let most: usize = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = |_| TcpStream::connect_timeout(&address, Duration::from_secs(10)).unwrap();
        let clients: Vec<TcpStream> = (0..CLIENTS.min(most)).map(connect).collect();
        assert!(!clients.is_empty());
    }
}
