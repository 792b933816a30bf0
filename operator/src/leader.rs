//! Which of several operators works: the one that holds a Lease (`coordination.k8s.io/v1`).
//!
//! The holder renews the Lease; the others look at it, and the first that finds it free takes it. Whether somebody else's Lease has
//! run out is measured by our own clock from when we saw it change last, so clocks need not agree. The holder stops before
//! others may begin: all work ends two seconds after the last renewal that is known to have arrived.
//!
//! What two operators would do at once is harmless all the same: they apply the same objects under one name, and a number of pods
//! is changed only if it still is as it was seen. The Lease spares work.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::config::LeaseName;
use crate::controller::Shutdown;
use crate::server_error::said;

/// How long a holder counts that is not heard of. With [`LOOK_PERIOD`] it bounds how long nobody works after a crash.
const DURATION: Duration = Duration::from_secs(3);

/// How often the holder renews.
const RENEW_PERIOD: Duration = Duration::from_secs(1);

/// How soon a renewal that failed is tried again.
const RETRY_PERIOD: Duration = Duration::from_millis(250);

/// For how long the holder works on without a renewal. Less than [`DURATION`] by what a renewal may be on its way.
const RENEW_DEADLINE: Duration = Duration::from_secs(2);

/// How often the others look.
const LOOK_PERIOD: Duration = Duration::from_millis(500);

/// One candidate for a Lease.
pub struct Candidate {
    api: Api<Lease>,
    lease: LeaseName,
    /// Differs between the operators of one Lease, and stays when a container of the same pod starts again.
    identity: String,
}

/// The Lease as it was seen last.
struct Sighting {
    version: Option<String>,
    since: Instant,
}

impl Candidate {
    /// A candidate for `lease`, called `identity`.
    pub fn new(client: Client, lease: LeaseName, identity: String) -> Self {
        Self { api: Api::namespaced(client, &lease.namespace), lease, identity }
    }

    /// Runs `work` while this operator holds the Lease, until `shutdown`; then `work` has to end by itself, and the Lease is free
    /// at once. When the Lease is lost, `work` is dropped where it stands. `follows` is called when another operator holds it.
    pub async fn run<W: Future>(&self, shutdown: Shutdown, follows: impl Fn(), work: impl Fn() -> W) {
        loop {
            let mut held = tokio::select! {
                held = self.acquire(&follows) => held,
                () = shutdown.clone() => return,
            };
            info!(lease = %self.lease, identity = self.identity, "this operator leads");
            tokio::select! {
                _ = work() => {
                    self.release().await;
                    return;
                }
                () = self.keep(&mut held) => {
                    warn!(lease = %self.lease, "the Lease could not be renewed: another operator may lead");
                    follows();
                }
            }
        }
    }

    /// Waits until the Lease is free and takes it.
    async fn acquire(&self, follows: &impl Fn()) -> Lease {
        let mut sighting = Sighting { version: None, since: Instant::now() };
        loop {
            match timeout(RENEW_PERIOD, self.try_acquire(&mut sighting)).await {
                Ok(Ok(Some(held))) => return held,
                Ok(Ok(None)) => follows(),
                Ok(Err(error)) => warn!(lease = %self.lease, error = said(&error), "the Lease cannot be read or taken"),
                Err(_) => warn!(lease = %self.lease, "the API server does not answer"),
            }
            sleep(LOOK_PERIOD).await;
        }
    }

