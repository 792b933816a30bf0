//! The file of definitions as it is written: a list of entries of each kind.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value as Json;

/// What people are told of an entry.
pub(super) trait Entry {
    /// The file's key that has the list of such entries.
    const LIST: &'static str;

    /// What it is called. `vhost`: the virtual host of entries that name none.
    fn title(&self, vhost: &str) -> String;
}

/// The file. The keys of the single virtual host's form are beside those of the cluster's.
#[derive(Deserialize)]
pub(super) struct File {
    #[serde(default)]
    pub(super) users: Vec<UserEntry>,
    #[serde(default)]
    pub(super) vhosts: Vec<VhostEntry>,
    #[serde(default)]
    pub(super) permissions: Vec<PermissionsEntry>,
    #[serde(default)]
    pub(super) topic_permissions: Vec<TopicPermissionsEntry>,
    #[serde(default)]
    pub(super) parameters: Vec<ParameterEntry>,
    #[serde(default)]
    pub(super) global_parameters: Vec<GlobalParameterEntry>,
    #[serde(default)]
    pub(super) policies: Vec<PolicyEntry>,
    #[serde(default)]
    pub(super) exchanges: Vec<ExchangeEntry>,
    #[serde(default)]
    pub(super) queues: Vec<QueueEntry>,
    #[serde(default)]
    pub(super) bindings: Vec<BindingEntry>,
    /// Of a single virtual host.
    #[serde(default, rename = "original_vhost_name")]
    pub(super) vhost: Option<String>,
    #[serde(default)]
    pub(super) metadata: Option<VhostMetadata>,
    #[serde(default)]
    pub(super) limits: BTreeMap<String, i64>,
    #[serde(flatten)]
    pub(super) others: BTreeMap<String, Json>,
}

