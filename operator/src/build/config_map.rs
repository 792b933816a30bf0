//! The ConfigMap with the broker's configuration file.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::{AMQP_PORT, METRICS_PORT, metadata, paths};
use crate::validate::Plan;

pub(super) fn config_map(plan: &Plan) -> ConfigMap {
    ConfigMap {
        metadata: metadata(plan, &plan.names.config),
        data: Some(BTreeMap::from([(paths::CONFIG_FILE.into(), configuration())])),
        ..ConfigMap::default()
    }
}

/// The configuration of `warren-broker serve` inside its container, as TOML.
fn configuration() -> String {
    let data = paths::DATA;
    let user = format!("{}/{}", paths::CONFIG_FOLDER, paths::DEFAULT_USER_FOLDER);
    format!(
        r#"data_dir = "{data}"

[listeners]
amqp = ["0.0.0.0:{AMQP_PORT}"]
metrics = "0.0.0.0:{METRICS_PORT}"

[default_user]
name_file = "{user}/username"
password_file = "{user}/password"
"#
    )
}
