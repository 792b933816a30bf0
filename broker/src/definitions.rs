//! Definitions: a file in RabbitMQ's export format, read into the requests that make what it says.
//!
//! Both forms are understood, that of a whole cluster and that of one virtual host. What RabbitMQ writes there for
//! people is passed over: versions, the cluster's name and tags. Everything else has to be something that we can make;
//! a key that is unknown, a runtime parameter of a plugin or a value of another type is refused with its place.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::Value as Json;
use warren_amqp::{ArrayBuilder, Table, TableBuilder, Value};
use warren_core::ConnectionId;
use warren_core::topology::{
    Action, Administration, ApplyTo, Bind, DEFAULT_VHOST, ExchangeDeclaration, HashingAlgorithm, Identity,
    PasswordHash, PolicyDeclaration, QueueDeclaration, Request, UserLimits, VhostLimits,
};

use crate::limits::DEFINITIONS_BYTES;

/// Reads a file of definitions. The requests are to be carried out in this order; doing so again changes nothing.
///
/// # Errors
/// The file cannot be read, or says something that cannot be made.
pub(crate) fn load(path: &Path) -> Result<Vec<Request>, DefinitionsError> {
    let failed = |problem| DefinitionsError { path: path.to_path_buf(), problem };
    let read = |source| failed(Problem::Read(source));
    if std::fs::metadata(path).map_err(read)?.len() > DEFINITIONS_BYTES {
        return Err(failed(Problem::TooLarge));
    }
    parse(&std::fs::read_to_string(path).map_err(read)?).map_err(failed)
}

/// Why definitions cannot be used, with the file's name.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the definitions in {path}: {problem}")]
pub(crate) struct DefinitionsError {
    path: PathBuf,
    problem: Problem,
}

/// What is wrong with definitions.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("{0}")]
    Read(std::io::Error),
    #[error("the file is larger than {DEFINITIONS_BYTES} octets")]
    TooLarge,
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("{of}: {reason}")]
    Meaning { of: String, reason: String },
}

fn wrong(of: impl fmt::Display, reason: impl Into<String>) -> Problem {
    Problem::Meaning { of: of.to_string(), reason: reason.into() }
}

fn parse(text: &str) -> Result<Vec<Request>, Problem> {
    let file: File = serde_json::from_str(text)?;
    let mut requests = Requests { list: Vec::new(), vhost: Arc::from(file.vhost.as_deref().unwrap_or(DEFAULT_VHOST)) };
    file.refuse_what_is_unknown()?;
    if let Some(metadata) = file.metadata {
        let vhost = requests.vhost.to_string();
        requests.vhost(VhostEntry { name: vhost, limits: file.limits, metadata, ..VhostEntry::default() })?;
    }
    file.vhosts.into_iter().try_for_each(|entry| requests.vhost(entry))?;
    file.users.into_iter().try_for_each(|entry| requests.user(entry))?;
    file.permissions.into_iter().for_each(|entry| requests.permissions(entry));
    file.topic_permissions.into_iter().for_each(|entry| requests.topic_permissions(entry));
    file.parameters.into_iter().try_for_each(|entry| requests.parameter(entry))?;
    file.policies.into_iter().try_for_each(|entry| requests.policy(entry, false))?;
    file.exchanges.into_iter().try_for_each(|entry| requests.exchange(entry))?;
    file.queues.into_iter().try_for_each(|entry| requests.queue(entry))?;
    file.bindings.into_iter().try_for_each(|entry| requests.binding(entry))?;
    Ok(requests.list)
}

/// The file. The keys of the single virtual host's form are beside those of the cluster's.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    users: Vec<UserEntry>,
    #[serde(default)]
    vhosts: Vec<VhostEntry>,
    #[serde(default)]
    permissions: Vec<PermissionsEntry>,
    #[serde(default)]
    topic_permissions: Vec<TopicPermissionsEntry>,
    #[serde(default)]
    parameters: Vec<ParameterEntry>,
    #[serde(default)]
    global_parameters: Vec<GlobalParameterEntry>,
    #[serde(default)]
    policies: Vec<PolicyEntry>,
    #[serde(default)]
    exchanges: Vec<ExchangeEntry>,
    #[serde(default)]
    queues: Vec<QueueEntry>,
    #[serde(default)]
    bindings: Vec<BindingEntry>,
    /// Of a single virtual host.
    #[serde(default, rename = "original_vhost_name")]
    vhost: Option<String>,
    #[serde(default)]
    metadata: Option<VhostMetadata>,
    #[serde(default)]
    limits: BTreeMap<String, i64>,
    #[serde(flatten)]
    others: BTreeMap<String, Json>,
}

