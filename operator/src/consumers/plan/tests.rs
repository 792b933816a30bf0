//! The rules one by one, then a fleet in a small world of messages, pods that take time to start, and a broker that may fall silent.

use proptest::prelude::*;

use super::super::figures::Peer;
use super::*;

const T0: u64 = 1_000_000;

fn rule(goal: Goal) -> Rule {
    Rule { min_replicas: 0, max_replicas: 50, goal, cooldown_ms: 30_000 }
}

fn figures(at_ms: u64, ready: u64, unacked: u64) -> Figures {
    Figures { at_ms, ready, unacked, published: ready + unacked, ..Figures::default() }
}

fn wanted_for(rule: &Rule, figures: Figures, current: u32) -> Wanted {
    let mut fleet = Fleet::with_pod_rate(Some(10.0));
    fleet.observe(Some(figures), rule, T0);
    fleet.wanted(rule, current, T0)
}

fn is(replicas: u32, reason: Reason) -> Wanted {
    Wanted { replicas, reason }
}

#[test]
fn depth_counts_what_is_ready_and_what_is_in_hand() {
    let rule = rule(Goal::DepthPerReplica(100));
    assert_eq!(wanted_for(&rule, figures(T0, 0, 0), 0), is(0, Reason::Idle));
    assert_eq!(wanted_for(&rule, figures(T0, 1, 0), 0), is(1, Reason::Depth));
    assert_eq!(wanted_for(&rule, figures(T0, 900, 101), 0), is(11, Reason::Depth));
    assert_eq!(wanted_for(&rule, figures(T0, 10_000, 0), 0), is(50, Reason::MaxReplicas));
}

#[test]
fn a_backlog_is_drained_in_the_time_that_is_declared() {
    let rule = rule(Goal::DrainWithin(30_000));
    // 10,000 messages in 30 s at 10 a second and pod.
    assert_eq!(wanted_for(&rule, figures(T0, 10_000, 0), 0), is(34, Reason::Backlog));
    assert_eq!(wanted_for(&rule, figures(T0, 1, 0), 0), is(1, Reason::Backlog));
}

#[test]
fn the_time_that_has_passed_is_not_there_any_longer() {
    let rule = rule(Goal::DrainWithin(30_000));
    let mut fleet = Fleet::with_pod_rate(Some(10.0));
    fleet.observe(Some(figures(T0, 3_000, 0)), &rule, T0);
    assert_eq!(fleet.wanted(&rule, 0, T0), is(10, Reason::Backlog));
    let later = T0 + 20_000;
    fleet.observe(Some(Figures { published: 3_000, ..figures(later, 2_000, 10) }), &rule, later);
    assert_eq!(fleet.wanted(&rule, 10, later), is(20, Reason::Backlog));
}

#[test]
fn pods_that_were_never_seen_at_work_are_one_until_they_are() {
    let rule = rule(Goal::DrainWithin(30_000));
    let mut fleet = Fleet::default();
    fleet.observe(Some(figures(T0, 10_000, 0)), &rule, T0);
    assert_eq!(fleet.wanted(&rule, 0, T0), is(1, Reason::Measuring));
}

#[test]
fn work_in_hand_needs_its_pods() {
    let rule = rule(Goal::DepthPerReplica(1_000));
    let peer = |number| Peer { address: format!("10.0.0.{number}"), consumers: 1, prefetch: 1, unacked: 1 };
    let busy = Figures { peers: (0..5).map(peer).collect(), ..figures(T0, 0, 5) };
    assert_eq!(wanted_for(&rule, busy, 5), is(5, Reason::Unacked));
}

#[test]
fn what_consumers_have_fetched_ahead_is_not_done() {
    let rule = rule(Goal::DrainWithin(30_000));
    let peer = |number| Peer { address: format!("10.0.0.{number}"), consumers: 1, prefetch: 1_000, unacked: 300 };
    let busy = Figures { peers: (0..20).map(peer).collect(), ..figures(T0, 0, 6_000) };
    assert_eq!(wanted_for(&rule, busy, 20), is(20, Reason::Unacked), "6,000 in 30 s at 10 a second and pod");
}

#[test]
fn pods_whose_first_messages_are_not_done_are_not_held_to_be_of_no_use() {
    let rule = rule(Goal::DepthPerReplica(1));
    let mut fleet = Fleet::default();
    let mut held_ms = 0;
    let mut reason = Reason::Idle;
    for second in 0..40 {
        // Each message takes five seconds. From the 30th second on there are twice as many pods.
        let pods = if second < 30 { 10 } else { 20 };
        held_ms += pods * 1_000;
        let peer = |number| Peer { address: format!("{number}"), consumers: 1, prefetch: 1, unacked: 1 };
        let now = T0 + second * 1_000;
        let figures = Figures {
            peers: (0..pods).map(peer).collect(),
            acknowledged: second * 2,
            delivered: second * 2 + pods,
            unacked_message_ms: held_ms,
            published: 10_000,
            ..figures(now, 10_000 - second * 2 - pods, pods)
        };
        fleet.observe(Some(figures), &rule, now);
        reason = fleet.wanted(&rule, 20, now).reason;
    }
    assert_ne!(reason, Reason::DownstreamSaturated);
}

