//! How many allocations a message costs in the session, from its octets in to its octets out.

use std::num::NonZeroU16;

use allocation_counter::measure;
use warren_amqp::content::encode_header;
use warren_amqp::frame::PROTOCOL_HEADER;
use warren_amqp::{BasicProperties, Frame, Table, ToServer, basic, channel, confirm, connection, decode_frame, queue};
use warren_core::limits::{CHANNEL_MAX, FRAME_MAX, TopologyLimits};
use warren_core::queue::{QueueSettings, Shard, ShardInput, ShardOutput};
use warren_core::session::{MetadataRequest, Session, SessionOutput, World};
use warren_core::topology::{Change, Identity, Topology};
use warren_core::{Bodies, ConnectionId, Instant, Location, Message};

/// Messages of one read of the socket.
const BATCH: u64 = 500;

/// The queue is transient, so nothing is read back.
struct NothingLogged;

impl Bodies for NothingLogged {
    fn read(&mut self, at: Location) -> Message {
        panic!("nothing was logged, and {at:?} was asked for");
    }
}

/// A session, and the shard that holds its queue.
struct Broker {
    topology: Topology,
    shard: Shard,
    session: Session,
    output: SessionOutput,
    /// Allocations in the session so far.
    allocations: u64,
}

impl Broker {
    /// Logged in, with the transient queue `q`, a consumer of it, and confirms.
    fn new() -> Self {
        let shards = NonZeroU16::new(1).expect("1 is not 0");
        let mut broker = Self {
            topology: Topology::new(shards, TopologyLimits::default()),
            shard: Shard::new(),
            session: Session::new(ConnectionId(1), Instant(0)),
            output: SessionOutput::default(),
            allocations: 0,
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
    fn receive(&mut self, octets: &[u8]) {
        let Self { topology, session, output, allocations, .. } = self;
        let mut world =
            World { now: Instant(0), topology, random: &mut || 1, takes_replies: &|_| false, census: &mut () };
        let counted = measure(|| assert_eq!(session.receive(&mut world, octets, output), octets.len()));
        *allocations += counted.count_total;
        if self.output.login.take().is_some() {
            self.session.login_checked(Some(Identity::Node("guest".into())), &mut self.output);
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
            self.allocations += measure(|| batch = self.output.next_shard_inputs()).count_total;
            let Some((shard, inputs)) = batch.take() else { break };
            moved = true;
            inputs.into_iter().for_each(|input| self.shard.handle(input, &mut NothingLogged, &mut shard_output));
            for (_, events) in shard_output.take_events() {
                let counted = measure(|| {
                    events.into_iter().for_each(|event| self.session.shard_event(shard, event, &mut self.output));
                    self.session.finish_batch(&mut self.output);
                });
                self.allocations += counted.count_total;
            }
        }
        self.allocations += measure(|| self.session.flushed(&mut self.output)).count_total;
        moved
    }

    /// Deliveries and the last confirm since it was last asked.
    fn sent(&mut self) -> (u64, u64) {
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
fn batch(acked: u64) -> Vec<u8> {
    let mut octets = Vec::new();
    if acked > 0 {
        basic::Ack { delivery_tag: acked, multiple: true }.encode(1, &mut octets);
    }
    let publish = basic::Publish { exchange: "", routing_key: "q", mandatory: true, immediate: false };
    let properties = BasicProperties { delivery_mode: Some(1), ..BasicProperties::default() };
    for _ in 0..BATCH {
        publish.encode(1, &mut octets);
        encode_header(1, 16, &properties, &mut octets);
        Frame::Body { channel: 1, payload: &[7; 16] }.encode(&mut octets);
    }
    octets
}

#[test]
fn a_message_costs_at_most_a_tenth_of_an_allocation_from_publish_to_ack() {
    const ROUNDS: u64 = 20;
    let mut broker = Broker::new();
    let mut before = 0;
    for round in 1..=2 * ROUNDS {
        broker.receive(&batch((round - 1) * BATCH));
        assert_eq!(broker.sent(), (BATCH, round * BATCH), "all are delivered and confirmed");
        if round == ROUNDS {
            before = broker.allocations;
        }
    }
    let each = (broker.allocations - before) as f64 / (ROUNDS * BATCH) as f64;
    println!("{each:.4} allocations per message in the session");
    assert!(each <= 0.1, "{each} allocations per message");
}

#[test]
fn acknowledging_one_by_one_costs_no_more() {
    const ROUNDS: u64 = 20;
    let mut broker = Broker::new();
    let mut before = 0;
    for round in 0..2 * ROUNDS {
        broker.receive(&batch(0));
        let mut acks = Vec::new();
        for delivery_tag in round * BATCH + 1..=(round + 1) * BATCH {
            basic::Ack { delivery_tag, multiple: false }.encode(1, &mut acks);
        }
        broker.receive(&acks);
        assert_eq!(broker.sent().0, BATCH);
        if round == ROUNDS {
            before = broker.allocations;
        }
    }
    let each = (broker.allocations - before) as f64 / ((ROUNDS - 1) * BATCH) as f64;
    assert!(each <= 0.1, "{each} allocations per message");
}
