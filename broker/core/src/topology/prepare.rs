//! Which requests are right, and what they change. The texts and codes are RabbitMQ 4.3's.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;
use warren_amqp::{ReplyCode, Table};

use super::Topology;
use super::access::{Identity, Resource, Verb};
use super::arguments::{self, QueueType, precondition};
use super::binding::Hop;
use super::change::Change;
use super::exchange::Exchange;
use super::names::{self, Thing};
use super::records::{DELAYED_STORE, DELAYED_TYPE, ExchangeRecord, QueueRecord};
use super::request::{Action, ExchangeDeclaration, Outcome, Prepared, QueueDeclaration, Request};
use super::vhost::{Vhost, route_to};
use crate::{ConnectionId, Exception, QueueId, limits};

impl Topology {
    /// Checks a request against the topology as it is. Nothing changes before [`Topology::apply`].
    ///
    /// # Errors
    /// What the client has to be told instead, in RabbitMQ's words. 540 closes the channel only; the module
    /// `arguments` has the list of arguments that bring it.
    pub fn prepare(&self, request: &Request) -> Result<Prepared, Exception> {
        let vhost = || self.vhost_or_refuse(&request.vhost);
        match &request.action {
            Action::DeclareExchange(declaration) if declaration.passive => {
                self.find_exchange(vhost()?, request, declaration)
            }
            Action::DeclareExchange(declaration) => self.declare_exchange(vhost()?, request, declaration),
            Action::DeleteExchange { name, if_unused } => self.delete_exchange(vhost()?, request, name, *if_unused),
            Action::DeclareQueue(declaration) if declaration.passive => self.find_queue(vhost()?, request, declaration),
            Action::DeclareQueue(declaration) => self.declare_queue(vhost()?, request, declaration),
            Action::BindExchange(bind) => self.bind(vhost()?, request, Thing::Exchange, bind),
            Action::BindQueue(bind) => self.bind(vhost()?, request, Thing::Queue, bind),
            Action::UnbindExchange(bind) => self.unbind(vhost()?, request, Thing::Exchange, bind),
            Action::UnbindQueue(bind) => self.unbind(vhost()?, request, Thing::Queue, bind),
            Action::Administer(asked) => self.administer(request, asked),
            Action::ReleaseConnection => Ok(self.release(request.connection)),
        }
    }

    /// The queue that `basic.consume`, `basic.get` or `queue.purge` names.
    ///
    /// # Errors
    /// 403 if the user may not do that to a queue of this name or nobody may (the store of a delayed exchange), 404 if
    /// it does not exist, 405 if another connection owns it.
    pub fn accessible_queue(
        &self,
        identity: &Identity,
        vhost: &str,
        name: &str,
        connection: ConnectionId,
        verb: Verb,
    ) -> Result<Arc<QueueRecord>, Exception> {
        self.check(identity, verb, Resource::Queue, vhost, name)?;
        let vhost = self.vhost_or_refuse(vhost)?;
        let queue = vhost.queue(name).ok_or_else(|| not_found(Thing::Queue, name, vhost))?;
        check_owner(queue, connection)?;
        if verb != Verb::Purge {
            refuse_store(Thing::Queue, name, vhost)?;
        }
        Ok(Arc::clone(queue))
    }

    /// First half of `queue.delete`: the queue to ask its shard about; `None` if there is none, which is success with
    /// count 0. When the shard has agreed and let go of it, [`Topology::removal`] is the second half.
    ///
    /// # Errors
    /// 403 if the user may not delete queues of this name or nobody may (the store of a delayed exchange), 405 if another
    /// connection owns it.
    pub fn prepare_delete_queue(
        &self,
        identity: &Identity,
        vhost: &str,
        name: &str,
        connection: ConnectionId,
    ) -> Result<Option<Arc<QueueRecord>>, Exception> {
        let name = names::stripped(name);
        self.check(identity, Verb::Delete, Resource::Queue, vhost, &name)?;
        let vhost = self.vhost_or_refuse(vhost)?;
        let Some(queue) = vhost.queue(&name) else {
            return Ok(None);
        };
        check_owner(queue, connection)?;
        refuse_store(Thing::Queue, &name, vhost)?;
        Ok(Some(Arc::clone(queue)))
    }

