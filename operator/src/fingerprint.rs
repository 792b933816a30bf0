//! Short fingerprints that tell whether something changed since it was last written.

use aws_lc_rs::digest::{Context, SHA256};

/// The first 64 bits of the SHA-256 of `parts`, as 16 hexadecimal digits. The same for the same parts in every release.
pub fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        // A terminator that no part contains keeps ["ab", "c"] and ["a", "bc"] apart.
        context.update(part.as_bytes());
        context.update(&[0xff]);
    }
    context.finish().as_ref()[..8].iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_is_stable_across_releases() {
        assert_eq!(fingerprint(["abc"]), "8e3b08dc1236880b");
    }

    #[test]
    fn the_split_into_parts_counts() {
        assert_ne!(fingerprint(["ab", "c"]), fingerprint(["a", "bc"]));
    }
}
