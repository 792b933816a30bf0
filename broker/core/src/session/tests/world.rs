//! A broker without input and output: sessions, the metadata and shards, wired as the shell wires them.

use core::num::NonZeroU16;
use std::collections::{BTreeMap, VecDeque};
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;
use std::{format, vec};

use bytes::Bytes;
use warren_amqp::content::{encode_body_frames, encode_header};
use warren_amqp::frame::PROTOCOL_HEADER;
use warren_amqp::{
    BasicProperties, Frame, ReplyCode, Table, TableBuilder, ToClient, ToServer, basic, channel, confirm, connection,
    decode_frame, queue,
};

use crate::Exception;
use crate::command::{Attributes, encode_publish_head};
use crate::fake_log::FakeLog;
use crate::identity::{ConnectionId, ConsumerKey, ShardId};
use crate::limits::{CHANNEL_MAX, FRAME_MAX, TopologyLimits};
use crate::queue::{DeleteRefusal, Delivery, Event, PublishRun, Settlement, Shard, ShardInput, ShardOutput};
use crate::session::{
    Claim, Counts, LoggedIn, Login, MetadataAnswer, MetadataRequest, ReplyAddress, Session, SessionOutput,
    World as View,
};
use crate::time::Instant;
use crate::topology::{
    Action, Administration, Change, Identity, Outcome, QueueRecord, Request, TokenIdentity, Topology, Verb,
};

pub(super) const ME: usize = 0;
pub(super) const OTHER: usize = 1;
pub(super) const NO_ARGUMENTS: Table<'static> = Table::new(&[]);
const SHARDS: NonZeroU16 = NonZeroU16::new(4).unwrap();

/// Connections by the order in which they came; the first two are [`ME`] and [`OTHER`].
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) topology: Topology,
    /// False: what is to be logged waits for [`World::commit`].
    pub(super) commits: bool,
    pub(super) clients: Vec<Client>,
    /// False: requests wait.
    metadata_answers: bool,
    /// Requests that wait, with who asked.
    requests: VecDeque<(usize, MetadataRequest)>,
    shards: BTreeMap<ShardId, Shard>,
    log: FakeLog,
    random: u128,
    /// Where somebody waits for replies.
    reply_addresses: Vec<ReplyAddress>,
    /// Every run of publishes that a shard was handed.
    pub(super) runs: Vec<PublishRun>,
    /// What sessions told shards.
    told: Vec<ShardInput>,
}

pub(super) struct Client {
    id: ConnectionId,
    pub(super) session: Session,
    pub(super) output: SessionOutput,
    /// Sent and not taken by the session yet.
    unread: Vec<u8>,
    events: VecDeque<(ShardId, Vec<Event>)>,
    /// False: it gets no events, as if its task had no time.
    takes_events: bool,
}

/// A frame that the broker sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) channel: u16,
    kind: Kind,
    payload: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Method,
    Header,
    Body,
    Heartbeat,
}

/// A message that came by `basic.deliver`, `basic.get-ok` or `basic.return`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) tag: u64,
    pub(super) redelivered: bool,
    pub(super) body: String,
}

impl World {
    /// Two connections, each open, with channel 1 open.
    pub(super) fn new() -> Self {
        let mut world = Self::empty();
        for client in [ME, OTHER] {
            assert_eq!(world.connect(), client);
            world.log_in(client);
            world.open_channel(client, 1);
        }
        world
    }

    pub(super) fn empty() -> Self {
        Self {
            now: Instant(1_000),
            topology: Topology::new(SHARDS, TopologyLimits::default()),
            commits: true,
            clients: vec![],
            metadata_answers: true,
            requests: VecDeque::new(),
            shards: (1..=SHARDS.get()).map(|id| (ShardId(id), Shard::new())).collect(),
            log: FakeLog::default(),
            random: 0,
            reply_addresses: vec![],
            runs: vec![],
            told: vec![],
        }
    }

