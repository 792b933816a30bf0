//! Definitions: a file in RabbitMQ's export format, read into the requests that make what it says.
//!
//! Both forms are understood, that of a whole cluster and that of one virtual host. What RabbitMQ writes there for
//! people is passed over: versions, the cluster's name and tags. Everything else has to be something that we can make;
//! a key that is unknown, a runtime parameter of a plugin or a value of another type is refused with its place.

mod file;

pub(crate) use file::tags;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde_json::Value as Json;
use warren_amqp::{ArrayBuilder, ReplyCode, Table, TableBuilder, Value};
use warren_core::topology::{
    Action, Administration, ApplyTo, Bind, DEFAULT_VHOST, ExchangeDeclaration, HashingAlgorithm, Identity,
    PasswordHash, PolicyDeclaration, QueueDeclaration, Request, UserLimits, VhostLimits,
};
use warren_core::{ConnectionId, Exception};

use crate::authentication::Authentication;
use crate::limits::DEFINITIONS_BYTES;
use file::{
    BindingEntry, Entry, ExchangeEntry, File, GlobalParameterEntry, ParameterEntry, PermissionsEntry, PolicyEntry,
    QueueEntry, TopicPermissionsEntry, UserEntry, VhostEntry,
};

/// One step of what a file of definitions wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) request: Request,
    /// The entry that wants it, and where it is: `queue 'orders' in vhost '/' (queues[3])`, for instance.
    pub(crate) entry: Arc<str>,
}

/// Where definitions come from, which decides what is to be done about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The file that the configuration names.
    File,
    /// A request to the management API.
    Import,
}

impl Definition {
    /// What people are told if it is refused.
    pub(crate) fn left_out(&self, refusal: &Exception, source: Source) -> String {
        let (Exception::Channel { code, text } | Exception::Connection { code, text }) = refusal;
        let (whole, again) = match source {
            Source::File => ("the file", "start again"),
            Source::Import => ("the import", "send it again"),
        };
        let advice = match code {
            _ if is_there_and_different(refusal) => {
                format!("what is there stays as it is; delete it if {whole} is right, and {again}")
            }
            ReplyCode::NotFound => format!("define that in {whole} too, or take this out of it, and {again}"),
            _ => format!("correct {whole} and {again}"),
        };
        let said = format!("{} is left out: {text}; {advice}", self.entry);
        // Names are the file's: none of them is to look like another line of the log.
        said.replace(char::is_control, " ")
    }

    /// Why it is not asked for at all: the name is that of the node's own user, whom the configuration names.
    pub(crate) fn reserved(&self, authentication: &Authentication) -> Option<Exception> {
        match &self.request.action {
            Action::Administer(Administration::PutUser { name, .. }) if authentication.is_reserved(name) => {
                let text = format!("user '{name}' is the node's own, whom [default_user] names");
                Some(Exception::channel(ReplyCode::NotAllowed, text))
            }
            _ => None,
        }
    }
}

/// Reads a file of definitions. They are to be carried out in this order; doing so again changes nothing.
///
/// # Errors
/// The file cannot be read, or says something that cannot be made.
pub(crate) fn load(path: &Path) -> Result<Vec<Definition>, DefinitionsError> {
    let failed = |problem| DefinitionsError { path: path.to_path_buf(), problem };
    let read = |source| failed(Problem::Read(source));
    if std::fs::metadata(path).map_err(read)?.len() > DEFINITIONS_BYTES {
        return Err(failed(Problem::TooLarge));
    }
    parse(&std::fs::read_to_string(path).map_err(read)?).map_err(failed)
}

/// Reads definitions that came through the API. With `vhost`, all of it is about that virtual host, and what is not in a
/// virtual host is refused.
///
/// # Errors
/// They say something that cannot be made.
pub(crate) fn read(octets: &[u8], vhost: Option<&Arc<str>>) -> Result<Vec<Definition>, Problem> {
    let mut file: File = serde_json::from_slice(octets)?;
    if let Some(vhost) = vhost {
        file.confine(vhost).map_err(|list| wrong(format_args!("key '{list}'"), "it is not about one virtual host"))?;
    }
    requests(file)
}

