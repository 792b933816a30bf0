//! What a MessageQueue declares in its broker: users and what they may do (`spec.auth`), virtual hosts, exchanges, queues,
//! bindings and policies (`spec.topology`).
//!
//! [`wanted`] (pure) makes of the specification what should be there; [`pass`] (IO) asks the broker and changes what differs;
//! [`keeper`] does so every few seconds, with the passwords that Secrets have by then.
//!
//! The operator deletes only what it has declared itself. What that is, it keeps in the broker ([`inventory`]): there it has
//! the same fate as what it is about, on the same volume, and is true also for a MessageQueue that was deleted and made anew.

pub mod inventory;
pub mod keeper;
pub mod object;
pub mod pass;
pub mod password;
pub mod wanted;
