//! Every rule of the broker as pure state machines.
