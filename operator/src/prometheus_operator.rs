//! Kinds of the Prometheus operator (`monitoring.coreos.com/v1`), as far as we write them, and whether the cluster has them.
//!
//! They may come and go while the operator runs. So it asks now and then, and a kind that is not there is not watched.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::stream::{self, Stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{Client, CustomResource};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::server_error::said;

const GROUP_VERSION: &str = "monitoring.coreos.com/v1";

/// How often it is asked which kinds there are.
const PERIOD: Duration = Duration::from_secs(20);

/// Which of the kinds the cluster has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    /// ServiceMonitor.
    pub service_monitors: bool,
    /// PrometheusRule.
    pub prometheus_rules: bool,
}

/// What a ServiceMonitor says: which Services are scraped, and how.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(group = "monitoring.coreos.com", version = "v1", kind = "ServiceMonitor", namespaced, schema = "disabled")]
#[kube(derive = "PartialEq")]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "each field is the one of the Prometheus operator's reference")]
pub struct ServiceMonitorSpec {
    pub selector: LabelSelector,
    pub job_label: String,
    pub endpoints: Vec<Endpoint>,
}

/// A page that is scraped.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "each field is the one of the Prometheus operator's reference")]
pub struct Endpoint {
    pub port: String,
    pub path: String,
    pub interval: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, Vec<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub relabelings: Vec<Relabeling>,
}

/// A label that is set to a text.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "each field is the one of the Prometheus operator's reference")]
pub struct Relabeling {
    pub action: String,
    pub target_label: String,
    pub replacement: String,
}

/// What a PrometheusRule says: groups of rules, as in a file of Prometheus.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(group = "monitoring.coreos.com", version = "v1", kind = "PrometheusRule", namespaced, schema = "disabled")]
#[kube(derive = "PartialEq")]
#[serde(default)]
#[expect(missing_docs, reason = "each field is the one of Prometheus' documentation")]
pub struct PrometheusRuleSpec {
    pub groups: Vec<RuleGroup>,
}

/// A group of alerts.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(default)]
#[expect(missing_docs, reason = "each field is the one of Prometheus' documentation")]
pub struct RuleGroup {
    pub name: String,
    pub rules: Vec<Alert>,
}

/// An alert.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(default)]
#[expect(missing_docs, reason = "each field is the one of Prometheus' documentation")]
pub struct Alert {
    pub alert: String,
    pub expr: String,
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub for_: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// Asks again and again, and tells when the answer is another one. Ends when nobody listens.
pub async fn discover(client: &Client, found: watch::Sender<Kinds>) {
    while !found.is_closed() {
        match kinds(client).await {
            Ok(kinds) => {
                found.send_if_modified(|known| {
                    let is_new = *known != kinds;
                    if is_new {
                        info!(?kinds, "the cluster has other kinds of the Prometheus operator than before");
                    }
                    *known = kinds;
                    is_new
                });
            }
            Err(error) => warn!(error = said(&error), "cannot ask for the kinds of {GROUP_VERSION}"),
        }
        sleep(PERIOD).await;
    }
}

async fn kinds(client: &Client) -> Result<Kinds, kube::Error> {
    let listed = match client.list_api_group_resources(GROUP_VERSION).await {
        Ok(listed) => listed,
        // A group that is not there has no Status to say so, only the code.
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Kinds::default()),
        Err(error) => return Err(error),
    };
    let has = |kind: &str| listed.resources.iter().any(|resource| resource.kind == kind);
    Ok(Kinds { service_monitors: has("ServiceMonitor"), prometheus_rules: has("PrometheusRule") })
}

/// An item for each other answer.
pub fn changes(kinds: watch::Receiver<Kinds>) -> impl Stream<Item = ()> + Send + 'static {
    stream::unfold(kinds, |mut kinds| async move { kinds.changed().await.ok().map(|()| ((), kinds)) })
}