    /// A connection that has said nothing yet.
    pub(super) fn connect(&mut self) -> usize {
        let id = ConnectionId(self.clients.len() as u64 + 1);
        let session = Session::new(id, self.now);
        let output = SessionOutput::default();
        let (unread, events) = (vec![], VecDeque::new());
        self.clients.push(Client { id, session, output, unread, events, takes_events: true });
        self.clients.len() - 1
    }

    /// The handshake of a client like pika: announces everything, takes the limits offered, no heartbeats.
    pub(super) fn log_in(&mut self, client: usize) {
        let capabilities = ["authentication_failure_close", "consumer_cancel_notify"];
        self.log_in_with(client, &capabilities, 0);
    }

    /// Logs in as a user of the topology; its password is its name.
    pub(super) fn log_in_as(&mut self, client: usize, user: &str) {
        self.open_connection(client, &[], 0, format!("\0{user}\0{user}").as_bytes(), "/");
    }

    /// Logs in and opens a virtual host.
    pub(super) fn open_vhost(&mut self, client: usize, vhost: &str) {
        self.open_connection(client, &[], 0, b"\0guest\0guest", vhost);
    }

    /// Logs in with a token that runs out at that time, in milliseconds; scopes have spaces between them.
    pub(super) fn log_in_by_token(&mut self, client: usize, name: &str, expires: u64, scopes: &str) {
        let response = format!("\0whoever\0token {name} {expires} {scopes}");
        self.open_connection(client, &["consumer_cancel_notify"], 0, response.as_bytes(), "/");
    }

    pub(super) fn log_in_with(&mut self, client: usize, capabilities: &[&str], heartbeat: u16) {
        self.open_connection(client, capabilities, heartbeat, b"\0guest\0guest", "/");
    }

    fn open_connection(
        &mut self,
        client: usize,
        capabilities: &[&str],
        heartbeat: u16,
        response: &[u8],
        virtual_host: &str,
    ) {
        let properties = client_properties(capabilities);
        self.send_octets(client, &PROTOCOL_HEADER);
        self.send(client, 0, ToServer::ConnectionStartOk(start_ok(Table::new(&properties), "PLAIN", response)));
        let tune_ok = connection::TuneOk { channel_max: CHANNEL_MAX, frame_max: FRAME_MAX, heartbeat };
        self.send(client, 0, ToServer::ConnectionTuneOk(tune_ok));
        self.heard(client);
        let open = ToServer::ConnectionOpen(connection::Open { virtual_host });
        assert_eq!(self.call(client, 0, open).method(), ToClient::ConnectionOpenOk(connection::OpenOk));
    }

    pub(super) fn open_channel(&mut self, client: usize, number: u16) {
        let said = self.call(client, number, ToServer::ChannelOpen(channel::Open));
        assert_eq!((said.channel, said.method()), (number, ToClient::ChannelOpenOk(channel::OpenOk)));
    }

    /// The node takes bodies of at most so many octets from this client.
    pub(super) fn set_message_bytes(&mut self, client: usize, message_bytes: u64) {
        let session = &mut self.clients[client].session;
        let before = core::mem::replace(session, Session::new(ConnectionId(0), self.now));
        *session = before.with_message_bytes(message_bytes);
    }

    pub(super) fn send_octets(&mut self, client: usize, octets: &[u8]) {
        self.clients[client].unread.extend_from_slice(octets);
        self.read(client);
        self.run();
    }

    pub(super) fn send(&mut self, client: usize, number: u16, method: ToServer<'_>) {
        let mut octets = vec![];
        method.encode(number, &mut octets);
        self.send_octets(client, &octets);
    }

    /// Sends a method and answers with the one frame that came back.
    #[track_caller]
    pub(super) fn call(&mut self, client: usize, number: u16, method: ToServer<'_>) -> Said {
        self.send(client, number, method);
        let mut heard = self.heard(client);
        assert_eq!(heard.len(), 1, "{} was answered by {heard:?}", method.name());
        heard.remove(0)
    }

