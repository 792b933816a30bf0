//! Rights that a token carries, as RabbitMQ's OAuth 2 plugin reads them.
//!
//! ```text
//! scope       permission `:` pattern `/` pattern [ `/` pattern ]   virtual host, name, routing key
//!           | `tag:` tag
//! permission  `configure` | `write` | `read`
//! pattern     octets, percent-encoded where they would mean something else; `*` stands for any octets
//! ```

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::permissions::Permission;
use crate::limits::TOKEN_SCOPES;

/// Somebody who showed a token, and what it says that they may do. Nothing of it is in the topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenIdentity {
    name: Arc<str>,
    tags: Vec<Arc<str>>,
    rights: Vec<Right>,
}

/// Why a token's scopes cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it has more than {TOKEN_SCOPES} scopes")]
pub struct TooManyScopes;

/// What one scope gives.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Right {
    permission: Permission,
    vhost: Wildcards,
    name: Wildcards,
    /// Without, it gives nothing where routing keys have a say (RabbitMQ).
    routing_key: Option<Wildcards>,
}

/// A pattern: what stands between its asterisks.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wildcards(Vec<Vec<u8>>);

impl TokenIdentity {
    /// `scopes`: those of the token that are meant for this broker, without the prefix that says so. One that is not understood
    /// gives nothing, as in RabbitMQ.
    ///
    /// # Errors
    /// There are more than [`TOKEN_SCOPES`].
    pub fn new<'s>(name: &str, scopes: impl IntoIterator<Item = &'s str>) -> Result<Self, TooManyScopes> {
        let (mut tags, mut rights) = (Vec::new(), Vec::new());
        for scope in scopes {
            if tags.len() + rights.len() >= TOKEN_SCOPES {
                return Err(TooManyScopes);
            }
            match scope.strip_prefix("tag:") {
                Some(tag) => tags.push(Arc::from(tag)),
                None => rights.extend(Right::read(scope)),
            }
        }
        Ok(Self { name: Arc::from(name), tags, rights })
    }

    /// What the token calls its holder.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// RabbitMQ's tags: `administrator`, `monitoring` and the like.
    pub fn tags(&self) -> &[Arc<str>] {
        &self.tags
    }

    /// Whether any right is in the virtual host.
    pub(super) fn enters(&self, vhost: &str) -> bool {
        self.rights.iter().any(|right| right.vhost.matches(vhost))
    }

    pub(super) fn permits(&self, permission: Permission, vhost: &str, name: &str) -> bool {
        self.rights.iter().any(|right| right.is_for(permission, vhost, name))
    }

    pub(super) fn permits_topic(&self, permission: Permission, vhost: &str, exchange: &str, key: &str) -> bool {
        self.rights.iter().any(|right| {
            right.is_for(permission, vhost, exchange)
                && right.routing_key.as_ref().is_some_and(|keys| keys.matches(key))
        })
    }
}

impl Right {
    fn read(scope: &str) -> Option<Self> {
        let (permission, patterns) = scope.split_once(':')?;
        let permission = match permission {
            "configure" => Permission::Configure,
            "write" => Permission::Write,
            "read" => Permission::Read,
            _ => return None,
        };
        let mut patterns = patterns.split('/');
        let (vhost, name, routing_key) = (patterns.next()?, patterns.next()?, patterns.next());
        if patterns.next().is_some() {
            return None;
        }
        let routing_key = match routing_key {
            Some(pattern) => Some(Wildcards::read(pattern)?),
            None => None,
        };
        Some(Self { permission, vhost: Wildcards::read(vhost)?, name: Wildcards::read(name)?, routing_key })
    }

    fn is_for(&self, permission: Permission, vhost: &str, name: &str) -> bool {
        self.permission == permission && self.vhost.matches(vhost) && self.name.matches(name)
    }
}

impl Wildcards {
    fn read(pattern: &str) -> Option<Self> {
        pattern.split('*').map(percent_decode).collect::<Option<_>>().map(Self)
    }

    /// The first piece is at the beginning, the last at the end, and each one between is taken where it comes first.
    fn matches(&self, text: &str) -> bool {
        let Some((first, rest)) = self.0.split_first() else { return false };
        let Some((last, middle)) = rest.split_last() else { return text.as_bytes() == first };
        let Some(text) = text.as_bytes().strip_prefix(&first[..]) else { return false };
        let Some(mut text) = text.strip_suffix(&last[..]) else { return false };
        for piece in middle.iter().filter(|piece| !piece.is_empty()) {
            let Some(at) = text.windows(piece.len()).position(|window| window == piece) else { return false };
            text = &text[at + piece.len()..];
        }
        true
    }
}

