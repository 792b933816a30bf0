//! Virtual hosts, exchanges, queues' names and bindings.
//!
//! The machine has two halves. [`Topology::prepare`] checks a request against the topology as it is and says what has
//! to change; [`Topology::apply`] makes a [`Change`] true. In between the shell makes those changes durable that
//! [`Change::is_logged`]; replaying the log is applying the same changes again. One task owns the topology and takes
//! one request after the other.
//!
//! Everything is in persistent maps: [`Topology::clone`] costs nothing that grows with the topology, and a clone never
//! changes. The shell publishes a clone after each change, and connections route by it ([`Vhost::route`]) without
//! asking anybody; [`Topology::version`] tells whether a remembered route still holds.
//!
//! The machine does not know messages or consumers. Who may do what is decided here, in `access`, for everybody.
//!
//! In reading order: `records` is what is remembered, `request` what is asked, `prepare` and `bind` the rules with `names`
//! and `arguments`, `change` what may happen and its form in the log, `snapshot` all of it in that form, `vhost`, `exchange`,
//! `topic`, `headers` and `hash` the routing over `trie`, `routes` its answer; `access` who may do what, with `users`,
//! `permissions` and `pattern`, `administration` how that changes, `policy` the settings by name.

use alloc::sync::Arc;
use alloc::vec::Vec;

use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync, VectorSync};

use crate::limits::TopologyLimits;
use crate::{ConnectionId, QueueId, ShardId};

mod access;
mod administration;
mod administration_change;
mod arguments;
mod bind;
mod binding;
mod change;
mod exchange;
mod hash;
mod headers;
mod names;
mod pattern;
mod permissions;
mod policy;
mod prepare;
mod records;
mod request;
mod routes;
mod settings;
mod snapshot;
mod token;
mod topic;
mod trie;
mod users;
mod vhost;

#[cfg(test)]
mod tests;

pub use access::{Identity, OpenConnections, Resource, Verb};
pub use administration::{Administration, PolicyDeclaration};
pub use administration_change::AdministrationChange;
pub use change::{Change, ChangeError};
pub use pattern::{Pattern, PatternError};
pub use permissions::{Permission, PermissionsRecord, TopicPermissionsRecord};
pub use policy::{ApplyTo, EffectivePolicy, Policy};
pub use records::{BindingRecord, Destination, ExchangeKind, ExchangeRecord, QueueRecord, VhostLimits, VhostRecord};
pub use request::{Action, Bind, ExchangeDeclaration, Outcome, Prepared, QueueDeclaration, Request};
pub use routes::{Envelope, Logging, Route, RouteError, Routes};
pub use token::{TokenIdentity, TooManyScopes};
pub use users::{HashingAlgorithm, PasswordHash, PreviousPassword, UserLimits, UserRecord};
pub use vhost::Vhost;

use binding::{Binding, Hop};
use trie::Trie;
use users::Users;
use vhost::route_to;

/// The virtual host that is there from the beginning.
pub const DEFAULT_VHOST: &str = "/";

/// The first id of queues that are not logged. They are forgotten by a restart, so their ids begin anew with it, and
/// after 2³¹ of them the first ones are used again.
const FIRST_UNLOGGED_ID: u32 = 1 << 31;

/// The whole topology of a node.
#[derive(Debug, Clone)]
pub struct Topology {
    version: u64,
    limits: TopologyLimits,
    vhosts: RedBlackTreeMapSync<Arc<str>, Vhost>,
    users: Users,
    queues: Trie<QueueId, Arc<QueueRecord>>,
    exclusive: RedBlackTreeMapSync<ConnectionId, RedBlackTreeSetSync<QueueId>>,
    /// Queues that hand nothing out.
    paused: Arc<RedBlackTreeSetSync<QueueId>>,
    /// JSON by name.
    global_parameters: RedBlackTreeMapSync<Arc<str>, Arc<str>>,
    /// Queues in each shard; the first is shard 1.
    loads: VectorSync<u32>,
    next_logged_id: u32,
    next_unlogged_id: u32,
}

impl Topology {
    /// The topology of an empty node: the virtual host `/` with its predeclared exchanges. New queues are placed in
    /// the shards from 1 to `shards`.
    pub fn new(shards: core::num::NonZeroU16, limits: TopologyLimits) -> Self {
        let vhost = Arc::new(VhostRecord::default_vhost());
        let vhosts = RedBlackTreeMapSync::new_sync().insert(Arc::clone(&vhost.name), Vhost::new(vhost));
        Self {
            version: 0,
            limits,
            vhosts,
            users: Users::new(),
            queues: Trie::new(),
            exclusive: RedBlackTreeMapSync::new_sync(),
            paused: Arc::new(RedBlackTreeSetSync::new_sync()),
            global_parameters: RedBlackTreeMapSync::new_sync(),
            loads: (0..shards.get()).map(|_| 0).collect(),
            next_logged_id: 1,
            next_unlogged_id: FIRST_UNLOGGED_ID,
        }
    }

