//! Rules of the store that do not show from outside, and those at the borders of chunks.

use alloc::vec;

use super::chunk::Slot;
use super::*;
use crate::command::{Attributes, encode_publish_head};
use crate::identity::QueueId;
use crate::queue::Settlement;
use crate::queue::levels::Levels;

fn place(number: u64) -> Location {
    Location { segment: 1, offset: number as u32 * 100, len: 100 }
}

/// A store with so many logged messages; each lies at the place of its number.
fn store_with(count: u64) -> Levels {
    let mut store = Levels::default();
    push_logged(&mut store, count);
    store
}

fn push_logged(store: &mut Levels, count: u64) {
    for _ in 0..count {
        let location = place(store.next_sequence());
        store.push(0, Body::Log { location, shared: false }, Extra::default());
    }
}

/// `count` messages in memory with bodies of one octet, as a run brings them; answers the octets of the run.
fn push_memory(store: &mut Levels, count: u8) -> usize {
    let mut commands = vec![];
    for number in 0..count {
        encode_publish_head((1, [QueueId(1)].into_iter()), 0, 0, 0, 1, &Attributes::default(), &mut commands);
        commands.push(number);
    }
    let commands = Bytes::from(commands);
    for publish in 0..usize::from(count) {
        let message = Message::from_publish(commands.slice(publish * 21..publish * 21 + 21)).expect("one");
        store.push(0, Body::Memory(message), Extra::default());
    }
    commands.len()
}

/// Takes so many messages on the same terms, and notes them.
struct Several {
    terms: Terms,
    count: usize,
    found: Vec<(u64, bool, Body)>,
}

impl Taker for Several {
    fn next(&mut self) -> Option<Terms> {
        (self.found.len() < self.count).then_some(self.terms)
    }

    fn take(&mut self, found: Found) {
        self.found.push((found.position, found.redelivered, found.body));
    }
}

fn take(store: &mut Levels, count: usize, terms: Terms) -> Vec<(u64, bool, Body)> {
    let mut taker = Several { terms, count, found: vec![] };
    store.hand_out(0, &mut taker, &mut Settled::default());
    taker.found
}

/// Takes so many messages and answers their positions.
fn hold(store: &mut Levels, count: usize, holder: u32) -> Vec<u64> {
    take(store, count, Terms::Hold(holder)).into_iter().map(|(position, ..)| position).collect()
}

fn settle(store: &mut Levels, first: u64, len: u64, settlement: Settlement) -> Vec<SequenceRange> {
    let (mut done, range) = (Settled::default(), PositionRange { first, len });
    match settlement {
        Settlement::Done => store.finish(range, &mut done, |_, _| true),
        _ => store.requeue(range, true, |_| true),
    }
    done.ranges().to_vec()
}

fn logged(store: &Levels) -> Vec<Logged> {
    store.share().iter().flat_map(|(_, messages)| messages.logged()).collect()
}

fn live(store: &Levels) -> Vec<u64> {
    logged(store).iter().map(|message| message.sequence).collect()
}

#[test]
fn messages_come_in_order_across_the_borders_of_chunks() {
    for count in [511, 512, 513, 1_023, 1_024, 1_025, 2_000] {
        let mut store = store_with(count);
        assert_eq!(hold(&mut store, usize::MAX, 7), (0..count).collect::<Vec<_>>(), "{count}");
        assert_eq!((store.ready(), store.held()), (0, count));
        let ranges = settle(&mut store, 0, count, Settlement::Done);
        assert_eq!(ranges, [SequenceRange { first: 0, len: count }]);
        assert_eq!((store.ready(), store.held()), (0, 0));
    }
}

#[test]
fn chunks_of_which_nothing_is_left_are_freed_wherever_they_are() {
    let mut store = store_with(512 * 10);
    hold(&mut store, usize::MAX, 7);
    settle(&mut store, 1, 512 * 10 - 2, Settlement::Done);
    assert_eq!(store.base().chunks.len(), 2, "the first and the last have one each");
    assert_eq!(live(&store), [0, 512 * 10 - 1]);
    push_logged(&mut store, 1);
    assert_eq!(settle(&mut store, 0, u64::MAX, Settlement::Requeue), []);
    assert_eq!(hold(&mut store, usize::MAX, 8), [0, 512 * 10 - 1, 512 * 10]);
}

