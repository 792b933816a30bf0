//! Every bound this crate applies, with what happens at it.

/// Octets of framing around a payload: type, channel and size before it, the end octet after it.
pub const FRAME_OVERHEAD: u32 = 8;

/// Smallest `frame-max` that a peer may negotiate (AMQP 0-9-1 `frame-min-size`).
pub const FRAME_MIN_SIZE: u32 = 4_096;

/// Largest frame before `connection.open-ok`, in octets, as in RabbitMQ: a login with a big token fits, a flood does not.
pub const FRAME_MAX_BEFORE_OPEN: u32 = 8_192;

/// Proposed `frame-max` in octets, RabbitMQ's default.
pub const FRAME_MAX_DEFAULT: u32 = 131_072;

/// Octets in a short string. A longer one is cut at a character's border when it is written.
pub const SHORT_STRING_MAX: usize = 255;

/// Bounds of a field table, checked by [`crate::Table::validate`]. A table beyond one of them is a connection
/// exception 506.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableLimits {
    /// Most levels of tables and arrays inside each other; the outermost table is level 1.
    pub depth: usize,
    /// Most entries and array elements, all levels together.
    pub entries: usize,
    /// Most octets of the outermost table, its length prefix not counted.
    pub octets: usize,
}

/// Bounds for tables of clients that have logged in.
pub const TABLE: TableLimits = TableLimits { depth: 16, entries: 1_024, octets: 64 * 1_024 };

/// Bounds for the one table that arrives before login, `client-properties` of `connection.start-ok`.
pub const TABLE_BEFORE_LOGIN: TableLimits = TableLimits { depth: 4, entries: 64, octets: 8 * 1_024 };
