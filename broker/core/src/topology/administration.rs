//! What administrators ask: virtual hosts, users, rights, limits and policies.
//!
//! No method of AMQP 0-9-1 asks this; definitions do. [`super::Request::vhost`] is the virtual host it is about.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;
use warren_amqp::ReplyCode;

use super::Topology;
use super::access::{Resource, Verb};
use super::administration_change::AdministrationChange;
use super::arguments::{self, precondition};
use super::change::Change;
use super::pattern::{Pattern, PatternError};
use super::permissions::{PermissionsRecord, TopicPermissionsRecord};
use super::policy::{self, ApplyTo, Policy};
use super::records::{VhostLimits, VhostRecord};
use super::request::{Outcome, Prepared, Request};
use super::users::{PasswordHash, PreviousPassword, UserLimits, UserRecord};
use super::vhost::Vhost;
use crate::{Exception, limits};

/// A request of an administrator. What names something that is there changes it; deleting what is not there succeeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Administration {
    /// Makes the virtual host, or changes what is said about it. Its limits and its protection stay.
    PutVhost {
        /// For people.
        description: String,
        /// For people.
        tags: Vec<String>,
        /// `classic`, `quorum` or `stream`; `None` is `classic`.
        default_queue_type: Option<String>,
    },
    /// Deletes the virtual host with everything in it and all rights in it. One that is protected is not deleted.
    DeleteVhost,
    /// Protects the virtual host from being deleted, or does so no more.
    ProtectVhost {
        /// Whether it is to be protected.
        protected: bool,
    },
    /// Limits the virtual host.
    SetVhostLimits(VhostLimits),
    /// Makes the user, or changes password and tags. Its rights and limits stay. The virtual host does not matter.
    PutUser {
        /// The user.
        name: String,
        /// What its password is compared with; without, it cannot log in by password.
        password: Option<PasswordHash>,
        /// Until when the password that this one replaces counts beside it: milliseconds since the Unix epoch. Where the hash
        /// stays the same, what was before it stays too. `None`: only this one counts from now on.
        previous_until_ms: Option<u64>,
        /// RabbitMQ's tags.
        tags: Vec<String>,
    },
    /// Puts another hash of the same password in the place of the one that the user has. If it has another one than `old` by
    /// now, nothing happens. The virtual host does not matter.
    RehashPassword {
        /// The user.
        user: String,
        /// The hash that the password was compared with.
        old: PasswordHash,
        /// The better one.
        new: PasswordHash,
    },
    /// Deletes the user with all its rights. The virtual host does not matter.
    DeleteUser {
        /// The user.
        name: String,
    },
    /// Limits the user. The virtual host does not matter.
    SetUserLimits {
        /// The user.
        user: String,
        /// How much it may use from now on.
        limits: UserLimits,
    },
    /// Gives the user rights in the virtual host, in the place of those it had there.
    SetPermissions {
        /// The user.
        user: String,
        /// Names that it may make, change and delete.
        configure: String,
        /// Names where it may put messages in.
        write: String,
        /// Names where it may take messages out.
        read: String,
    },
    /// Takes the user's rights in the virtual host, but for those of topics.
    ClearPermissions {
        /// The user.
        user: String,
    },
    /// Says which routing keys the user may use with a topic exchange.
    SetTopicPermissions {
        /// The user.
        user: String,
        /// The exchange; it need not be there.
        exchange: String,
        /// Keys that it may publish with.
        write: String,
        /// Keys that it may bind with.
        read: String,
    },
    /// Lets the user use all routing keys with the exchange again.
    ClearTopicPermissions {
        /// The user.
        user: String,
        /// The exchange.
        exchange: String,
    },
    /// Makes or changes a policy.
    PutPolicy(PolicyDeclaration),
    /// Deletes a policy.
    DeletePolicy {
        /// Whether an operator policy is meant.
        operator: bool,
        /// The policy.
        name: String,
    },
    /// Lets a queue hand nothing out, or do so again. It takes what is published all the while.
    PauseQueue {
        /// The queue.
        name: String,
        /// Whether it is to be paused.
        paused: bool,
    },
    /// Makes or changes a global parameter. Only `cluster_name` has an effect. The virtual host does not matter.
    PutGlobalParameter {
        /// The parameter.
        name: String,
        /// JSON.
        value: String,
    },
    /// Deletes a global parameter. The virtual host does not matter.
    DeleteGlobalParameter {
        /// The parameter.
        name: String,
    },
}