#[test]
fn one_message_that_stays_does_not_keep_those_that_pass_it() {
    let mut store = store_with(1);
    assert_eq!(hold(&mut store, 1, 7), [0]);
    for round in 0..5_000 {
        push_logged(&mut store, 10);
        take(&mut store, 10, Terms::Finish);
        assert!(store.base().chunks.len() <= 2, "round {round}");
    }
    settle(&mut store, 0, 1, Settlement::Requeue);
    assert_eq!(take(&mut store, 1, Terms::Finish)[0].0, 0);
}

#[test]
fn what_comes_back_is_handed_out_first_and_the_cursor_then_skips_what_is_held() {
    let mut store = store_with(2_000);
    assert_eq!(hold(&mut store, 1_500, 7).len(), 1_500);
    settle(&mut store, 600, 1, Settlement::Requeue);
    settle(&mut store, 3, 1, Settlement::Requeue);
    assert_eq!((store.ready(), store.held()), (502, 1_498));
    let again = take(&mut store, 3, Terms::Hold(8));
    let expected = [(3, true), (600, true), (1_500, false)];
    assert_eq!(again.iter().map(|(position, redelivered, _)| (*position, *redelivered)).collect::<Vec<_>>(), expected);
}

#[test]
fn settling_what_is_not_held_changes_nothing() {
    let mut store = store_with(600);
    hold(&mut store, 2, 7);
    for range in [(2, 598), (600, 1), (u64::MAX, 1), (5_000, u64::MAX)] {
        assert_eq!(settle(&mut store, range.0, range.1, Settlement::Done), [], "{range:?}");
    }
    assert_eq!((store.ready(), store.held()), (598, 2));
}

#[test]
fn what_one_holder_has_is_taken_back_and_the_rest_stays() {
    let mut store = store_with(1_500);
    for index in 0..1_400 {
        hold(&mut store, 1, index % 2);
    }
    store.take_back(700, |holder| holder == 1);
    assert_eq!((store.ready(), store.held()), (800, 700));
    let odd = hold(&mut store, 700, 3);
    assert!(odd.iter().all(|position| position % 2 == 1));
}

#[test]
fn a_snapshot_keeps_what_was_while_the_store_goes_on() {
    let mut store = store_with(700);
    hold(&mut store, 600, 7);
    let shared = store.share();
    settle(&mut store, 0, 600, Settlement::Done);
    store.relocate(650, place(9));
    push_logged(&mut store, 700);
    take(&mut store, usize::MAX, Terms::Finish);
    push_logged(&mut store, 1);
    let logged: Vec<Logged> = shared[0].1.logged().collect();
    assert!(logged.iter().map(|message| message.sequence).eq(0..700));
    assert!(logged.iter().all(|message| message.location == place(message.sequence)));
    assert_eq!(live(&store), [1_400]);
}

#[test]
fn numbers_are_found_with_messages_in_memory_between_them() {
    let mut store = Levels::default();
    for _ in 0..400 {
        push_memory(&mut store, 3);
        push_logged(&mut store, 2);
    }
    store.relocate(799, place(5_000));
    store.relocate(257, place(5_001));
    store.relocate(800, place(5_002));
    let moved: Vec<u64> =
        logged(&store).iter().filter(|it| it.location != place(it.sequence)).map(|it| it.sequence).collect();
    assert_eq!(moved, [257, 799]);
    store.forget(SequenceRange { first: 100, len: 699 });
    assert_eq!(live(&store), (0..100).chain([799]).collect::<Vec<_>>());
    assert_eq!(store.ready(), 1_200 + 101);
}

#[test]
fn numbers_far_apart_get_chunks_of_their_own() {
    let mut store = Levels::restored(u64::MAX >> 1, 5);
    let numbers = [0, 4, 5, u64::from(u32::MAX), 1 << 32, 1 << 40, (1 << 40) + 1];
    for sequence in numbers {
        store.restore(0, Logged { sequence, location: place(1), shared: false, extra: Extra::default() });
    }
    assert_eq!(live(&store), numbers);
    store.relocate(1 << 40, place(2));
    store.forget(SequenceRange { first: 1, len: 1 << 33 });
    let left: Vec<Location> = logged(&store).iter().map(|message| message.location).collect();
    assert_eq!(left, [place(1), place(2), place(1)]);
    let redelivered: Vec<bool> = take(&mut store, 3, Terms::Finish).into_iter().map(|(_, flag, _)| flag).collect();
    assert_eq!(redelivered, [true, false, false]);
}

#[test]
fn a_queue_that_is_emptied_again_and_again_stays_small() {
    let mut store = Levels::default();
    for _ in 0..1_000 {
        push_memory(&mut store, 3);
        assert_eq!(take(&mut store, usize::MAX, Terms::Finish).len(), 3);
    }
    assert_eq!((store.base().chunks.len(), store.base().chunks[0].slots.capacity()), (1, 4));
    store.shrink();
    assert_eq!(store.base().chunks.len(), 0);
}