/// `None`: a percent sign without two hexadecimal digits behind it.
fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((octet, behind)) = rest.split_first() {
        (octets, rest) = match (octet, behind) {
            (b'%', [high, low, behind @ ..]) => {
                let digit = |octet: &u8| char::from(*octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                octets.push(digit(high)? << 4 | digit(low)?);
                (octets, behind)
            }
            (b'%', _) => return None,
            _ => {
                octets.push(*octet);
                (octets, behind)
            }
        };
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn wildcards(pattern: &str) -> Wildcards {
        Wildcards::read(pattern).expect("a pattern")
    }

    #[test]
    fn an_asterisk_stands_for_any_octets_and_nothing_else_does() {
        for (pattern, matching, others) in [
            ("*", &["", "a", "a/b*"][..], &[][..]),
            ("", &[""], &["a"]),
            ("a", &["a"], &["", "A", "aa", "ab", "ba"]),
            ("a*", &["a", "ab", "a*"], &["", "ba"]),
            ("*a", &["a", "ba", "aba"], &["", "ab"]),
            ("a*a", &["aa", "aba", "aaa"], &["a", "ab"]),
            ("a*b*c", &["abc", "a-b-c", "abcbc"], &["ac", "acb", "abcd"]),
            ("**", &["", "a"], &[]),
            ("a.*", &["a.", "a.b"], &["ab", "a"]),
            ("%2F", &["/"], &["%2F", ""]),
            ("t%2A", &["t*"], &["t", "tx", "t**"]),
            ("a+b", &["a+b"], &["a b", "aab"]),
            ("%c3%a4*", &["ä", "äx"], &["a"]),
        ] {
            for text in matching {
                assert!(wildcards(pattern).matches(text), "{pattern} {text}");
            }
            for text in others {
                assert!(!wildcards(pattern).matches(text), "{pattern} {text}");
            }
        }
    }

    #[test]
    fn a_scope_that_is_not_understood_gives_nothing() {
        for scope in [
            "",
            "read",
            "read:",
            "read:*",
            "read:*/a/b/c",
            "READ:*/*",
            " read:*/*",
            "delete:*/*",
            "read:*/a%2",
            "read:%zz/*",
            "read:*/*/%",
            "rabbitmq.read:*/*",
            "tags:administrator",
        ] {
            let identity = TokenIdentity::new("alice", [scope]).expect("one scope");
            assert!(identity.rights.is_empty() && identity.tags.is_empty(), "{scope}");
        }
    }

    #[test]
    fn a_right_is_that_of_its_permission_virtual_host_and_name() {
        let identity = TokenIdentity::new("alice", ["write:%2F/orders.*", "read:shop/*"]).expect("two scopes");
        let permits = |permission, vhost, name| identity.permits(permission, vhost, name);
        assert!(permits(Permission::Write, "/", "orders.new") && permits(Permission::Read, "shop", "x"));
        assert!(!permits(Permission::Read, "/", "orders.new") && !permits(Permission::Write, "shop", "orders.new"));
        assert!(!permits(Permission::Configure, "/", "orders.new"));
        assert!(identity.enters("/") && identity.enters("shop") && !identity.enters("other"));
    }

    #[test]
    fn routing_keys_take_a_third_pattern_of_the_same_scope() {
        let scopes = ["write:*/a/b*", "write:*/c", "write:*/d/", "read:*/e/x", "write:*/e/y"];
        let identity = TokenIdentity::new("alice", scopes).expect("a few scopes");
        let may = |exchange, key| identity.permits_topic(Permission::Write, "/", exchange, key);
        assert!(may("a", "b.c") && may("d", "") && may("e", "y"));
        assert!(!may("a", "c") && !may("c", "") && !may("d", "x") && !may("e", "x"));
    }

    #[test]
    fn a_token_has_as_many_scopes_as_the_limit_says_and_no_more() {
        let scopes: Vec<_> = (0..=TOKEN_SCOPES).map(|number| format!("read:*/q{number}")).collect();
        let of = |count: usize| TokenIdentity::new("alice", scopes[..count].iter().map(|scope| &**scope));
        assert!(of(TOKEN_SCOPES).is_ok());
        assert_eq!(of(TOKEN_SCOPES + 1), Err(TooManyScopes));
    }
}