    /// Grows with every change; two snapshots of one node with the same version are the same.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The virtual host of that name.
    pub fn vhost(&self, name: &str) -> Option<&Vhost> {
        self.vhosts.get(name)
    }

    /// All virtual hosts, by name.
    pub fn vhosts(&self) -> impl Iterator<Item = &Vhost> {
        self.vhosts.values()
    }

    /// The user of that name. The node's own user of the configuration is not among them.
    pub fn user(&self, name: &str) -> Option<&Arc<UserRecord>> {
        self.users.get(name).map(|user| &user.record)
    }

    /// Whether somebody has ever made a user, or deleted one: then there is no other who is there by default. It is so for
    /// good, also when the last user is deleted.
    pub fn has_had_users(&self) -> bool {
        self.users.ever
    }

    /// All users, by name.
    pub fn users(&self) -> impl Iterator<Item = &Arc<UserRecord>> {
        self.users.iter().map(|user| &user.record)
    }

    /// All permissions, by user and virtual host.
    pub fn permissions(&self) -> impl Iterator<Item = &Arc<PermissionsRecord>> {
        self.users.iter().flat_map(|user| user.permissions.values())
    }

    /// All topic permissions, by user, virtual host and exchange.
    pub fn topic_permissions(&self) -> impl Iterator<Item = &Arc<TopicPermissionsRecord>> {
        self.users.iter().flat_map(|user| user.topics.values())
    }

    /// The queue of that name in that virtual host.
    pub fn queue(&self, vhost: &str, name: &str) -> Option<&Arc<QueueRecord>> {
        self.vhost(vhost)?.queue(name)
    }

    /// The queue of that id.
    pub fn queue_by_id(&self, id: QueueId) -> Option<&Arc<QueueRecord>> {
        self.queues.get(&id)
    }

    /// All queues of all virtual hosts, in no order.
    pub fn queues(&self) -> impl Iterator<Item = &Arc<QueueRecord>> {
        self.queues.values()
    }

    /// Whether the queue hands nothing out.
    pub fn is_paused(&self, queue: QueueId) -> bool {
        self.paused.contains(&queue)
    }

    /// Global parameters by name; their values are JSON.
    pub fn global_parameters(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.global_parameters.iter()
    }

    /// Makes a change true. What a change needs and does not find, or makes and finds, it leaves as it is.
    pub fn apply(&mut self, change: &Change) {
        self.version += 1;
        match change {
            Change::CreateExchange(record) => self.change_vhost(&record.vhost, |vhost| {
                vhost.insert_exchange(Arc::clone(record));
            }),
            Change::DeleteExchange { vhost, name, .. } => self.change_vhost(vhost, |vhost| {
                vhost.remove_exchange(name);
            }),
            Change::CreateQueue(record) => self.create_queue(record),
            Change::DeleteQueue { id, .. } => self.delete_queue(*id),
            Change::Bind(record) => {
                if let Some(binding) = self.resolve(record) {
                    self.change_vhost(&record.vhost, |vhost| vhost.insert_binding(binding));
                }
            }
            Change::Unbind(record) => {
                if let Some(binding) = self.resolve(record) {
                    self.change_vhost(&record.vhost, |vhost| vhost.remove_binding(&binding));
                }
            }
            Change::QueueIds { next } => self.next_logged_id = self.next_logged_id.max(*next),
            Change::PauseQueue { id, paused, .. } => {
                if *paused && self.queue_by_id(*id).is_some() {
                    Arc::make_mut(&mut self.paused).insert_mut(*id);
                } else {
                    self.resume(*id);
                }
            }
            Change::Administration(change) => self.apply_administration(change),
        }
    }

    fn apply_administration(&mut self, change: &AdministrationChange) {
        match change {
            AdministrationChange::PutVhost(record) => match self.vhosts.get_mut(&record.name) {
                Some(vhost) => vhost.describe(Arc::clone(record)),
                None => self.vhosts.insert_mut(Arc::clone(&record.name), Vhost::new(Arc::clone(record))),
            },
            AdministrationChange::DeleteVhost { name } => self.delete_vhost_with_all(name),
            AdministrationChange::PutUser(record) => self.users.put(record),
            AdministrationChange::DeleteUser { name } => self.users.delete(name),
            AdministrationChange::PutPermissions(record) => self.users.put_permissions(record),
            AdministrationChange::DeletePermissions { user, vhost } => self.users.delete_permissions(user, vhost),
            AdministrationChange::PutTopicPermissions(record) => self.users.put_topic_permissions(record),
            AdministrationChange::DeleteTopicPermissions { user, vhost, exchange } => {
                self.users.delete_topic_permissions(user, vhost, exchange);
            }
            AdministrationChange::PutPolicy(policy) => {
                self.change_vhost(&policy.vhost, |vhost| vhost.policies.put(policy));
            }
            AdministrationChange::DeletePolicy { vhost, name, operator } => {
                self.change_vhost(vhost, |vhost| vhost.policies.delete(*operator, name));
            }
            AdministrationChange::PutGlobalParameter { name, value } => {
                self.global_parameters.insert_mut(Arc::clone(name), Arc::clone(value));
            }
            AdministrationChange::DeleteGlobalParameter { name } => {
                self.global_parameters.remove_mut(name);
            }
        }
    }