#[test]
fn what_messages_have_beside_their_places_takes_memory_only_where_there_is_any() {
    let mut store = store_with(CHUNK_SLOTS as u64 + 1);
    assert!(store.base().chunks.iter().all(|chunk| chunk.extras.is_none()));
    let timed = Extra { time_ms: 5, ..Extra::default() };
    let at = store.push(0, Body::Log { location: place(0), shared: false }, timed);
    assert_eq!(store.base().chunks.iter().map(|chunk| chunk.extras.is_some()).collect::<Vec<_>>(), [false, true]);
    assert_eq!(logged(&store).iter().filter(|message| message.extra == timed).count(), 1);
    assert_eq!(store.heads().next(), Some((0, Extra::default())));
    take(&mut store, CHUNK_SLOTS + 1, Terms::Finish);
    assert_eq!(store.heads().next(), Some((at, timed)));
    take(&mut store, 1, Terms::Finish);
    push_logged(&mut store, 1);
    assert_eq!(logged(&store)[0].extra, Extra::default(), "the memory is used again, and what was in it is not");
}

#[test]
fn a_message_moves_on_only_from_where_it_is() {
    let mut store = store_with(3);
    let mut done = Settled::default();
    let ready = To::Ready { redelivered: true };
    assert!(store.shift(1, State::Held, To::Gone, &mut done).is_none());
    assert!(store.shift(7, State::Ready, To::Gone, &mut done).is_none());
    assert!(store.shift(1, State::Ready, To::Aside { redelivered: false }, &mut done).is_some());
    assert_eq!((store.ready(), store.held(), hold(&mut store, 9, 7)), (2, 1, vec![0, 2]));
    assert!(store.shift(1, State::Aside, ready, &mut done).is_some());
    assert_eq!((store.ready(), hold(&mut store, 9, 7)), (1, vec![1]));
    assert!(store.shift(1, State::Held, To::Gone, &mut done).is_some());
    assert_eq!(done.ranges(), [SequenceRange { first: 1, len: 1 }]);
    assert_eq!((store.ready_bytes(), store.held()), (0, 2));
}

#[test]
fn a_million_messages_take_25_megabytes() {
    let store = store_with(1_000_000);
    let shared_vec = 2 * size_of::<usize>() + size_of::<Vec<Slot>>();
    let chunk = |chunk: &Chunk| {
        size_of::<Chunk>() + shared_vec + chunk.slots.capacity() * size_of::<Slot>() + chunk.memory.capacity()
    };
    let bytes: usize = store.base().chunks.iter().map(chunk).sum();
    assert!(bytes <= 25_000_000, "{bytes}");
}

#[test]
fn the_few_that_stay_of_a_run_do_not_keep_all_of_it() {
    let mut store = Levels::default();
    push_logged(&mut store, 510);
    take(&mut store, 510, Terms::Finish);
    store.begin_run();
    let pinned = push_memory(&mut store, 255);
    assert_eq!(take(&mut store, 250, Terms::Hold(1)).len(), 250);
    let kept = |store: &mut Levels| -> Vec<(u64, *const u8, Vec<u8>)> {
        let found = take(store, 5, Terms::Hold(2));
        found
            .into_iter()
            .map(|(position, _, body)| match body {
                Body::Memory(message) => (position, message.octets().as_ptr(), message.body().to_vec()),
                Body::Log { .. } => panic!("it is in memory"),
            })
            .collect()
    };
    let before = kept(&mut store);
    settle(&mut store, before[0].0, 5, Settlement::Requeue);
    store.end_run(Some(pinned));
    let after = kept(&mut store);
    assert!(before.iter().zip(&after).all(|(old, new)| old.0 == new.0 && old.2 == new.2 && old.1 != new.1));
    let apart = after.windows(2).map(|pair| pair[1].1 as usize - pair[0].1 as usize);
    assert!(apart.eq([1; 4]), "they lie side by side in a buffer of their own");
}

#[test]
fn most_of_a_run_stays_where_it_is() {
    let mut store = Levels::default();
    store.begin_run();
    let commands: usize = push_memory(&mut store, 2);
    let message = |store: &mut Levels| {
        store.base_mut().chunks[0].memory_from(0).map(|it| it.octets().as_ptr()).collect::<Vec<_>>()
    };
    let before = message(&mut store);
    store.end_run(Some(commands));
    assert_eq!(message(&mut store), before);
}
