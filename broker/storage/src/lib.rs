//! The node's segment log: group commit, recovery; knows no AMQP.
