//! Writing tables and arrays.

use alloc::vec::Vec;

use super::Value;
use crate::wire;

/// Appends the entries of a table to a `Vec<u8>`.
///
/// ```
/// use warren_amqp::{Table, TableBuilder, Value};
///
/// let octets = TableBuilder::build(|table| {
///     table.put("product", "RabbitMQ");
///     table.table("capabilities", |table| {
///         table.put("publisher_confirms", true);
///     });
/// });
/// let table = Table::new(&octets);
/// assert_eq!(table.get("product").unwrap(), Some(Value::LongString(b"RabbitMQ")));
/// ```
#[derive(Debug)]
pub struct TableBuilder<'v> {
    out: &'v mut Vec<u8>,
}

impl<'v> TableBuilder<'v> {
    /// Appends to `out`, which then holds a table's octets without their length, as [`super::Table::new`] takes them.
    pub fn new(out: &'v mut Vec<u8>) -> Self {
        Self { out }
    }

    /// The octets of the table that `write` fills, without their length.
    pub fn build(write: impl FnOnce(&mut TableBuilder<'_>)) -> Vec<u8> {
        let mut octets = Vec::new();
        write(&mut TableBuilder::new(&mut octets));
        octets
    }

    /// Appends an entry. A name beyond 255 octets is cut. Floating point values must be finite to be read again.
    pub fn put<'b>(&mut self, name: &str, value: impl Into<Value<'b>>) -> &mut Self {
        wire::put_shortstr(self.out, name);
        value.into().write(self.out);
        self
    }

    /// Appends a nested table that `write` fills.
    pub fn table(&mut self, name: &str, write: impl FnOnce(&mut TableBuilder<'_>)) -> &mut Self {
        wire::put_shortstr(self.out, name);
        nested(self.out, b'F', |out| write(&mut TableBuilder { out }));
        self
    }

    /// Appends a nested array that `write` fills.
    pub fn array(&mut self, name: &str, write: impl FnOnce(&mut ArrayBuilder<'_>)) -> &mut Self {
        wire::put_shortstr(self.out, name);
        nested(self.out, b'A', |out| write(&mut ArrayBuilder { out }));
        self
    }
}

/// Appends the elements of an array to a `Vec<u8>`.
#[derive(Debug)]
pub struct ArrayBuilder<'v> {
    out: &'v mut Vec<u8>,
}

impl<'v> ArrayBuilder<'v> {
    /// Appends to `out`, which then holds an array's octets without their length, as [`super::Array::new`] takes them.
    pub fn new(out: &'v mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Appends an element.
    pub fn push<'b>(&mut self, value: impl Into<Value<'b>>) -> &mut Self {
        value.into().write(self.out);
        self
    }

    /// Appends a table that `write` fills.
    pub fn table(&mut self, write: impl FnOnce(&mut TableBuilder<'_>)) -> &mut Self {
        nested(self.out, b'F', |out| write(&mut TableBuilder { out }));
        self
    }

    /// Appends an array that `write` fills.
    pub fn array(&mut self, write: impl FnOnce(&mut ArrayBuilder<'_>)) -> &mut Self {
        nested(self.out, b'A', |out| write(&mut ArrayBuilder { out }));
        self
    }
}

fn nested(out: &mut Vec<u8>, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    wire::put_with_length(out, write);
}