    /// Takes the Lease if it is free. `None`: it is not, or somebody else was faster.
    async fn try_acquire(&self, sighting: &mut Sighting) -> Result<Option<Lease>, kube::Error> {
        let found = self.api.get_opt(&self.lease.name).await?;
        let version = found.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        if version != sighting.version {
            *sighting = Sighting { version, since: Instant::now() };
        }
        if !is_free(found.as_ref(), &self.identity, sighting.since.elapsed()) {
            return Ok(None);
        }
        let taken = taken(found.as_ref(), &self.lease, &self.identity, Timestamp::now());
        let written = match found {
            None => self.api.create(&PostParams::default(), &taken).await,
            Some(_) => self.api.replace(&self.lease.name, &PostParams::default(), &taken).await,
        };
        match written {
            Ok(held) => Ok(Some(held)),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Renews the Lease until it is lost.
    async fn keep(&self, held: &mut Lease) {
        let mut renewed = Instant::now();
        let mut wait = RENEW_PERIOD;
        loop {
            sleep(wait).await;
            let begun = Instant::now();
            let left = (renewed + RENEW_DEADLINE).saturating_duration_since(begun);
            wait = match timeout(left.min(RENEW_PERIOD), self.renew(held)).await {
                Ok(Ok(Some(lease))) => {
                    *held = lease;
                    renewed = begun;
                    RENEW_PERIOD
                }
                Ok(Ok(None)) => return,
                Ok(Err(error)) => {
                    warn!(lease = %self.lease, error = said(&error), "the Lease cannot be renewed");
                    RETRY_PERIOD
                }
                Err(_) => RETRY_PERIOD,
            };
            if renewed.elapsed() + wait >= RENEW_DEADLINE {
                return;
            }
        }
    }

    /// `None`: it belongs to somebody else.
    async fn renew(&self, held: &Lease) -> Result<Option<Lease>, kube::Error> {
        let renewed = renewed(held, Timestamp::now());
        match self.api.replace(&self.lease.name, &PostParams::default(), &renewed).await {
            Ok(lease) => Ok(Some(lease)),
            // Written by somebody else, perhaps only its labels; or gone.
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => {
                let mut sighting = Sighting { version: None, since: Instant::now() };
                self.try_acquire(&mut sighting).await
            }
            Err(error) => Err(error),
        }
    }

    /// Lets the others have it without waiting. If that does not work, they wait.
    async fn release(&self) {
        let release = async {
            // A renewal may have been on its way, so only the API server knows the present version.
            let held = self.api.get(&self.lease.name).await?;
            if holder(&held) == Some(&self.identity) {
                self.api.replace(&self.lease.name, &PostParams::default(), &released(&held)).await?;
            }
            Ok::<(), kube::Error>(())
        };
        match timeout(RENEW_PERIOD, release).await {
            Ok(Ok(())) => info!(lease = %self.lease, "the Lease is free"),
            Ok(Err(error)) => warn!(lease = %self.lease, error = said(&error), "the Lease cannot be given back"),
            Err(_) => warn!(lease = %self.lease, "the Lease cannot be given back: the API server does not answer"),
        }
    }
}

fn holder(lease: &Lease) -> Option<&String> {
    lease.spec.as_ref()?.holder_identity.as_ref()
}

/// Whether `identity` may take the Lease, which nobody has changed for `unchanged`.
fn is_free(lease: Option<&Lease>, identity: &str, unchanged: Duration) -> bool {
    let Some(spec) = lease.and_then(|lease| lease.spec.as_ref()) else { return true };
    let duration = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    match spec.holder_identity.as_deref() {
        None | Some("") => true,
        Some(holder) => holder == identity || unchanged >= duration.map_or(DURATION, Duration::from_secs),
    }
}

/// The Lease `name` with `identity` as its new holder. Its resourceVersion stays, so that only one candidate succeeds.
fn taken(before: Option<&Lease>, name: &LeaseName, identity: &str, now: Timestamp) -> Lease {
    let fresh =
        ObjectMeta { name: Some(name.name.clone()), namespace: Some(name.namespace.clone()), ..ObjectMeta::default() };
    let transitions = before.and_then(|lease| lease.spec.as_ref()?.lease_transitions);
    Lease {
        metadata: before.map_or(fresh, |lease| lease.metadata.clone()),
        spec: Some(LeaseSpec {
            holder_identity: Some(identity.to_owned()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(MicroTime(now)),
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(before.map_or(0, |_| transitions.unwrap_or(0).saturating_add(1))),
            ..LeaseSpec::default()
        }),
    }
}

fn renewed(held: &Lease, now: Timestamp) -> Lease {
    let spec = held.spec.clone().unwrap_or_default();
    Lease { spec: Some(LeaseSpec { renew_time: Some(MicroTime(now)), ..spec }), ..held.clone() }
}

fn released(held: &Lease) -> Lease {
    let spec = held.spec.clone().unwrap_or_default();
    Lease { spec: Some(LeaseSpec { holder_identity: None, ..spec }), ..held.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(identity: &str) -> Lease {
        let name = LeaseName { namespace: "warren".into(), name: "warren".into() };
        taken(None, &name, identity, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_lease_is_free_without_a_holder_for_its_holder_and_after_its_time() {
        let (short, long) = (DURATION - Duration::from_millis(1), DURATION);
        assert!(is_free(None, "a", Duration::ZERO));
        assert!(!is_free(Some(&held_by("b")), "a", short));
        assert!(is_free(Some(&held_by("b")), "a", long));
        assert!(is_free(Some(&held_by("a")), "a", Duration::ZERO), "a container that was started again");
        assert!(is_free(Some(&released(&held_by("b"))), "a", Duration::ZERO));
    }

    #[test]
    fn the_holder_says_for_how_long() {
        let mut lease = held_by("b");
        lease.spec.as_mut().unwrap().lease_duration_seconds = Some(15);
        assert!(!is_free(Some(&lease), "a", DURATION));
        assert!(is_free(Some(&lease), "a", Duration::from_secs(15)));
    }

    #[test]
    fn taking_a_lease_keeps_its_version_and_counts() {
        let mut lease = held_by("b");
        lease.metadata.resource_version = Some("7".into());
        let name = LeaseName { namespace: "warren".into(), name: "warren".into() };
        let taken = taken(Some(&lease), &name, "a", Timestamp::UNIX_EPOCH);
        let spec = taken.spec.unwrap();
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("a"), Some(1)));
        assert_eq!(taken.metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(lease.spec.unwrap().lease_transitions, Some(0));
    }

    #[test]
    fn work_ends_before_others_may_begin() {
        assert!(RENEW_DEADLINE < DURATION);
        // A renewal may fail once in good time.
        assert!(RENEW_PERIOD + RETRY_PERIOD < RENEW_DEADLINE);
    }
}
