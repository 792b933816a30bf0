//! What can change in the topology, and its form in the metadata log.
//!
//! A change is its kind's octet, then the fields. Numbers are little-endian. A name is one octet of length and that
//! many octets of UTF-8; arguments are four octets of length and a field table's octets. Flags are one octet, bit 0
//! first. A kind never changes its meaning: another form gets another number, and an unknown number is an error.
//!
//! | kind | change | fields |
//! |---|---|---|
//! | 1 | create exchange | vhost name · name · kind u8 (place in [`ExchangeKind::ALL`]) · flags (auto-delete, internal, delayed) · arguments |
//! | 2 | delete exchange | vhost name · name |
//! | 3 | create queue | id u32 · shard u16 · vhost name · name · arguments |
//! | 4 | delete queue | id u32 |
//! | 5 | bind | vhost name · source name · to a queue u8 0 · id u32 *or* to an exchange u8 1 · name · routing key as a name · arguments |
//! | 6 | unbind | as bind |
//! | 7 | queue ids | the lowest id u32 that no logged queue has ever had |
//! | 8–17, 19, 20 | what administrators change | see `administration_change` |
//! | 18 | pause queue | id u32 · u8 1, or 0 if it is resumed |
//!
//! Only changes that [`Change::is_logged`] are written: exchanges that are durable, queues that are durable, neither
//! exclusive nor auto-delete, and bindings between such. So none of these properties is in the form; they are true of
//! every change that is read back.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use super::administration_change::AdministrationChange;
use super::records::{BindingRecord, Destination, ExchangeKind, ExchangeRecord, QueueRecord};
use crate::{QueueId, ShardId};

/// One step of the topology. Applying it never fails and depends on nothing but the topology before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An exchange begins; nothing happens if one of its name is there.
    CreateExchange(Arc<ExchangeRecord>),
    /// An exchange ends with all bindings from it and to it.
    DeleteExchange {
        /// The virtual host.
        vhost: Arc<str>,
        /// The exchange.
        name: Arc<str>,
        /// Whether the exchange is durable, and so its end is logged.
        logged: bool,
    },
    /// A queue begins.
    CreateQueue(Arc<QueueRecord>),
    /// A queue ends with all bindings to it.
    DeleteQueue {
        /// The queue.
        id: QueueId,
        /// Whether the queue is logged, and so its end is.
        logged: bool,
    },
    /// A binding begins; nothing happens without its source or destination.
    Bind(BindingRecord),
    /// A binding ends.
    Unbind(BindingRecord),
    /// Ids below this one have been used by logged queues; they are not used again though the queues are gone.
    QueueIds {
        /// The lowest id that is free for good.
        next: u32,
    },
    /// A queue hands nothing out from now on, or does again.
    PauseQueue {
        /// The queue.
        id: QueueId,
        /// Whether it is paused.
        paused: bool,
        /// Whether the queue is logged, and so this is.
        logged: bool,
    },
    /// What an administrator changes: virtual hosts, users, rights, policies.
    Administration(AdministrationChange),
}

/// Why octets are not a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// A kind that this version does not know: the log was written by a newer one, or is damaged.
    #[error("unknown kind of topology change: {0}")]
    UnknownKind(u8),
    /// The octets end inside a change.
    #[error("topology change is cut short")]
    Truncated,
    /// A name is not UTF-8.
    #[error("a name in a topology change is not UTF-8")]
    NotUtf8,
    /// A number that stands for an exchange type, a kind of destination or flags has no meaning.
    #[error("unknown code in a topology change: {0}")]
    UnknownCode(u8),
}

const AUTO_DELETE: u8 = 1;
const INTERNAL: u8 = 1 << 1;
const DELAYED: u8 = 1 << 2;

impl Change {
    /// Whether the change has to be in the metadata log before it is true.
    pub fn is_logged(&self) -> bool {
        match self {
            Self::CreateExchange(record) => record.durable,
            Self::CreateQueue(record) => record.is_logged(),
            Self::DeleteExchange { logged, .. }
            | Self::DeleteQueue { logged, .. }
            | Self::PauseQueue { logged, .. } => *logged,
            Self::Bind(record) | Self::Unbind(record) => record.logged,
            Self::QueueIds { .. } | Self::Administration(_) => true,
        }
    }

    /// Appends the logged form. Only for changes that are logged: what is true of these is not written.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::CreateExchange(record) => encode_exchange(record, out),
            Self::DeleteExchange { vhost, name, .. } => {
                out.push(2);
                put_name(out, vhost);
                put_name(out, name);
            }
            Self::CreateQueue(record) => encode_queue(record, out),
            Self::DeleteQueue { id, .. } => {
                out.push(4);
                out.extend_from_slice(&id.0.to_le_bytes());
            }
            Self::Bind(record) => encode_binding(5, record, out),
            Self::Unbind(record) => encode_binding(6, record, out),
            Self::QueueIds { next } => {
                out.push(7);
                out.extend_from_slice(&next.to_le_bytes());
            }
            Self::PauseQueue { id, paused, .. } => {
                out.push(18);
                out.extend_from_slice(&id.0.to_le_bytes());
                out.push(u8::from(*paused));
            }
            Self::Administration(change) => change.encode(out),
        }
    }

    /// Reads one change from the front, and tells how many octets it took.
    ///
    /// # Errors
    /// The octets do not begin with a change.
    pub fn decode(octets: &[u8]) -> Result<(Self, usize), ChangeError> {
        let mut reader = Reader { rest: octets };
        let change = match reader.u8()? {
            1 => Self::CreateExchange(Arc::new(reader.exchange()?)),
            2 => Self::DeleteExchange { vhost: reader.name()?, name: reader.name()?, logged: true },
            3 => Self::CreateQueue(Arc::new(reader.queue()?)),
            4 => Self::DeleteQueue { id: QueueId(reader.u32()?), logged: true },
            5 => Self::Bind(reader.binding()?),
            6 => Self::Unbind(reader.binding()?),
            7 => Self::QueueIds { next: reader.u32()? },
            18 => Self::PauseQueue { id: QueueId(reader.u32()?), paused: reader.flag()?, logged: true },
            kind if AdministrationChange::is_kind(kind) => {
                Self::Administration(AdministrationChange::decode(kind, &mut reader)?)
            }
            unknown => return Err(ChangeError::UnknownKind(unknown)),
        };
        Ok((change, octets.len() - reader.rest.len()))
    }
}

