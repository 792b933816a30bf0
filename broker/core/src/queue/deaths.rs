//! What happens to messages whose time is over, that are too many, or that nobody wants: they are dropped, or go to the
//! forwarder as dead letters.

use super::deal::Occasion;
use super::event::{Event, Forward};
use super::rules::{DeadLetter, Rules};
use super::store::{Found, State, To};
use super::window::ForwardWindow;
use super::{DeadLettering, ForwardReason, Overflow, Queue, QueueKind};
use crate::identity::ConnectionId;
use crate::limits::FORWARD_RETRY_MILLIS;

/// Who holds what the forwarder has, as messages remember their holders. No queue has so many.
pub(super) const FORWARDER: u32 = u32::MAX;

impl Queue {
    /// True if messages that leave the queue go somewhere.
    pub(super) fn forwards(&self) -> bool {
        self.settings.dead_lettering != DeadLettering::None || self.settings.kind == QueueKind::Delayed
    }

    /// True if a message that dies now can leave now. If only the shard's window has no room for it, the queue is looked at
    /// again when it is its turn.
    fn has_room(&mut self, window: &mut ForwardWindow) -> bool {
        if !self.forwards() {
            return true;
        }
        let Some(rules) = self.rules.as_mut().filter(|rules| rules.dead.has_room()) else { return false };
        let has_room = window.has_room_for(self.id);
        if !has_room && !core::mem::replace(&mut rules.dead.crowded, true) {
            window.wait(self.id);
        }
        has_room
    }

    /// It waits no more for the shard's window.
    pub(super) fn has_found_room(&mut self) {
        if let Some(rules) = &mut self.rules {
            rules.dead.crowded = false;
        }
    }

    /// The message at `position`, which is in the state `from`, leaves the queue; if too many are on their way already, it
    /// waits out of everybody's sight.
    pub(super) fn die(&mut self, position: u64, from: State, reason: ForwardReason, occasion: &mut Occasion<'_>) {
        occasion.window.deaths.add(self.settings.kind, self.settings.dead_lettering, reason);
        if !self.forwards() {
            self.store.shift(position, from, To::Gone, occasion.done);
        } else if self.has_room(occasion.window) {
            self.forward(position, from, reason, occasion);
        } else if let Some(rules) = &mut self.rules
            && let Some(Found { bytes, .. }) =
                self.store.shift(position, from, To::Aside { redelivered: false }, occasion.done)
        {
            rules.dead.wait(DeadLetter { position, bytes, reason });
        }
    }

    /// The forwarder gets the message at `position`.
    fn forward(&mut self, position: u64, from: State, reason: ForwardReason, occasion: &mut Occasion<'_>) {
        let Some(found) = self.store.shift(position, from, To::Held(FORWARDER), occasion.done) else { return };
        let Found { delivery_count, bytes, body, .. } = found;
        let message = occasion.source.message(body);
        if let Some(rules) = &mut self.rules {
            rules.dead.leave(DeadLetter { position, bytes, reason }, occasion.window.leave(&message));
        }
        let (queue, at_ms) = (self.id, occasion.now_ms);
        let forward = Forward { queue, position, reason, at_ms, delivery_count, message };
        occasion.out.tell(ConnectionId::FORWARDER, Event::Forward(forward));
    }

    /// The forwarder gave the message at `position` back: it is sent again after a while. Meanwhile it takes nothing of the
    /// shard's window.
    pub(super) fn came_back(&mut self, position: u64, occasion: &mut Occasion<'_>) {
        let Some(rules) = &mut self.rules else { return };
        let Some(letter) = rules.dead.arrived(position, occasion.window) else { return };
        let aside = To::Aside { redelivered: false };
        if self.store.shift(position, State::Held, aside, occasion.done).is_some() {
            rules.dead.retry(occasion.now_ms.saturating_add(FORWARD_RETRY_MILLIS), letter);
        }
    }

    /// What has waited leaves, as far as there is room.
    pub(super) fn forward_waiting(&mut self, occasion: &mut Occasion<'_>) {
        let forwards = self.forwards();
        if let Some(rules) = &mut self.rules {
            // What has nowhere to go any more waits for nothing.
            rules.dead.resume(if forwards { occasion.now_ms } else { u64::MAX });
        }
        while self.rules.as_ref().is_some_and(|rules| rules.dead.waiting() > 0)
            && self.has_room(occasion.window)
            && let Some(letter) = self.rules.as_mut().and_then(|rules| rules.dead.next())
        {
            self.die(letter.position, State::Aside, letter.reason, occasion);
        }
    }

    /// What is due leaves the store of a delayed exchange, as far as there is room.
    pub(super) fn forward_due(&mut self, occasion: &mut Occasion<'_>) {
        let now_ms = occasion.now_ms;
        let due = |rules: &Rules| rules.delayed.first().is_some_and(|(due, _)| *due <= now_ms);
        while self.rules.as_deref().is_some_and(due)
            && self.has_room(occasion.window)
            && let Some((_, position)) = self.rules.as_mut().and_then(|rules| rules.delayed.pop_first())
        {
            self.forward(position, State::Ready, ForwardReason::Due, occasion);
        }
    }

    /// The heads whose time is over leave, or wait for that where nobody gets them; `fresh`: also those that the present run
    /// has brought. Where too many wait, others stay, and keep what is behind them from being handed out. Answers whether any
    /// did.
    pub(super) fn expire_heads(&mut self, fresh: bool, occasion: &mut Occasion<'_>) -> bool {
        let mut expired = false;
        while self.has_room_to_wait() {
            let over = self.store.heads().find(|(_, extra)| extra.is_over(occasion.now_ms));
            let Some((position, _)) = over.filter(|(position, _)| fresh || !self.store.is_fresh(*position)) else {
                break;
            };
            self.die(position, State::Ready, ForwardReason::Expired, occasion);
            expired = true;
        }
        expired
    }

    /// True if a message whose time is over need not stay. While too many wait, there is no room for any to leave.
    fn has_room_to_wait(&self) -> bool {
        self.rules.as_ref().is_none_or(|rules| rules.dead.has_room_to_wait())
    }

    /// While there are too many messages, the oldest of the lowest priority leaves, as far as there is room: without, it
    /// stays ready. Answers whether any did.
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

    /// When something is to leave the queue: the next message's time is over, or one that came back is sent again.
    pub(super) fn next_time(&mut self) -> Option<u64> {
        let retry = self.rules.as_ref().and_then(|rules| rules.dead.retry_at());
        let next = if self.settings.kind == QueueKind::Delayed {
            // What is due and finds no room is looked at when there is.
            let rules = self.rules.as_deref().filter(|rules| !rules.dead.crowded && rules.dead.has_room());
            rules.and_then(|rules| rules.delayed.first()).map(|(due, _)| *due)
        } else if !self.has_room_to_wait() {
            // So it is with heads whose time is over.
            None
        } else {
            self.store.heads().map(|(_, extra)| extra.time_ms).filter(|time_ms| *time_ms != 0).min()
        };
        retry.into_iter().chain(next).min()
    }
}
