//! One client, in every state of its connection, on any octets. Nothing may panic, and whatever is said back has to be
//! frames that a client can read.
//!
//! The first octet says how far the client has come; `WARREN_FUZZ_STATE` fixes that. The rest is pieces: a frame of some
//! kind around octets as they are, or octets without a frame.
//!
//! From `broker/core`: `RUSTC_BOOTSTRAP=1 cargo fuzz run session -- -max_total_time=60`.

#![no_main]

use std::num::NonZeroU16;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use warren_amqp::frame::PROTOCOL_HEADER;
use warren_amqp::{
    Frame, Table, TableBuilder, ToClient, ToServer, Value, basic, channel, confirm, connection, decode_frame, exchange,
    queue, tx,
};
use warren_core::limits::TopologyLimits;
use warren_core::queue::{DeleteRefusal, Shard, ShardInput, ShardOutput};
use warren_core::session::{LoggedIn, MetadataAnswer, MetadataRequest, Session, SessionOutput, World};
use warren_core::topology::{Change, Identity, Outcome, Request, Topology};
use warren_core::{Bodies, ConnectionId, Exception, Instant, Location, Message, ShardId};

/// Where octets of a logged message would be; nothing is ever committed to a log here before it is applied.
struct NothingLogged;

impl Bodies for NothingLogged {
    fn read(&mut self, _: Location) -> Message {
        unreachable!("what is applied at once is still in memory")
    }
}

/// How far the client has come.
const STATES: [fn(&mut Broker); 11] = [
    |_| {},
    |broker| broker.octets(&PROTOCOL_HEADER),
    |broker| broker.start(),
    |broker| broker.tune(),
    |broker| broker.open(),
    |broker| broker.channel(),
    |broker| broker.content_header_due(),
    |broker| broker.content_body_due(),
    |broker| broker.transaction(),
    |broker| broker.channel_closing(),
    |broker| broker.closing(),
];

static STATE: LazyLock<Option<usize>> = LazyLock::new(|| std::env::var("WARREN_FUZZ_STATE").ok()?.parse().ok());

fuzz_target!(|octets: &[u8]| {
    let Some((state, mut rest)) = octets.split_first() else { return };
    let mut broker = Broker::new();
    STATES[STATE.unwrap_or(usize::from(*state)) % STATES.len()](&mut broker);
    while let Some((piece, behind)) = piece(rest) {
        rest = behind;
        broker.octets(&piece);
        if broker.session.is_closed() {
            return;
        }
    }
    broker.session.disconnect(&mut broker.output);
    broker.carry_out();
});

/// A frame or raw octets off the front: kind, channel and length, then the payload.
fn piece(octets: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let ([kind, channel, len], rest) = octets.split_first_chunk()?;
    let (payload, rest) = rest.split_at(rest.len().min(usize::from(*len)));
    let channel = u16::from(channel % 3);
    let frame = match kind % 6 {
        0 => Frame::Header { channel, payload },
        1 => Frame::Body { channel, payload },
        2 => Frame::Heartbeat { channel },
        3 | 4 => Frame::Method { channel, payload },
        _ => return Some((payload.to_vec(), rest)),
    };
    let mut piece = Vec::new();
    frame.encode(&mut piece);
    Some((piece, rest))
}

/// A session with a topology and one shard, without a log and without time.
struct Broker {
    topology: Topology,
    shard: Shard,
    session: Session,
    output: SessionOutput,
    unread: Vec<u8>,
}

impl Broker {
    fn new() -> Self {
        let limits = TopologyLimits { queues: 20, exchanges: 20, bindings: 40, reach: 20, ..TopologyLimits::default() };
        Self {
            topology: Topology::new(NonZeroU16::MIN, limits),
            shard: Shard::new(),
            session: Session::new(ConnectionId(1), Instant(0)),
            output: SessionOutput::default(),
            unread: Vec::new(),
        }
    }