    /// Publishes to `exchange`; `properties` as they are.
    pub(super) fn publish_with(
        &mut self,
        client: usize,
        publish: basic::Publish<'_>,
        properties: &BasicProperties<'_>,
        body: &str,
    ) {
        let mut octets = vec![];
        ToServer::BasicPublish(publish).encode(1, &mut octets);
        encode_header(1, body.len() as u64, properties, &mut octets);
        encode_body_frames(1, body.as_bytes(), FRAME_MAX, &mut octets);
        self.send_octets(client, &octets);
    }

    /// Publishes a persistent message to a queue, on any channel.
    pub(super) fn publish_on(&mut self, client: usize, number: u16, queue: &str, body: &str) {
        let mut octets = vec![];
        ToServer::BasicPublish(to_queue(queue)).encode(number, &mut octets);
        encode_header(number, body.len() as u64, &persistent(), &mut octets);
        encode_body_frames(number, body.as_bytes(), FRAME_MAX, &mut octets);
        self.send_octets(client, &octets);
    }

    /// Publishes a persistent message to a queue, on channel 1.
    pub(super) fn publish(&mut self, client: usize, queue: &str, body: &str) {
        self.publish_with(client, to_queue(queue), &persistent(), body);
    }

    pub(super) fn publish_all(&mut self, client: usize, queue: &str, bodies: &[&str]) {
        bodies.iter().for_each(|body| self.publish(client, queue, body));
    }

    /// Declares a durable queue on channel 1.
    pub(super) fn queue(&mut self, client: usize, name: &str) {
        let declare = queue::Declare { durable: true, ..declare(name) };
        let said = self.call(client, 1, ToServer::QueueDeclare(declare));
        assert!(matches!(said.method(), ToClient::QueueDeclareOk(_)), "{said:?}");
    }

    /// How many messages and consumers a queue has.
    #[track_caller]
    pub(super) fn count(&mut self, client: usize, name: &str) -> (u32, u32) {
        let passive = queue::Declare { passive: true, ..declare(name) };
        let said = self.call(client, 1, ToServer::QueueDeclare(passive));
        match said.method() {
            ToClient::QueueDeclareOk(ok) => (ok.message_count, ok.consumer_count),
            other => panic!("a passive declare was answered by {other:?}"),
        }
    }

    pub(super) fn confirms(&mut self, client: usize, number: u16) {
        let said = self.call(client, number, ToServer::ConfirmSelect(confirm::Select { no_wait: false }));
        assert_eq!(said.method(), ToClient::ConfirmSelectOk(confirm::SelectOk));
    }

    /// Starts a consumer on channel 1 and answers with what it was sent at once.
    pub(super) fn consume(&mut self, client: usize, queue: &str, tag: &str) -> Vec<Message> {
        self.send(client, 1, ToServer::BasicConsume(consume(queue, tag)));
        let heard = self.heard(client);
        assert_eq!(heard[0].method(), ToClient::BasicConsumeOk(basic::ConsumeOk { consumer_tag: tag }));
        messages(&heard[1..])
    }

    /// Gets a message from a queue, to be acknowledged.
    pub(super) fn get(&mut self, client: usize, queue: &str) -> Option<Message> {
        self.send(client, 1, ToServer::BasicGet(basic::Get { queue, no_ack: false }));
        messages(&self.heard(client)).pop()
    }

    /// What the client was sent since it was last asked.
    pub(super) fn heard(&mut self, client: usize) -> Vec<Said> {
        let octets = core::mem::take(&mut self.clients[client].output.octets);
        self.flushed(client);
        let (mut rest, mut heard) = (&octets[..], vec![]);
        while !rest.is_empty() {
            let (frame, len) = decode_frame(rest, FRAME_MAX).expect("we send frames").expect("and whole ones");
            let (kind, payload) = match frame {
                Frame::Method { payload, .. } => (Kind::Method, payload),
                Frame::Header { payload, .. } => (Kind::Header, payload),
                Frame::Body { payload, .. } => (Kind::Body, payload),
                Frame::Heartbeat { .. } => (Kind::Heartbeat, &[][..]),
            };
            heard.push(Said { channel: frame.channel(), kind, payload: payload.to_vec() });
            rest = &rest[len..];
        }
        heard
    }

