//! Random lives of a forwarder: queues that let messages out, shards that answer late or refuse, a topology that changes.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use proptest::prelude::*;
use warren_amqp::BasicProperties;

use super::tests::{Node, Sent, message};
use super::*;
use crate::queue::ForwardReason;
use crate::topology::ExchangeKind;

/// Messages that a queue lets out at once.
const WINDOW: usize = 8;
const SOURCES: usize = 3;
const TARGETS: usize = 5;
const STEPS: usize = 400;

/// Where a message is that has left its queue.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// The forwarder has it.
    Out,
    /// The queue sends it again.
    Back,
}

struct Life {
    node: Node,
    state: u64,
    /// The first two must arrive somewhere; the third drops what it cannot deliver.
    sources: Vec<QueueId>,
    targets: Vec<QueueId>,
    /// By source and position.
    messages: BTreeMap<(QueueId, u64), Place>,
    last_position: u64,
    /// What shards have not answered, for which message.
    unanswered: VecDeque<Sent>,
    /// Who has which message.
    arrived: BTreeSet<(Vec<u8>, QueueId)>,
    settled: usize,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut node = Node::new();
        node.exchange("dlx", ExchangeKind::Fanout);
        let sure = [
            ("x-dead-letter-exchange", "dlx"),
            ("x-dead-letter-strategy", "at-least-once"),
            ("x-queue-type", "quorum"),
            ("x-overflow", "reject-publish"),
        ];
        let sources = (0..SOURCES).map(|index| {
            let arguments = if index < 2 { &sure[..] } else { &sure[..1] };
            node.queue(&alloc::format!("source{index}"), arguments)
        });
        let sources = sources.collect();
        let targets = (0..TARGETS).map(|index| node.queue(&alloc::format!("target{index}"), &[])).collect();
        Self {
            node,
            state: seed | 1,
            sources,
            targets,
            messages: BTreeMap::new(),
            last_position: 0,
            unanswered: VecDeque::new(),
            arrived: BTreeSet::new(),
            settled: 0,
        }
    }

    /// A random number below `bound` (xorshift64).
    fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) as usize % bound
    }

    fn step(&mut self) {
        match self.below(9) {
            0..=2 => self.let_out(),
            3 => self.send_again(),
            4..=6 => self.answer(true),
            7 => self.answer(false),
            _ => self.change_topology(),
        }
        self.take_in();
    }

    /// A message leaves a queue that has not too many out.
    fn let_out(&mut self) {
        let index = self.below(SOURCES);
        let source = self.sources[index];
        if self.messages.keys().filter(|(queue, _)| *queue == source).count() < WINDOW {
            self.last_position += 1;
            self.leaves(source, self.last_position);
        }
    }

    fn leaves(&mut self, source: QueueId, position: u64) {
        let body = position.to_le_bytes();
        let letter = message("", "key", &BasicProperties::default(), &body);
        self.messages.insert((source, position), Place::Out);
        self.node.leaves(source, position, ForwardReason::Expired, &letter);
    }

    /// A queue sends what came back to it.
    fn send_again(&mut self) {
        let back = self.messages.iter().find(|(_, place)| **place == Place::Back).map(|(key, _)| *key);
        if let Some((source, position)) = back {
            self.leaves(source, position);
        }
    }

    /// A shard answers one publish, not always the first.
    fn answer(&mut self, confirmed: bool) {
        let count = self.unanswered.len();
        if count == 0 {
            return;
        }
        let index = self.below(count);
        if let Some(sent) = self.unanswered.remove(index) {
            if confirmed {
                self.arrived.extend(sent.queues.iter().map(|queue| (sent.message.body().to_vec(), *queue)));
            }
            self.node.answer(&sent, confirmed);
        }
    }

    fn change_topology(&mut self) {
        let index = self.below(TARGETS);
        let target = self.targets[index];
        match self.below(8) {
            0..=3 => self.node.bind("dlx", target, ""),
            4..=6 => self.node.unbind("dlx", target, ""),
            _ => {
                self.node.delete_queue(target);
                self.targets[index] = self.node.queue(&alloc::format!("again{}", target.0), &[]);
            }
        }
    }

    /// Takes what the forwarder wants done, and checks that it may be.
    fn take_in(&mut self) {
        let wanted = self.node.wanted();
        self.unanswered.extend(wanted.sent);
        for (source, position, settlement) in wanted.settled {
            let body = position.to_le_bytes().to_vec();
            assert!(self.unanswered.iter().all(|sent| sent.message.body() != body), "{position} is still on its way");
            let place = self.messages.get_mut(&(source, position)).expect("only what is out is settled");
            assert_eq!(*place, Place::Out);
            if settlement == Settlement::Return {
                assert_ne!(source, self.sources[2], "what need not arrive does not come back");
                *place = Place::Back;
                continue;
            }
            assert_eq!(settlement, Settlement::Done);
            self.messages.remove(&(source, position));
            self.settled += 1;
            let has_arrived = self.arrived.iter().any(|(found, _)| *found == body);
            assert!(has_arrived || source == self.sources[2], "{position} is lost");
        }
        let out = self.messages.values().filter(|place| **place == Place::Out).count();
        assert_eq!(self.node.forwarder.under_way(), out, "the forwarder has what is out and nothing else");
    }

    /// Everything can be delivered now: nothing may stay anywhere.
    fn calm(&mut self) {
        let target = self.targets[0];
        self.node.bind("dlx", target, "");
        for _ in 0..10_000 {
            if self.messages.is_empty() {
                break;
            }
            self.answer(true);
            self.send_again();
            self.take_in();
        }
        assert!(self.messages.is_empty() && self.unanswered.is_empty(), "{} stay", self.messages.len());
        assert!(self.settled > 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_message_is_lost_and_none_is_settled_before_its_queues_have_it(seed in any::<u64>()) {
        let mut life = Life::new(seed);
        for _ in 0..STEPS {
            life.step();
        }
        life.calm();
    }
}