    /// Reads octets behind those that are left, and lets everything happen that follows from them.
    fn octets(&mut self, octets: &[u8]) {
        self.unread.extend_from_slice(octets);
        loop {
            let mut world = World {
                now: Instant(0),
                topology: &self.topology,
                random: &mut || 7,
                takes_replies: &|_| true,
                census: &mut (),
            };
            let taken = self.session.receive(&mut world, &self.unread, &mut self.output);
            self.unread.drain(..taken);
            if !self.carry_out() && taken == 0 {
                return;
            }
        }
    }

    /// Carries out what the session wants; true if that was anything.
    fn carry_out(&mut self) -> bool {
        let mut moved = false;
        if self.output.login.take().is_some() {
            let login = LoggedIn { identity: Identity::Node("guest".into()), expires: None };
            self.session.login_checked(Some(login), &self.topology, &mut self.output);
            moved = true;
        }
        if let Some(request) = self.output.request.take() {
            let answer = self.metadata(request);
            self.session.metadata_answered(answer, &mut self.output);
            moved = true;
        }
        while let Some((shard, inputs)) = self.output.next_shard_inputs() {
            inputs.into_iter().for_each(|input| self.shard_input(shard, input));
            moved = true;
        }
        for reply in std::mem::take(&mut self.output.replies) {
            self.session.direct_reply(&reply, &mut self.output);
        }
        self.session.flushed(&mut self.output);
        self.listen();
        moved
    }

    fn shard_input(&mut self, shard: ShardId, mut input: ShardInput) {
        if let ShardInput::Publish(run) = &mut input {
            run.logged = false;
        }
        let mut out = ShardOutput::default();
        self.shard.handle(input, &mut NothingLogged, &mut out);
        for (connection, events) in out.take_events() {
            if connection == ConnectionId(1) {
                events.into_iter().for_each(|event| self.session.shard_event(shard, event, &mut self.output));
            }
        }
        self.session.finish_batch(&mut self.output);
    }

    fn metadata(&mut self, request: MetadataRequest) -> Result<MetadataAnswer, Exception> {
        match request {
            MetadataRequest::Topology(request) => self.topology_request(&request),
            MetadataRequest::DeleteQueue { connection, identity, vhost, name, if_unused, if_empty } => {
                let found = self.topology.prepare_delete_queue(&identity, &vhost, &name, connection)?;
                let Some(queue) = found else { return Ok(MetadataAnswer::Deleted(0)) };
                let mut out = ShardOutput::default();
                let delete =
                    ShardInput::Delete { queue: queue.id, if_unused, if_empty, still_unused: false, request: 1 };
                self.shard.handle(delete, &mut NothingLogged, &mut out);
                match out.deleted.pop() {
                    Some((_, Ok(count))) => {
                        self.apply(&self.topology.removal(queue.id));
                        Ok(MetadataAnswer::Deleted(count))
                    }
                    refused => {
                        let in_use = matches!(refused, Some((_, Err(DeleteRefusal::InUse))));
                        let text = if in_use { "in use" } else { "not empty" };
                        Err(Exception::channel(warren_amqp::ReplyCode::PreconditionFailed, text))
                    }
                }
            }
        }
    }

    fn topology_request(&mut self, request: &Request) -> Result<MetadataAnswer, Exception> {
        let prepared = self.topology.prepare(request)?;
        self.apply(&prepared.changes);
        if let Outcome::Released(queues) = &prepared.outcome {
            for queue in queues {
                let delete = ShardInput::Delete {
                    queue: queue.id,
                    if_unused: false,
                    if_empty: false,
                    still_unused: false,
                    request: 1,
                };
                self.shard.handle(delete, &mut NothingLogged, &mut ShardOutput::default());
            }
        }
        Ok(MetadataAnswer::Outcome(prepared.outcome))
    }

    fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            self.topology.apply(change);
            if let Change::CreateQueue(queue) = change {
                let settings = self.topology.settings(queue);
                let create = ShardInput::Create { queue: queue.id, settings };
                self.shard.handle(create, &mut NothingLogged, &mut ShardOutput::default());
            }
        }
    }

    /// Reads what was said to the client.
    fn listen(&mut self) {
        let mut rest = &self.output.octets[..];
        if rest.starts_with(&PROTOCOL_HEADER) {
            rest = &rest[PROTOCOL_HEADER.len()..];
        }
        while let Some((frame, len)) = decode_frame(rest, 1 << 20).expect("frames are well-formed") {
            if let Frame::Method { payload, .. } = frame {
                ToClient::decode(payload).expect("methods are well-formed");
            }
            rest = &rest[len..];
        }
        assert!(rest.is_empty(), "frames are whole");
        self.output.octets.clear();
    }

    fn method(&mut self, channel: u16, method: &ToServer<'_>) {
        let mut octets = Vec::new();
        method.encode(channel, &mut octets);
        self.octets(&octets);
    }

    fn start(&mut self) {
        self.octets(&PROTOCOL_HEADER);
        let properties = TableBuilder::build(|table| {
            table.table("capabilities", |table| {
                table.put("authentication_failure_close", true).put("consumer_cancel_notify", true);
            });
        });
        let client_properties = Table::new(&properties);
        let start_ok =
            connection::StartOk { client_properties, mechanism: "PLAIN", response: b"\0guest\0guest", locale: "en_US" };
        self.method(0, &ToServer::ConnectionStartOk(start_ok));
    }

    fn tune(&mut self) {
        self.start();
        let tune_ok = connection::TuneOk { channel_max: 4, frame_max: 8_192, heartbeat: 0 };
        self.method(0, &ToServer::ConnectionTuneOk(tune_ok));
    }

    fn open(&mut self) {
        self.tune();
        self.method(0, &ToServer::ConnectionOpen(connection::Open { virtual_host: "/" }));
    }

    /// A channel with a queue that dead-letters, a topic exchange, a consumer and a message that it holds.
    fn channel(&mut self) {
        self.open();
        self.method(1, &ToServer::ChannelOpen(channel::Open));
        let arguments = TableBuilder::build(|table| {
            table.put("x-dead-letter-exchange", Value::LongString(b"")).put("x-max-length", 3);
        });
        let declare = queue::Declare {
            queue: "q",
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            no_wait: false,
            arguments: Table::new(&arguments),
        };
        self.method(1, &ToServer::QueueDeclare(declare));
        let no_arguments = Table::new(&[]);
        let bind = queue::Bind {
            queue: "q",
            exchange: "amq.topic",
            routing_key: "#",
            no_wait: false,
            arguments: no_arguments,
        };
        self.method(1, &ToServer::QueueBind(bind));
        let declare = exchange::Declare {
            exchange: "e",
            kind: "headers",
            passive: false,
            durable: true,
            auto_delete: false,
            internal: false,
            no_wait: false,
            arguments: no_arguments,
        };
        self.method(1, &ToServer::ExchangeDeclare(declare));
        let consume = basic::Consume {
            queue: "q",
            consumer_tag: "c",
            no_local: false,
            no_ack: false,
            exclusive: false,
            no_wait: false,
            arguments: no_arguments,
        };
        self.method(1, &ToServer::BasicConsume(consume));
        self.begin_publish();
        self.octets(&EMPTY_CONTENT);
    }

    fn begin_publish(&mut self) {
        let publish = basic::Publish { exchange: "amq.topic", routing_key: "q", mandatory: true, immediate: false };
        self.method(1, &ToServer::BasicPublish(publish));
    }

    fn content_header_due(&mut self) {
        self.channel();
        self.begin_publish();
    }

    fn content_body_due(&mut self) {
        self.content_header_due();
        // Ten octets are to come.
        let mut header = EMPTY_CONTENT;
        header[18] = 10;
        self.octets(&header);
    }

    fn transaction(&mut self) {
        self.channel();
        self.method(1, &ToServer::TxSelect(tx::Select));
        self.method(2, &ToServer::ChannelOpen(channel::Open));
        self.method(2, &ToServer::ConfirmSelect(confirm::Select { no_wait: false }));
    }

    fn channel_closing(&mut self) {
        self.channel();
        self.method(1, &ToServer::BasicAck(basic::Ack { delivery_tag: 99, multiple: false }));
    }

    fn closing(&mut self) {
        self.channel();
        self.octets(&[9; 16]);
    }
}

/// The header frame on channel 1 of a message without properties and body.
const EMPTY_CONTENT: [u8; 22] = [2, 0, 1, 0, 0, 0, 14, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xce];
