//! How often the shard machine allocates for a message that passes through it.

use bytes::Bytes;
use warren_core::command::{Attributes, encode_publish_head};
use warren_core::queue::{
    Event, PositionRange, PublishRun, QueueSettings, Receipt, Settlement, Shard, ShardInput, ShardOutput, Subscription,
};
use warren_core::{Bodies, ConnectionId, ConsumerKey, Location, Message, QueueId};

const QUEUE: QueueId = QueueId(1);
const CONSUMER: ConsumerKey = ConsumerKey { connection: ConnectionId(2), channel: 1, serial: 1 };
const BATCH: u64 = 200;
const BATCHES: u64 = 100;

/// A consumer that keeps up never makes the machine ask for a body.
struct Nothing;

impl Bodies for Nothing {
    fn read(&mut self, at: Location) -> Message {
        panic!("{at:?} was read")
    }
}

/// Publishes that share one buffer, as a session hands them over.
fn run(logged: bool) -> PublishRun {
    let mut commands = Vec::new();
    for _ in 0..BATCH {
        encode_publish_head((1, [QUEUE].into_iter()), 0, 3, 15, 16, &Attributes::default(), &mut commands);
        commands.extend_from_slice(b"keyfifteen octets.sixteen octets..");
    }
    let receipt = Receipt { connection: ConnectionId(1), channel: 1, first: 1, len: BATCH, index: 0 };
    PublishRun { logged, commands: Bytes::from(commands), count: BATCH as u32, receipts: vec![receipt] }
}

struct World {
    shard: Shard,
    output: ShardOutput,
    offset: u32,
}

impl World {
    fn with_consumer(logged: bool) -> Self {
        let mut world = Self { shard: Shard::new(), output: ShardOutput::default(), offset: 0 };
        world.put(ShardInput::Create { queue: QUEUE, settings: QueueSettings { logged, ..QueueSettings::default() } });
        world.commit();
        let subscription = Subscription { prefetch_count: 1_000, ..Subscription::default() };
        world.put(ShardInput::Subscribe { queue: QUEUE, consumer: CONSUMER, subscription });
        world.commit();
        world
    }

    fn put(&mut self, input: ShardInput) {
        self.shard.handle(input, &mut Nothing, &mut self.output);
    }

    fn commit(&mut self) {
        while let Some(entry) = self.shard.take_entry(0) {
            let len = entry.iter().map(|slice| slice.len() as u32).sum();
            let at = Location { segment: 1, offset: self.offset, len };
            self.offset += len;
            self.shard.committed(at, &mut Nothing, &mut self.output);
        }
    }

    /// Lets a run pass, from the publisher to the consumer's acknowledgement; answers how many messages came.
    fn pass(&mut self, run: PublishRun) -> u64 {
        self.put(ShardInput::Publish(run));
        self.commit();
        let (mut positions, mut bytes) = (Vec::with_capacity(BATCH as usize), 0);
        for (_, events) in self.output.take_events() {
            for event in events {
                if let Event::Deliver(_, delivery) = event {
                    positions.push(delivery.position);
                    bytes += delivery.message.size() as u64;
                }
            }
        }
        let range = PositionRange { first: positions[0], len: positions.len() as u64 };
        let messages = positions.len() as u32;
        self.put(ShardInput::Grant { queue: QUEUE, consumer: CONSUMER, messages, bytes });
        self.put(ShardInput::Settle {
            queue: QUEUE,
            holder: CONSUMER.on_channel(),
            ranges: vec![range],
            settlement: Settlement::Done,
        });
        range.len
    }
}

#[test]
fn a_message_that_passes_through_costs_a_tenth_of_an_allocation_at_most() {
    for logged in [true, false] {
        let mut world = World::with_consumer(logged);
        assert_eq!(world.pass(run(logged)), BATCH);
        let runs: Vec<PublishRun> = (0..BATCHES).map(|_| run(logged)).collect();
        let mut passed = 0;
        let counted = allocation_counter::measure(|| {
            passed = runs.into_iter().map(|run| world.pass(run)).sum();
        });
        assert_eq!(passed, BATCH * BATCHES);
        assert!(counted.count_total * 10 <= passed, "logged {logged}: {counted:?} for {passed} messages");
        println!("logged {logged}: {} allocations for {passed} messages", counted.count_total);
    }
}