    /// What has to change for a queue to go: itself, and the auto-delete exchanges that lose their last binding with
    /// it. Nothing if it is gone already. Also for a queue whose last consumer went.
    pub fn removal(&self, id: QueueId) -> Vec<Change> {
        self.queue_by_id(id).map_or_else(Vec::new, |queue| self.with_auto_deletes([delete_of(queue)]))
    }

    pub(super) fn vhost_or_refuse(&self, name: &str) -> Result<&Vhost, Exception> {
        self.vhost(name).ok_or_else(|| Exception::connection(ReplyCode::NotAllowed, format!("vhost {name} not found")))
    }

    fn release(&self, connection: ConnectionId) -> Prepared {
        let queues = self.exclusive_queues(connection);
        let changes = self.with_auto_deletes(queues.iter().map(|queue| delete_of(queue)));
        Prepared { changes, outcome: Outcome::Released(queues) }
    }

    pub(super) fn require(
        &self,
        request: &Request,
        verb: Verb,
        resource: Resource,
        name: &str,
    ) -> Result<(), Exception> {
        self.check(&request.identity, verb, resource, &request.vhost, name)
    }

    /// Rights to what a new queue or exchange passes messages on to.
    fn require_passing_on(&self, request: &Request, from: (Resource, &str), to: Option<&str>) -> Result<(), Exception> {
        let Some(to) = to else {
            return Ok(());
        };
        self.require(request, Verb::PassOn, from.0, from.1)?;
        self.require(request, Verb::TakeOn, Resource::Exchange, to)
    }

    fn find_exchange(
        &self,
        vhost: &Vhost,
        request: &Request,
        declaration: &ExchangeDeclaration,
    ) -> Result<Prepared, Exception> {
        let name = names::stripped(&declaration.name);
        refuse_default_exchange(&name)?;
        self.require(request, Verb::Declare, Resource::Exchange, &name)?;
        vhost.exchange(&name).ok_or_else(|| not_found(Thing::Exchange, &name, vhost))?;
        Ok(done())
    }

    fn find_queue(
        &self,
        vhost: &Vhost,
        request: &Request,
        declaration: &QueueDeclaration,
    ) -> Result<Prepared, Exception> {
        let name = names::stripped(&declaration.name);
        self.require(request, Verb::Declare, Resource::Queue, &name)?;
        let queue = vhost.queue(&name).ok_or_else(|| not_found(Thing::Queue, &name, vhost))?;
        check_owner(queue, request.connection)?;
        Ok(Prepared { changes: Vec::new(), outcome: Outcome::Queue(Arc::clone(queue)) })
    }

    fn declare_exchange(
        &self,
        vhost: &Vhost,
        request: &Request,
        declaration: &ExchangeDeclaration,
    ) -> Result<Prepared, Exception> {
        let kind = arguments::exchange::kind_of(&declaration.kind, &declaration.arguments)?;
        let name = names::stripped(&declaration.name);
        refuse_default_exchange(&name)?;
        self.require(request, Verb::Declare, Resource::Exchange, &name)?;
        if let Some(current) = vhost.exchange(&name) {
            check_same_exchange(current, declaration)?;
            return Ok(done());
        }
        names::check(Thing::Exchange, &name)?;
        let named = arguments::exchange_named(&name, vhost.name());
        arguments::exchange::check(&named, kind, &declaration.arguments)?;
        let alternate = string_argument(&declaration.arguments, "alternate-exchange");
        self.require_passing_on(request, (Resource::Exchange, &name), alternate)?;
        if vhost.exchange_count() >= self.limits.exchanges {
            let limit = self.limits.exchanges;
            return Err(precondition(format!("cannot declare {named}: exchange limit of {limit} is reached")));
        }
        let record = ExchangeRecord {
            vhost: Arc::clone(vhost.name()),
            name,
            kind,
            delayed: declaration.kind == DELAYED_TYPE,
            durable: declaration.durable,
            auto_delete: declaration.auto_delete,
            internal: declaration.internal,
            arguments: declaration.arguments.clone(),
        };
        let mut changes = vec![];
        if let Some(store) = record.store_name() {
            changes.push(Change::CreateQueue(Arc::new(self.new_store(vhost, store, record.durable)?)));
        }
        changes.push(Change::CreateExchange(Arc::new(record)));
        Ok(Prepared { changes, outcome: Outcome::Done })
    }

