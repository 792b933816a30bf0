//! Numbers of few octets: LEB128, least significant group first, at most ten octets.

use alloc::vec::Vec;

/// Appends `value`.
pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a number off the front of `octets`; `None` if they end within it or it does not fit into 64 bits.
pub(crate) fn take_varint(octets: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (octet, rest) = octets.split_first()?;
        *octets = rest;
        let group = u64::from(octet & 0x7f);
        value |= group << shift;
        if octet & 0x80 == 0 {
            return (value >> shift == group).then_some(value);
        }
    }
    None
}

/// Appends a difference that may be negative: its sign in the lowest bit.
pub(crate) fn put_signed(value: i64, out: &mut Vec<u8>) {
    put_varint(((value << 1) ^ (value >> 63)) as u64, out);
}

/// Reads what [`put_signed`] wrote.
pub(crate) fn take_signed(octets: &mut &[u8]) -> Option<i64> {
    let value = take_varint(octets)?;
    Some((value >> 1) as i64 ^ -((value & 1) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_every_cut_is_refused() {
        for value in [0, 1, 0x7f, 0x80, 300, 1 << 35, u64::MAX - 1, u64::MAX] {
            let mut octets = Vec::new();
            put_varint(value, &mut octets);
            let mut rest = &octets[..];
            assert_eq!((take_varint(&mut rest), rest.len()), (Some(value), 0));
            (0..octets.len()).for_each(|cut| assert_eq!(take_varint(&mut &octets[..cut]), None));
        }
    }

    #[test]
    fn signed_numbers_come_back() {
        for value in [0, 1, -1, 63, -64, i64::MAX, i64::MIN] {
            let mut octets = Vec::new();
            put_signed(value, &mut octets);
            assert_eq!(take_signed(&mut &octets[..]), Some(value));
        }
    }

    #[test]
    fn numbers_beyond_64_bits_are_refused() {
        assert_eq!(take_varint(&mut &[0xff; 11][..]), None);
        let mut octets = [0xff; 10];
        octets[9] = 2;
        assert_eq!(take_varint(&mut &octets[..]), None);
    }
}
