//! What waits for a shard, bounded in octets.
//!
//! A sender takes room for what it sends and waits if there is none, first come, first served: for a connection that
//! means that it is not read. The shard gives the room back when it takes the message. A message that is larger than
//! all the room there is needs exactly all of it, so it goes through when nothing else waits.

use std::sync::Arc;

use tokio::sync::{Semaphore, TryAcquireError, mpsc};
use warren_core::queue::ShardInput;

use crate::shard::ShardMessage;

/// Octets that one permit stands for.
const UNIT: usize = 1 << 10;

/// The shard takes nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the shard has stopped")]
pub(crate) struct ShardStopped;

/// The end that connections and the metadata have. Cloning shares the room.
#[derive(Debug, Clone)]
pub(crate) struct InboxSender {
    messages: mpsc::UnboundedSender<(usize, ShardMessage)>,
    room: Arc<Semaphore>,
    /// All the room there is.
    units: usize,
}

/// The end that the shard has.
#[derive(Debug)]
pub(crate) struct Inbox {
    messages: mpsc::UnboundedReceiver<(usize, ShardMessage)>,
    room: Arc<Semaphore>,
    /// Used again and again.
    taken: Vec<(usize, ShardMessage)>,
}

/// An empty inbox with room for so many octets.
pub(crate) fn inbox(octets: usize) -> (InboxSender, Inbox) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let units = octets / UNIT;
    let room = Arc::new(Semaphore::new(units));
    (InboxSender { messages: sender, room: room.clone(), units }, Inbox { messages: receiver, room, taken: Vec::new() })
}

impl InboxSender {
    /// Sends a message as soon as there is room for it.
    ///
    /// # Errors
    /// The shard has stopped, or does so meanwhile.
    pub(crate) async fn send(&self, message: ShardMessage) -> Result<(), ShardStopped> {
        let units = units(&message).min(self.units);
        // No message has more units than a 32-bit number holds: there are not so many.
        let permits = u32::try_from(units).unwrap_or(u32::MAX);
        let room = match self.room.try_acquire_many(permits) {
            Err(TryAcquireError::NoPermits) => self.room.acquire_many(permits).await.map_err(|_| ShardStopped)?,
            Err(TryAcquireError::Closed) => return Err(ShardStopped),
            Ok(room) => room,
        };
        room.forget();
        self.messages.send((units, message)).map_err(|_| ShardStopped)
    }
}

impl Inbox {
    /// Waits for messages and puts at most `limit` behind those in `messages`; answers how many. 0: all senders are
    /// gone. Nothing is lost if the future is dropped.
    pub(crate) async fn recv_many(&mut self, messages: &mut Vec<ShardMessage>, limit: usize) -> usize {
        let count = self.messages.recv_many(&mut self.taken, limit).await;
        let mut units = 0;
        for (size, message) in self.taken.drain(..) {
            units += size;
            messages.push(message);
        }
        self.room.add_permits(units);
        count
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        // Whoever waits for room must not wait for ever.
        self.room.close();
    }
}

/// The room that a message takes.
fn units(message: &ShardMessage) -> usize {
    let octets = match message {
        ShardMessage::Inputs(inputs) => inputs.iter().map(octets).sum(),
        ShardMessage::Drain(_) => 0,
    };
    1 + octets / UNIT
}

/// About how much memory an input takes.
fn octets(input: &ShardInput) -> usize {
    size_of::<ShardInput>()
        + match input {
            ShardInput::Publish(run) => run.commands.len() + size_of_val(&*run.receipts),
            ShardInput::Settle { ranges, .. } => size_of_val(&**ranges),
            _ => 0,
        }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::FutureExt;
    use warren_core::queue::PublishRun;

    use super::*;

    const ROOM: usize = 256 << 10;

    fn publish(octets: usize) -> ShardMessage {
        let commands = Bytes::from(vec![0; octets]);
        ShardMessage::Inputs(vec![ShardInput::Publish(PublishRun {
            logged: true,
            commands,
            count: 1,
            receipts: vec![],
        })])
    }

    fn sends(sender: &InboxSender, octets: usize) -> bool {
        sender.send(publish(octets)).now_or_never().is_some_and(|sent| sent.is_ok())
    }

    fn takes(inbox: &mut Inbox, limit: usize) -> Option<usize> {
        inbox.recv_many(&mut Vec::new(), limit).now_or_never()
    }

    #[test]
    fn what_waits_is_bounded_in_octets_and_taking_gives_the_room_back() {
        let (sender, mut inbox) = inbox(ROOM);
        let half = ROOM / 2 - UNIT;
        assert!(sends(&sender, half) && sends(&sender, half));
        assert!(!sends(&sender, half), "the inbox is full");
        assert_eq!(takes(&mut inbox, 1), Some(1));
        assert!(sends(&sender, half));
        assert!(!sends(&sender, half));
    }

    #[test]
    fn small_messages_are_bounded_too() {
        let (sender, _inbox) = inbox(ROOM);
        let sent = (0..2 * ROOM / UNIT).take_while(|_| sends(&sender, 1)).count();
        assert_eq!(sent, ROOM / UNIT);
    }

    #[test]
    fn a_message_larger_than_the_bound_waits_until_it_is_alone_and_then_goes_through() {
        let (sender, mut inbox) = inbox(ROOM);
        assert!(sends(&sender, 1));
        let mut large = Box::pin(sender.send(publish(2 * ROOM)));
        assert_eq!(large.as_mut().now_or_never(), None);
        assert!(!sends(&sender, 1), "it is not overtaken");
        assert_eq!(takes(&mut inbox, 64), Some(1));
        assert_eq!(large.as_mut().now_or_never(), Some(Ok(())));
        assert_eq!(takes(&mut inbox, 64), Some(1));
        assert!(sends(&sender, 1));
    }

    #[test]
    fn whoever_waits_hears_that_the_shard_has_stopped() {
        let (sender, inbox) = inbox(ROOM);
        assert!(sends(&sender, 2 * ROOM));
        let mut waiting = Box::pin(sender.send(publish(1)));
        assert_eq!(waiting.as_mut().now_or_never(), None);
        drop(inbox);
        assert_eq!(waiting.now_or_never(), Some(Err(ShardStopped)));
        assert!(!sends(&sender, 1));
    }
}