#[test]
fn bounds_hold_and_say_so() {
    let rule = Rule { min_replicas: 2, ..rule(Goal::DepthPerReplica(100)) };
    assert_eq!(wanted_for(&rule, figures(T0, 0, 0), 0), is(2, Reason::MinReplicas));
    assert_eq!(wanted_for(&rule, figures(T0, 1 << 60, 0), 0), is(50, Reason::MaxReplicas));
}

#[test]
fn one_active_consumer_needs_one_pod() {
    let rule = rule(Goal::DepthPerReplica(1));
    let queue = Figures { single_active_consumer: true, ..figures(T0, 500, 0) };
    assert_eq!(wanted_for(&rule, queue, 0), is(1, Reason::SingleActiveConsumer));
}

#[test]
fn without_figures_pods_stay_and_the_least_number_is_kept() {
    let rule = Rule { min_replicas: 1, ..rule(Goal::DepthPerReplica(100)) };
    let mut fleet = Fleet::default();
    assert_eq!(fleet.wanted(&rule, 7, T0), is(7, Reason::FiguresMissing));
    assert_eq!(fleet.wanted(&rule, 0, T0), is(1, Reason::FiguresMissing));
    fleet.observe(Some(figures(T0, 0, 0)), &rule, T0);
    assert_eq!(fleet.wanted(&rule, 7, T0 + FIGURES_AGE_MAX_MS + 1), is(7, Reason::FiguresMissing));
    fleet.observe(None, &rule, T0 + 1_000);
    assert_eq!(fleet.wanted(&rule, 7, T0 + 1_000), is(7, Reason::QueueMissing));
}

/// An idle queue is watched from `from_ms` for `for_ms`; answers what is wanted at the end.
fn idle(fleet: &mut Fleet, rule: &Rule, current: u32, from_ms: u64, for_ms: u64) -> Wanted {
    for elapsed in (0..=for_ms).step_by(1_000) {
        fleet.observe(Some(figures(from_ms + elapsed, 0, 0)), rule, from_ms + elapsed);
    }
    fleet.wanted(rule, current, from_ms + for_ms)
}

#[test]
fn pods_go_when_they_have_not_been_needed_for_a_while_and_the_last_after_the_cooldown() {
    let rule = rule(Goal::DepthPerReplica(100));
    let mut fleet = Fleet::default();
    fleet.observe(Some(figures(T0 - 1_000, 700, 0)), &rule, T0 - 1_000);
    assert_eq!(idle(&mut fleet, &rule, 7, T0, 10_000), is(7, Reason::Stabilizing));
    assert_eq!(idle(&mut fleet, &rule, 7, T0 + 10_000, 6_000), is(1, Reason::CoolingDown));
    assert_eq!(idle(&mut fleet, &rule, 1, T0 + 16_000, 13_000), is(1, Reason::CoolingDown));
    assert_eq!(idle(&mut fleet, &rule, 1, T0 + 29_000, 2_000), is(0, Reason::Idle));
}

#[test]
fn who_has_just_begun_to_look_takes_nothing_away() {
    let rule = rule(Goal::DepthPerReplica(100));
    let mut fleet = Fleet::default();
    assert_eq!(idle(&mut fleet, &rule, 7, T0, 14_000), is(7, Reason::Stabilizing));
}

#[test]
fn a_broker_that_starts_anew_is_looked_at_for_as_long_again() {
    let rule = rule(Goal::DepthPerReplica(100));
    let mut fleet = Fleet::default();
    idle(&mut fleet, &rule, 7, T0, 60_000);
    let anew = Figures { since_ms: T0 + 60_000, ..figures(T0 + 61_000, 0, 0) };
    fleet.observe(Some(anew), &rule, T0 + 61_000);
    assert_eq!(fleet.wanted(&rule, 7, T0 + 61_000), is(7, Reason::Stabilizing));
}

/// A queue, its pods, and what the rules make of them; 100 ms at a time.
struct World {
    now_ms: u64,
    rule: Rule,
    fleet: Fleet,
    replicas: u32,
    /// When each pod is ready.
    pods: Vec<u64>,
    start_ms: u64,
    /// Messages a second that one pod can do, and all together.
    rate: f64,
    downstream: f64,
    done: f64,
    published: f64,
    unacked_message_ms: u64,
    is_silent: bool,
    patches: Vec<u32>,
}

