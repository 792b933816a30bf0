//! What happens to messages whose time is over, that are too many, or that nobody wants: they are dropped, or go to the
//! forwarder as dead letters.

use super::deal::Occasion;
use super::event::{Event, Forward};
use super::rules::Rules;
use super::store::{Found, State, To};
use super::window::ForwardWindow;
use super::{DeadLettering, ForwardReason, Overflow, Queue, QueueKind};
use crate::identity::ConnectionId;

/// Who holds what the forwarder has, as messages remember their holders. No queue has so many.
pub(super) const FORWARDER: u32 = u32::MAX;

impl Queue {
    /// True if messages that leave the queue go somewhere.
    pub(super) fn forwards(&self) -> bool {
        self.settings.dead_lettering != DeadLettering::None || self.settings.kind == QueueKind::Delayed
    }

    /// True if a message that dies now can leave now. If only the shard's window is full, the queue is looked at again when
    /// it is not.
    fn has_room(&mut self, window: &mut ForwardWindow) -> bool {
        if !self.forwards() {
            return true;
        }
        let Some(rules) = self.rules.as_mut().filter(|rules| rules.dead.has_room()) else { return false };
        if !window.has_room() && !core::mem::replace(&mut rules.dead.crowded, true) {
            window.wait(self.id);
        }
        window.has_room()
    }

    /// It waits no more for the shard's window.
    pub(super) fn has_found_room(&mut self) {
        if let Some(rules) = &mut self.rules {
            rules.dead.crowded = false;
        }
    }

    /// The message at `position`, which is in the state `from`, leaves the queue; if too many are on their way already, it
    /// waits.
    pub(super) fn die(&mut self, position: u64, from: State, reason: ForwardReason, occasion: &mut Occasion<'_>) {
        if !self.forwards() {
            self.store.shift(position, from, To::Gone, occasion.done);
        } else if self.has_room(occasion.window) {
            self.forward(position, from, reason, occasion);
        } else if let Some(rules) = &mut self.rules
            && self.store.shift(position, from, To::Aside { redelivered: true }, occasion.done).is_some()
        {
            rules.dead.wait(position, reason);
        }
    }

    /// The forwarder gets the message at `position`.
    fn forward(&mut self, position: u64, from: State, reason: ForwardReason, occasion: &mut Occasion<'_>) {
        let Some(found) = self.store.shift(position, from, To::Held(FORWARDER), occasion.done) else { return };
        let Found { delivery_count, body, .. } = found;
        let message = occasion.source.message(body);
        if let Some(rules) = &mut self.rules {
            rules.dead.leave(position, reason, occasion.window.leave(&message));
        }
        let (queue, at_ms) = (self.id, occasion.now_ms);
        let forward = Forward { queue, position, reason, at_ms, delivery_count, message };
        occasion.out.tell(ConnectionId::FORWARDER, Event::Forward(forward));
    }

    /// The forwarder gave the message at `position` back: it is its turn again behind the others that wait.
    pub(super) fn came_back(&mut self, position: u64, occasion: &mut Occasion<'_>) {
        let Some(rules) = &mut self.rules else { return };
        let Some(reason) = rules.dead.arrived(position, occasion.window) else { return };
        let aside = To::Aside { redelivered: false };
        if self.store.shift(position, State::Held, aside, occasion.done).is_some() {
            rules.dead.wait(position, reason);
        }
    }

    /// What has waited leaves, as far as there is room.
    pub(super) fn forward_waiting(&mut self, occasion: &mut Occasion<'_>) {
        while self.has_room(occasion.window)
            && let Some((position, reason)) = self.rules.as_mut().and_then(|rules| rules.dead.next())
        {
            self.die(position, State::Aside, reason, occasion);
        }
    }

    /// What is due leaves the store of a delayed exchange, as far as there is room.
    pub(super) fn forward_due(&mut self, occasion: &mut Occasion<'_>) {
        while self.has_room(occasion.window)
            && let Some(rules) = &mut self.rules
            && let Some((_, position)) = rules.delayed.first().copied().filter(|(due, _)| *due <= occasion.now_ms)
        {
            rules.delayed.pop_first();
            self.forward(position, State::Ready, ForwardReason::Due, occasion);
        }
    }

    /// The heads whose time is over leave, as far as there is room; `fresh`: also those that the present run has brought.
    /// Answers whether any did.
    pub(super) fn expire_heads(&mut self, fresh: bool, occasion: &mut Occasion<'_>) -> bool {
        let mut expired = false;
        while self.has_room(occasion.window) {
            let over = self.store.heads().find(|(_, extra)| extra.is_over(occasion.now_ms));
            let Some((position, _)) = over.filter(|(position, _)| fresh || !self.store.is_fresh(*position)) else {
                break;
            };
            self.die(position, State::Ready, ForwardReason::Expired, occasion);
            expired = true;
        }
        expired
    }

    /// While there are too many messages, the oldest of the lowest priority leaves, as far as there is room. Answers
    /// whether any did.
    pub(super) fn enforce_length(&mut self, occasion: &mut Occasion<'_>) -> bool {
        if self.settings.overflow != Overflow::DropHead {
            return false;
        }
        let mut dropped = false;
        while self.is_too_long()
            && self.has_room(occasion.window)
            && let Some(position) = self.store.lowest_head()
        {
            self.die(position, State::Ready, ForwardReason::MaxLength, occasion);
            dropped = true;
        }
        dropped
    }

    fn is_too_long(&self) -> bool {
        let over = |most: Option<u64>, used: u64| most.is_some_and(|most| used > most);
        over(self.settings.max_length, self.store.ready())
            || over(self.settings.max_length_bytes, self.store.ready_bytes())
    }

    /// When the next message's time is over, unless it has to wait for the forwarder anyway.
    pub(super) fn next_time(&mut self) -> Option<u64> {
        let waits = |rules: &Rules| rules.dead.crowded || !rules.dead.has_room();
        if self.forwards() && self.rules.as_deref().is_none_or(waits) {
            return None;
        }
        if self.settings.kind == QueueKind::Delayed {
            let delayed = self.rules.as_ref().and_then(|rules| rules.delayed.first());
            return delayed.map(|(due, _)| *due);
        }
        self.store.heads().map(|(_, extra)| extra.time_ms).filter(|time_ms| *time_ms != 0).min()
    }
}
