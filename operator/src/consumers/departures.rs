//! Which pods go when there are to be fewer, so that no message is delivered twice because of it.
//!
//! ```text
//! pods of the target ─▶ those that go first ─▶ drained at the broker ─▶ hold nothing ─▶ cheap to delete ─▶ PATCH …/scale
//!                                                   └─ hold something ─▶ looked at again, until it is done
//! ```
//!
//! A ReplicaSet deletes pods that are not ready first, and then those of the lowest deletion cost; a StatefulSet its highest
//! ordinals. A pod that is drained is handed nothing new, so that once it holds nothing it stays so.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

use super::figures::Peer;
use crate::broker_api::{BrokerApi, BrokerError};
use crate::names::FIELD_MANAGER;
use crate::server_error::said;

/// What a ReplicaSet looks at.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Less than any pod has that nobody has said anything about.
const CHEAP: &str = "-1000";

/// For how long a pod is drained, if the operator says nothing more. A pod's grace period should not be longer.
const DRAIN: Duration = Duration::from_secs(120);

/// A pod that should have gone after so long stays.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why pods cannot be chosen.
#[derive(Debug, thiserror::Error)]
pub(super) enum DepartureError {
    /// The API server does not answer or refuses.
    #[error("pods cannot be read or changed: {}", said(.0))]
    Pods(#[from] kube::Error),
    /// The broker does not answer or refuses.
    #[error("pods cannot be drained: {0}")]
    Broker(#[from] BrokerError),
}

/// Pods that are drained, by their address.
#[derive(Debug, Default)]
pub(super) struct Departures(BTreeMap<String, Leaving>);

#[derive(Debug)]
struct Leaving {
    pod: String,
    /// Since when nothing but the target's controller is in its way.
    ordered: Option<Instant>,
}

/// The pods of a target.
pub(super) struct Crew<'a> {
    pub(super) client: &'a Client,
    pub(super) namespace: &'a str,
    /// As the scale subresource tells it.
    pub(super) selector: &'a str,
    /// Its pods go by their ordinals, highest first.
    pub(super) is_ordinal: bool,
}

impl Departures {
    /// Prepares `count` pods to go, and answers how many of them may now.
    ///
    /// # Errors
    /// See [`DepartureError`]. None may go then.
    pub(super) async fn prepare(
        &mut self,
        crew: &Crew<'_>,
        broker: &BrokerApi,
        peers: &[Peer],
        count: u32,
    ) -> Result<u32, DepartureError> {
        let pods = crew.pods().await?;
        if is_rolling_out(&pods) {
            return Ok(0);
        }
        let order = self.in_order(crew, &pods, peers);
        let (first, others) = order.split_at(order.len().min(count as usize));
        let mut free = Vec::new();
        let mut is_held_up = false;
        for pod in first {
            let unacked = self.drain(broker, pod).await?;
            // What the controller would take instead must not be taken.
            is_held_up |= unacked > 0 && (crew.is_ordinal || !is_ready(pod));
            if unacked == 0 && !is_held_up {
                free.push(*pod);
            }
        }
        if is_held_up && !crew.is_ordinal {
            return Ok(0);
        }
        if !crew.is_ordinal {
            crew.set_costs(&free, others).await?;
        }
        for address in free.iter().filter_map(|pod| address(pod)) {
            if let Some(leaving) = self.0.get_mut(address) {
                leaving.ordered = Some(Instant::now());
            }
        }
        Ok(u32::try_from(free.len()).unwrap_or(count))
    }

    /// Serves pods again that need not go, and forgets those that are gone.
    ///
    /// # Errors
    /// See [`DepartureError`].
    pub(super) async fn settle(&mut self, crew: &Crew<'_>, broker: &BrokerApi) -> Result<(), DepartureError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let pods = crew.all_pods().await?;
        let mut over = Vec::new();
        for (address, leaving) in &self.0 {
            let pod = pods.iter().find(|pod| pod.name_any() == leaving.pod);
            let is_leaving = pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_some());
            let is_awaited = leaving.ordered.is_some_and(|at| at.elapsed() < PATIENCE);
            if pod.is_none() || !is_leaving && !is_awaited {
                over.push(address.clone());
            }
        }
        for address in over {
            broker.end_drain(&address).await?;
            self.0.remove(&address);
        }
        Ok(())
    }

    async fn drain(&mut self, broker: &BrokerApi, pod: &Pod) -> Result<u64, BrokerError> {
        // What has no address yet has no connection.
        let Some(address) = address(pod) else { return Ok(0) };
        let leaving = || Leaving { pod: pod.name_any(), ordered: None };
        self.0.entry(address.to_owned()).or_insert_with(leaving);
        broker.drain(address, DRAIN).await
    }

    /// Those that go first, first.
    fn in_order<'a>(&self, crew: &Crew<'_>, pods: &'a [Pod], peers: &[Peer]) -> Vec<&'a Pod> {
        let mut order: Vec<&Pod> = pods.iter().collect();
        if crew.is_ordinal {
            order.sort_by_key(|pod| std::cmp::Reverse(ordinal(pod)));
            return order;
        }
        let unacked = |pod: &Pod| {
            let peer = peers.iter().find(|peer| Some(peer.address.as_str()) == address(pod));
            peer.map_or(0, |peer| peer.unacked)
        };
        let is_drained = |pod: &Pod| address(pod).is_some_and(|address| self.0.contains_key(address));
        order.sort_by_key(|pod| (is_ready(pod), !is_drained(pod), unacked(pod), pod.name_any()));
        order
    }
}

impl Crew<'_> {
    /// Those that run or will, and were not told to end.
    async fn pods(&self) -> Result<Vec<Pod>, kube::Error> {
        let mut pods = self.all_pods().await?;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        Ok(pods)
    }

    async fn all_pods(&self) -> Result<Vec<Pod>, kube::Error> {
        let mut pods = self.api().list(&ListParams::default().labels(self.selector)).await?.items;
        let has_ended = |pod: &Pod| matches!(phase(pod), Some("Succeeded" | "Failed"));
        pods.retain(|pod| !has_ended(pod));
        Ok(pods)
    }

    /// Makes those that may go cheap to delete, and takes that back from others.
    async fn set_costs(&self, free: &[&Pod], others: &[&Pod]) -> Result<(), kube::Error> {
        let is_cheap = |pod: &Pod| pod.annotations().get(DELETION_COST).is_some_and(|cost| cost == CHEAP);
        for pod in free.iter().filter(|pod| !is_cheap(pod)) {
            self.set_cost(pod, Some(CHEAP)).await?;
        }
        for pod in others.iter().filter(|pod| is_cheap(pod)) {
            self.set_cost(pod, None).await?;
        }
        Ok(())
    }

    async fn set_cost(&self, pod: &Pod, cost: Option<&str>) -> Result<(), kube::Error> {
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let patch = json!({"metadata": {"annotations": {DELETION_COST: cost}}});
        match self.api().patch_metadata(&pod.name_any(), &parameters, &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), self.namespace)
    }
}

/// While pods of one specification take the place of those of another, nobody can say which one goes.
fn is_rolling_out(pods: &[Pod]) -> bool {
    let owner = |pod: &Pod| {
        pod.owner_references().iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.clone())
    };
    pods.windows(2).any(|two| owner(&two[0]) != owner(&two[1]))
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

fn address(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.pod_ip.as_deref()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn ordinal(pod: &Pod) -> u32 {
    pod.name_any().rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
