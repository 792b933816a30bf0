//! Numbers as the letters, digits, `-` and `_` of base64url, least significant first: for names that the server makes up.

use alloc::string::String;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Characters of a number of 128 bits; RabbitMQ's made-up names end in as many.
pub(super) const KEY_LEN: usize = 22;

/// The lowest `6 × len` bits of a number.
pub(super) fn encode(bits: u128, len: usize) -> String {
    (0..len).map(|at| char::from(ALPHABET[bits.unbounded_shr(6 * at as u32) as usize & 63])).collect()
}

/// The number that [`encode`] makes `text` of; `None`: it makes it of none.
pub(super) fn decode(text: &str) -> Option<u128> {
    let mut bits = 0_u128;
    for octet in text.bytes().rev() {
        let digit = ALPHABET.iter().position(|character| *character == octet)?;
        bits = bits.checked_mul(64)? | digit as u128;
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(bits in any::<u128>()) {
            prop_assert_eq!(decode(&encode(bits, KEY_LEN)), Some(bits));
        }
    }

    #[test]
    fn what_no_number_makes_is_none() {
        assert_eq!(decode("AA="), None);
        assert_eq!(decode("ÄA"), None);
        assert_eq!(decode(&encode(u128::MAX, KEY_LEN)), Some(u128::MAX));
        assert_eq!(decode(&"_".repeat(KEY_LEN)), None, "it has four bits more");
    }
}