impl File {
    /// Makes all of it about that virtual host, whatever its entries say.
    ///
    /// # Errors
    /// The key of a list whose entries are in no virtual host.
    pub(super) fn confine(&mut self, vhost: &str) -> Result<(), &'static str> {
        let beyond = [
            (VhostEntry::LIST, self.vhosts.is_empty()),
            (UserEntry::LIST, self.users.is_empty()),
            (PermissionsEntry::LIST, self.permissions.is_empty()),
            (TopicPermissionsEntry::LIST, self.topic_permissions.is_empty()),
            (GlobalParameterEntry::LIST, self.global_parameters.is_empty()),
        ];
        if let Some((list, _)) = beyond.into_iter().find(|(_, is_empty)| !is_empty) {
            return Err(list);
        }
        self.vhost = Some(vhost.to_owned());
        let parameters = self.parameters.iter_mut().map(|entry| &mut entry.vhost);
        let policies = self.policies.iter_mut().map(|entry| &mut entry.vhost);
        let exchanges = self.exchanges.iter_mut().map(|entry| &mut entry.vhost);
        let queues = self.queues.iter_mut().map(|entry| &mut entry.vhost);
        let bindings = self.bindings.iter_mut().map(|entry| &mut entry.vhost);
        parameters.chain(policies).chain(exchanges).chain(queues).chain(bindings).for_each(|vhost| *vhost = None);
        Ok(())
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VhostEntry {
    pub(super) name: String,
    #[serde(default)]
    pub(super) limits: BTreeMap<String, i64>,
    #[serde(default)]
    pub(super) metadata: VhostMetadata,
    // Before RabbitMQ 3.9 these were beside the name.
    pub(super) description: Option<String>,
    #[serde(default, deserialize_with = "tags")]
    pub(super) tags: Vec<String>,
    pub(super) default_queue_type: Option<String>,
    #[serde(default)]
    pub(super) tracing: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VhostMetadata {
    #[serde(default)]
    pub(super) description: String,
    #[serde(default, deserialize_with = "tags")]
    pub(super) tags: Vec<String>,
    pub(super) default_queue_type: Option<String>,
    pub(super) protected_from_deletion: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UserEntry {
    pub(super) name: String,
    pub(super) password_hash: Option<String>,
    pub(super) hashing_algorithm: Option<String>,
    #[serde(default, deserialize_with = "tags")]
    pub(super) tags: Vec<String>,
    #[serde(default)]
    pub(super) limits: BTreeMap<String, i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PermissionsEntry {
    pub(super) user: String,
    pub(super) vhost: String,
    pub(super) configure: String,
    pub(super) write: String,
    pub(super) read: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TopicPermissionsEntry {
    pub(super) user: String,
    pub(super) vhost: String,
    pub(super) exchange: String,
    pub(super) write: String,
    pub(super) read: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ParameterEntry {
    pub(super) component: String,
    pub(super) name: String,
    pub(super) value: Json,
    pub(super) vhost: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GlobalParameterEntry {
    pub(super) name: String,
    pub(super) value: Json,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyEntry {
    pub(super) vhost: Option<String>,
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) rule: PolicyRule,
}

#[derive(Deserialize)]
pub(super) struct PolicyRule {
    pub(super) pattern: String,
    pub(super) definition: BTreeMap<String, Json>,
    #[serde(default)]
    pub(super) priority: i64,
    #[serde(default, rename = "apply-to")]
    pub(super) apply_to: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExchangeEntry {
    pub(super) vhost: Option<String>,
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) durable: bool,
    #[serde(default)]
    pub(super) auto_delete: bool,
    #[serde(default)]
    pub(super) internal: bool,
    #[serde(default)]
    pub(super) arguments: BTreeMap<String, Json>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QueueEntry {
    pub(super) vhost: Option<String>,
    pub(super) name: String,
    /// Also among the arguments, unless the export is old and the queue classic.
    #[serde(default, rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) durable: bool,
    #[serde(default)]
    pub(super) auto_delete: bool,
    #[serde(default)]
    pub(super) arguments: BTreeMap<String, Json>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BindingEntry {
    pub(super) vhost: Option<String>,
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) destination_type: String,
    pub(super) routing_key: String,
    #[serde(default)]
    pub(super) arguments: BTreeMap<String, Json>,
}

/// Tags are a list, or in older exports one text with commas.
pub(crate) fn tags<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Tags {
        List(Vec<String>),
        Text(String),
    }
    Ok(match Tags::deserialize(from)? {
        Tags::List(tags) => tags,
        Tags::Text(text) => text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(String::from).collect(),
    })
}

impl Entry for VhostEntry {
    const LIST: &'static str = "vhosts";

    fn title(&self, _vhost: &str) -> String {
        format!("vhost '{}'", self.name)
    }
}

impl Entry for UserEntry {
    const LIST: &'static str = "users";

    fn title(&self, _vhost: &str) -> String {
        format!("user '{}'", self.name)
    }
}

impl Entry for PermissionsEntry {
    const LIST: &'static str = "permissions";

    fn title(&self, _vhost: &str) -> String {
        format!("permissions of user '{}' in vhost '{}'", self.user, self.vhost)
    }
}

impl Entry for TopicPermissionsEntry {
    const LIST: &'static str = "topic_permissions";

    fn title(&self, _vhost: &str) -> String {
        let Self { user, vhost, exchange, .. } = self;
        format!("topic permissions of user '{user}' for exchange '{exchange}' in vhost '{vhost}'")
    }
}

impl Entry for ParameterEntry {
    const LIST: &'static str = "parameters";

    fn title(&self, vhost: &str) -> String {
        let Self { component, name, .. } = self;
        format!("parameter '{name}' of '{component}' in vhost '{}'", self.vhost.as_deref().unwrap_or(vhost))
    }
}

impl Entry for GlobalParameterEntry {
    const LIST: &'static str = "global_parameters";

    fn title(&self, _vhost: &str) -> String {
        format!("global parameter '{}'", self.name)
    }
}

impl Entry for PolicyEntry {
    const LIST: &'static str = "policies";

    fn title(&self, vhost: &str) -> String {
        format!("policy '{}' in vhost '{}'", self.name, self.vhost.as_deref().unwrap_or(vhost))
    }
}

impl Entry for ExchangeEntry {
    const LIST: &'static str = "exchanges";

    fn title(&self, vhost: &str) -> String {
        format!("exchange '{}' in vhost '{}'", self.name, self.vhost.as_deref().unwrap_or(vhost))
    }
}

impl Entry for QueueEntry {
    const LIST: &'static str = "queues";

    fn title(&self, vhost: &str) -> String {
        format!("queue '{}' in vhost '{}'", self.name, self.vhost.as_deref().unwrap_or(vhost))
    }
}

impl Entry for BindingEntry {
    const LIST: &'static str = "bindings";

    fn title(&self, vhost: &str) -> String {
        let Self { source, destination, .. } = self;
        format!("binding from '{source}' to '{destination}' in vhost '{}'", self.vhost.as_deref().unwrap_or(vhost))
    }
}
