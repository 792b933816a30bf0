//! Moves inputs and outputs between the machines until nothing is left to move, as the shell does.

use std::format;
use std::sync::Arc;
use std::vec;

use warren_amqp::ReplyCode;

use super::{Client, World};
use crate::Exception;
use crate::identity::ShardId;
use crate::queue::{DeleteRefusal, ShardInput, ShardOutput};
use crate::session::{Claim, LoggedIn, Login, MetadataAnswer, MetadataRequest, ReplyAddress, World as View};
use crate::time::Instant;
use crate::topology::{Change, Identity, Outcome, TokenIdentity};

impl World {
    /// Lets everything happen that can.
    pub(super) fn run(&mut self) {
        const STEPS: usize = 1_000;
        assert!((0..STEPS).any(|_| !self.step()), "the broker does not come to rest");
    }

    fn step(&mut self) -> bool {
        let mut moved = false;
        for client in 0..self.clients.len() {
            moved |= self.step_client(client);
        }
        if self.commits {
            moved |= self.step_log();
        }
        moved | self.step_metadata()
    }

    fn step_metadata(&mut self) -> bool {
        if !self.metadata_answers {
            return false;
        }
        let Some((client, request)) = self.requests.pop_front() else { return false };
        let answer = self.answer(request);
        let Client { session, output, .. } = &mut self.clients[client];
        session.metadata_answered(answer, output);
        self.read(client);
        true
    }

    pub(super) fn ask(&mut self, client: usize) -> bool {
        let request = self.clients[client].output.request.take();
        let asks = request.is_some();
        self.requests.extend(request.map(|request| (client, request)));
        asks
    }

    fn step_client(&mut self, client: usize) -> bool {
        let mut moved = false;
        let Client { session, output, events, takes_events, .. } = &mut self.clients[client];
        if *takes_events {
            while let Some((shard, events)) = events.pop_front() {
                moved = true;
                events.into_iter().for_each(|event| session.shard_event(shard, event, output));
            }
        }
        session.finish_batch(output);
        if let Some(claim) = output.login.take() {
            moved = true;
            let login = match claim {
                Claim::Password(Login { user, password }) => logged_in(&user, password.expose()),
                Claim::Certificate(user) => Some(LoggedIn { identity: Identity::User(user), expires: None }),
            };
            session.login_checked(login, &self.topology, output);
        }
        moved |= self.hand_over(client);
        moved |= self.ask(client);
        moved |= self.reply(client);
        if moved {
            self.read(client);
        }
        moved
    }

    fn reply(&mut self, client: usize) -> bool {
        for (address, begins) in self.clients[client].output.reply_addresses.drain(..) {
            self.reply_addresses.retain(|known| *known != address);
            self.reply_addresses.extend(begins.then_some(address));
        }
        let replies = core::mem::take(&mut self.clients[client].output.replies);
        for reply in &replies {
            if let Some(client) = self.clients.iter_mut().find(|client| client.id == reply.address.connection) {
                client.session.direct_reply(reply, &mut client.output);
            }
        }
        !replies.is_empty()
    }

    fn step_log(&mut self) -> bool {
        let (mut outputs, mut moved) = (vec![], false);
        for (id, shard) in &mut self.shards {
            let mut output = ShardOutput::default();
            while let Some(entry) = shard.take_entry(0) {
                let at = self.log.append(&entry);
                shard.committed(at, &mut self.log, &mut output);
                moved = true;
            }
            outputs.push((*id, output));
        }
        outputs.into_iter().for_each(|(shard, output)| self.post(shard, output));
        moved
    }

    pub(super) fn read(&mut self, client: usize) {
        let Self { now, topology, random, reply_addresses, .. } = self;
        let Client { session, output, unread, .. } = &mut self.clients[client];
        let mut next = || {
            *random += 1;
            *random
        };
        let takes_replies = |address: &ReplyAddress| reply_addresses.contains(address);
        let mut view = View { now: *now, topology, random: &mut next, takes_replies: &takes_replies, census: &mut () };
        let taken = session.receive(&mut view, unread, output);
        unread.drain(..taken);
    }