    fn delete_vhost_with_all(&mut self, name: &Arc<str>) {
        let ids: Vec<_> = self.vhost(name).into_iter().flat_map(Vhost::queues).map(|queue| queue.id).collect();
        ids.into_iter().for_each(|id| self.delete_queue(id));
        self.vhosts.remove_mut(name);
        self.users.forget_vhost(name);
    }

    fn change_vhost(&mut self, name: &str, change: impl FnOnce(&mut Vhost)) {
        if let Some(vhost) = self.vhosts.get_mut(name) {
            change(vhost);
        }
    }

    fn create_queue(&mut self, record: &Arc<QueueRecord>) {
        let Some(vhost) = self.vhost(&record.vhost) else {
            return;
        };
        if vhost.queue(&record.name).is_some() || self.queue_by_id(record.id).is_some() {
            return;
        }
        let mut record = Arc::clone(record);
        if !Arc::ptr_eq(&record.vhost, vhost.name()) {
            // It comes from the log, with a copy of the virtual host's name for itself alone.
            Arc::make_mut(&mut record).vhost = Arc::clone(vhost.name());
        }
        self.queues.insert(record.id, Arc::clone(&record));
        self.change_vhost(&record.vhost, |vhost| vhost.insert_queue(Arc::clone(&record)));
        if let Some(owner) = record.exclusive_owner {
            let queues = self.exclusive.get(&owner).cloned().unwrap_or_else(RedBlackTreeSetSync::new_sync);
            self.exclusive.insert_mut(owner, queues.insert(record.id));
        }
        if let Some(load) = self.load_mut(record.shard) {
            *load += 1;
        }
        if record.is_logged() {
            self.next_logged_id = self.next_logged_id.max(record.id.0.saturating_add(1));
        } else {
            self.next_unlogged_id = record.id.0.checked_add(1).unwrap_or(FIRST_UNLOGGED_ID);
        }
    }

    fn resume(&mut self, id: QueueId) {
        if self.is_paused(id) {
            Arc::make_mut(&mut self.paused).remove_mut(&id);
        }
    }

    fn delete_queue(&mut self, id: QueueId) {
        let Some(record) = self.queue_by_id(id).map(Arc::clone) else {
            return;
        };
        self.queues.remove(&id);
        self.resume(id);
        self.change_vhost(&record.vhost, |vhost| vhost.remove_queue(&record));
        if let Some(owner) = record.exclusive_owner
            && let Some(queues) = self.exclusive.get_mut(&owner)
        {
            queues.remove_mut(&id);
            if queues.is_empty() {
                self.exclusive.remove_mut(&owner);
            }
        }
        if let Some(load) = self.load_mut(record.shard) {
            *load -= 1;
        }
    }

    /// A shard beyond those that queues are placed in now has no load that matters.
    fn load_mut(&mut self, shard: ShardId) -> Option<&mut u32> {
        self.loads.get_mut(usize::from(shard.0).checked_sub(1)?)
    }

    /// The binding a record stands for, its names shared with its ends; `None` if one of these is not there.
    fn resolve(&self, record: &BindingRecord) -> Option<Binding> {
        let vhost = self.vhost(&record.vhost)?;
        let source = Arc::clone(&vhost.exchange(&record.source)?.name);
        let hop = match &record.destination {
            Destination::Queue(id) => Hop::Queue(route_to(self.queue_by_id(*id)?)),
            Destination::Exchange(name) => Hop::Exchange(Arc::clone(&vhost.exchange(name)?.name)),
        };
        Some(Binding::new(hop, source, Arc::clone(&record.routing_key), record.arguments.clone(), record.logged))
    }

    fn exclusive_queues(&self, connection: ConnectionId) -> Vec<Arc<QueueRecord>> {
        let ids = self.exclusive.get(&connection).into_iter().flat_map(RedBlackTreeSetSync::iter);
        ids.filter_map(|id| self.queue_by_id(*id)).map(Arc::clone).collect()
    }

    /// `None` if every id that logged queues may have has been used.
    fn free_queue_id(&self, logged: bool) -> Option<QueueId> {
        if logged {
            return (self.next_logged_id < FIRST_UNLOGGED_ID).then_some(QueueId(self.next_logged_id));
        }
        let mut id = QueueId(self.next_unlogged_id);
        while self.queues.get(&id).is_some() {
            id = QueueId(id.0.checked_add(1).unwrap_or(FIRST_UNLOGGED_ID));
        }
        Some(id)
    }

    /// The shard with the fewest queues; of several the lowest.
    fn least_loaded_shard(&self) -> ShardId {
        (1..=u16::MAX)
            .zip(self.loads.iter())
            .min_by_key(|(_, load)| **load)
            .map_or(ShardId(1), |(shard, _)| ShardId(shard))
    }
}
