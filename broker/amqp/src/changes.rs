//! Changing a few properties of a message; the others stay octet for octet as they came.

use alloc::vec::Vec;

use crate::content::{EXPIRATION, HEADERS, Properties, REPLY_TO, skip};
use crate::error::DecodeError;
use crate::table::Table;
use crate::wire;

/// What is to be different in the properties of a message. By default nothing is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Changes<'a> {
    /// Entries of the headers table that go, by name.
    pub without: &'a [&'a str],
    /// Entries that come to the end of the headers table, in the place of all that have their names.
    pub with: Table<'a>,
    /// The property `expiration` goes.
    pub without_expiration: bool,
    /// The property `reply-to` is this, if there is one.
    pub reply_to: Option<&'a str>,
}

impl Changes<'_> {
    /// True if the entry of that name in the headers table stays.
    fn keep(&self, name: &str) -> Result<bool, DecodeError> {
        Ok(!self.without.contains(&name) && self.with.get(name)?.is_none())
    }
}

impl Properties<'_> {
    /// Appends flags and properties with these changes. A headers table comes into being if entries are added, and
    /// stays if none is left in it.
    ///
    /// # Errors
    /// The properties, or an entry of the headers table, are malformed; something may have been appended all the same.
    pub fn change(self, changes: &Changes<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        let (flags, mut reader) = self.split()?;
        let added = if changes.with.is_empty() { 0 } else { HEADERS };
        let dropped = if changes.without_expiration { EXPIRATION } else { 0 };
        let mut rest = flags | added;
        out.extend_from_slice(&(rest & !dropped).to_be_bytes());
        while rest != 0 {
            let property = 1 << 15 >> rest.leading_zeros();
            rest &= !property;
            if property == HEADERS {
                let headers = if flags & HEADERS == 0 { Table::EMPTY } else { reader.table("headers")? };
                change_headers(headers, changes, out)?;
                continue;
            }
            let before = reader.rest();
            skip(&mut reader, property)?;
            match (property, changes.reply_to) {
                (REPLY_TO, Some(reply_to)) => wire::put_shortstr(out, reply_to),
                (other, _) if other & dropped != 0 => {}
                _ => out.extend_from_slice(between(before, reader.rest())),
            }
        }
        reader.finish()
    }
}

fn change_headers(headers: Table<'_>, changes: &Changes<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let mut result = Ok(());
    wire::put_with_length(out, |out| {
        result = keep_entries(headers, changes, out);
        out.extend_from_slice(changes.with.octets());
    });
    result
}

fn keep_entries(headers: Table<'_>, changes: &Changes<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let mut entries = headers.iter();
    let mut before = entries.octets();
    while let Some(entry) = entries.next() {
        let (name, _) = entry?;
        if changes.keep(name)? {
            out.extend_from_slice(between(before, entries.octets()));
        }
        before = entries.octets();
    }
    Ok(())
}

/// What was read: the octets of `before` that are not in `after`, its end.
fn between<'a>(before: &'a [u8], after: &[u8]) -> &'a [u8] {
    let len = before.len().saturating_sub(after.len());
    before.get(..len).unwrap_or_default()
}
