//! Field tables and arrays, kept as the octets they arrived as and walked one entry at a time.
//!
//! A table is a `long` with its size in octets, then entries: a short string name, a type octet, a value. An array is
//! the same without names. The types are RabbitMQ's, which differ from the specification's list:
//!
//! | octet | value | RabbitMQ's name | | octet | value | RabbitMQ's name |
//! |---|---|---|---|---|---|---|
//! | `t` | octet, 0 is false | bool | | `D` | octet scale, unsigned long | decimal |
//! | `b` / `B` | 8 bits, signed / unsigned | byte / unsignedbyte | | `S` | long string | longstr |
//! | `s` / `u` | 16 bits, signed / unsigned | short / unsignedshort | | `x` | octets with a long length | binary |
//! | `I` / `i` | 32 bits, signed / unsigned | signedint / unsignedint | | `A` | array | array |
//! | `l`, `L` | 64 bits, both signed | long | | `T` | 64 bits, seconds since 1970 | timestamp |
//! | `f` / `d` | IEEE 754, 32 / 64 bits | float / double | | `F` | table | table |
//! | | | | | `V` | nothing | void |
//!
//! Nothing here recurses and nothing is allocated by a declared size: a table nested a thousand times costs no stack.
//! Names need not be distinct on the wire; the first of several equal names counts, as in RabbitMQ.

use alloc::vec::Vec;
use core::str;

use crate::error::ReplyCode;
use crate::limits::TableLimits;
use crate::wire;

mod builder;

pub use builder::{ArrayBuilder, TableBuilder};

/// A field table: its octets without the length in front. Not checked; see [`Table::validate`].
///
/// Equality is that of octets: the same entries in another order are another table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Table<'a>(&'a [u8]);

/// A field array: its octets without the length in front. Not checked; see [`Table::validate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Array<'a>(&'a [u8]);

