//! What the threads of a load share: how far it is, and what they have done.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};

const MEASURE: u8 = 1;
const OVER: u8 = 2;
const DRAINED: u8 = 3;

/// How far a load is (warm-up, measure, over, drained), and how much of it is on its way.
#[derive(Debug, Default)]
pub(super) struct Stage {
    step: AtomicU8,
    on_the_way: OnTheWay,
}

/// Deliveries that were caused and have not come.
#[derive(Debug, Default)]
struct OnTheWay {
    /// How many there may be; 0: any number, which is then not counted.
    max: u64,
    /// Deliveries per message.
    factor: u64,
    caused: AtomicU64,
    came: AtomicU64,
}

/// Messages that one thread has done. A cache line of its own, so that counting disturbs nobody.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Counter(AtomicU64);

impl Stage {
    /// At most `max` deliveries may be on their way, `factor` of them per message; 0: any number.
    pub(super) fn new(max: u64, factor: u64) -> Self {
        Self { on_the_way: OnTheWay { max, factor, ..OnTheWay::default() }, ..Self::default() }
    }

    /// Whether producers have to wait for consumers.
    pub(super) fn is_full(&self) -> bool {
        let OnTheWay { max, caused, came, .. } = &self.on_the_way;
        *max > 0 && caused.load(Ordering::Relaxed).saturating_sub(came.load(Ordering::Relaxed)) >= *max
    }

    pub(super) fn published(&self, messages: u64) {
        if self.on_the_way.max > 0 {
            self.on_the_way.caused.fetch_add(messages * self.on_the_way.factor, Ordering::Relaxed);
        }
    }

    pub(super) fn consumed(&self, messages: u64) {
        if self.on_the_way.max > 0 {
            self.on_the_way.came.fetch_add(messages, Ordering::Relaxed);
        }
    }

    pub(super) fn measure(&self) {
        self.step.store(MEASURE, Ordering::Relaxed);
    }

    /// Producers stop.
    pub(super) fn end(&self) {
        self.step.store(OVER, Ordering::Relaxed);
    }

    /// Consumers stop.
    pub(super) fn drained(&self) {
        self.step.store(DRAINED, Ordering::Relaxed);
    }

    pub(super) fn is_measuring(&self) -> bool {
        self.step.load(Ordering::Relaxed) == MEASURE
    }

    pub(super) fn is_over(&self) -> bool {
        self.step.load(Ordering::Relaxed) >= OVER
    }

    pub(super) fn is_drained(&self) -> bool {
        self.step.load(Ordering::Relaxed) >= DRAINED
    }
}

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The sum of some counters.
    pub(super) fn sum(counters: &[Self]) -> u64 {
        counters.iter().map(|counter| counter.0.load(Ordering::Relaxed)).sum()
    }
}

/// Nanoseconds of the machine's monotonic clock, the same in all processes.
pub(super) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
