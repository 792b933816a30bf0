//! What connections and the metadata have done since the process started. They count for themselves, and add what has
//! come together from time to time.

use std::sync::atomic::{AtomicU64, Ordering};

use warren_core::session::{Counts, MESSAGE_SIZES};

macro_rules! traffic {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        /// How often things happened.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub(crate) struct Traffic {
            $($(#[$doc])* pub(crate) $field: u64,)*
        }

        /// What many tasks add to.
        #[derive(Debug, Default)]
        pub(super) struct SharedTraffic {
            $($field: AtomicU64,)*
            sizes: [AtomicU64; MESSAGE_SIZES.len() + 1],
        }

        impl Traffic {
            /// How much more there is than there was before.
            #[must_use]
            pub(crate) fn since(&self, before: &Self) -> Self {
                Self { $($field: self.$field.saturating_sub(before.$field),)* }
            }
        }

        impl SharedTraffic {
            pub(super) fn add(&self, more: &Traffic) {
                $(add(&self.$field, more.$field);)*
            }

            pub(super) fn read(&self) -> Traffic {
                Traffic { $($field: self.$field.load(Ordering::Relaxed),)* }
            }
        }
    };
}

traffic! {
    /// Messages that clients published.
    published,
    /// Of these, on channels with confirms.
    published_with_confirm,
    /// Octets of their bodies.
    published_bytes,
    /// Messages confirmed to publishers.
    confirmed,
    /// Copies of messages handed to queues.
    routed,
    /// Messages that no queue wanted, sent back.
    returned,
    /// Messages that no queue wanted, dropped.
    dropped,
    /// Messages sent to consumers that acknowledge.
    delivered,
    /// Messages sent to consumers that do not acknowledge.
    delivered_no_ack,
    /// Messages that clients got, to be acknowledged.
    got,
    /// Messages that clients got without acknowledgement.
    got_no_ack,
    /// Gets that found no message.
    get_empty,
    /// Of all that was sent, what was sent again.
    redelivered,
    /// Messages that clients acknowledged.
    acknowledged,
    /// Channels that were opened.
    channels_opened,
    /// Channels that were closed.
    channels_closed,
    /// Declarations of queues, of those that were there too.
    queues_declared,
    /// Queues that were made.
    queues_created,
    /// Queues that were deleted.
    queues_deleted,
    /// Octets that connections which have ended had received.
    closed_received_bytes,
    /// Reads of theirs.
    closed_received_count,
    /// Octets that they had been sent.
    closed_sent_bytes,
    /// Writes of theirs.
    closed_sent_count,
}

impl SharedTraffic {
    /// Adds what a session counted.
    pub(super) fn count(&self, counts: &Counts) {
        self.add(&Traffic {
            published: counts.received,
            published_with_confirm: counts.received_confirm,
            published_bytes: counts.received_bytes,
            confirmed: counts.confirmed,
            routed: counts.routed,
            returned: counts.unroutable_returned,
            dropped: counts.unroutable_dropped,
            delivered: counts.delivered - counts.delivered_no_ack,
            delivered_no_ack: counts.delivered_no_ack,
            got: counts.got,
            got_no_ack: counts.got_no_ack,
            get_empty: counts.get_empty,
            redelivered: counts.redelivered,
            acknowledged: counts.acknowledged,
            channels_opened: counts.channels_opened,
            channels_closed: counts.channels_closed,
            ..Traffic::default()
        });
        self.sizes.iter().zip(counts.sizes).for_each(|(size, more)| add(size, more));
    }

    /// Messages that clients published, by size: as [`Counts::sizes`].
    pub(super) fn sizes(&self) -> [u64; MESSAGE_SIZES.len() + 1] {
        std::array::from_fn(|size| self.sizes[size].load(Ordering::Relaxed))
    }
}

fn add(count: &AtomicU64, more: u64) {
    if more > 0 {
        count.fetch_add(more, Ordering::Relaxed);
    }
}
