//! The broker: sockets, tasks, clocks and the binary around the pure machines.
