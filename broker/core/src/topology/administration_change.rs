//! What administrators change, and its form in the metadata log.
//!
//! The rules of [`super::Change`] hold here too, with these kinds. A text is four octets of length and that many octets
//! of UTF-8. A list is one octet of count and that many names. A limit is one octet, whether there is one, and if so
//! its number as u32. All of these changes are logged.
//!
//! | kind | change | fields |
//! |---|---|---|
//! | 8 | put virtual host | name · description text · tags list · u8 flags (1: with a default queue type, 2: protected from deletion) · *with a default queue type* its name · limit of connections · limit of queues |
//! | 9 | delete virtual host | name |
//! | 10 | put user | name · tags list · limit of connections · limit of channels · password u8 (0 none, 1 SHA-256, 2 SHA-512, 3 Argon2id) · *with a password* salt and digest as arguments are · previous password as the password · *with a previous password* its end u64, in ms since the Unix epoch |
//! | 11 | delete user | name |
//! | 12 | put permissions | user name · vhost name · configure text · write text · read text |
//! | 13 | delete permissions | user name · vhost name |
//! | 14 | put topic permissions | user name · vhost name · exchange name · write text · read text |
//! | 15 | delete topic permissions | user name · vhost name · exchange name |
//! | 16 | put policy | vhost name · name · operator u8 · pattern text · apply to u8 · priority i64 · definition as arguments are |
//! | 17 | delete policy | vhost name · name · operator u8 |
//! | 19 | put global parameter | name · value text |
//! | 20 | delete global parameter | name |

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::change::{ChangeError, Reader, put_arguments, put_name};
use super::pattern::{Pattern, PatternError};
use super::permissions::{PermissionsRecord, TopicPermissionsRecord};
use super::policy::{ApplyTo, Policy};
use super::records::{VhostLimits, VhostRecord};
use super::users::{HashingAlgorithm, PasswordHash, PreviousPassword, UserLimits, UserRecord};

/// A change that an administrator asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdministrationChange {
    /// A virtual host begins, or is described otherwise.
    PutVhost(Arc<VhostRecord>),
    /// A virtual host ends with everything in it and all rights in it.
    DeleteVhost {
        /// The virtual host.
        name: Arc<str>,
    },
    /// A user begins, or is another one.
    PutUser(Arc<UserRecord>),
    /// A user ends with its rights.
    DeleteUser {
        /// The user.
        name: Arc<str>,
    },
    /// Rights begin or change; nothing happens without the user.
    PutPermissions(Arc<PermissionsRecord>),
    /// Rights end.
    DeletePermissions {
        /// The user.
        user: Arc<str>,
        /// The virtual host.
        vhost: Arc<str>,
    },
    /// Rights to routing keys begin or change; nothing happens without the user.
    PutTopicPermissions(Arc<TopicPermissionsRecord>),
    /// Rights to routing keys end.
    DeleteTopicPermissions {
        /// The user.
        user: Arc<str>,
        /// The virtual host.
        vhost: Arc<str>,
        /// The exchange.
        exchange: Arc<str>,
    },
    /// A policy begins or changes; nothing happens without the virtual host.
    PutPolicy(Arc<Policy>),
    /// A policy ends.
    DeletePolicy {
        /// The virtual host.
        vhost: Arc<str>,
        /// The policy.
        name: Arc<str>,
        /// Whether it is an operator policy.
        operator: bool,
    },
    /// A global parameter begins or changes.
    PutGlobalParameter {
        /// The parameter.
        name: Arc<str>,
        /// JSON.
        value: Arc<str>,
    },
    /// A global parameter ends.
    DeleteGlobalParameter {
        /// The parameter.
        name: Arc<str>,
    },
}