const STEP_MS: u64 = 100;

impl World {
    fn new(rule: Rule, rate: f64, pod_rate: Option<f64>) -> Self {
        Self {
            now_ms: T0,
            rule,
            fleet: Fleet::with_pod_rate(pod_rate),
            replicas: 0,
            pods: Vec::new(),
            start_ms: 2_000,
            rate,
            downstream: f64::INFINITY,
            done: 0.0,
            published: 0.0,
            unacked_message_ms: 0,
            is_silent: false,
            patches: Vec::new(),
        }
    }

    fn depth(&self) -> u64 {
        whole(self.published) - whole(self.done)
    }

    fn step(&mut self, arrivals: f64) {
        let seconds = STEP_MS as f64 / 1000.0;
        self.now_ms += STEP_MS;
        self.published += arrivals * seconds;
        let ready_pods = self.pods.iter().filter(|at| **at <= self.now_ms).count() as u64;
        let can = (ready_pods as f64 * self.rate).min(self.downstream) * seconds;
        let before = self.done;
        self.done = (self.done + can).min(self.published);
        let unacked = self.depth().min(ready_pods);
        // Pods that wait for something downstream have their messages all the time, others as long as they work.
        let is_held_up = self.downstream < ready_pods as f64 * self.rate && self.depth() > ready_pods;
        let held_ms = if is_held_up { ready_pods * STEP_MS } else { whole((self.done - before) / self.rate * 1000.0) };
        self.unacked_message_ms += held_ms;
        let peer = |number| Peer {
            address: format!("{number}"),
            consumers: 1,
            prefetch: 1,
            unacked: u64::from(number < unacked),
        };
        let figures = Figures {
            at_ms: self.now_ms,
            ready: self.depth() - unacked,
            unacked,
            published: whole(self.published),
            delivered: whole(self.done) + unacked,
            acknowledged: whole(self.done),
            unacked_message_ms: self.unacked_message_ms,
            peers: (0..ready_pods).map(peer).collect(),
            ..Figures::default()
        };
        if !self.is_silent {
            self.fleet.observe(Some(figures), &self.rule, self.now_ms);
        }
        let wanted = self.fleet.wanted(&self.rule, self.replicas, self.now_ms);
        if wanted.replicas != self.replicas {
            self.patches.push(wanted.replicas);
            if wanted.replicas > self.replicas {
                self.fleet.ordered(self.now_ms);
            }
            self.replicas = wanted.replicas;
        }
        let ready_at = self.now_ms + self.start_ms;
        self.pods.resize(self.replicas as usize, ready_at);
    }