    /// The octets the client was sent since it was last asked, for what is not a frame.
    pub(super) fn heard_octets(&mut self, client: usize) -> Vec<u8> {
        core::mem::take(&mut self.clients[client].output.octets)
    }

    fn flushed(&mut self, client: usize) {
        let Client { session, output, .. } = &mut self.clients[client];
        session.flushed(output);
        self.run();
    }

    /// What the client's session has counted so far.
    pub(super) fn counts(&self, client: usize) -> Counts {
        self.clients[client].output.counts
    }

    pub(super) fn session(&mut self, client: usize) -> &mut Session {
        &mut self.clients[client].session
    }

    pub(super) fn is_closed(&self, client: usize) -> bool {
        self.clients[client].session.is_closed()
    }

    pub(super) fn is_reading(&self, client: usize) -> bool {
        self.clients[client].session.is_reading()
    }

    pub(super) fn is_waiting(&self, client: usize) -> bool {
        self.clients[client].session.is_waiting()
    }

    pub(super) fn next_deadline(&self, client: usize) -> Option<Instant> {
        self.clients[client].session.next_deadline()
    }

    /// Lets time pass for a connection, as the shell does: it wakes the session at its deadlines.
    pub(super) fn pass_millis(&mut self, client: usize, millis: u64) {
        let end = self.now.after_millis(millis);
        while let Some(due) = self.next_deadline(client).filter(|due| *due <= end) {
            self.now = self.now.max(due);
            let Client { session, output, .. } = &mut self.clients[client];
            session.tick(self.now, output);
        }
        self.now = end;
        self.run();
    }

    pub(super) fn deleted(&mut self, client: usize, users: &[Arc<str>], vhosts: &[Arc<str>]) {
        let Client { session, output, .. } = &mut self.clients[client];
        session.deleted(users, vhosts, output);
        self.run();
    }

    pub(super) fn shut_down(&mut self, client: usize) {
        let Client { session, output, .. } = &mut self.clients[client];
        session.shut_down(ReplyCode::ConnectionForced, "stopping", output);
        self.run();
    }

    /// Begins or ends an alarm, for all connections.
    pub(super) fn alarm(&mut self, reason: Option<&'static str>) {
        for client in 0..self.clients.len() {
            let Client { session, output, .. } = &mut self.clients[client];
            session.alarm(reason, output);
            self.read(client);
        }
        self.run();
    }

    /// What sessions have told shards since this was last asked.
    pub(super) fn told(&mut self) -> Vec<ShardInput> {
        core::mem::take(&mut self.told)
    }

    /// How messages were settled since this was last asked.
    pub(super) fn settled(&mut self) -> Vec<(Settlement, u64)> {
        let settled = |input| match input {
            ShardInput::Settle { ranges, settlement, .. } => {
                Some((settlement, ranges.iter().map(|range| range.len).sum()))
            }
            _ => None,
        };
        self.told().into_iter().filter_map(settled).collect()
    }

    /// Lets a connection's session hear of `event` as if the shard of the queue had told it.
    pub(super) fn hear_from(&mut self, client: usize, queue: &str, event: Event) {
        let shard = self.record(queue).shard;
        self.clients[client].events.push_back((shard, vec![event]));
        self.run();
    }

    /// As [`Self::hear_from`], before whatever the connection has not taken in yet.
    pub(super) fn interrupt(&mut self, client: usize, queue: &str, event: Event) {
        let shard = self.record(queue).shard;
        let Client { session, output, .. } = &mut self.clients[client];
        session.shard_event(shard, event, output);
        session.finish_batch(output);
    }