/// Whether the refusal says that there is something of that name that is different.
pub(crate) fn is_there_and_different(refusal: &Exception) -> bool {
    let (Exception::Channel { text, .. } | Exception::Connection { text, .. }) = refusal;
    text.starts_with("inequivalent arg")
}

/// Why definitions cannot be used, with the file's name.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the definitions in {path}: {problem}")]
pub(crate) struct DefinitionsError {
    path: PathBuf,
    problem: Problem,
}

/// What is wrong with definitions, or with an entry that the API takes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error("{0}; name a file that is there and that this process may read")]
    Read(std::io::Error),
    #[error("the file is larger than {DEFINITIONS_BYTES} octets")]
    TooLarge,
    #[error("{0}; RabbitMQ writes such a file with `rabbitmqctl export_definitions`")]
    Json(#[from] serde_json::Error),
    #[error("{of}: {reason}")]
    Meaning { of: String, reason: String },
}

fn wrong(of: impl fmt::Display, reason: impl Into<String>) -> Problem {
    Problem::Meaning { of: of.to_string(), reason: reason.into() }
}

fn parse(text: &str) -> Result<Vec<Definition>, Problem> {
    requests(serde_json::from_str(text)?)
}

fn requests(file: File) -> Result<Vec<Definition>, Problem> {
    let vhost = Arc::from(file.vhost.as_deref().unwrap_or(DEFAULT_VHOST));
    let mut requests = Requests { list: Vec::new(), vhost, entry: Arc::from("") };
    refuse_what_is_unknown(&file)?;
    if let Some(metadata) = file.metadata {
        let name = requests.vhost.to_string();
        requests.entry = format!("vhost '{name}' (metadata and limits)").into();
        requests.vhost(VhostEntry { name, limits: file.limits, metadata, ..VhostEntry::default() })?;
    }
    requests.each(file.vhosts, Requests::vhost)?;
    requests.each(file.users, Requests::user)?;
    requests.each(file.permissions, Requests::permissions)?;
    requests.each(file.topic_permissions, Requests::topic_permissions)?;
    requests.each(file.parameters, Requests::parameter)?;
    requests.each(file.global_parameters, Requests::global_parameter)?;
    requests.each(file.policies, |requests, entry| requests.policy(entry, false))?;
    requests.each(file.exchanges, Requests::exchange)?;
    requests.each(file.queues, Requests::queue)?;
    requests.each(file.bindings, Requests::binding)?;
    Ok(requests.list)
}

/// Keys of the file that are for people.
const PASSED_OVER: [&str; 9] = [
    "rabbit_version",
    "rabbitmq_version",
    "product_name",
    "product_version",
    "explanation",
    "rabbitmq_definition_format",
    "original_cluster_name",
    // Of a single virtual host; these are in the metadata too.
    "description",
    "default_queue_type",
];

/// How parameters begin by which RabbitMQ's plugin for MQTT finds virtual hosts.
const MQTTS_OWN: &str = "mqtt_";

/// Parameters that say which cluster it was: those of another one are not ours.
const GLOBAL_PARAMETERS: [&str; 3] = ["cluster_name", "cluster_tags", "internal_cluster_id"];

fn refuse_what_is_unknown(file: &File) -> Result<(), Problem> {
    if let Some(key) = file.others.keys().find(|key| !PASSED_OVER.contains(&key.as_str())) {
        return Err(wrong(format_args!("key '{key}'"), "unknown in definitions; take it out of the file"));
    }
    Ok(())
}

/// How exchanges are called that each RabbitMQ has for its own logs and events, and exports.
const RABBITMQS_OWN: &str = "amq.rabbitmq.";

/// What is said of something that RabbitMQ has, or one of its plugins, and Warren has not.
const NOT_AVAILABLE: &str = "not available here; take it out of the file";

/// An entry and where it is.
fn place<E: Entry>(entry: &E, index: usize, vhost: &str) -> String {
    format!("{} ({}[{index}])", entry.title(vhost), E::LIST)
}

/// The requests so far.
struct Requests {
    list: Vec<Definition>,
    /// The virtual host of entries that name none.
    vhost: Arc<str>,
    /// The entry that is read, and where it is.
    entry: Arc<str>,
}