    fn run(&mut self, arrivals: f64, seconds: u64) {
        for _ in 0..seconds * 1000 / STEP_MS {
            self.step(arrivals);
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of messages")]
fn whole(count: f64) -> u64 {
    count as u64
}

#[test]
fn a_burst_is_drained_in_time_by_one_patch_and_then_all_pods_go() {
    let mut world = World::new(rule(Goal::DrainWithin(60_000)), 10.0, Some(10.0));
    world.published = 10_000.0;
    world.run(0.0, 1);
    assert_eq!(world.patches, [17], "10,000 in 60 s at 10 a second");
    world.run(0.0, 59);
    assert_eq!(world.depth(), 0);
    world.run(0.0, 60);
    assert_eq!(world.replicas, 0, "{:?}", world.patches);
    assert!(world.patches.len() <= 5, "{:?}", world.patches);
}

#[test]
fn a_fleet_that_was_never_seen_at_work_finds_out_what_it_can_do() {
    let mut world = World::new(rule(Goal::DrainWithin(60_000)), 10.0, None);
    world.published = 10_000.0;
    world.run(0.0, 60);
    assert_eq!(world.depth(), 0, "{:?}", world.patches);
}

#[test]
fn a_steady_load_has_a_steady_number_of_pods() {
    let mut world = World::new(rule(Goal::DrainWithin(10_000)), 10.0, None);
    world.run(97.0, 120);
    let settled = world.patches.len();
    world.run(97.0, 600);
    assert_eq!(world.patches.len(), settled, "{:?}", world.patches);
    assert!((11..=16).contains(&world.replicas), "{}", world.replicas);
    assert!(world.depth() < 30);
}

#[test]
fn no_more_pods_are_bought_for_a_downstream_that_cannot_do_more() {
    let mut world = World::new(rule(Goal::DrainWithin(20_000)), 10.0, Some(10.0));
    world.downstream = 30.0;
    world.run(25.0, 60);
    world.run(100.0, 120);
    assert!(world.replicas < 50, "{:?}", world.patches);
    let wanted = world.fleet.wanted(&world.rule, world.replicas, world.now_ms);
    assert_eq!(wanted.reason, Reason::DownstreamSaturated);
}

#[test]
fn a_burst_is_acted_on_when_it_has_come_in_and_not_before() {
    let rule = rule(Goal::DepthPerReplica(100));
    let mut fleet = Fleet::default();
    let mut wanted = |at: u64, depth, current| {
        fleet.observe(Some(figures(T0 + at, depth, 0)), &rule, T0 + at);
        fleet.wanted(&rule, current, T0 + at)
    };
    assert_eq!(wanted(0, 1, 0), is(1, Reason::Depth), "the first message waits for nothing");
    assert_eq!(wanted(5_000, 1, 1), is(1, Reason::Depth));
    for (at, depth) in [(5_200, 500), (5_400, 1_200), (5_600, 2_000)] {
        assert_eq!(wanted(at, depth, 1), is(1, Reason::Gathering));
    }
    assert_eq!(wanted(5_800, 2_010, 1), is(21, Reason::Depth));
    assert_eq!(wanted(6_000, 3_000, 1).reason, Reason::Gathering);
    for at in [7_000, 7_900] {
        assert_eq!(wanted(at, 4 * at, 1).reason, Reason::Gathering);
    }
    assert_eq!(wanted(8_000, 40_000, 1), is(50, Reason::MaxReplicas), "it does not end soon");
}

#[test]
fn a_burst_has_not_come_in_because_somebody_looks_twice_at_once() {
    let rule = rule(Goal::DepthPerReplica(100));
    let mut fleet = Fleet::default();
    fleet.observe(Some(figures(T0, 1, 0)), &rule, T0);
    fleet.unchanged(&rule, T0 + 1_000);
    fleet.observe(Some(figures(T0 + 5_000, 500, 0)), &rule, T0 + 5_000);
    // The broker says each second that nothing else is new, also right after it has told what is.
    fleet.unchanged(&rule, T0 + 5_001);
    assert_eq!(fleet.wanted(&rule, 1, T0 + 5_001), is(1, Reason::Gathering));
    fleet.observe(Some(figures(T0 + 5_200, 2_000, 0)), &rule, T0 + 5_200);
    fleet.unchanged(&rule, T0 + 6_000);
    assert_eq!(fleet.wanted(&rule, 1, T0 + 6_000), is(20, Reason::Depth));
}

proptest! {
    #[test]
    fn pods_never_become_fewer_while_the_broker_is_silent(
        arrivals in prop::collection::vec(0.0_f64..300.0, 1..20), silent_from in 0_usize..20,
    ) {
        let mut world = World::new(rule(Goal::DrainWithin(10_000)), 10.0, Some(10.0));
        for (number, rate) in arrivals.into_iter().enumerate() {
            world.is_silent = number >= silent_from;
            let before = world.replicas;
            world.run(rate, 15);
            prop_assert!(!world.is_silent || world.replicas >= before);
        }
    }

    #[test]
    fn bounds_are_kept_and_what_waits_is_drained_in_the_end(
        arrivals in prop::collection::vec(0.0_f64..400.0, 1..10), rate in 1.0_f64..50.0, min in 0_u32..3,
    ) {
        let rule = Rule { min_replicas: min, max_replicas: 20, ..rule(Goal::DrainWithin(10_000)) };
        let mut world = World::new(rule, rate, None);
        for arrivals in arrivals {
            world.run(arrivals, 20);
            prop_assert!((min..=20).contains(&world.replicas));
        }
        // 4,000 a second for 200 s at most, by pods that do one a second at least.
        let enough = world.depth() / whole(rate.floor() * 20.0).max(1) + 120;
        world.run(0.0, enough);
        prop_assert_eq!(world.depth(), 0);
        prop_assert_eq!(world.replicas, min);
    }

    #[test]
    fn by_depth_too_pods_stay_for_what_is_in_hand(depths in prop::collection::vec(0_u64..5_000, 1..50)) {
        let rule = rule(Goal::DepthPerReplica(100));
        let mut fleet = Fleet::default();
        let mut current = 0;
        for (step, depth) in depths.into_iter().enumerate() {
            let now_ms = T0 + step as u64 * 1_000;
            fleet.observe(Some(figures(now_ms, depth, 0)), &rule, now_ms);
            let wanted = fleet.wanted(&rule, current, now_ms);
            let is_enough = u64::from(wanted.replicas) >= depth.div_ceil(100).min(50);
            prop_assert!(is_enough || wanted.reason == Reason::Gathering);
            current = wanted.replicas;
        }
    }
}