impl AdministrationChange {
    /// Whether the log has such a change under that kind.
    pub(super) const fn is_kind(kind: u8) -> bool {
        matches!(kind, 8..=17 | 19 | 20)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::PutVhost(record) => encode_vhost(record, out),
            Self::DeleteVhost { name } => put_names(9, [name], out),
            Self::PutUser(record) => encode_user(record, out),
            Self::DeleteUser { name } => put_names(11, [name], out),
            Self::PutPermissions(record) => {
                put_names(12, [&record.user, &record.vhost], out);
                [&record.configure, &record.write, &record.read].iter().for_each(|text| put_text(text.as_str(), out));
            }
            Self::DeletePermissions { user, vhost } => put_names(13, [user, vhost], out),
            Self::PutTopicPermissions(record) => {
                put_names(14, [&record.user, &record.vhost, &record.exchange], out);
                [&record.write, &record.read].iter().for_each(|text| put_text(text.as_str(), out));
            }
            Self::DeleteTopicPermissions { user, vhost, exchange } => put_names(15, [user, vhost, exchange], out),
            Self::PutPolicy(policy) => encode_policy(policy, out),
            Self::DeletePolicy { vhost, name, operator } => {
                put_names(17, [vhost, name], out);
                out.push(u8::from(*operator));
            }
            Self::PutGlobalParameter { name, value } => {
                put_names(19, [name], out);
                put_text(value, out);
            }
            Self::DeleteGlobalParameter { name } => put_names(20, [name], out),
        }
    }

    /// Reads the fields of a change of that kind, which [`Self::is_kind`].
    pub(super) fn decode(kind: u8, reader: &mut Reader<'_>) -> Result<Self, ChangeError> {
        Ok(match kind {
            8 => Self::PutVhost(Arc::new(decode_vhost(reader)?)),
            9 => Self::DeleteVhost { name: reader.name()? },
            10 => Self::PutUser(Arc::new(decode_user(reader)?)),
            11 => Self::DeleteUser { name: reader.name()? },
            12 => Self::PutPermissions(Arc::new(PermissionsRecord {
                user: reader.name()?,
                vhost: reader.name()?,
                configure: reader.permission()?,
                write: reader.permission()?,
                read: reader.permission()?,
            })),
            13 => Self::DeletePermissions { user: reader.name()?, vhost: reader.name()? },
            14 => Self::PutTopicPermissions(Arc::new(decode_topic_permissions(reader)?)),
            15 => {
                Self::DeleteTopicPermissions { user: reader.name()?, vhost: reader.name()?, exchange: reader.name()? }
            }
            16 => Self::PutPolicy(Arc::new(decode_policy(reader)?)),
            17 => Self::DeletePolicy { vhost: reader.name()?, name: reader.name()?, operator: reader.flag()? },
            19 => Self::PutGlobalParameter { name: reader.name()?, value: Arc::from(reader.text()?) },
            20 => Self::DeleteGlobalParameter { name: reader.name()? },
            unknown => return Err(ChangeError::UnknownKind(unknown)),
        })
    }
}

/// Flags of a virtual host.
const WITH_QUEUE_TYPE: u8 = 1;
/// See [`WITH_QUEUE_TYPE`].
const PROTECTED: u8 = 2;

fn encode_vhost(record: &VhostRecord, out: &mut Vec<u8>) {
    put_names(8, [&record.name], out);
    put_text(&record.description, out);
    put_list(&record.tags, out);
    let with_type = if record.default_queue_type.is_some() { WITH_QUEUE_TYPE } else { 0 };
    out.push(with_type | if record.protected { PROTECTED } else { 0 });
    record.default_queue_type.iter().for_each(|kind| put_name(out, kind));
    put_limit(record.limits.max_connections, out);
    put_limit(record.limits.max_queues, out);
}

fn decode_vhost(reader: &mut Reader<'_>) -> Result<VhostRecord, ChangeError> {
    let (name, description, tags) = (reader.name()?, Arc::from(reader.text()?), reader.list()?);
    let flags = reader.u8()?;
    if flags & !(WITH_QUEUE_TYPE | PROTECTED) != 0 {
        return Err(ChangeError::UnknownCode(flags));
    }
    Ok(VhostRecord {
        name,
        description,
        tags,
        default_queue_type: if flags & WITH_QUEUE_TYPE != 0 { Some(reader.name()?) } else { None },
        protected: flags & PROTECTED != 0,
        limits: VhostLimits { max_connections: reader.limit()?, max_queues: reader.limit()? },
    })
}

fn encode_user(record: &UserRecord, out: &mut Vec<u8>) {
    put_names(10, [&record.name], out);
    put_list(&record.tags, out);
    put_limit(record.limits.max_connections, out);
    put_limit(record.limits.max_channels, out);
    put_password(record.password.as_ref(), out);
    put_password(record.previous.as_ref().map(|previous| &previous.hash), out);
    if let Some(previous) = &record.previous {
        out.extend_from_slice(&previous.until_ms.to_le_bytes());
    }
}

fn put_password(password: Option<&PasswordHash>, out: &mut Vec<u8>) {
    let Some(password) = password else {
        return out.push(0);
    };
    out.push(match password.algorithm {
        HashingAlgorithm::Sha256 => 1,
        HashingAlgorithm::Sha512 => 2,
        HashingAlgorithm::Argon2id => 3,
    });
    put_arguments(out, &password.octets);
}

