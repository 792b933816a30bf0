//! The logged part of the topology as octets, so that the log before them can be given up.
//!
//! A snapshot is a sequence of changes in the form that the metadata's log has ([`Change::encode`]): first the queue ids
//! that are used up, then the virtual hosts and their policies, the users and their rights, the global parameters, the
//! exchanges, the queues, which of them are paused, and the bindings. A log entry of the metadata is such a sequence
//! too, so one function reads both.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::administration_change::AdministrationChange;
use super::change::{Change, ChangeError};
use super::records::VhostRecord;
use super::vhost::Vhost;
use super::{DEFAULT_VHOST, Topology};

impl Topology {
    /// Everything that is logged, and nothing else: [`Topology::replay`] makes of it, in an empty topology, what the
    /// log up to here would have made. Equal topologies give equal octets.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut octets = Vec::new();
        self.logged_changes().for_each(|change| change.encode(&mut octets));
        octets
    }

    /// Makes the changes true that a snapshot or an entry of the metadata's log holds.
    ///
    /// # Errors
    /// The octets are not changes. Those before the damage are true already.
    pub fn replay(&mut self, mut octets: &[u8]) -> Result<(), ChangeError> {
        while !octets.is_empty() {
            let (change, len) = Change::decode(octets)?;
            self.apply(&change);
            octets = &octets[len..];
        }
        Ok(())
    }

    /// The virtual host `/` as it is in an empty topology is not among them.
    fn administration_changes(&self) -> impl Iterator<Item = AdministrationChange> {
        let no_default = self.vhost(DEFAULT_VHOST).is_none();
        let gone = no_default.then(|| AdministrationChange::DeleteVhost { name: Arc::from(DEFAULT_VHOST) });
        let vhosts = self
            .vhosts()
            .filter(|vhost| **vhost.record() != VhostRecord::default_vhost())
            .map(|vhost| AdministrationChange::PutVhost(Arc::clone(vhost.record())));
        let policies = self.vhosts().flat_map(Vhost::policies).map(Arc::clone).map(AdministrationChange::PutPolicy);
        let users = self.users.iter().flat_map(|user| {
            let record = AdministrationChange::PutUser(Arc::clone(&user.record));
            let permissions = user.permissions.values().map(Arc::clone).map(AdministrationChange::PutPermissions);
            let topics = user.topics.values().map(Arc::clone).map(AdministrationChange::PutTopicPermissions);
            core::iter::once(record).chain(permissions).chain(topics)
        });
        // That the last user was deleted is still to be known.
        let no_users = self.has_had_users() && self.users.len() == 0;
        let no_users = no_users.then(|| AdministrationChange::DeleteUser { name: Arc::from("") });
        let parameters = self.global_parameters.iter().map(|(name, value)| {
            let (name, value) = (Arc::clone(name), Arc::clone(value));
            AdministrationChange::PutGlobalParameter { name, value }
        });
        gone.into_iter().chain(vhosts).chain(policies).chain(users).chain(no_users).chain(parameters)
    }

    /// In an order that depends on nothing but what there is; what a change needs comes before it.
    pub(super) fn logged_changes(&self) -> impl Iterator<Item = Change> {
        let exchanges = self.vhosts().flat_map(|vhost| {
            let logged = vhost.exchanges().filter(|record| record.durable && !Vhost::is_predeclared(&record.name));
            let mut records: Vec<_> = logged.map(Arc::clone).collect();
            records.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            records.into_iter().map(Change::CreateExchange)
        });
        let mut queues: Vec<_> = self.queues().filter(|record| record.is_logged()).map(Arc::clone).collect();
        queues.sort_unstable_by_key(|record| record.id);
        let queues = queues.into_iter().map(Change::CreateQueue);
        let paused = self.paused.iter().filter(|id| self.queue_by_id(**id).is_some_and(|queue| queue.is_logged()));
        let paused = paused.map(|id| Change::PauseQueue { id: *id, paused: true, logged: true });
        let bindings = self.vhosts().flat_map(Vhost::bindings).filter(|record| record.logged).map(Change::Bind);
        let ids = Change::QueueIds { next: self.next_logged_id };
        let administration = self.administration_changes().map(Change::Administration);
        core::iter::once(ids).chain(administration).chain(exchanges).chain(queues).chain(paused).chain(bindings)
    }
}