impl Requests {
    fn each<E: Entry>(
        &mut self,
        entries: Vec<E>,
        read: impl Fn(&mut Self, E) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        entries.into_iter().enumerate().try_for_each(|(index, entry)| {
            self.entry = place(&entry, index, &self.vhost).into();
            read(self, entry)
        })
    }

    fn push(&mut self, vhost: Option<&str>, action: Action) {
        let vhost = vhost.map_or_else(|| Arc::clone(&self.vhost), Arc::from);
        let identity = Identity::Node(Arc::from("definitions"));
        let request = Request { connection: ConnectionId::FORWARDER, identity, vhost, action };
        self.list.push(Definition { request, entry: Arc::clone(&self.entry) });
    }

    fn administer(&mut self, vhost: Option<&str>, asked: Administration) {
        self.push(vhost, Action::Administer(asked));
    }

    fn vhost(&mut self, entry: VhostEntry) -> Result<(), Problem> {
        let name = entry.name;
        let metadata = entry.metadata;
        if entry.tracing {
            return Err(wrong(&self.entry, "tracing is not available here; take it out of the file"));
        }
        let kind = metadata.default_queue_type.or(entry.default_queue_type);
        let put = Administration::PutVhost {
            description: entry.description.unwrap_or(metadata.description),
            tags: if metadata.tags.is_empty() { entry.tags } else { metadata.tags },
            default_queue_type: kind.filter(|kind| kind != "undefined"),
        };
        self.administer(Some(&name), put);
        if let Some(protected) = metadata.protected_from_deletion {
            self.administer(Some(&name), Administration::ProtectVhost { protected });
        }
        let limits = vhost_limits(&self.entry, entry.limits)?;
        self.administer(Some(&name), Administration::SetVhostLimits(limits));
        Ok(())
    }

    fn user(&mut self, entry: UserEntry) -> Result<(), Problem> {
        let of = Arc::clone(&self.entry);
        let password = entry.password_hash.filter(|hash| !hash.is_empty());
        let password =
            password.map(|hash| password_hash(&of, &hash, entry.hashing_algorithm.as_deref())).transpose()?;
        let mut limits = entry.limits;
        let user_limits = UserLimits {
            max_connections: limit(&of, limits.remove("max-connections"))?,
            max_channels: limit(&of, limits.remove("max-channels"))?,
        };
        refuse_limits(&of, &limits)?;
        let put =
            Administration::PutUser { name: entry.name.clone(), password, previous_until_ms: None, tags: entry.tags };
        self.administer(None, put);
        self.administer(None, Administration::SetUserLimits { user: entry.name, limits: user_limits });
        Ok(())
    }

    fn permissions(&mut self, entry: PermissionsEntry) -> Result<(), Problem> {
        let PermissionsEntry { user, vhost, configure, write, read } = entry;
        self.administer(Some(&vhost), Administration::SetPermissions { user, configure, write, read });
        Ok(())
    }

    fn topic_permissions(&mut self, entry: TopicPermissionsEntry) -> Result<(), Problem> {
        let TopicPermissionsEntry { user, vhost, exchange, write, read } = entry;
        self.administer(Some(&vhost), Administration::SetTopicPermissions { user, exchange, write, read });
        Ok(())
    }

    fn parameter(&mut self, entry: ParameterEntry) -> Result<(), Problem> {
        let ParameterEntry { component, name, value, vhost } = entry;
        match component.as_str() {
            "operator_policy" => {
                let rule = serde_json::from_value(value).map_err(|error| wrong(&self.entry, error.to_string()))?;
                self.policy(PolicyEntry { vhost, name, rule }, true)
            }
            "vhost-limits" => {
                let limits = serde_json::from_value(value).map_err(|error| wrong(&self.entry, error.to_string()))?;
                let limits = vhost_limits(&self.entry, limits)?;
                self.administer(vhost.as_deref(), Administration::SetVhostLimits(limits));
                Ok(())
            }
            _ => Err(wrong(&self.entry, NOT_AVAILABLE)),
        }
    }

    fn global_parameter(&mut self, entry: GlobalParameterEntry) -> Result<(), Problem> {
        let GlobalParameterEntry { name, value } = entry;
        if name.starts_with(MQTTS_OWN) {
            return Err(wrong(&self.entry, NOT_AVAILABLE));
        }
        if !GLOBAL_PARAMETERS.contains(&name.as_str()) {
            self.administer(None, Administration::PutGlobalParameter { name, value: value.to_string() });
        }
        Ok(())
    }

