//! The ConfigMap with the broker's configuration file.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::{AMQP_PORT, AMQPS_PORT, MANAGEMENT_PORT, MANAGEMENT_TLS_PORT, METRICS_PORT, metadata, paths};
use crate::validate::{Plan, PlannedTls};

pub(super) fn config_map(plan: &Plan) -> ConfigMap {
    ConfigMap {
        metadata: metadata(plan, &plan.names.config),
        data: Some(BTreeMap::from([(paths::CONFIG_FILE.into(), configuration(plan))])),
        ..ConfigMap::default()
    }
}

/// The configuration of `warren-broker serve` inside its container, as TOML.
///
/// Metrics and health checks are served without TLS: the kubelet and Prometheus know no name of a pod.
fn configuration(plan: &Plan) -> String {
    let data = paths::DATA;
    let user = format!("{}/{}", paths::CONFIG_FOLDER, paths::DEFAULT_USER_FOLDER);
    let (listeners, tls) = if plan.tls == PlannedTls::Disabled {
        let listeners = format!("amqp = [\"0.0.0.0:{AMQP_PORT}\"]\nmanagement = \"0.0.0.0:{MANAGEMENT_PORT}\"");
        (listeners, String::new())
    } else {
        let listeners = format!(
            "amqp = []\namqps = [\"0.0.0.0:{AMQPS_PORT}\"]\nmanagement_https = [\"0.0.0.0:{MANAGEMENT_TLS_PORT}\"]"
        );
        let folder = paths::TLS_FOLDER;
        (listeners, format!("\n[tls]\ncertificate = \"{folder}/tls.crt\"\nkey = \"{folder}/tls.key\"\n"))
    };
    let audience = plan.audience();
    let kubernetes = audience.map(|audience| format!("\n[authentication.kubernetes]\naudience = \"{audience}\"\n"));
    let kubernetes = kubernetes.unwrap_or_default();
    format!(
        r#"data_dir = "{data}"

[listeners]
{listeners}
metrics = "0.0.0.0:{METRICS_PORT}"
{tls}
[default_user]
name_file = "{user}/username"
password_file = "{user}/password"
{kubernetes}"#
    )
}