/// One value in a table or array, named after its width; the module's table has RabbitMQ's names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// `t`
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l`, and `L` when read
    I64(i64),
    /// `f`; always finite
    F32(f32),
    /// `d`; always finite
    F64(f64),
    /// `D`: `unscaled` divided by ten to the power of `scale`
    Decimal {
        /// Digits after the decimal point.
        scale: u8,
        /// The number without its point.
        unscaled: u32,
    },
    /// `S`: text as a rule, but any octets
    LongString(&'a [u8]),
    /// `x`
    Binary(&'a [u8]),
    /// `A`
    Array(Array<'a>),
    /// `T`: seconds since 1970-01-01 UTC
    Timestamp(u64),
    /// `F`
    Table(Table<'a>),
    /// `V`
    Void,
}

/// Why a table cannot be walked to its end, or may not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// An entry goes on after its table's end.
    #[error("field table: an entry is cut short")]
    Truncated,
    /// A type octet that RabbitMQ does not have.
    #[error("field table: unknown type octet {0:#04x}")]
    UnknownType(u8),
    /// A name that is not UTF-8.
    #[error("field table: a name is not UTF-8")]
    NameNotUtf8,
    /// A float or double that is infinite or not a number. RabbitMQ cannot hold these either.
    #[error("field table: a floating point value is not finite")]
    NotFinite,
    /// More levels than [`TableLimits::depth`].
    #[error("field table: nested deeper than {limit} levels")]
    TooDeep {
        /// The limit that was applied.
        limit: usize,
    },
    /// More entries than [`TableLimits::entries`].
    #[error("field table: more than {limit} entries")]
    TooManyEntries {
        /// The limit that was applied.
        limit: usize,
    },
    /// More octets than [`TableLimits::octets`].
    #[error("field table: {size} octets, more than {limit}")]
    TooLarge {
        /// Octets of the table.
        size: usize,
        /// The limit that was applied.
        limit: usize,
    },
}

impl TableError {
    /// The code to close the connection with: 541 for what RabbitMQ cannot decode, as there; 502 for a bad name;
    /// 506 beyond a limit.
    pub const fn reply_code(&self) -> ReplyCode {
        match self {
            Self::Truncated | Self::UnknownType(_) | Self::NotFinite => ReplyCode::InternalError,
            Self::NameNotUtf8 => ReplyCode::SyntaxError,
            Self::TooDeep { .. } | Self::TooManyEntries { .. } | Self::TooLarge { .. } => ReplyCode::ResourceError,
        }
    }
}

impl<'a> Table<'a> {
    /// The table without entries.
    pub const EMPTY: Table<'static> = Table(&[]);

    /// A table's octets, its length not among them.
    #[inline]
    pub const fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    /// The octets, without the length.
    #[inline]
    pub const fn octets(self) -> &'a [u8] {
        self.0
    }

    /// Whether there is no entry.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The entries in wire order. Nested tables and arrays come as one value; nothing descends into them.
    #[inline]
    pub const fn iter(self) -> TableIter<'a> {
        TableIter { rest: self.0 }
    }

    /// The first value of that name.
    ///
    /// # Errors
    /// An entry on the way to it cannot be read.
    pub fn get(self, name: &str) -> Result<Option<Value<'a>>, TableError> {
        for entry in self {
            let (found, value) = entry?;
            if found == name {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// Walks everything, nested tables and arrays included, and checks it against the limits. Afterwards no method of
    /// this table or of the tables in it can fail.
    ///
    /// # Errors
    /// The first thing that cannot be read or is beyond a limit.
    pub fn validate(self, limits: &TableLimits) -> Result<(), TableError> {
        if self.0.len() > limits.octets {
            return Err(TableError::TooLarge { size: self.0.len(), limit: limits.octets });
        }
        if limits.depth == 0 {
            return Err(TableError::TooDeep { limit: 0 });
        }
        let mut entries = 0_usize;
        let mut level = Level::Table(self.iter());
        let mut outer = Vec::new(); // the levels around `level`; never longer than limits.depth
        loop {
            let Some(value) = level.next_value() else {
                match outer.pop() {
                    Some(around) => level = around,
                    None => return Ok(()),
                }
                continue;
            };
            entries = entries.saturating_add(1);
            if entries > limits.entries {
                return Err(TableError::TooManyEntries { limit: limits.entries });
            }
            let inner = match value? {
                Value::Table(table) => Level::Table(table.iter()),
                Value::Array(array) => Level::Array(array.iter()),
                _ => continue,
            };
            outer.push(core::mem::replace(&mut level, inner));
            if outer.len() >= limits.depth {
                return Err(TableError::TooDeep { limit: limits.depth });
            }
        }
    }
}

impl<'a> IntoIterator for Table<'a> {
    type Item = Result<(&'a str, Value<'a>), TableError>;
    type IntoIter = TableIter<'a>;

    fn into_iter(self) -> TableIter<'a> {
        self.iter()
    }
}

impl<'a> Array<'a> {
    /// An array's octets, its length not among them.
    #[inline]
    pub const fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    /// The octets, without the length.
    #[inline]
    pub const fn octets(self) -> &'a [u8] {
        self.0
    }

    /// Whether there is no element.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The elements in wire order.
    #[inline]
    pub const fn iter(self) -> ArrayIter<'a> {
        ArrayIter { rest: self.0 }
    }
}

impl<'a> IntoIterator for Array<'a> {
    type Item = Result<Value<'a>, TableError>;
    type IntoIter = ArrayIter<'a>;

    fn into_iter(self) -> ArrayIter<'a> {
        self.iter()
    }
}

/// Entries of a [`Table`]. After an error there is nothing more.
#[derive(Debug, Clone)]
pub struct TableIter<'a> {
    rest: &'a [u8],
}

impl<'a> TableIter<'a> {
    /// The octets of the entries that are still to come.
    #[inline]
    pub const fn octets(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for TableIter<'a> {
    type Item = Result<(&'a str, Value<'a>), TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let entry = split_name(self.rest).and_then(|(name, rest)| {
            let (value, rest) = split_value(rest)?;
            Ok(((name, value), rest))
        });
        step(&mut self.rest, entry)
    }
}

/// Elements of an [`Array`]. After an error there is nothing more.
#[derive(Debug, Clone)]
pub struct ArrayIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for ArrayIter<'a> {
    type Item = Result<Value<'a>, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let element = split_value(self.rest);
        step(&mut self.rest, element)
    }
}

/// One level of a walk.
enum Level<'a> {
    Table(TableIter<'a>),
    Array(ArrayIter<'a>),
}

impl<'a> Level<'a> {
    fn next_value(&mut self) -> Option<Result<Value<'a>, TableError>> {
        match self {
            Self::Table(entries) => entries.next().map(|entry| entry.map(|(_, value)| value)),
            Self::Array(elements) => elements.next(),
        }
    }
}

fn step<'a, T>(rest: &mut &'a [u8], split: Result<(T, &'a [u8]), TableError>) -> Option<Result<T, TableError>> {
    let (item, after) = match split {
        Ok((item, after)) => (Ok(item), after),
        Err(error) => (Err(error), Default::default()),
    };
    *rest = after;
    Some(item)
}

fn split_name(octets: &[u8]) -> Result<(&str, &[u8]), TableError> {
    let (&length, rest) = octets.split_first().ok_or(TableError::Truncated)?;
    let (name, rest) = rest.split_at_checked(usize::from(length)).ok_or(TableError::Truncated)?;
    let name = str::from_utf8(name).map_err(|_| TableError::NameNotUtf8)?;
    Ok((name, rest))
}

fn split_array<const N: usize>(octets: &[u8]) -> Result<([u8; N], &[u8]), TableError> {
    let (value, rest) = octets.split_first_chunk::<N>().ok_or(TableError::Truncated)?;
    Ok((*value, rest))
}

fn split_long(octets: &[u8]) -> Result<(&[u8], &[u8]), TableError> {
    let (length, rest) = split_array(octets)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    rest.split_at_checked(length).ok_or(TableError::Truncated)
}

fn split_value(octets: &[u8]) -> Result<(Value<'_>, &[u8]), TableError> {
    let (&kind, octets) = octets.split_first().ok_or(TableError::Truncated)?;
    Ok(match kind {
        b't' => split_array(octets).map(|([value], rest)| (Value::Bool(value != 0), rest))?,
        b'b' => split_array(octets).map(|(value, rest)| (Value::I8(i8::from_be_bytes(value)), rest))?,
        b'B' => split_array(octets).map(|([value], rest)| (Value::U8(value), rest))?,
        b's' => split_array(octets).map(|(value, rest)| (Value::I16(i16::from_be_bytes(value)), rest))?,
        b'u' => split_array(octets).map(|(value, rest)| (Value::U16(u16::from_be_bytes(value)), rest))?,
        b'I' => split_array(octets).map(|(value, rest)| (Value::I32(i32::from_be_bytes(value)), rest))?,
        b'i' => split_array(octets).map(|(value, rest)| (Value::U32(u32::from_be_bytes(value)), rest))?,
        b'l' | b'L' => split_array(octets).map(|(value, rest)| (Value::I64(i64::from_be_bytes(value)), rest))?,
        b'f' => {
            let (value, rest) = split_array(octets)?;
            let value = f32::from_be_bytes(value);
            (value.is_finite().then_some(Value::F32(value)).ok_or(TableError::NotFinite)?, rest)
        }
        b'd' => {
            let (value, rest) = split_array(octets)?;
            let value = f64::from_be_bytes(value);
            (value.is_finite().then_some(Value::F64(value)).ok_or(TableError::NotFinite)?, rest)
        }
        b'D' => {
            let ([scale, unscaled @ ..], rest) = split_array::<5>(octets)?;
            (Value::Decimal { scale, unscaled: u32::from_be_bytes(unscaled) }, rest)
        }
        b'T' => split_array(octets).map(|(value, rest)| (Value::Timestamp(u64::from_be_bytes(value)), rest))?,
        b'S' => split_long(octets).map(|(value, rest)| (Value::LongString(value), rest))?,
        b'x' => split_long(octets).map(|(value, rest)| (Value::Binary(value), rest))?,
        b'A' => split_long(octets).map(|(value, rest)| (Value::Array(Array(value)), rest))?,
        b'F' => split_long(octets).map(|(value, rest)| (Value::Table(Table(value)), rest))?,
        b'V' => (Value::Void, octets),
        other => return Err(TableError::UnknownType(other)),
    })
}

impl<'a> Value<'a> {
    /// RabbitMQ's name of the type, as its error texts have it: `longstr`, `signedint`, `bool`.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::I8(_) => "byte",
            Self::U8(_) => "unsignedbyte",
            Self::I16(_) => "short",
            Self::U16(_) => "unsignedshort",
            Self::I32(_) => "signedint",
            Self::U32(_) => "unsignedint",
            Self::I64(_) => "long",
            Self::F32(_) => "float",
            Self::F64(_) => "double",
            Self::Decimal { .. } => "decimal",
            Self::LongString(_) => "longstr",
            Self::Binary(_) => "binary",
            Self::Array(_) => "array",
            Self::Timestamp(_) => "timestamp",
            Self::Table(_) => "table",
            Self::Void => "void",
        }
    }

    /// The number of any of the seven integer types; RabbitMQ takes an argument's integer in any width.
    pub fn as_integer(&self) -> Option<i64> {
        Some(match *self {
            Self::I8(value) => value.into(),
            Self::U8(value) => value.into(),
            Self::I16(value) => value.into(),
            Self::U16(value) => value.into(),
            Self::I32(value) => value.into(),
            Self::U32(value) => value.into(),
            Self::I64(value) => value,
            _ => return None,
        })
    }

    /// The text of a long string that is UTF-8.
    pub fn as_str(&self) -> Option<&'a str> {
        match *self {
            Self::LongString(octets) => str::from_utf8(octets).ok(),
            _ => None,
        }
    }

    /// The value of a boolean.
    pub const fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// The nested table.
    pub const fn as_table(&self) -> Option<Table<'a>> {
        match *self {
            Self::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The nested array.
    pub const fn as_array(&self) -> Option<Array<'a>> {
        match *self {
            Self::Array(array) => Some(array),
            _ => None,
        }
    }

    /// Appends type octet and value.
    fn write(&self, out: &mut Vec<u8>) {
        let fixed = |out: &mut Vec<u8>, kind: u8, value: &[u8]| {
            out.push(kind);
            out.extend_from_slice(value);
        };
        let long = |out: &mut Vec<u8>, kind: u8, value: &[u8]| {
            out.push(kind);
            wire::put_longstr(out, value);
        };
        match *self {
            Self::Bool(value) => fixed(out, b't', &[u8::from(value)]),
            Self::I8(value) => fixed(out, b'b', &value.to_be_bytes()),
            Self::U8(value) => fixed(out, b'B', &value.to_be_bytes()),
            Self::I16(value) => fixed(out, b's', &value.to_be_bytes()),
            Self::U16(value) => fixed(out, b'u', &value.to_be_bytes()),
            Self::I32(value) => fixed(out, b'I', &value.to_be_bytes()),
            Self::U32(value) => fixed(out, b'i', &value.to_be_bytes()),
            Self::I64(value) => fixed(out, b'l', &value.to_be_bytes()),
            Self::F32(value) => fixed(out, b'f', &value.to_be_bytes()),
            Self::F64(value) => fixed(out, b'd', &value.to_be_bytes()),
            Self::Decimal { scale, unscaled } => {
                fixed(out, b'D', &[scale]);
                out.extend_from_slice(&unscaled.to_be_bytes());
            }
            Self::Timestamp(value) => fixed(out, b'T', &value.to_be_bytes()),
            Self::LongString(value) => long(out, b'S', value),
            Self::Binary(value) => long(out, b'x', value),
            Self::Array(value) => long(out, b'A', value.octets()),
            Self::Table(value) => long(out, b'F', value.octets()),
            Self::Void => out.push(b'V'),
        }
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::LongString(text.as_bytes())
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i32> for Value<'_> {
    fn from(value: i32) -> Self {
        Self::I32(value)
    }
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::I64(value)
    }
}