    /// The queue where the messages of a delayed exchange wait. It lives and is logged as its exchange is.
    fn new_store(&self, vhost: &Vhost, name: Arc<str>, durable: bool) -> Result<QueueRecord, Exception> {
        if name.len() > limits::NAME_BYTES {
            let limit = limits::NAME_BYTES - DELAYED_STORE.len();
            return Err(precondition(format!("the name of a delayed exchange is at most {limit} bytes long")));
        }
        self.place_queue(vhost, name, None, (durable, false), Bytes::new())
    }

    fn delete_exchange(
        &self,
        vhost: &Vhost,
        request: &Request,
        name: &str,
        if_unused: bool,
    ) -> Result<Prepared, Exception> {
        let name = names::stripped(name);
        refuse_default_exchange(&name)?;
        self.require(request, Verb::Delete, Resource::Exchange, &name)?;
        let named = arguments::exchange_named(&name, vhost.name());
        if name.starts_with("amq.") {
            let text = format!("deletion of system {named} not allowed");
            return Err(Exception::channel(ReplyCode::AccessRefused, text));
        }
        let Some(exchange) = vhost.exchange_table(&name) else {
            return Ok(done());
        };
        if if_unused && exchange.bindings > 0 {
            return Err(precondition(format!("{named} in use")));
        }
        let changes = self.with_auto_deletes([delete_of_exchange(exchange)]);
        Ok(Prepared { changes, outcome: Outcome::Done })
    }

    fn declare_queue(
        &self,
        vhost: &Vhost,
        request: &Request,
        declaration: &QueueDeclaration,
    ) -> Result<Prepared, Exception> {
        let mut name = names::stripped(&declaration.name);
        let server_named = name.is_empty();
        let arguments = typed_arguments(vhost, declaration);
        if server_named {
            refuse_server_named(&arguments)?;
            name = Arc::from(declaration.generated_name.as_str());
            refuse_taken(vhost, &name)?;
        }
        let owner = declaration.exclusive.then_some(request.connection);
        let current = vhost.queue(&name);
        if current.is_none() && !server_named {
            names::check(Thing::Queue, &name)?;
        }
        self.require(request, Verb::Declare, Resource::Queue, &name)?;
        if let Some(current) = current {
            check_same_queue(current, owner, declaration, &arguments)?;
            return Ok(Prepared { changes: Vec::new(), outcome: Outcome::Queue(Arc::clone(current)) });
        }
        let dead_letter = string_argument(&declaration.arguments, "x-dead-letter-exchange");
        self.require_passing_on(request, (Resource::Queue, &name), dead_letter)?;
        let record = Arc::new(self.new_queue(vhost, name, owner, declaration, arguments)?);
        Ok(Prepared { changes: vec![Change::CreateQueue(Arc::clone(&record))], outcome: Outcome::Queue(record) })
    }

    fn new_queue(
        &self,
        vhost: &Vhost,
        name: Arc<str>,
        owner: Option<ConnectionId>,
        declaration: &QueueDeclaration,
        arguments: Bytes,
    ) -> Result<QueueRecord, Exception> {
        let named = arguments::queue_named(&name, vhost.name());
        arguments::queue::check(&named, &arguments)?;
        let durable = declaration.durable && owner.is_none();
        let auto_delete = declaration.auto_delete;
        if QueueType::of(&arguments) != QueueType::Classic {
            let wrong = [(auto_delete, "auto-delete"), (owner.is_some(), "exclusive-owner"), (!durable, "non-durable")];
            if let Some((_, property)) = wrong.iter().find(|(wrong, _)| *wrong) {
                return Err(precondition(format!("invalid property '{property}' for {named}")));
            }
        }
        self.place_queue(vhost, name, owner, (durable, auto_delete), arguments)
    }

