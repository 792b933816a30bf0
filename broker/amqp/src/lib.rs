//! AMQP 0-9-1 octets to values and back; pure.