/// A policy as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyDeclaration {
    /// Its name.
    pub name: String,
    /// Whether it is an operator policy.
    pub operator: bool,
    /// The names it is for.
    pub pattern: String,
    /// What else it is for.
    pub apply_to: ApplyTo,
    /// The higher one counts.
    pub priority: i64,
    /// Keys and values: a field table's octets without the length in front.
    pub definition: Bytes,
}

impl Administration {
    fn resource(&self) -> Resource {
        match self {
            Self::PutVhost { .. } | Self::DeleteVhost | Self::ProtectVhost { .. } | Self::SetVhostLimits(_) => {
                Resource::Vhost
            }
            Self::PutUser { .. }
            | Self::RehashPassword { .. }
            | Self::DeleteUser { .. }
            | Self::SetUserLimits { .. } => Resource::User,
            Self::SetPermissions { .. } | Self::ClearPermissions { .. } => Resource::Permissions,
            Self::SetTopicPermissions { .. } | Self::ClearTopicPermissions { .. } => Resource::Permissions,
            Self::PutPolicy(declaration) if declaration.operator => Resource::OperatorPolicy,
            Self::DeletePolicy { operator: true, .. } => Resource::OperatorPolicy,
            Self::PutPolicy(_) | Self::DeletePolicy { .. } | Self::PauseQueue { .. } => Resource::Policy,
            Self::PutGlobalParameter { .. } | Self::DeleteGlobalParameter { .. } => Resource::OperatorPolicy,
        }
    }
}

impl Topology {
    /// Checks a request of an administrator.
    pub(super) fn administer(&self, request: &Request, asked: &Administration) -> Result<Prepared, Exception> {
        self.check(&request.identity, Verb::Administer, asked.resource(), &request.vhost, "")?;
        let vhost = || self.vhost_or_refuse(&request.vhost);
        let change = match asked {
            Administration::PutVhost { description, tags, default_queue_type } => {
                self.put_vhost(&request.vhost, description, tags, default_queue_type.as_deref())?
            }
            Administration::DeleteVhost => return self.delete_vhost(&request.vhost),
            Administration::ProtectVhost { protected } => protect_vhost(vhost()?, *protected),
            Administration::SetVhostLimits(limits) => limit_vhost(vhost()?, *limits),
            Administration::PutUser { name, password, previous_until_ms, tags } => {
                self.put_user(name, password.as_ref(), *previous_until_ms, tags)?
            }
            Administration::RehashPassword { user, old, new } => match self.rehash(user, old, new)? {
                Some(change) => change,
                None => return Ok(Prepared { changes: Vec::new(), outcome: Outcome::Done }),
            },
            Administration::DeleteUser { name } => AdministrationChange::DeleteUser { name: Arc::from(name.as_str()) },
            Administration::SetUserLimits { user, limits } => self.limit_user(user, *limits)?,
            Administration::SetPermissions { user, configure, write, read } => {
                self.set_permissions(vhost()?, user, [configure, write, read])?
            }
            Administration::ClearPermissions { user } => {
                let (user, vhost) = (Arc::from(user.as_str()), Arc::clone(&request.vhost));
                AdministrationChange::DeletePermissions { user, vhost }
            }
            Administration::SetTopicPermissions { user, exchange, write, read } => {
                self.set_topic_permissions(vhost()?, user, exchange, [write, read])?
            }
            Administration::ClearTopicPermissions { user, exchange } => AdministrationChange::DeleteTopicPermissions {
                user: Arc::from(user.as_str()),
                vhost: Arc::clone(&request.vhost),
                exchange: Arc::from(exchange.as_str()),
            },
            Administration::PutPolicy(declaration) => self.put_policy(vhost()?, declaration)?,
            Administration::DeletePolicy { operator, name } => {
                let (vhost, name) = (Arc::clone(&request.vhost), Arc::from(name.as_str()));
                AdministrationChange::DeletePolicy { vhost, name, operator: *operator }
            }
            Administration::PauseQueue { name, paused } => return self.pause_queue(vhost()?, name, *paused),
            Administration::PutGlobalParameter { name, value } => self.put_global_parameter(name, value)?,
            Administration::DeleteGlobalParameter { name } => {
                AdministrationChange::DeleteGlobalParameter { name: Arc::from(name.as_str()) }
            }
        };
        let changes = if self.is_true(&change) { Vec::new() } else { Vec::from([Change::Administration(change)]) };
        Ok(Prepared { changes, outcome: Outcome::Done })
    }

