//! What a token has to say, and what follows from it.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;

use super::super::jose::SignatureAlgorithm;
use super::super::jose::tests::{Signer, document};
use super::*;

const ISSUER: &str = "https://login.example.com/realms/orders";
/// The time at which tokens are shown, in seconds.
const NOW: u64 = 1_800_000_000;

fn config(more: &str) -> IssuerConfig {
    toml::from_str(&format!("issuer = '{ISSUER}'\naudience = 'orders'\n{more}")).expect("settings")
}

fn issuer(more: &str) -> Issuer {
    Issuer::new(config(more), Metrics::new().expect("metrics"))
}

/// The claims of a token that is right, with some of them changed; null takes one away.
fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "aud": "orders", "exp": NOW + 60, "sub": "alice", "scope": "orders.read:*/* other.write:*/*",
    });
    let changes = changes.as_object().expect("an object").clone();
    for (name, value) in changes {
        match value {
            Value::Null => drop(claims.as_object_mut().expect("an object").remove(&name)),
            value => claims[name] = value,
        }
    }
    claims
}

fn read(issuer: &Issuer, changes: Value) -> Result<Authenticated, TokenError> {
    let signer = Signer::new(SignatureAlgorithm::EdDSA);
    let keys = Keys::parse(&document(&[signer.public("k")])).expect("a key");
    let token = signer.token("k", &claims(changes));
    let claims = Token::parse(token.as_bytes())?.verify(&keys, &issuer.config.algorithms)?;
    issuer.read(&claims, UNIX_EPOCH + Duration::from_secs(NOW))
}

fn identity(issuer: &Issuer, changes: Value) -> Arc<TokenIdentity> {
    match read(issuer, changes).expect("a good token").identity {
        Identity::Token(token) => token,
        other => panic!("{other:?}"),
    }
}

#[test]
fn issuer_and_audience_are_exactly_those_that_are_configured() {
    let issuer = issuer("");
    for (iss, right) in [
        (json!(ISSUER), true),
        (json!(format!("{ISSUER}/")), false),
        (json!(ISSUER.to_uppercase()), false),
        (json!("https://login.example.com"), false),
        (json!([ISSUER]), false),
        (json!(null), false),
    ] {
        let expected = if right { None } else { Some(TokenError::Claim("iss")) };
        assert_eq!(read(&issuer, json!({"iss": iss})).err(), expected, "{iss}");
    }
    for (aud, right) in [
        (json!("orders"), true),
        (json!(["other", "orders"]), true),
        (json!("orders other"), false),
        (json!("order"), false),
        (json!("ORDERS"), false),
        (json!(["order", "orders2"]), false),
        (json!([["orders"]]), false),
        (json!({"orders": true}), false),
        (json!([]), false),
        (json!(null), false),
    ] {
        let expected = if right { None } else { Some(TokenError::Claim("aud")) };
        assert_eq!(read(&issuer, json!({"aud": aud})).err(), expected, "{aud}");
    }
}

#[test]
fn a_token_says_until_when_it_is_valid_in_numbers() {
    let issuer = issuer("");
    for exp in [json!(NOW + 60), json!(NOW as f64 + 60.0)] {
        let expires = read(&issuer, json!({"exp": exp})).expect("a good token").expires;
        assert_eq!(expires, Some(UNIX_EPOCH + Duration::from_secs(NOW + 60)));
    }
    for exp in [json!(NOW), json!(NOW - 1), json!(NOW as f64 - 0.5), json!(0), json!(-1), json!(-1e300)] {
        assert_eq!(read(&issuer, json!({"exp": exp})).err(), Some(TokenError::Expired), "{exp}");
    }
    for exp in [json!(null), json!((NOW + 60).to_string()), json!([NOW + 60]), json!(true), json!({})] {
        assert_eq!(read(&issuer, json!({"exp": exp})).err(), Some(TokenError::Claim("exp")), "{exp}");
    }
    for exp in [json!(u64::MAX), json!(1e300)] {
        assert!(read(&issuer, json!({"exp": exp})).is_ok(), "{exp} is far away");
    }
}