fn encode_exchange(record: &ExchangeRecord, out: &mut Vec<u8>) {
    out.push(1);
    put_name(out, &record.vhost);
    put_name(out, &record.name);
    out.push(record.kind as u8);
    let flag = |bit: u8, set: bool| if set { bit } else { 0 };
    let delayed = flag(DELAYED, record.delayed);
    out.push(flag(AUTO_DELETE, record.auto_delete) | flag(INTERNAL, record.internal) | delayed);
    put_arguments(out, &record.arguments);
}

fn encode_queue(record: &QueueRecord, out: &mut Vec<u8>) {
    out.push(3);
    out.extend_from_slice(&record.id.0.to_le_bytes());
    out.extend_from_slice(&record.shard.0.to_le_bytes());
    put_name(out, &record.vhost);
    put_name(out, &record.name);
    put_arguments(out, &record.arguments);
}

fn encode_binding(kind: u8, record: &BindingRecord, out: &mut Vec<u8>) {
    out.push(kind);
    put_name(out, &record.vhost);
    put_name(out, &record.source);
    match &record.destination {
        Destination::Queue(id) => {
            out.push(0);
            out.extend_from_slice(&id.0.to_le_bytes());
        }
        Destination::Exchange(name) => {
            out.push(1);
            put_name(out, name);
        }
    }
    put_name(out, &record.routing_key);
    put_arguments(out, &record.arguments);
}

/// Names and keys are at most 255 octets: short strings on the wire.
pub(super) fn put_name(out: &mut Vec<u8>, name: &str) {
    let length = u8::try_from(name.len()).expect("prepare refuses names and keys of more than 255 octets");
    out.push(length);
    out.extend_from_slice(name.as_bytes());
}

pub(super) fn put_arguments(out: &mut Vec<u8>, arguments: &[u8]) {
    let length = u32::try_from(arguments.len()).expect("prepare refuses arguments beyond ARGUMENTS_BYTES");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(arguments);
}

/// Reads the logged form.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], ChangeError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(ChangeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], ChangeError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(ChangeError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, ChangeError> {
        self.array::<1>().map(|[octet]| octet)
    }

    fn u16(&mut self) -> Result<u16, ChangeError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, ChangeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn name(&mut self) -> Result<Arc<str>, ChangeError> {
        let length = self.u8()?;
        let name = core::str::from_utf8(self.take(length.into())?).map_err(|_| ChangeError::NotUtf8)?;
        Ok(Arc::from(name))
    }

    pub(super) fn arguments(&mut self) -> Result<Bytes, ChangeError> {
        let length = usize::try_from(self.u32()?).map_err(|_| ChangeError::Truncated)?;
        self.take(length).map(Bytes::copy_from_slice)
    }

    fn exchange(&mut self) -> Result<ExchangeRecord, ChangeError> {
        let (vhost, name) = (self.name()?, self.name()?);
        let code = self.u8()?;
        let kind = *ExchangeKind::ALL.get(usize::from(code)).ok_or(ChangeError::UnknownCode(code))?;
        let flags = self.u8()?;
        if flags & !(AUTO_DELETE | INTERNAL | DELAYED) != 0 {
            return Err(ChangeError::UnknownCode(flags));
        }
        Ok(ExchangeRecord {
            vhost,
            name,
            kind,
            delayed: flags & DELAYED != 0,
            durable: true,
            auto_delete: flags & AUTO_DELETE != 0,
            internal: flags & INTERNAL != 0,
            arguments: self.arguments()?,
        })
    }

    fn queue(&mut self) -> Result<QueueRecord, ChangeError> {
        Ok(QueueRecord {
            id: QueueId(self.u32()?),
            shard: ShardId(self.u16()?),
            vhost: self.name()?,
            name: self.name()?,
            durable: true,
            auto_delete: false,
            exclusive_owner: None,
            arguments: self.arguments()?,
        })
    }

    fn binding(&mut self) -> Result<BindingRecord, ChangeError> {
        Ok(BindingRecord {
            vhost: self.name()?,
            source: self.name()?,
            destination: match self.u8()? {
                0 => Destination::Queue(QueueId(self.u32()?)),
                1 => Destination::Exchange(self.name()?),
                unknown => return Err(ChangeError::UnknownCode(unknown)),
            },
            routing_key: self.name()?,
            arguments: self.arguments()?,
            logged: true,
        })
    }
}
