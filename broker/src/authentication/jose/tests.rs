//! Tokens that are right, and all ways in which others have been taken for right.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use serde_json::json;

use super::*;

/// A key that signs tokens.
pub(in crate::authentication) struct Signer {
    algorithm: SignatureAlgorithm,
    key: Private,
}

enum Private {
    Rsa(RsaKeyPair),
    Elliptic(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    pub(in crate::authentication) fn new(algorithm: SignatureAlgorithm) -> Self {
        let elliptic = |of| Private::Elliptic(EcdsaKeyPair::generate(of).expect("a key"));
        let key = match algorithm {
            SignatureAlgorithm::ES256 => elliptic(&ECDSA_P256_SHA256_FIXED_SIGNING),
            SignatureAlgorithm::ES384 => elliptic(&ECDSA_P384_SHA384_FIXED_SIGNING),
            SignatureAlgorithm::ES512 => elliptic(&ECDSA_P521_SHA512_FIXED_SIGNING),
            SignatureAlgorithm::EdDSA => Private::Ed25519(Ed25519KeyPair::generate().expect("a key")),
            _ => Private::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).expect("a key")),
        };
        Self { algorithm, key }
    }

    /// The public key, as issuers publish it.
    pub(in crate::authentication) fn public(&self, id: &str) -> Value {
        let base64 = |octets: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(octets);
        match &self.key {
            Private::Rsa(key) => {
                let [n, e] = rsa_numbers(key.public_key().as_ref());
                json!({"kty": "RSA", "kid": id, "use": "sig", "n": base64(n), "e": base64(e)})
            }
            Private::Elliptic(key) => {
                let point = &key.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = match self.algorithm {
                    SignatureAlgorithm::ES256 => "P-256",
                    SignatureAlgorithm::ES384 => "P-384",
                    _ => "P-521",
                };
                json!({"kty": "EC", "crv": curve, "kid": id, "x": base64(x), "y": base64(y)})
            }
            Private::Ed25519(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": base64(key.public_key().as_ref())})
            }
        }
    }

    fn sign(&self, signed: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.key {
            Private::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(self.encoding(), &random, signed, &mut signature).expect("signed");
                signature
            }
            Private::Elliptic(key) => key.sign(&random, signed).expect("signed").as_ref().to_vec(),
            Private::Ed25519(key) => key.sign(signed).as_ref().to_vec(),
        }
    }

    fn encoding(&self) -> &'static dyn RsaEncoding {
        match self.algorithm {
            SignatureAlgorithm::RS384 => &RSA_PKCS1_SHA384,
            SignatureAlgorithm::RS512 => &RSA_PKCS1_SHA512,
            SignatureAlgorithm::PS256 => &RSA_PSS_SHA256,
            SignatureAlgorithm::PS384 => &RSA_PSS_SHA384,
            SignatureAlgorithm::PS512 => &RSA_PSS_SHA512,
            _ => &RSA_PKCS1_SHA256,
        }
    }

    /// A token with that head and these claims.
    pub(in crate::authentication) fn token_with(&self, head: &Value, claims: &Value) -> String {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(head), part(claims));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    pub(in crate::authentication) fn token(&self, id: &str, claims: &Value) -> String {
        self.token_with(&json!({"alg": self.algorithm, "kid": id, "typ": "JWT"}), claims)
    }
}

/// Modulus and exponent of an RSA key (RFC 8017 A.1.1: a sequence of two integers).
fn rsa_numbers(der: &[u8]) -> [&[u8]; 2] {
    let (_, _, sequence) = element(der);
    let (n, behind, _) = element(sequence);
    let (e, _, _) = element(behind);
    // A number whose first bit is set has a zero in front.
    [n, e].map(|number| number.strip_prefix(&[0]).unwrap_or(number))
}

/// The content of the first element, what is behind it, and once more its content.
fn element(der: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let long = der[1].checked_sub(0x80).map_or(0, usize::from);
    let len = match long {
        0 => usize::from(der[1]),
        _ => der[2..2 + long].iter().fold(0, |len, octet| len << 8 | usize::from(*octet)),
    };
    let (content, behind) = der[2 + long..].split_at(len);
    (content, behind, content)
}