#[test]
fn a_token_may_be_half_a_minute_too_early_for_our_clock() {
    let issuer = issuer("");
    for (nbf, expected) in [
        (json!(NOW - 1), None),
        (json!(NOW + 30), None),
        (json!(NOW + 31), Some(TokenError::NotYet)),
        (json!("0"), Some(TokenError::Claim("nbf"))),
    ] {
        assert_eq!(read(&issuer, json!({"nbf": nbf})).err(), expected, "{nbf}");
    }
}

#[test]
fn the_name_is_in_the_first_claim_that_is_there_and_in_no_other() {
    let (usual, own) = (issuer(""), issuer("username_claims = ['preferred_username', 'sub', 'account.name']"));
    let name = |issuer, changes| identity(issuer, changes).name().to_string();
    assert_eq!(name(&usual, json!({"preferred_username": "al"})), "alice");
    assert_eq!(name(&usual, json!({"sub": null, "client_id": "billing"})), "billing");
    assert_eq!(name(&own, json!({"preferred_username": "al"})), "al");
    for unusable in [json!(""), json!(5), json!("a\nb"), json!("a".repeat(256))] {
        let refused = read(&own, json!({"preferred_username": unusable})).err();
        assert_eq!(refused, Some(TokenError::NoName), "another claim may be somebody else's to choose");
    }
    assert_eq!(name(&own, json!({"sub": null, "account": {"name": "inner"}})), "inner");
    let long = "a".repeat(256);
    for sub in [json!(null), json!(""), json!(5), json!(["alice"]), json!("a\nb"), json!(long)] {
        assert_eq!(read(&usual, json!({"sub": sub})).err(), Some(TokenError::NoName), "{sub}");
    }
}

#[test]
fn scopes_with_the_prefix_count_and_others_do_not() {
    let scopes = |more: &str, changes: Value| {
        let tags = identity(&issuer(more), changes).tags().to_vec();
        tags.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let scope = json!({"scope": "orders.tag:a tag:b  order.tag:c ORDERS.tag:d orders.tag:e"});
    assert_eq!(scopes("", scope.clone()), ["a", "e"]);
    assert_eq!(scopes("scope_prefix = ''", scope.clone()), ["b"]);
    assert_eq!(scopes("scope_prefix = 'order.'", scope), ["c"]);
    assert_eq!(scopes("", json!({"scope": ["orders.tag:a", "orders.tag:b orders.tag:c", 5]})), ["a", "b", "c"]);
    assert_eq!(scopes("", json!({"scope": {"orders.tag:a": 1}})), [] as [&str; 0]);
    let more = "additional_scopes_keys = ['roles', 'resource.orders.roles']";
    let changes = json!({
        "scope": null, "roles": ["orders.tag:a"], "resource": {"orders": {"roles": ["orders.tag:b"]}},
    });
    assert_eq!(scopes(more, changes), ["a", "b"]);
    let aliases = "scope_aliases = {operator = ['orders.tag:administrator', 'orders.tag:x']}";
    assert_eq!(scopes(aliases, json!({"scope": "operator operators"})), ["administrator", "x"]);
}

#[test]
fn a_token_with_too_many_scopes_is_refused() {
    let scope = "orders.read:a/b ".repeat(warren_core::limits::TOKEN_SCOPES + 1);
    assert_eq!(read(&issuer(""), json!({"scope": scope})).err(), Some(TokenError::TooManyScopes(TooManyScopes)));
}

#[test]
fn the_holder_may_be_a_user_whatever_the_scopes_say() {
    let account = "system:serviceaccount:shop:billing";
    let found = read(&issuer("rights = 'user'"), json!({"sub": account})).expect("a good token");
    assert_eq!(found.identity, Identity::User(account.into()));
    assert_eq!(found.expires, Some(UNIX_EPOCH + Duration::from_secs(NOW + 60)));
}
