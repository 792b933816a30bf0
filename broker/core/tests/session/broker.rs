//! A session and the shard that holds its queue, without sockets, with a meter around all that the session does.

use std::num::NonZeroU16;

use warren_amqp::content::encode_header;
use warren_amqp::frame::PROTOCOL_HEADER;
use warren_amqp::{BasicProperties, Frame, Table, ToServer, basic, channel, confirm, connection, decode_frame, queue};
use warren_core::limits::{CHANNEL_MAX, FRAME_MAX, TopologyLimits};
use warren_core::queue::{QueueSettings, Shard, ShardInput, ShardOutput};
use warren_core::session::{LoggedIn, MetadataRequest, Session, SessionOutput, World};
use warren_core::topology::{Change, Identity, Topology};
use warren_core::{Bodies, ConnectionId, Instant, Location, Message};

/// Messages of one read of the socket.
pub(crate) const BATCH: u64 = 500;

/// The queue is transient, so nothing is read back.
struct NothingLogged;

impl Bodies for NothingLogged {
    fn read(&mut self, at: Location) -> Message {
        panic!("nothing was logged, and {at:?} was asked for");
    }
}

/// Both, with a transient queue, a consumer of it, and confirms.
pub(crate) struct Broker {
    topology: Topology,
    shard: Shard,
    session: Session,
    output: SessionOutput,
    /// Says what doing something costs.
    meter: fn(&mut dyn FnMut()) -> u64,
    /// What the session has cost so far.
    pub(crate) cost: u64,
}

impl Broker {
    /// Logged in, with the transient queue `q`, a consumer of it, and confirms.
    pub(crate) fn new(meter: fn(&mut dyn FnMut()) -> u64) -> Self {
        let shards = NonZeroU16::new(1).expect("1 is not 0");
        let mut broker = Self {
            topology: Topology::new(shards, TopologyLimits::default()),
            shard: Shard::new(),
            session: Session::new(ConnectionId(1), Instant(0)),
            output: SessionOutput::default(),
            meter,
            cost: 0,
        };
        let no_arguments = Table::new(&[]);
        let response = b"\0guest\0guest";
        let start_ok =
            connection::StartOk { client_properties: no_arguments, mechanism: "PLAIN", response, locale: "en_US" };
        let tune_ok = connection::TuneOk { channel_max: CHANNEL_MAX, frame_max: FRAME_MAX, heartbeat: 0 };
        let declare = queue::Declare {
            queue: "q",
            passive: false,
            durable: false,
            exclusive: false,
            auto_delete: false,
            no_wait: false,
            arguments: no_arguments,
        };
        let consume = basic::Consume {
            queue: "q",
            consumer_tag: "consumer",
            no_local: false,
            no_ack: false,
            exclusive: false,
            no_wait: false,
            arguments: no_arguments,
        };
        broker.receive(&PROTOCOL_HEADER);
        let methods = [
            (0, ToServer::ConnectionStartOk(start_ok)),
            (0, ToServer::ConnectionTuneOk(tune_ok)),
            (0, ToServer::ConnectionOpen(connection::Open { virtual_host: "/" })),
            (1, ToServer::ChannelOpen(channel::Open)),
            (1, ToServer::QueueDeclare(declare)),
            (1, ToServer::BasicConsume(consume)),
            (1, ToServer::ConfirmSelect(confirm::Select { no_wait: false })),
        ];
        for (number, method) in methods {
            let mut octets = Vec::new();
            method.encode(number, &mut octets);
            broker.receive(&octets);
        }
        broker
    }

    /// Reads octets and lets everything happen that follows from them.
    pub(crate) fn receive(&mut self, octets: &[u8]) {
        let Self { topology, session, output, .. } = self;
        let mut world =
            World { now: Instant(0), topology, random: &mut || 1, takes_replies: &|_| false, census: &mut () };
        self.cost += (self.meter)(&mut || assert_eq!(session.receive(&mut world, octets, output), octets.len()));
        if self.output.login.take().is_some() {
            let login = LoggedIn { identity: Identity::Node("guest".into()), expires: None };
            self.session.login_checked(Some(login), &self.topology, &mut self.output);
        }
        if let Some(MetadataRequest::Topology(request)) = self.output.request.take() {
            let prepared = self.topology.prepare(&request).expect("a good request");
            prepared.changes.iter().for_each(|change| self.apply(change));
            let answer = warren_core::session::MetadataAnswer::Outcome(prepared.outcome);
            self.session.metadata_answered(Ok(answer), &mut self.output);
        }
        while self.hand_over() {}
    }

    fn apply(&mut self, change: &Change) {
        self.topology.apply(change);
        if let Change::CreateQueue(queue) = change {
            let settings = QueueSettings::default();
            let create = ShardInput::Create { queue: queue.id, settings };
            self.shard.handle(create, &mut NothingLogged, &mut ShardOutput::default());
        }
    }

    /// Inputs to the shard, its events back, and the flush of what they became; true if there were any.
    fn hand_over(&mut self) -> bool {
        let mut shard_output = ShardOutput::default();
        let mut batch = None;
        let mut moved = false;
        loop {
            self.cost += (self.meter)(&mut || batch = self.output.next_shard_inputs());
            let Some((shard, inputs)) = batch.take() else { break };
            moved = true;
            inputs.into_iter().for_each(|input| self.shard.handle(input, &mut NothingLogged, &mut shard_output));
            for (_, events) in shard_output.take_events() {
                let mut events = Some(events);
                self.cost += (self.meter)(&mut || {
                    let events = events.take().into_iter().flatten();
                    events.for_each(|event| self.session.shard_event(shard, event, &mut self.output));
                    self.session.finish_batch(&mut self.output);
                });
            }
        }
        self.cost += (self.meter)(&mut || self.session.flushed(&mut self.output));
        moved
    }

    /// Deliveries and the last confirm since it was last asked.
    pub(crate) fn sent(&mut self) -> (u64, u64) {
        let (mut deliveries, mut confirmed) = (0, 0);
        let mut rest = &self.output.octets[..];
        while let Some((frame, len)) = decode_frame(rest, FRAME_MAX).expect("good frames") {
            if let Frame::Method { payload, .. } = frame {
                match warren_amqp::ToClient::decode(payload).expect("a good method") {
                    warren_amqp::ToClient::BasicDeliver(_) => deliveries += 1,
                    warren_amqp::ToClient::BasicAck(ack) => confirmed = ack.delivery_tag,
                    _ => {}
                }
            }
            rest = &rest[len..];
        }
        self.output.octets.clear();
        (deliveries, confirmed)
    }
}

/// As many publishes as fit one read, and the acknowledgement of the deliveries before them.
pub(crate) fn batch(acked: u64, body: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    if acked > 0 {
        basic::Ack { delivery_tag: acked, multiple: true }.encode(1, &mut octets);
    }
    let publish = basic::Publish { exchange: "", routing_key: "q", mandatory: true, immediate: false };
    let properties = BasicProperties { delivery_mode: Some(1), ..BasicProperties::default() };
    for _ in 0..BATCH {
        publish.encode(1, &mut octets);
        encode_header(1, body.len() as u64, &properties, &mut octets);
        Frame::Body { channel: 1, payload: body }.encode(&mut octets);
    }
    octets
}
