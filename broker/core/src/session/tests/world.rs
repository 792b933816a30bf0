//! A broker without input and output: sessions, the metadata and shards, wired as the shell wires them.

mod methods;
mod said;
mod wiring;

use core::num::NonZeroU16;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::vec::Vec;
use std::{format, vec};

use bytes::Bytes;
use warren_amqp::content::{encode_body_frames, encode_header};
use warren_amqp::frame::PROTOCOL_HEADER;
use warren_amqp::{
    BasicProperties, Frame, ReplyCode, Table, ToClient, ToServer, basic, channel, confirm, connection, decode_frame,
    queue,
};

use crate::command::{Attributes, encode_publish_head};
use crate::fake_log::FakeLog;
use crate::identity::{ConnectionId, ConsumerKey, ShardId};
use crate::limits::{CHANNEL_MAX, FRAME_MAX, TopologyLimits};
use crate::queue::{Delivery, Event, PublishRun, Settlement, Shard, ShardInput};
use crate::session::{Counts, MetadataRequest, ReplyAddress, Session, SessionOutput};
use crate::time::Instant;
use crate::topology::{Action, Administration, Identity, QueueRecord, Request, Topology, Verb};

pub(super) use methods::*;
pub(super) use said::*;

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

    /// Has a queue's shard say to a client that it refuses publishes.
    pub(super) fn refuse(&mut self, client: usize, channel: u16, first: u64, len: u64) {
        let events = vec![Event::Refused { channel, first, len }];
        self.clients[client].events.push_back((ShardId(1), events));
        self.run();
    }
}