fn decode_user(reader: &mut Reader<'_>) -> Result<UserRecord, ChangeError> {
    Ok(UserRecord {
        name: reader.name()?,
        tags: reader.list()?,
        limits: UserLimits { max_connections: reader.limit()?, max_channels: reader.limit()? },
        password: password(reader)?,
        previous: match password(reader)? {
            Some(hash) => Some(PreviousPassword { hash, until_ms: u64::from_le_bytes(reader.array()?) }),
            None => None,
        },
    })
}

fn password(reader: &mut Reader<'_>) -> Result<Option<PasswordHash>, ChangeError> {
    let code = reader.u8()?;
    let Some(number) = code.checked_sub(1) else { return Ok(None) };
    let algorithm = HashingAlgorithm::ALL.get(usize::from(number)).copied();
    let algorithm = algorithm.ok_or(ChangeError::UnknownCode(code))?;
    Ok(Some(PasswordHash { algorithm, octets: reader.arguments()? }))
}

fn decode_topic_permissions(reader: &mut Reader<'_>) -> Result<TopicPermissionsRecord, ChangeError> {
    let (user, vhost, exchange) = (reader.name()?, reader.name()?, reader.name()?);
    let write = reader.pattern(|text| Pattern::of_topic(text, &user, &vhost))?;
    let read = reader.pattern(|text| Pattern::of_topic(text, &user, &vhost))?;
    Ok(TopicPermissionsRecord { user, vhost, exchange, write, read })
}

fn encode_policy(policy: &Policy, out: &mut Vec<u8>) {
    put_names(16, [&policy.vhost, &policy.name], out);
    out.push(u8::from(policy.operator));
    put_text(policy.pattern.as_str(), out);
    out.push(match policy.apply_to {
        ApplyTo::All => 0,
        ApplyTo::Queues => 1,
        ApplyTo::ClassicQueues => 2,
        ApplyTo::QuorumQueues => 3,
        ApplyTo::Streams => 4,
        ApplyTo::Exchanges => 5,
    });
    out.extend_from_slice(&policy.priority.to_le_bytes());
    put_arguments(out, &policy.definition);
}

fn decode_policy(reader: &mut Reader<'_>) -> Result<Policy, ChangeError> {
    Ok(Policy {
        vhost: reader.name()?,
        name: reader.name()?,
        operator: reader.flag()?,
        pattern: reader.pattern(Pattern::of_policy)?,
        apply_to: {
            let code = reader.u8()?;
            ApplyTo::ALL.get(usize::from(code)).copied().ok_or(ChangeError::UnknownCode(code))?
        },
        priority: i64::from_le_bytes(reader.array()?),
        definition: reader.arguments()?,
    })
}

fn put_names<const N: usize>(kind: u8, names: [&Arc<str>; N], out: &mut Vec<u8>) {
    out.push(kind);
    names.into_iter().for_each(|name| put_name(out, name));
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    put_arguments(out, text.as_bytes());
}

fn put_list(names: &[Arc<str>], out: &mut Vec<u8>) {
    out.push(u8::try_from(names.len()).expect("prepare refuses more than TAGS"));
    names.iter().for_each(|name| put_name(out, name));
}

fn put_limit(limit: Option<u32>, out: &mut Vec<u8>) {
    out.push(u8::from(limit.is_some()));
    limit.into_iter().for_each(|limit| out.extend_from_slice(&limit.to_le_bytes()));
}

impl<'a> Reader<'a> {
    fn text(&mut self) -> Result<&'a str, ChangeError> {
        let length = usize::try_from(self.u32()?).map_err(|_| ChangeError::Truncated)?;
        core::str::from_utf8(self.take(length)?).map_err(|_| ChangeError::NotUtf8)
    }

    fn permission(&mut self) -> Result<Pattern, ChangeError> {
        self.pattern(Pattern::of_permission)
    }

    fn pattern(&mut self, read: impl FnOnce(&str) -> Result<Pattern, PatternError>) -> Result<Pattern, ChangeError> {
        let text = self.text()?;
        Ok(read(text).unwrap_or_else(|_| Pattern::unreadable(text)))
    }

    fn list(&mut self) -> Result<Vec<Arc<str>>, ChangeError> {
        let count = self.u8()?;
        (0..count).map(|_| self.name()).collect()
    }

    pub(super) fn flag(&mut self) -> Result<bool, ChangeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            unknown => Err(ChangeError::UnknownCode(unknown)),
        }
    }

    fn limit(&mut self) -> Result<Option<u32>, ChangeError> {
        if self.flag()? { self.u32().map(Some) } else { Ok(None) }
    }
}