    fn policy(&mut self, entry: PolicyEntry, operator: bool) -> Result<(), Problem> {
        let PolicyEntry { vhost, name, rule } = entry;
        let of = &self.entry;
        let apply_to = rule.apply_to.as_deref().unwrap_or("all");
        let apply_to = ApplyTo::from_name(apply_to)
            .ok_or_else(|| wrong(of, format!("apply-to '{apply_to}' is not one of {}", apply_to_names())))?;
        let declaration = PolicyDeclaration {
            definition: table(of, &rule.definition)?,
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
        if entry.name.starts_with(RABBITMQS_OWN) {
            return Ok(());
        }
        let arguments = table(&self.entry, &entry.arguments)?;
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
        if entry.name.is_empty() {
            return Err(wrong(&self.entry, "it has no name"));
        }
        if let Some(kind) = entry.kind {
            entry.arguments.entry(String::from("x-queue-type")).or_insert(Json::String(kind));
        }
        let declaration = QueueDeclaration {
            arguments: table(&self.entry, &entry.arguments)?,
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
        let bind = Bind {
            arguments: table(&self.entry, &entry.arguments)?,
            source: entry.source,
            destination: entry.destination,
            routing_key: entry.routing_key,
        };
        let action = match entry.destination_type.as_str() {
            "queue" => Action::BindQueue(bind),
            "exchange" => Action::BindExchange(bind),
            other => {
                return Err(wrong(&self.entry, format!("destination_type '{other}' is neither queue nor exchange")));
            }
        };
        self.push(entry.vhost.as_deref(), action);
        Ok(())
    }
}

fn apply_to_names() -> String {
    ApplyTo::ALL.map(ApplyTo::name).join(", ")
}

/// Without a name of the algorithm it is SHA-256, or SHA-512 if the hash is as long as those are: rabbitmqadmin makes such
/// and does not say so.
pub(crate) fn password_hash(of: &str, hash: &str, algorithm: Option<&str>) -> Result<PasswordHash, Problem> {
    let octets = BASE64_STANDARD.decode(hash).map_err(|error| {
        let advice = "`warren-broker hash-password` makes such a hash of a password";
        wrong(of, format!("password_hash is not base64 ({}): {advice}", error.to_string().trim_end_matches('.')))
    })?;
    let is_sha512 = octets.len() == SALTED_SHA512_BYTES;
    let by_length = if is_sha512 { HashingAlgorithm::Sha512 } else { HashingAlgorithm::Sha256 };
    let name = algorithm.unwrap_or_else(|| by_length.name());
    let algorithm = HashingAlgorithm::from_name(name).ok_or_else(|| wrong(of, unusable_algorithm(name)))?;
    Ok(PasswordHash { algorithm, octets: octets.into() })
}

/// A salt of four octets and the digest behind it.
const SALTED_SHA512_BYTES: usize = 4 + 64;

fn unusable_algorithm(name: &str) -> String {
    let known = HashingAlgorithm::ALL.map(HashingAlgorithm::name).join(" and ");
    match name {
        "rabbit_password_hashing_md5" => format!(
            "its password is hashed with MD5, from which it can be found again; known are {known}. Set the password \
             anew in RabbitMQ (`rabbitmqctl change_password`), which makes a better hash, and export again"
        ),
        _ => format!("hashing_algorithm '{name}' is not known; known are {known}"),
    }
}

fn vhost_limits(of: &str, mut limits: BTreeMap<String, i64>) -> Result<VhostLimits, Problem> {
    let known = VhostLimits {
        max_connections: limit(of, limits.remove("max-connections"))?,
        max_queues: limit(of, limits.remove("max-queues"))?,
    };
    refuse_limits(of, &limits)?;
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
    left.keys().next().map_or(Ok(()), |name| Err(wrong(of, format!("limit '{name}' is {NOT_AVAILABLE}"))))
}

/// Arguments as they would come from a client.
pub(crate) fn table(of: &str, entries: &BTreeMap<String, Json>) -> Result<Bytes, Problem> {
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