    /// The queue with an id and a shard.
    fn place_queue(
        &self,
        vhost: &Vhost,
        name: Arc<str>,
        owner: Option<ConnectionId>,
        (durable, auto_delete): (bool, bool),
        arguments: Bytes,
    ) -> Result<QueueRecord, Exception> {
        let own = vhost.record().limits.max_queues.and_then(|limit| usize::try_from(limit).ok());
        let limit = own.map_or(self.limits.queues, |own| own.min(self.limits.queues));
        if vhost.queue_count() >= limit {
            let vhost = vhost.name();
            let text = format!("cannot declare queue '{name}': queue limit in vhost '{vhost}' ({limit}) is reached");
            return Err(precondition(text));
        }
        let logged = durable && !auto_delete;
        let id = self.free_queue_id(logged).ok_or_else(|| {
            let text = "no queue id is left; export the definitions and import them into a new data folder";
            Exception::channel(ReplyCode::ResourceError, text)
        })?;
        Ok(QueueRecord {
            id,
            shard: self.least_loaded_shard(),
            vhost: Arc::clone(vhost.name()),
            name,
            durable,
            auto_delete,
            exclusive_owner: owner,
            arguments,
        })
    }

    /// Binding and unbinding take the same rights.
    /// The changes and what follows from them: an auto-delete exchange ends when its last binding does. Tried out on
    /// a copy, so that whatever happens is in the list and applying it needs no rules.
    pub(super) fn with_auto_deletes(&self, changes: impl IntoIterator<Item = Change>) -> Vec<Change> {
        let mut copy = self.clone();
        let mut pending: VecDeque<Change> = changes.into_iter().collect();
        let mut all = Vec::with_capacity(pending.len());
        while let Some(change) = pending.pop_front() {
            let losing = copy.sources_losing(&change);
            pending.extend(copy.store_of(&change));
            copy.apply(&change);
            all.push(change);
            for (vhost, source) in losing {
                let exchange = copy.vhost(&vhost).and_then(|vhost| vhost.exchange_table(&source));
                if let Some(exchange) = exchange
                    && exchange.record.auto_delete
                    && exchange.bindings == 0
                {
                    pending.push_back(delete_of_exchange(exchange));
                }
            }
        }
        all
    }

    /// The end of the store, if the change is the end of a delayed exchange.
    fn store_of(&self, change: &Change) -> Option<Change> {
        let Change::DeleteExchange { vhost, name, .. } = change else {
            return None;
        };
        let vhost = self.vhost(vhost)?;
        let store = vhost.exchange(name)?.store_name()?;
        vhost.queue(&store).map(|queue| delete_of(queue))
    }

    /// The exchanges, by vhost and name, that lose bindings by a change and are there after it.
    fn sources_losing(&self, change: &Change) -> BTreeSet<(Arc<str>, Arc<str>)> {
        let to = |vhost: &Arc<str>, hop: &Hop| {
            let bindings = self.vhost(vhost).map_or_else(Vec::new, |vhost| vhost.bindings_to(hop));
            bindings.iter().map(|binding| (Arc::clone(vhost), Arc::clone(&binding.source))).collect()
        };
        match change {
            Change::Unbind(record) => BTreeSet::from([(Arc::clone(&record.vhost), Arc::clone(&record.source))]),
            Change::DeleteExchange { vhost, name, .. } => to(vhost, &Hop::Exchange(Arc::clone(name))),
            Change::DeleteQueue { id, .. } => {
                self.queue_by_id(*id).map_or_else(BTreeSet::new, |queue| to(&queue.vhost, &Hop::Queue(route_to(queue))))
            }
            _ => BTreeSet::new(),
        }
    }
}

pub(super) fn done() -> Prepared {
    Prepared { changes: Vec::new(), outcome: Outcome::Done }
}

fn delete_of(queue: &QueueRecord) -> Change {
    Change::DeleteQueue { id: queue.id, logged: queue.is_logged() }
}

fn delete_of_exchange(exchange: &Exchange) -> Change {
    let record = &exchange.record;
    Change::DeleteExchange { vhost: Arc::clone(&record.vhost), name: Arc::clone(&record.name), logged: record.durable }
}

/// The text of an argument; whether a value of another type is right is checked elsewhere.
fn string_argument<'a>(arguments: &'a [u8], name: &str) -> Option<&'a str> {
    Table::new(arguments).get(name).ok().flatten().and_then(|value| value.as_str())
}