    /// Whether a change would change nothing, and so need not be logged: definitions say the same at every start.
    fn is_true(&self, change: &AdministrationChange) -> bool {
        let user = |name: &str| self.users.get(name);
        match change {
            AdministrationChange::PutVhost(record) => {
                self.vhost(&record.name).is_some_and(|vhost| *vhost.record() == *record)
            }
            AdministrationChange::DeleteVhost { name } => self.vhost(name).is_none(),
            AdministrationChange::PutUser(record) => user(&record.name).is_some_and(|user| user.record == *record),
            AdministrationChange::DeleteUser { name } => user(name).is_none(),
            AdministrationChange::PutPermissions(record) => {
                user(&record.user).is_some_and(|user| user.permissions.get(&record.vhost) == Some(record))
            }
            AdministrationChange::DeletePermissions { user: name, vhost } => {
                user(name).is_none_or(|user| !user.permissions.contains_key(vhost))
            }
            AdministrationChange::PutTopicPermissions(record) => {
                let key = (Arc::clone(&record.vhost), Arc::clone(&record.exchange));
                user(&record.user).is_some_and(|user| user.topics.get(&key) == Some(record))
            }
            AdministrationChange::DeleteTopicPermissions { user: name, vhost, exchange } => {
                let key = (Arc::clone(vhost), Arc::clone(exchange));
                user(name).is_none_or(|user| !user.topics.contains_key(&key))
            }
            AdministrationChange::PutPolicy(policy) => self
                .vhost(&policy.vhost)
                .is_some_and(|vhost| vhost.policies.get(policy.operator, &policy.name) == Some(policy)),
            AdministrationChange::DeletePolicy { vhost, name, operator } => {
                self.vhost(vhost).is_none_or(|vhost| vhost.policies.get(*operator, name).is_none())
            }
            AdministrationChange::PutGlobalParameter { name, value } => self.global_parameters.get(name) == Some(value),
            AdministrationChange::DeleteGlobalParameter { name } => !self.global_parameters.contains_key(name),
        }
    }

    fn put_vhost(
        &self,
        name: &Arc<str>,
        description: &str,
        tags: &[String],
        default_queue_type: Option<&str>,
    ) -> Result<AdministrationChange, Exception> {
        check_name("vhost", name)?;
        check_text(description)?;
        let present = self.vhost(name).map(|vhost| vhost.record());
        if present.is_none() && self.vhosts.size() >= self.limits.vhosts {
            return Err(full("vhost", self.limits.vhosts));
        }
        if let Some(unknown) = default_queue_type.filter(|kind| !["classic", "quorum", "stream"].contains(kind)) {
            return Err(precondition(format!("{} is not a valid queue type", unknown.escape_debug())));
        }
        Ok(AdministrationChange::PutVhost(Arc::new(VhostRecord {
            name: Arc::clone(name),
            description: Arc::from(description),
            tags: check_tags(tags)?,
            default_queue_type: default_queue_type.map(Arc::from),
            protected: present.is_some_and(|record| record.protected),
            limits: present.map(|record| record.limits).unwrap_or_default(),
        })))
    }

    fn delete_vhost(&self, name: &Arc<str>) -> Result<Prepared, Exception> {
        let Some(vhost) = self.vhost(name) else {
            return Ok(Prepared { changes: Vec::new(), outcome: Outcome::Released(Vec::new()) });
        };
        if vhost.record().protected {
            let text = format!("Refusing to delete virtual host '{name}' because it is protected from deletion");
            return Err(precondition(text));
        }
        let mut queues: Vec<_> = vhost.queues().map(Arc::clone).collect();
        queues.sort_unstable_by_key(|queue| queue.id);
        let deletes = queues.iter().map(|queue| Change::DeleteQueue { id: queue.id, logged: queue.is_logged() });
        let end = AdministrationChange::DeleteVhost { name: Arc::clone(name) };
        let changes = deletes.chain([Change::Administration(end)]).collect();
        Ok(Prepared { changes, outcome: Outcome::Released(queues) })
    }