    /// A queue of the virtual host.
    pub(super) fn record(&self, queue: &str) -> Arc<QueueRecord> {
        let node = Identity::Node(Arc::from("guest"));
        let record = self.topology.accessible_queue(&node, "/", queue, self.clients[ME].id, Verb::Get);
        record.expect("the test has declared it")
    }

    /// A delivery from a queue, of a message that the queue does not have.
    pub(super) fn delivery(&self, queue: &str) -> Delivery {
        let mut command = vec![];
        let header = b"\0\x3c\0\0\0\0\0\0\0\0\0\0\0\0";
        let queue = self.record(queue).id;
        let head = (1, [queue].into_iter());
        encode_publish_head(head, 0, 0, header.len() as u32, 0, &Attributes::default(), &mut command);
        command.extend_from_slice(header);
        let message = crate::Message::from_publish(Bytes::from(command)).expect("it is a publish");
        Delivery { queue, position: 1 << 40, redelivered: false, delivery_count: 0, offset: None, message }
    }

    /// The key of a connection's consumer on channel 1.
    pub(super) fn key(&self, client: usize, serial: u32) -> ConsumerKey {
        ConsumerKey { connection: self.clients[client].id, channel: 1, serial }
    }

    /// The socket is lost.
    pub(super) fn disconnect(&mut self, client: usize) {
        let Client { session, output, .. } = &mut self.clients[client];
        session.disconnect(output);
        self.hand_over(client);
        self.ask(client);
        let id = self.clients[client].id;
        self.reply_addresses.retain(|address| address.connection != id);
        self.run();
    }

    /// Does what an administrator asks for the virtual host `/`.
    pub(super) fn administer(&mut self, administration: Administration) {
        self.administer_in("/", administration);
    }

    /// Does what an administrator asks for a virtual host.
    pub(super) fn administer_in(&mut self, vhost: &str, administration: Administration) {
        let identity = Identity::Node(Arc::from("guest"));
        let action = Action::Administer(administration);
        let request = Request { connection: ConnectionId(0), identity, vhost: Arc::from(vhost), action };
        let prepared = self.topology.prepare(&request).expect("a good request");
        self.apply(&prepared.changes);
    }

    /// Holds a connection's events back, or lets them in.
    pub(super) fn takes_events(&mut self, client: usize, takes: bool) {
        self.clients[client].takes_events = takes;
        self.run();
    }

    /// Lets requests to the metadata wait, or answers them.
    pub(super) fn metadata_answers(&mut self, answers: bool) {
        self.metadata_answers = answers;
        self.run();
    }

    /// Makes durable what is in flight.
    pub(super) fn commit(&mut self) {
        self.commits = true;
        self.run();
    }

