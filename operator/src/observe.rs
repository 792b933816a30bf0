//! IO in: everything that one reconcile needs to know, read once at its start.
//!
//! Objects are read from the API server and not from a cache: a cache lags behind our own writes, and a reconcile that
//! believed it would write what is already there.

use std::net::IpAddr;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DeserializeGuard;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::api::{MessageQueue, TlsMode};
use crate::certificates::{Authorities, CertificateError, Certificates, Pair, Request, Stored, renew};
use crate::credentials::Credentials;
use crate::names::Names;
use crate::prometheus_operator::{Kinds, PrometheusRule, ServiceMonitor};
use crate::server_error::said;

/// Annotation of a MessageQueue that asks for another authority: each new value asks once.
pub const ROTATE_ANNOTATION: &str = "warrenmq.dev/rotate-ca";

/// Why the state of the world could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The API server did not answer, or refused.
    #[error("cannot read {kind} {name}: {}", said(.source))]
    Read {
        /// Kind of the object that was asked for.
        kind: String,
        /// Its name.
        name: String,
        /// What the API server or the connection said.
        source: Box<kube::Error>,
    },
    /// The MessageQueue does not fit the types of this release, so a newer or older definition is installed.
    #[error("the MessageQueue does not fit the definition of this release: {reason}")]
    Malformed {
        /// The part of it that every object has.
        metadata: Box<ObjectMeta>,
        /// What does not fit.
        reason: String,
    },
    /// The operating system gave no randomness for a password.
    #[error("the operating system gives no randomness for the default user's password")]
    Randomness,
    /// No certificate can be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// What exists for one MessageQueue, under the names that its objects have.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The MessageQueue itself.
    pub queue: MessageQueue,
    /// Objects under our names. They may belong to somebody else.
    pub objects: ObservedObjects,
    /// The claim of the first broker's volume. A MessageQueue of the same name may have left it, so that it need not be
    /// what this one asks for.
    pub volume_claim: Option<PersistentVolumeClaim>,
    /// The default user: the one in the Secret, or one drawn just now for a Secret that has none.
    pub credentials: Credentials,
    /// What encrypts connections.
    pub tls: ObservedTls,
    /// Kinds of the Prometheus operator that the cluster has.
    pub kinds: Kinds,
}

/// What there is for TLS.
#[derive(Clone, Debug, PartialEq)]
pub enum ObservedTls {
    /// It is disabled.
    Disabled,
    /// Our own certificates: those that are stored, or those that were made just now where some are due.
    Managed(Box<Certificates>),
    /// The Secret that the MessageQueue names, if it exists.
    Secret(Option<Box<Secret>>),
}

/// The objects of [`crate::build::Objects`] as the API server has them; `None` is an object that does not exist.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "each field is the kind and role that its name says")]
pub struct ObservedObjects {
    pub default_user: Option<Secret>,
    pub config: Option<ConfigMap>,
    pub nodes_service: Option<Service>,
    pub client_service: Option<Service>,
    pub disruption_budget: Option<PodDisruptionBudget>,
    pub authority_secret: Option<Secret>,
    pub certificate_secret: Option<Secret>,
    pub authorities: Option<ConfigMap>,
    pub network_policy: Option<NetworkPolicy>,
    pub service_monitor: Option<ServiceMonitor>,
    pub prometheus_rule: Option<PrometheusRule>,
    pub service_account: Option<ServiceAccount>,
    pub stateful_set: Option<StatefulSet>,
}

/// Reads one MessageQueue and its objects. `None` if it is gone, or going: then there is nothing left to do.
///
/// # Errors
/// See [`ObserveError`].
///
/// `domain` is the cluster's; `kinds`: those of the Prometheus operator that it has; `now`: seconds since 1970.
pub async fn observe(
    client: &Client,
    (namespace, name): (&str, &str),
    domain: &str,
    kinds: Kinds,
    now: i64,
) -> Result<Option<Observed>, ObserveError> {
    let Some(queue) = read_queue(client, namespace, name).await? else { return Ok(None) };
    if queue.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let names = Names::of(namespace, name);
    let objects = ObservedObjects {
        default_user: read(client, namespace, &names.default_user).await?,
        config: read(client, namespace, &names.config).await?,
        nodes_service: read(client, namespace, &names.nodes_service).await?,
        client_service: read(client, namespace, &names.client_service).await?,
        disruption_budget: read(client, namespace, &names.disruption_budget).await?,
        authority_secret: read(client, namespace, &names.authority_secret).await?,
        certificate_secret: read(client, namespace, &names.certificate_secret).await?,
        authorities: read(client, namespace, &names.authorities).await?,
        network_policy: read(client, namespace, &names.network_policy).await?,
        service_monitor: match kinds.service_monitors {
            true => read(client, namespace, &names.service_monitor).await?,
            false => None,
        },
        prometheus_rule: match kinds.prometheus_rules {
            true => read(client, namespace, &names.prometheus_rule).await?,
            false => None,
        },
        service_account: read(client, namespace, &names.service_account).await?,
        stateful_set: read(client, namespace, &names.stateful_set).await?,
    };
    let volume_claim = read(client, namespace, &names.volume_claim(0)).await?;
    let credentials = match objects.default_user.as_ref().and_then(stored_credentials) {
        Some(stored) => stored,
        None => Credentials::generate().map_err(|_| ObserveError::Randomness)?,
    };
    let tls = match queue.spec.tls.mode {
        TlsMode::Disabled => ObservedTls::Disabled,
        TlsMode::Secret => {
            let name = queue.spec.tls.secret_name.clone().unwrap_or_default();
            ObservedTls::Secret(read(client, namespace, &name).await?.map(Box::new))
        }
        TlsMode::Managed => {
            ObservedTls::Managed(Box::new(certificates(&queue, &objects, &names.broker_names(domain), now)?))
        }
    };
    Ok(Some(Observed { queue, objects, volume_claim, credentials, tls, kinds }))
}

