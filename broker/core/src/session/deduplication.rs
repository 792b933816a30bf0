//! What duplicates of a message have in common: the header `x-deduplication-header`, with any value.

use warren_amqp::{Table, Value};

/// The header.
const NAME: &str = "x-deduplication-header";

/// The value of the header as a number that equal values share, and practically no others: FNV-1a over 128 bits. It is in
/// the log, so it stays what it is. `None`: there is no such header, or it says nothing.
pub(super) fn deduplication_key(headers: Table<'_>) -> Option<u128> {
    let value = headers.get(NAME).ok().flatten()?;
    if let Some(integer) = value.as_integer() {
        // Clients write the same number in different widths.
        return Some(hash(b'l', &integer.to_be_bytes()));
    }
    Some(match value {
        Value::LongString(octets) | Value::Binary(octets) => hash(b'S', octets),
        Value::Bool(value) => hash(b't', &[u8::from(value)]),
        Value::F32(value) => hash(b'd', &f64::from(value).to_be_bytes()),
        Value::F64(value) => hash(b'd', &value.to_be_bytes()),
        Value::Timestamp(seconds) => hash(b'T', &seconds.to_be_bytes()),
        Value::Decimal { scale, unscaled } => hash(scale, &unscaled.to_be_bytes()),
        Value::Array(array) => hash(b'A', array.octets()),
        Value::Table(table) => hash(b'F', table.octets()),
        _ => return None,
    })
}

fn hash(kind: u8, octets: &[u8]) -> u128 {
    const OFFSET_BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let step = |hash: u128, octet: &u8| (hash ^ u128::from(*octet)).wrapping_mul(PRIME);
    octets.iter().fold(step(OFFSET_BASIS, &kind), step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use warren_amqp::TableBuilder;

    fn key<'v>(value: impl Into<Value<'v>>) -> Option<u128> {
        deduplication_key(Table::new(&TableBuilder::build(|table| _ = table.put(NAME, value))))
    }

    #[test]
    fn equal_values_have_one_key_and_others_have_others() {
        let different = [
            key("a"),
            key("b"),
            key(""),
            key(1),
            key(2),
            key("1"),
            key(true),
            key(Value::F64(1.0)),
            key(Value::Timestamp(1)),
            key(Value::Decimal { scale: 1, unscaled: 1 }),
        ];
        for (at, one) in different.iter().enumerate() {
            assert!(one.is_some());
            assert!(different[..at].iter().all(|other| one != other), "{at}");
        }
        assert_eq!(key("a"), key(Value::Binary(b"a")));
        assert_eq!(key(7), key(Value::U8(7)));
        assert_eq!(key(Value::F32(0.5)), key(Value::F64(0.5)));
    }

    #[test]
    fn a_header_that_is_not_there_or_says_nothing_makes_no_key() {
        assert_eq!(key(Value::Void), None);
        assert_eq!(deduplication_key(Table::EMPTY), None);
    }

    #[test]
    fn keys_are_the_same_in_every_version() {
        assert_eq!(hash(b'a', b""), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964, "FNV-1a of \"a\", as published");
        assert_eq!(key("foobar"), Some(hash(b'S', b"foobar")));
    }
}