    /// Lets everything happen that can.
    fn run(&mut self) {
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

    fn ask(&mut self, client: usize) -> bool {
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

    fn read(&mut self, client: usize) {
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

    fn hand_over(&mut self, client: usize) -> bool {
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

    /// Has a queue's shard say to a client that it refuses publishes.
    pub(super) fn refuse(&mut self, client: usize, channel: u16, first: u64, len: u64) {
        let events = vec![Event::Refused { channel, first, len }];
        self.clients[client].events.push_back((ShardId(1), events));
        self.run();
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

    fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            self.topology.apply(change);
            if let Change::CreateQueue(queue) = change {
                let settings = self.topology.settings(queue);
                self.tell(queue.shard, ShardInput::Create { queue: queue.id, settings });
            }
        }
    }
}

impl Said {
    pub(super) fn method(&self) -> ToClient<'_> {
        assert_eq!(self.kind, Kind::Method, "{self:?}");
        ToClient::decode(&self.payload).expect("we send methods")
    }

    /// The payload, if it is a content header.
    pub(super) fn content_header(&self) -> Option<&[u8]> {
        (self.kind == Kind::Header).then_some(&*self.payload)
    }

    pub(super) fn properties(&self) -> BasicProperties<'_> {
        assert_eq!(self.kind, Kind::Header, "{self:?}");
        let header = warren_amqp::Header::decode(&self.payload).expect("we send headers");
        BasicProperties::decode(header.properties).expect("and good ones")
    }

    pub(super) fn is_heartbeat(&self) -> bool {
        self.kind == Kind::Heartbeat
    }

    /// Asserts that it closes its channel, with this code and text, over the method `id`.
    #[track_caller]
    pub(super) fn closes_channel(&self, code: u16, text: &str, (class_id, method_id): (u16, u16)) {
        let expected = channel::Close { reply_code: code, reply_text: text, class_id, method_id };
        assert_eq!(self.method(), ToClient::ChannelClose(expected));
    }

    /// Asserts that it closes the connection, with this code and text, over the method `id`.
    #[track_caller]
    pub(super) fn closes_connection(&self, code: u16, text: &str, (class_id, method_id): (u16, u16)) {
        let expected = connection::Close { reply_code: code, reply_text: text, class_id, method_id };
        assert_eq!((self.channel, self.method()), (0, ToClient::ConnectionClose(expected)));
    }
}

/// Puts messages together from their frames; other methods between them are left out.
pub(super) fn messages(heard: &[Said]) -> Vec<Message> {
    let mut messages: Vec<Message> = vec![];
    for said in heard {
        match said.kind {
            Kind::Method => match said.method() {
                ToClient::BasicDeliver(basic::Deliver { delivery_tag: tag, redelivered, .. })
                | ToClient::BasicGetOk(basic::GetOk { delivery_tag: tag, redelivered, .. }) => {
                    messages.push(Message { tag, redelivered, body: String::new() });
                }
                ToClient::BasicReturn(_) => messages.push(Message { tag: 0, redelivered: false, body: String::new() }),
                _ => {}
            },
            Kind::Body => {
                let message = messages.last_mut().expect("a body follows its method");
                message.body.push_str(core::str::from_utf8(&said.payload).expect("bodies of tests are text"));
            }
            Kind::Header | Kind::Heartbeat => {}
        }
    }
    messages
}

pub(super) fn bodies(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.body.as_str()).collect()
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

pub(super) fn client_properties(capabilities: &[&str]) -> Vec<u8> {
    TableBuilder::build(|table| {
        table.table("capabilities", |table| {
            for name in capabilities {
                table.put(name, true);
            }
        });
    })
}

pub(super) fn start_ok<'a>(
    client_properties: Table<'a>,
    mechanism: &'a str,
    response: &'a [u8],
) -> connection::StartOk<'a> {
    connection::StartOk { client_properties, mechanism, response, locale: "en_US" }
}

pub(super) fn declare(queue: &str) -> queue::Declare<'_> {
    queue::Declare {
        queue,
        passive: false,
        durable: false,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: NO_ARGUMENTS,
    }
}

pub(super) fn consume<'a>(queue: &'a str, consumer_tag: &'a str) -> basic::Consume<'a> {
    basic::Consume {
        queue,
        consumer_tag,
        no_local: false,
        no_ack: false,
        exclusive: false,
        no_wait: false,
        arguments: NO_ARGUMENTS,
    }
}

pub(super) fn to_queue(queue: &str) -> basic::Publish<'_> {
    basic::Publish { exchange: "", routing_key: queue, mandatory: false, immediate: false }
}

pub(super) fn persistent() -> BasicProperties<'static> {
    BasicProperties { delivery_mode: Some(2), ..BasicProperties::default() }
}

/// A publish's method and header, and no body.
pub(super) fn publish_head(queue: &str, body_size: u64) -> Vec<u8> {
    let mut octets = vec![];
    ToServer::BasicPublish(to_queue(queue)).encode(1, &mut octets);
    encode_header(1, body_size, &persistent(), &mut octets);
    octets
}

pub(super) fn body_frame(number: u16, payload: &[u8]) -> Bytes {
    let mut octets = vec![];
    Frame::Body { channel: number, payload }.encode(&mut octets);
    Bytes::from(octets)
}