/// The certificates that are stored, renewed where that is due.
fn certificates(
    queue: &MessageQueue,
    objects: &ObservedObjects,
    names: &[String],
    now: i64,
) -> Result<Certificates, ObserveError> {
    let tls = &queue.spec.tls;
    // An address has several spellings, and a certificate one.
    let address = |text: &String| text.parse().map_or_else(|_| text.clone(), |address: IpAddr| address.to_string());
    let addresses: Vec<String> = tls.ip_addresses.iter().map(address).collect();
    let names = [names, &tls.dns_names, &addresses].concat();
    let rotate = queue.annotations().get(ROTATE_ANNOTATION).map(String::as_str);
    let request = Request { names: &names, terms: tls.terms(), rotate, now };
    Ok(renew(&stored_certificates(objects), &request)?)
}

/// Reads the pods of the StatefulSet that exist, in the order of their ordinals.
///
/// # Errors
/// See [`ObserveError`].
pub async fn observe_pods(client: &Client, names: &Names, replicas: i32) -> Result<Vec<Pod>, ObserveError> {
    let mut pods = Vec::new();
    for ordinal in 0..replicas {
        pods.extend(read(client, &names.namespace, &names.pod(ordinal)).await?);
    }
    Ok(pods)
}

async fn read_queue(client: &Client, namespace: &str, name: &str) -> Result<Option<MessageQueue>, ObserveError> {
    let api: Api<DeserializeGuard<MessageQueue>> = Api::namespaced(client.clone(), namespace);
    let found = api.get_opt(name).await.map_err(|source| unreadable::<MessageQueue>(name, source))?;
    found
        .map(|guarded| {
            guarded.0.map_err(|invalid| ObserveError::Malformed {
                metadata: Box::new(invalid.metadata),
                reason: invalid.error,
            })
        })
        .transpose()
}

async fn read<K>(client: &Client, namespace: &str, name: &str) -> Result<Option<K>, ObserveError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    api.get_opt(name).await.map_err(|source| unreadable::<K>(name, source))
}

fn unreadable<K: Resource<DynamicType = ()>>(name: &str, source: kube::Error) -> ObserveError {
    ObserveError::Read { kind: K::kind(&()).into_owned(), name: name.into(), source: Box::new(source) }
}

fn stored_credentials(secret: &Secret) -> Option<Credentials> {
    Some(Credentials { username: text(secret, "username")?, password: text(secret, "password")? })
}

/// What [`crate::build`] has written into the two Secrets.
fn stored_certificates(objects: &ObservedObjects) -> Stored {
    let pair = |secret: &Secret, certificate: &str, key: &str| {
        Some(Pair { certificate: text(secret, certificate)?, key: text(secret, key)? })
    };
    let authorities = objects.authority_secret.as_ref().and_then(|secret| {
        Some(Authorities {
            active: pair(secret, "tls.crt", "tls.key")?,
            next: pair(secret, "next.crt", "next.key"),
            old: text(secret, "old.crt"),
            rotated_for: text(secret, "rotated-for"),
        })
    });
    let leaf = objects.certificate_secret.as_ref().and_then(|secret| pair(secret, "tls.crt", "tls.key"));
    Stored { authorities, leaf }
}

/// An entry of a Secret that is text, and not empty.
pub(crate) fn text(secret: &Secret, key: &str) -> Option<String> {
    let octets = &secret.data.as_ref()?.get(key)?.0;
    String::from_utf8(octets.clone()).ok().filter(|text| !text.is_empty())
}
