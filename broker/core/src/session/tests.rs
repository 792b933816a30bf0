//! The rules of a connection, with a real topology and real shards around it and nothing else: no socket, no clock.

mod acknowledge;
mod attributes;
mod blocked;
mod channel;
mod confirm;
mod consume;
mod content;
mod credentials;
mod declare;
mod direct_reply;
mod handshake;
mod prefetch;
mod rights;
mod sender_selected;
mod statistics;
mod stream;
mod time;
mod timeout;
mod trace;
mod transaction;
mod world;