fn check_same_exchange(current: &ExchangeRecord, declaration: &ExchangeDeclaration) -> Result<(), Exception> {
    let named = arguments::exchange_named(&current.name, &current.vhost);
    arguments::check_property("type", &named, declaration.kind.as_str(), current.type_name())?;
    arguments::check_property("durable", &named, declaration.durable, current.durable)?;
    arguments::check_property("auto_delete", &named, declaration.auto_delete, current.auto_delete)?;
    arguments::check_property("internal", &named, declaration.internal, current.internal)?;
    arguments::exchange::check_same_arguments(&named, &declaration.arguments, &current.arguments)
}

fn check_same_queue(
    current: &QueueRecord,
    owner: Option<ConnectionId>,
    declaration: &QueueDeclaration,
    arguments: &[u8],
) -> Result<(), Exception> {
    if current.exclusive_owner != owner {
        return Err(locked(current));
    }
    let named = arguments::queue_named(&current.name, &current.vhost);
    let durable = declaration.durable && owner.is_none();
    arguments::check_property("durable", &named, durable, current.durable)?;
    arguments::check_property("auto_delete", &named, declaration.auto_delete, current.auto_delete)?;
    arguments::queue::check_same_arguments(&named, arguments, &current.arguments)
}

/// The arguments of a declaration with the type that it means. The virtual host's default is for queues that stay and
/// are shared; others are classic queues, as all quorum queues and streams stay and are shared.
fn typed_arguments(vhost: &Vhost, declaration: &QueueDeclaration) -> Bytes {
    let stays = declaration.durable && !declaration.exclusive && !declaration.auto_delete;
    let default = if stays { vhost.default_queue_type() } else { QueueType::Classic };
    arguments::queue::with_type(&declaration.arguments, default)
}

pub(super) fn check_owner(queue: &QueueRecord, connection: ConnectionId) -> Result<(), Exception> {
    match queue.exclusive_owner {
        Some(owner) if owner != connection => Err(locked(queue)),
        _ => Ok(()),
    }
}

fn locked(queue: &QueueRecord) -> Exception {
    let named = arguments::queue_named(&queue.name, &queue.vhost);
    let text = format!(
        "cannot obtain exclusive access to locked {named}. It could be originally declared on another connection or \
         the exclusive property value does not match that of the original declaration."
    );
    Exception::channel(ReplyCode::ResourceLocked, text)
}

pub(super) fn not_found(thing: Thing, name: &str, vhost: &Vhost) -> Exception {
    let named: String = thing.named(name, vhost.name());
    Exception::channel(ReplyCode::NotFound, format!("no {named}"))
}

/// The store of a delayed exchange is its exchange's alone.
pub(super) fn refuse_store(thing: Thing, name: &str, vhost: &Vhost) -> Result<(), Exception> {
    match vhost.queue(name).and_then(|queue| queue.delayed_exchange()) {
        Some(exchange) if thing == Thing::Queue => {
            let named = thing.named(name, vhost.name());
            let text = format!("{named} holds the waiting messages of exchange '{exchange}' and nothing else");
            Err(Exception::channel(ReplyCode::AccessRefused, text))
        }
        _ => Ok(()),
    }
}

pub(super) fn refuse_default_exchange(name: &str) -> Result<(), Exception> {
    if name.is_empty() {
        let text = "operation not permitted on the default exchange";
        return Err(Exception::channel(ReplyCode::AccessRefused, text));
    }
    Ok(())
}

/// Two connections must never share a queue by accident.
fn refuse_taken(vhost: &Vhost, generated_name: &str) -> Result<(), Exception> {
    if vhost.queue(generated_name).is_none() {
        return Ok(());
    }
    let text = format!("the generated queue name '{generated_name}' is taken; declare again");
    Err(Exception::channel(ReplyCode::InternalError, text))
}

fn refuse_server_named(arguments: &[u8]) -> Result<(), Exception> {
    match QueueType::of(arguments) {
        QueueType::Classic => Ok(()),
        other => {
            let module = other.module();
            Err(precondition(format!("Cannot declare a server-named queue for type {module}")))
        }
    }
}