/// Keys of the file that are for people.
const PASSED_OVER: [&str; 8] = [
    "rabbit_version",
    "rabbitmq_version",
    "product_name",
    "product_version",
    "explanation",
    "rabbitmq_definition_format",
    "original_cluster_name",
    // Of a single virtual host; it is in the metadata too.
    "description",
];

/// Parameters of the whole cluster that are for people.
const GLOBAL_PARAMETERS: [&str; 3] = ["cluster_name", "cluster_tags", "internal_cluster_id"];

impl File {
    fn refuse_what_is_unknown(&self) -> Result<(), Problem> {
        if let Some(key) = self.others.keys().find(|key| !PASSED_OVER.contains(&key.as_str())) {
            return Err(wrong(format_args!("key '{key}'"), "unknown in definitions"));
        }
        let unknown = |entry: &&GlobalParameterEntry| !GLOBAL_PARAMETERS.contains(&entry.name.as_str());
        match self.global_parameters.iter().find(unknown) {
            Some(entry) => Err(wrong(format_args!("global parameter '{}'", entry.name), "not available here")),
            None => Ok(()),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct VhostEntry {
    name: String,
    #[serde(default)]
    limits: BTreeMap<String, i64>,
    #[serde(default)]
    metadata: VhostMetadata,
    // Before RabbitMQ 3.9 these were beside the name.
    description: Option<String>,
    #[serde(default, deserialize_with = "tags")]
    tags: Vec<String>,
    default_queue_type: Option<String>,
    #[serde(default)]
    tracing: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct VhostMetadata {
    #[serde(default)]
    description: String,
    #[serde(default, deserialize_with = "tags")]
    tags: Vec<String>,
    default_queue_type: Option<String>,
    #[serde(default)]
    protected_from_deletion: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserEntry {
    name: String,
    password_hash: Option<String>,
    hashing_algorithm: Option<String>,
    #[serde(default, deserialize_with = "tags")]
    tags: Vec<String>,
    #[serde(default)]
    limits: BTreeMap<String, i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PermissionsEntry {
    user: String,
    vhost: String,
    configure: String,
    write: String,
    read: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TopicPermissionsEntry {
    user: String,
    vhost: String,
    exchange: String,
    write: String,
    read: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ParameterEntry {
    component: String,
    name: String,
    value: Json,
    vhost: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GlobalParameterEntry {
    name: String,
    #[serde(rename = "value")]
    _value: Json,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyEntry {
    vhost: Option<String>,
    name: String,
    #[serde(flatten)]
    rule: PolicyRule,
}

#[derive(Deserialize)]
struct PolicyRule {
    pattern: String,
    definition: BTreeMap<String, Json>,
    #[serde(default)]
    priority: i64,
    #[serde(default, rename = "apply-to")]
    apply_to: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExchangeEntry {
    vhost: Option<String>,
    name: String,
    #[serde(rename = "type")]
    kind: String,
    durable: bool,
    #[serde(default)]
    auto_delete: bool,
    #[serde(default)]
    internal: bool,
    #[serde(default)]
    arguments: BTreeMap<String, Json>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QueueEntry {
    vhost: Option<String>,
    name: String,
    /// Also among the arguments, unless the export is old and the queue classic.
    #[serde(default, rename = "type")]
    kind: Option<String>,
    durable: bool,
    #[serde(default)]
    auto_delete: bool,
    #[serde(default)]
    arguments: BTreeMap<String, Json>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BindingEntry {
    vhost: Option<String>,
    source: String,
    destination: String,
    destination_type: String,
    routing_key: String,
    #[serde(default)]
    arguments: BTreeMap<String, Json>,
}

/// Tags are a list, or in older exports one text with commas.
fn tags<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
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

/// The requests so far.
struct Requests {
    list: Vec<Request>,
    /// The virtual host of entries that name none.
    vhost: Arc<str>,
}

impl Requests {
    fn push(&mut self, vhost: Option<&str>, action: Action) {
        let vhost = vhost.map_or_else(|| Arc::clone(&self.vhost), Arc::from);
        let identity = Identity::Node(Arc::from("definitions"));
        self.list.push(Request { connection: ConnectionId::FORWARDER, identity, vhost, action });
    }

    fn administer(&mut self, vhost: Option<&str>, asked: Administration) {
        self.push(vhost, Action::Administer(asked));
    }

    fn vhost(&mut self, entry: VhostEntry) -> Result<(), Problem> {
        let name = entry.name;
        let metadata = entry.metadata;
        if entry.tracing || metadata.protected_from_deletion {
            let reason = "tracing and protection from deletion are not available here";
            return Err(wrong(format_args!("vhost '{name}'"), reason));
        }
        let kind = metadata.default_queue_type.or(entry.default_queue_type);
        let put = Administration::PutVhost {
            description: entry.description.unwrap_or(metadata.description),
            tags: if metadata.tags.is_empty() { entry.tags } else { metadata.tags },
            default_queue_type: kind.filter(|kind| kind != "undefined"),
        };
        self.administer(Some(&name), put);
        let limits = vhost_limits(&name, entry.limits)?;
        self.administer(Some(&name), Administration::SetVhostLimits(limits));
        Ok(())
    }

    fn user(&mut self, entry: UserEntry) -> Result<(), Problem> {
        let of = format!("user '{}'", entry.name);
        let password = entry.password_hash.filter(|hash| !hash.is_empty());
        let password =
            password.map(|hash| password_hash(&of, &hash, entry.hashing_algorithm.as_deref())).transpose()?;
        let mut limits = entry.limits;
        let user_limits = UserLimits {
            max_connections: limit(&of, limits.remove("max-connections"))?,
            max_channels: limit(&of, limits.remove("max-channels"))?,
        };
        refuse_limits(&of, &limits)?;
        let put = Administration::PutUser { name: entry.name.clone(), password, tags: entry.tags };
        self.administer(None, put);
        self.administer(None, Administration::SetUserLimits { user: entry.name, limits: user_limits });
        Ok(())
    }

    fn permissions(&mut self, entry: PermissionsEntry) {
        let PermissionsEntry { user, vhost, configure, write, read } = entry;
        self.administer(Some(&vhost), Administration::SetPermissions { user, configure, write, read });
    }

    fn topic_permissions(&mut self, entry: TopicPermissionsEntry) {
        let TopicPermissionsEntry { user, vhost, exchange, write, read } = entry;
        self.administer(Some(&vhost), Administration::SetTopicPermissions { user, exchange, write, read });
    }

    fn parameter(&mut self, entry: ParameterEntry) -> Result<(), Problem> {
        let ParameterEntry { component, name, value, vhost } = entry;
        match component.as_str() {
            "operator_policy" => {
                let rule = serde_json::from_value(value)?;
                self.policy(PolicyEntry { vhost, name, rule }, true)
            }
            "vhost-limits" => {
                let of = vhost.as_deref().unwrap_or(&self.vhost).to_string();
                let limits = vhost_limits(&of, serde_json::from_value(value)?)?;
                self.administer(vhost.as_deref(), Administration::SetVhostLimits(limits));
                Ok(())
            }
            _ => Err(wrong(format_args!("parameter '{name}' of '{component}'"), "not available here")),
        }
    }

    fn policy(&mut self, entry: PolicyEntry, operator: bool) -> Result<(), Problem> {
        let PolicyEntry { vhost, name, rule } = entry;
        let of = format!("{} '{name}'", if operator { "operator policy" } else { "policy" });
        let apply_to = rule.apply_to.as_deref().unwrap_or("all");
        let apply_to = ApplyTo::from_name(apply_to)
            .ok_or_else(|| wrong(&of, format!("apply-to '{apply_to}' is not one of {}", apply_to_names())))?;
        let declaration = PolicyDeclaration {
            definition: table(&of, &rule.definition)?,
            name,
            operator,
            pattern: rule.pattern,
            apply_to,
            priority: rule.priority,
        };
        self.administer(vhost.as_deref(), Administration::PutPolicy(declaration));
        Ok(())
    }

    fn exchange(&mut self, entry: ExchangeEntry) -> Result<(), Problem> {
        let arguments = table(&format!("exchange '{}'", entry.name), &entry.arguments)?;
        let declaration = ExchangeDeclaration {
            name: entry.name,
            kind: entry.kind,
            passive: false,
            durable: entry.durable,
            auto_delete: entry.auto_delete,
            internal: entry.internal,
            arguments,
        };
        self.push(entry.vhost.as_deref(), Action::DeclareExchange(declaration));
        Ok(())
    }

    fn queue(&mut self, mut entry: QueueEntry) -> Result<(), Problem> {
        let of = format!("queue '{}'", entry.name);
        if entry.name.is_empty() {
            return Err(wrong(of, "has no name"));
        }
        if let Some(kind) = entry.kind {
            entry.arguments.entry(String::from("x-queue-type")).or_insert(Json::String(kind));
        }
        let declaration = QueueDeclaration {
            arguments: table(&of, &entry.arguments)?,
            name: entry.name,
            generated_name: String::new(),
            passive: false,
            durable: entry.durable,
            exclusive: false,
            auto_delete: entry.auto_delete,
        };
        self.push(entry.vhost.as_deref(), Action::DeclareQueue(declaration));
        Ok(())
    }

    fn binding(&mut self, entry: BindingEntry) -> Result<(), Problem> {
        let of = format!("binding from '{}' to '{}'", entry.source, entry.destination);
        let bind = Bind {
            arguments: table(&of, &entry.arguments)?,
            source: entry.source,
            destination: entry.destination,
            routing_key: entry.routing_key,
        };
        let action = match entry.destination_type.as_str() {
            "queue" => Action::BindQueue(bind),
            "exchange" => Action::BindExchange(bind),
            other => return Err(wrong(of, format!("destination_type '{other}' is neither queue nor exchange"))),
        };
        self.push(entry.vhost.as_deref(), action);
        Ok(())
    }
}

fn apply_to_names() -> String {
    ApplyTo::ALL.map(ApplyTo::name).join(", ")
}

fn password_hash(of: &str, hash: &str, algorithm: Option<&str>) -> Result<PasswordHash, Problem> {
    let name = algorithm.unwrap_or(HashingAlgorithm::Sha256.name());
    let algorithm = HashingAlgorithm::from_name(name).ok_or_else(|| wrong(of, unusable_algorithm(name)))?;
    let octets = BASE64_STANDARD.decode(hash).map_err(|error| wrong(of, format!("password_hash: {error}")))?;
    Ok(PasswordHash { algorithm, octets: octets.into() })
}

fn unusable_algorithm(name: &str) -> String {
    let known = HashingAlgorithm::ALL.map(HashingAlgorithm::name).join(" and ");
    match name {
        "rabbit_password_hashing_md5" => format!(
            "its password is hashed with MD5, from which it can be found again; known are {known}. Set the password anew \
             in RabbitMQ (`rabbitmqctl change_password`), which makes a better hash, and export again"
        ),
        _ => format!("hashing_algorithm '{name}' is not known; known are {known}"),
    }
}

fn vhost_limits(vhost: &str, mut limits: BTreeMap<String, i64>) -> Result<VhostLimits, Problem> {
    let of = format!("vhost '{vhost}'");
    let known = VhostLimits {
        max_connections: limit(&of, limits.remove("max-connections"))?,
        max_queues: limit(&of, limits.remove("max-queues"))?,
    };
    refuse_limits(&of, &limits)?;
    Ok(known)
}

/// A negative limit is none, as in RabbitMQ.
fn limit(of: &str, value: Option<i64>) -> Result<Option<u32>, Problem> {
    let given = value.filter(|value| *value >= 0);
    given
        .map(|value| u32::try_from(value).map_err(|_| wrong(of, format!("a limit of {value} is too high"))))
        .transpose()
}

fn refuse_limits(of: &str, left: &BTreeMap<String, i64>) -> Result<(), Problem> {
    left.keys().next().map_or(Ok(()), |name| Err(wrong(of, format!("limit '{name}' is not available"))))
}

/// Arguments as they would come from a client.
fn table(of: &str, entries: &BTreeMap<String, Json>) -> Result<Bytes, Problem> {
    let mut octets = Vec::new();
    let mut builder = TableBuilder::new(&mut octets);
    entries.iter().try_for_each(|(name, value)| put(&mut builder, name, value)).map_err(|reason| wrong(of, reason))?;
    let table = Table::new(&octets).validate(&warren_amqp::limits::TABLE);
    table.map_err(|error| wrong(of, error.to_string()))?;
    Ok(octets.into())
}

/// serde_json reads at most 128 levels, so this does not go deeper.
fn put(out: &mut TableBuilder<'_>, name: &str, value: &Json) -> Result<(), String> {
    if name.len() > usize::from(u8::MAX) {
        return Err(format!("the name of an argument is longer than 255 octets: '{name:.32}…'"));
    }
    let mut inside = Ok(());
    match value {
        Json::Array(elements) => {
            out.array(name, |array| inside = elements.iter().try_for_each(|element| push(array, element)));
        }
        Json::Object(entries) => {
            out.table(name, |table| inside = entries.iter().try_for_each(|(name, value)| put(table, name, value)));
        }
        plain => {
            out.put(name, scalar(plain)?);
        }
    }
    inside
}

fn push(out: &mut ArrayBuilder<'_>, value: &Json) -> Result<(), String> {
    let mut inside = Ok(());
    match value {
        Json::Array(elements) => {
            out.array(|array| inside = elements.iter().try_for_each(|element| push(array, element)));
        }
        Json::Object(entries) => {
            out.table(|table| inside = entries.iter().try_for_each(|(name, value)| put(table, name, value)));
        }
        plain => {
            out.push(scalar(plain)?);
        }
    }
    inside
}

fn scalar(value: &Json) -> Result<Value<'_>, String> {
    Ok(match value {
        Json::Bool(value) => Value::Bool(*value),
        Json::String(text) => Value::LongString(text.as_bytes()),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Value::I64(integer),
            (None, Some(float)) if !number.is_u64() => Value::F64(float),
            _ => return Err(format!("the number {number} is too large")),
        },
        Json::Null | Json::Array(_) | Json::Object(_) => Value::Void,
    })
}

#[cfg(test)]
mod tests;