/// What issuers publish of keys.
pub(in crate::authentication) fn document(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

fn keys(keys: &[Value]) -> Keys {
    Keys::parse(&document(keys)).expect("usable keys")
}

fn check(token: &str, keys: &Keys) -> Result<(), JoseError> {
    Token::parse(token.as_bytes())?.verify(keys, &SignatureAlgorithm::ALL).map(drop)
}

#[test]
fn a_token_of_each_algorithm_is_taken_and_a_changed_one_is_not() {
    for algorithm in SignatureAlgorithm::ALL {
        let (signer, other) = (Signer::new(algorithm), Signer::new(algorithm));
        let (own, others) = (keys(&[signer.public("k")]), keys(&[other.public("k")]));
        let token = signer.token("k", &json!({"sub": "alice"}));
        assert_eq!(check(&token, &own), Ok(()), "{algorithm:?}");
        assert_eq!(check(&token, &others), Err(JoseError::Signature), "{algorithm:?}");
        let [head, _, signature] =
            parts(token.as_bytes()).expect("three parts").map(|part| String::from_utf8_lossy(part));
        let claims = BASE64_URL_SAFE_NO_PAD.encode(r#"{"sub":"mallory"}"#);
        assert_eq!(check(&format!("{head}.{claims}.{signature}"), &own), Err(JoseError::Signature));
        assert_eq!(check(&format!("{head}.{claims}."), &own), Err(JoseError::Signature), "no signature");
    }
}

#[test]
fn a_token_without_signature_or_with_a_shared_secret_is_never_taken() {
    let signer = Signer::new(SignatureAlgorithm::RS256);
    let mut secret = signer.public("k");
    secret["kty"] = json!("oct");
    secret["k"] = secret["n"].clone();
    let keys = keys(&[signer.public("k"), secret, json!({"kty": "oct", "kid": "s", "k": "c2VjcmV0"})]);
    for name in ["none", "None", "nOnE", "", "HS256", "HS384", "HS512", "rs256", "ES256K", "RS256 "] {
        for id in ["k", "s"] {
            let token = signer.token_with(&json!({"alg": name, "kid": id}), &json!({}));
            assert_eq!(check(&token, &keys), Err(JoseError::Algorithm), "{name}");
            let unsigned = token.rsplit_once('.').expect("three parts").0;
            assert!(check(&format!("{unsigned}."), &keys).is_err(), "{name}");
        }
    }
}

#[test]
fn a_key_is_used_for_its_own_algorithm_only() {
    let rsa = Signer::new(SignatureAlgorithm::RS256);
    let claims = json!({});
    let mut named = rsa.public("k");
    named["alg"] = json!("PS256");
    assert_eq!(check(&rsa.token("k", &claims), &keys(&[named])), Err(JoseError::UnknownKey));
    let elliptic = Signer::new(SignatureAlgorithm::ES256);
    for name in ["ES256", "ES384", "EdDSA"] {
        let token = rsa.token_with(&json!({"alg": name, "kid": "k"}), &claims);
        assert_eq!(check(&token, &keys(&[rsa.public("k")])), Err(JoseError::UnknownKey), "{name}");
    }
    let token = elliptic.token_with(&json!({"alg": "RS256", "kid": "k"}), &claims);
    assert_eq!(check(&token, &keys(&[elliptic.public("k")])), Err(JoseError::UnknownKey));
    let mut encrypting = rsa.public("e");
    encrypting["use"] = json!("enc");
    assert!(matches!(Keys::parse(&document(&[encrypting])), Err(KeysError::NoneUsable)));
    for (operations, is_usable) in
        [(json!(["verify"]), true), (json!(["sign", "verify"]), true), (json!(["sign"]), false), (json!([]), false)]
    {
        let mut limited = rsa.public("o");
        limited["key_ops"] = operations;
        assert_eq!(Keys::parse(&document(&[limited.clone()])).is_ok(), is_usable, "{limited}");
    }
    let allowed = Token::parse(elliptic.token("k", &claims).as_bytes())
        .expect("well-formed")
        .verify(&keys(&[elliptic.public("k")]), &[SignatureAlgorithm::RS256])
        .map(drop);
    assert_eq!(allowed, Err(JoseError::Algorithm), "the issuer does not sign with it");
}

#[test]
fn a_head_names_a_key_of_the_issuer_and_brings_none_along() {
    let (signer, mallory) = (Signer::new(SignatureAlgorithm::ES256), Signer::new(SignatureAlgorithm::ES256));
    let keys = keys(&[signer.public("k"), Signer::new(SignatureAlgorithm::ES256).public("other")]);
    let long = "k".repeat(4_000);
    for id in ["", "K", "k ", "k\u{0}", "../k", "k' OR '1'='1", "/dev/null", "http://[::1]/k", &long] {
        assert_eq!(check(&signer.token(id, &json!({})), &keys), Err(JoseError::UnknownKey), "{id}");
    }
    let head = json!({
        "alg": "ES256", "kid": "mine", "jwk": mallory.public("mine"), "jku": "https://127.0.0.1/keys",
        "x5u": "https://127.0.0.1/chain", "x5c": ["MIIB"],
    });
    assert_eq!(check(&mallory.token_with(&head, &json!({})), &keys), Err(JoseError::UnknownKey));
    for critical in [json!(["exp"]), json!([]), json!(null), json!("")] {
        let head = json!({"alg": "ES256", "kid": "k", "crit": critical});
        assert_eq!(check(&signer.token_with(&head, &json!({})), &keys), Err(JoseError::Critical), "{critical}");
    }
    let nameless = signer.token_with(&json!({"alg": "ES256"}), &json!({}));
    assert_eq!(check(&nameless, &keys), Err(JoseError::UnknownKey), "two keys might be meant");
    let alone = Keys(vec![Key::read(signer.public("k")).expect("a key")]);
    assert_eq!(check(&nameless, &alone), Ok(()));
}

#[test]
fn what_is_no_token_is_refused_whatever_it_looks_like() {
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let (head, claims) = (part(r#"{"alg":"RS256"}"#), part("{}"));
    let deep = part(&"[".repeat(10_000));
    for text in [
        String::new(),
        "..".into(),
        "a.b.c".into(),
        format!("{head}.{claims}"),
        format!("{head}.{claims}.AA.AA"),
        format!("{head}.{claims}.AA=="),
        format!("{head}.{claims}.A A"),
        format!("{head}.{}.AA", part("[]")),
        format!("{head}.{}.AA", part("{")),
        format!("{head}.{deep}.AA"),
        format!("{}.{claims}.AA", part(r#"{"alg":5}"#)),
        format!("{}.{claims}.AA", part("{}")),
    ] {
        assert_eq!(Token::parse(text.as_bytes()).err(), Some(JoseError::Malformed), "{text:.40}");
    }
    for octets in [&b"\xff.\xff.\xff"[..], b"eyJ.\0.\n"] {
        assert_eq!(Token::parse(octets).err(), Some(JoseError::Malformed));
    }
}

#[test]
fn a_password_is_a_token_if_it_has_three_parts_of_which_the_first_is_an_object() {
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    for (password, is_token) in [
        (format!("{}.a.b", part(r#"{"alg":"RS256"}"#)), true),
        (format!("{}.a.b", part(r#"{ "alg": "RS256" }"#)), true),
        (format!("{}.a.b", part("\n{}")), true),
        (format!("{}.a", part("{}")), false),
        (format!("{}.a.b.c", part("{}")), false),
        (format!("{}.a.b", part("[]")), false),
        (format!("{}.a.b", part("{")), false),
        ("eyJ.is.mine".to_owned(), false),
        ("correct.horse.battery".to_owned(), false),
        (String::new(), false),
    ] {
        assert_eq!(looks_like_a_token(password.as_bytes()), is_token, "{password}");
    }
}

#[test]
fn a_token_has_at_most_16_kib() {
    let signer = Signer::new(SignatureAlgorithm::EdDSA);
    let token = |len: usize| signer.token("k", &json!({"sub": "a".repeat(len)}));
    let short = token(0).len();
    let fits = token((TOKEN_BYTES - short) / 4 * 3);
    assert!(fits.len() <= TOKEN_BYTES && fits.len() > TOKEN_BYTES - 8);
    assert!(Token::parse(fits.as_bytes()).is_ok());
    assert_eq!(Token::parse(token(TOKEN_BYTES / 4 * 3).as_bytes()).err(), Some(JoseError::TooLong));
}

#[test]
fn a_document_of_keys_has_some_and_not_too_many() {
    let key = |number: usize| json!({"kty": "OKP", "crv": "Ed25519", "kid": number.to_string(), "x": BASE64_URL_SAFE_NO_PAD.encode([1; 32])});
    let many: Vec<_> = (0..=ISSUER_KEYS).map(key).collect();
    assert!(Keys::parse(&document(&many[..ISSUER_KEYS])).is_ok());
    assert!(matches!(Keys::parse(&document(&many)), Err(KeysError::TooMany)));
    for unusable in ["", "null", "[]", "{}", r#"{"keys": {}}"#, "<html>500</html>", r#"{"error": "unavailable"}"#] {
        assert!(matches!(Keys::parse(unusable.as_bytes()), Err(KeysError::NoKeys)), "{unusable}");
    }
    let broken = [
        json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}),
        json!({"kty": "EC", "crv": "P-224", "x": "AA", "y": "AA"}),
        json!({"kty": "RSA", "n": "*", "e": "AQAB"}),
        json!({"kty": "RSA"}),
        json!({"kty": 1}),
        json!(null),
    ];
    assert!(matches!(Keys::parse(&document(&broken)), Err(KeysError::NoneUsable)));
    assert!(matches!(Keys::parse(&document(&[])), Err(KeysError::NoneUsable)));
    let one_good: Vec<_> = broken.iter().cloned().chain([key(1)]).collect();
    assert!(Keys::parse(&document(&one_good)).is_ok(), "the others are passed over");
}

#[test]
fn keys_that_are_too_short_or_none_verify_nothing() {
    let signer = Signer::new(SignatureAlgorithm::RS256);
    let token = signer.token("k", &json!({}));
    let octets = |len: usize| BASE64_URL_SAFE_NO_PAD.encode(vec![0xff; len]);
    for (n, e) in
        [(octets(128), "AQAB".into()), (octets(0), "AQAB".into()), (octets(256), octets(0)), (octets(256), octets(300))]
    {
        let keys = keys(&[json!({"kty": "RSA", "kid": "k", "n": n, "e": e})]);
        assert_eq!(check(&token, &keys), Err(JoseError::Signature));
    }
}