    fn put_user(
        &self,
        name: &str,
        password: Option<&PasswordHash>,
        previous_until_ms: Option<u64>,
        tags: &[String],
    ) -> Result<AdministrationChange, Exception> {
        check_name("user", name)?;
        let present = self.user(name);
        if present.is_none() && self.users.len() >= self.limits.users {
            return Err(full("user", self.limits.users));
        }
        password.map_or(Ok(()), |hash| check_hash(name, hash))?;
        Ok(AdministrationChange::PutUser(Arc::new(UserRecord {
            name: Arc::from(name),
            password: password.cloned(),
            previous: present
                .zip(previous_until_ms)
                .and_then(|(record, until_ms)| previous(record, password?, until_ms)),
            tags: check_tags(tags)?,
            limits: present.map(|record| record.limits).unwrap_or_default(),
        })))
    }

    fn rehash(
        &self,
        user: &str,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<Option<AdministrationChange>, Exception> {
        check_hash(user, new)?;
        let record = self.user(user).filter(|record| record.password.as_ref() == Some(old));
        Ok(record.map(|record| {
            let record = UserRecord { password: Some(new.clone()), ..UserRecord::clone(record) };
            AdministrationChange::PutUser(Arc::new(record))
        }))
    }

    fn limit_user(&self, user: &str, limits: UserLimits) -> Result<AdministrationChange, Exception> {
        let record = UserRecord { limits, ..UserRecord::clone(self.user_or_refuse(user)?) };
        Ok(AdministrationChange::PutUser(Arc::new(record)))
    }

    fn set_permissions(
        &self,
        vhost: &Vhost,
        user: &str,
        [configure, write, read]: [&String; 3],
    ) -> Result<AdministrationChange, Exception> {
        let user = Arc::clone(&self.user_or_refuse(user)?.name);
        let vhost = Arc::clone(vhost.name());
        let known = self.users.get(&user).is_some_and(|user| user.permissions.contains_key(&vhost));
        self.check_permission_room(known)?;
        let pattern = |text: &String| Pattern::of_permission(text).map_err(|error| unusable(text, &error));
        let (configure, write, read) = (pattern(configure)?, pattern(write)?, pattern(read)?);
        let record = PermissionsRecord { user, vhost, configure, write, read };
        Ok(AdministrationChange::PutPermissions(Arc::new(record)))
    }

    fn set_topic_permissions(
        &self,
        vhost: &Vhost,
        user: &str,
        exchange: &str,
        [write, read]: [&String; 2],
    ) -> Result<AdministrationChange, Exception> {
        let user = Arc::clone(&self.user_or_refuse(user)?.name);
        let (vhost, exchange): (_, Arc<str>) = (Arc::clone(vhost.name()), Arc::from(exchange));
        check_name("exchange", &exchange)?;
        let key = (Arc::clone(&vhost), Arc::clone(&exchange));
        self.check_permission_room(self.users.get(&user).is_some_and(|user| user.topics.contains_key(&key)))?;
        let pattern = |text: &String| Pattern::of_topic(text, &user, &vhost).map_err(|error| unusable(text, &error));
        let (write, read) = (pattern(write)?, pattern(read)?);
        let record = TopicPermissionsRecord { user, vhost, exchange, write, read };
        Ok(AdministrationChange::PutTopicPermissions(Arc::new(record)))
    }

    fn put_policy(&self, vhost: &Vhost, declared: &PolicyDeclaration) -> Result<AdministrationChange, Exception> {
        check_name("policy", &declared.name)?;
        let known = vhost.policies.get(declared.operator, &declared.name).is_some();
        if !known && vhost.policies.len() >= self.limits.policies {
            return Err(full("policy", self.limits.policies));
        }
        arguments::check_size(&format!("policy '{}'", declared.name), &declared.definition)?;
        policy::check_definition(&declared.definition, declared.operator).map_err(precondition)?;
        let pattern = Pattern::of_policy(&declared.pattern).map_err(|error| unusable(&declared.pattern, &error))?;
        Ok(AdministrationChange::PutPolicy(Arc::new(Policy {
            vhost: Arc::clone(vhost.name()),
            name: Arc::from(declared.name.as_str()),
            operator: declared.operator,
            pattern,
            apply_to: declared.apply_to,
            priority: declared.priority,
            definition: declared.definition.clone(),
        })))
    }

    fn pause_queue(&self, vhost: &Vhost, name: &str, paused: bool) -> Result<Prepared, Exception> {
        let found = vhost.queue(name).filter(|queue| queue.delayed_exchange().is_none());
        let queue = found.ok_or_else(|| {
            let text = format!("no queue '{}' in vhost '{}'", name.escape_debug(), vhost.name());
            Exception::channel(ReplyCode::NotFound, text)
        })?;
        let change = Change::PauseQueue { id: queue.id, paused, logged: queue.is_logged() };
        let changes = if self.is_paused(queue.id) == paused { Vec::new() } else { Vec::from([change]) };
        Ok(Prepared { changes, outcome: Outcome::Done })
    }

    fn put_global_parameter(&self, name: &str, value: &str) -> Result<AdministrationChange, Exception> {
        check_name("global parameter", name)?;
        if value.len() > limits::GLOBAL_PARAMETER_BYTES {
            let (length, limit) = (value.len(), limits::GLOBAL_PARAMETER_BYTES);
            return Err(precondition(format!("global parameter of {length} bytes is longer than {limit}")));
        }
        if !self.global_parameters.contains_key(name) && self.global_parameters.size() >= limits::GLOBAL_PARAMETERS {
            return Err(full("global parameter", limits::GLOBAL_PARAMETERS));
        }
        Ok(AdministrationChange::PutGlobalParameter { name: Arc::from(name), value: Arc::from(value) })
    }

    fn user_or_refuse(&self, name: &str) -> Result<&Arc<UserRecord>, Exception> {
        self.user(name)
            .ok_or_else(|| Exception::channel(ReplyCode::NotFound, format!("no user '{}'", name.escape_debug())))
    }

    fn check_permission_room(&self, known: bool) -> Result<(), Exception> {
        let limit = self.limits.permissions;
        if known || self.users.permission_count < limit { Ok(()) } else { Err(full("permission", limit)) }
    }
}

fn limit_vhost(vhost: &Vhost, limits: VhostLimits) -> AdministrationChange {
    AdministrationChange::PutVhost(Arc::new(VhostRecord { limits, ..VhostRecord::clone(vhost.record()) }))
}

fn protect_vhost(vhost: &Vhost, protected: bool) -> AdministrationChange {
    AdministrationChange::PutVhost(Arc::new(VhostRecord { protected, ..VhostRecord::clone(vhost.record()) }))
}

fn full(what: &str, limit: usize) -> Exception {
    precondition(format!("{what} limit of {limit} is reached"))
}

fn unusable(pattern: &str, error: &PatternError) -> Exception {
    let shown: String = pattern.chars().take(64).collect();
    precondition(format!("pattern '{}' cannot be used: {error}", shown.escape_debug()))
}

fn check_name(what: &str, name: &str) -> Result<(), Exception> {
    let wrong = if name.is_empty() && what != "exchange" {
        "is empty"
    } else if name.len() > limits::NAME_BYTES {
        "is longer than 255 octets"
    } else if name.chars().any(char::is_control) {
        "contains control characters"
    } else {
        return Ok(());
    };
    let shown: String = name.chars().take(64).collect();
    Err(precondition(format!("{what} name '{}' {wrong}", shown.escape_debug())))
}

fn check_text(description: &str) -> Result<(), Exception> {
    let limit = limits::DESCRIPTION_BYTES;
    if description.len() <= limit {
        return Ok(());
    }
    Err(precondition(format!("description of {} bytes is longer than {limit}", description.len())))
}

fn check_tags(tags: &[String]) -> Result<Vec<Arc<str>>, Exception> {
    if tags.len() > limits::TAGS {
        return Err(precondition(format!("{} tags are more than {}", tags.len(), limits::TAGS)));
    }
    tags.iter().map(|tag| check_name("tag", tag).map(|()| Arc::from(tag.as_str()))).collect()
}

/// What counts beside a new password.
fn previous(present: &UserRecord, password: &PasswordHash, until_ms: u64) -> Option<PreviousPassword> {
    if present.password.as_ref() == Some(password) {
        return present.previous.clone();
    }
    present.password.clone().map(|hash| PreviousPassword { hash, until_ms })
}

fn check_hash(user: &str, hash: &PasswordHash) -> Result<(), Exception> {
    let expected = hash.algorithm.salt_bytes() + hash.algorithm.digest_bytes();
    if hash.octets.len() == expected {
        return Ok(());
    }
    let (found, algorithm) = (hash.octets.len(), hash.algorithm.name());
    let text = format!("password hash of user '{user}' has {found} octets, those of {algorithm} have {expected}");
    Err(precondition(text))
}