    pub(super) fn hand_over(&mut self, client: usize) -> bool {
        let mut moved = false;
        while let Some((shard, inputs)) = self.clients[client].output.next_shard_inputs() {
            moved = true;
            for input in inputs {
                self.told.push(input.clone());
                self.tell(shard, input);
            }
        }
        moved
    }

    /// Hands a shard one input; answers with what it says to deletes.
    fn tell(&mut self, shard: ShardId, input: ShardInput) -> Option<Result<u64, DeleteRefusal>> {
        if let ShardInput::Publish(run) = &input {
            self.runs.push(run.clone());
        }
        let mut output = ShardOutput::default();
        let machine = self.shards.get_mut(&shard).expect("queues are in shards that exist");
        machine.handle(input, &mut self.log, &mut output);
        let deleted = output.deleted.pop().map(|(_, deleted)| deleted);
        self.post(shard, output);
        deleted
    }

    fn post(&mut self, shard: ShardId, mut output: ShardOutput) {
        for (connection, events) in output.take_events() {
            if let Some(client) = self.clients.iter_mut().find(|client| client.id == connection) {
                client.events.push_back((shard, events));
            }
        }
        for id in output.unused.drain(..) {
            self.apply(&self.topology.removal(id));
            self.tell(
                shard,
                ShardInput::Delete { queue: id, if_unused: false, if_empty: false, still_unused: true, request: 0 },
            );
        }
    }

    fn answer(&mut self, request: MetadataRequest) -> Result<MetadataAnswer, Exception> {
        match request {
            MetadataRequest::Topology(request) => {
                let prepared = self.topology.prepare(&request)?;
                if let Outcome::Released(queues) = &prepared.outcome {
                    for queue in queues {
                        let delete = ShardInput::Delete {
                            queue: queue.id,
                            if_unused: false,
                            if_empty: false,
                            still_unused: false,
                            request: 0,
                        };
                        self.tell(queue.shard, delete);
                    }
                }
                self.apply(&prepared.changes);
                Ok(MetadataAnswer::Outcome(prepared.outcome))
            }
            MetadataRequest::DeleteQueue { connection, identity, vhost, name, if_unused, if_empty } => {
                let Some(queue) = self.topology.prepare_delete_queue(&identity, &vhost, &name, connection)? else {
                    return Ok(MetadataAnswer::Deleted(0));
                };
                let delete =
                    ShardInput::Delete { queue: queue.id, if_unused, if_empty, still_unused: false, request: 0 };
                match self.tell(queue.shard, delete).expect("nothing is in flight") {
                    Ok(count) => {
                        self.apply(&self.topology.removal(queue.id));
                        Ok(MetadataAnswer::Deleted(count))
                    }
                    Err(refusal) => {
                        Err(Exception::channel(ReplyCode::PreconditionFailed, format!("{name} {refusal:?}")))
                    }
                }
            }
        }
    }

    pub(super) fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            self.topology.apply(change);
            if let Change::CreateQueue(queue) = change {
                let settings = self.topology.settings(queue);
                self.tell(queue.shard, ShardInput::Create { queue: queue.id, settings });
            }
        }
    }
}

/// Passwords are the users' names. A token is `token`, who it is of, when it runs out and its scopes, with spaces between.
fn logged_in(user: &str, password: &[u8]) -> Option<LoggedIn> {
    let password = std::str::from_utf8(password).ok()?;
    if let Some(token) = password.strip_prefix("token ") {
        let mut words = token.split(' ');
        let (name, expires) = (words.next()?, words.next()?.parse().ok()?);
        let identity = Identity::Token(Arc::new(TokenIdentity::new(name, words).ok()?));
        return Some(LoggedIn { identity, expires: Some(Instant(expires)) });
    }
    let identity = if user == "guest" { Identity::Node } else { Identity::User };
    (password == user).then(|| LoggedIn { identity: identity(Arc::from(user)), expires: None })
}
