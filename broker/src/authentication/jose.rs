//! Signed tokens (JWS in its compact form, RFC 7515), and the keys that they are checked with (JWK, RFC 7517).
//!
//! What the token's head says is never followed: it names an algorithm, which must be one of ours and fit the key, and a
//! key, which must be one of the issuer's. Keys or addresses of keys that it brings along are not looked at.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::limits::{ISSUER_KEYS, TOKEN_BYTES};

/// A token in its parts; nothing of it is to be believed yet.
pub(super) struct Token<'t> {
    algorithm: SignatureAlgorithm,
    key_id: Option<String>,
    claims: Claims,
    signed: &'t [u8],
    signature: Vec<u8>,
}

/// What a token says.
pub(super) struct Claims(Map<String, Value>);

/// What is wrong with a token; for the log, so that nothing of the token is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JoseError {
    #[error("it is longer than {TOKEN_BYTES} octets")]
    TooLong,
    #[error("it is not three parts of base64 with dots between them, of which the first two are objects of JSON")]
    Malformed,
    #[error("its head asks for something that is not understood here (crit)")]
    Critical,
    #[error("its algorithm is none of those that are taken here")]
    Algorithm,
    #[error("it is signed with a key that the issuer does not have, or that is for another algorithm")]
    UnknownKey,
    #[error("its signature is wrong")]
    Signature,
}

/// Algorithms of signatures, by their names in RFC 7518 and RFC 8037. None of them has a secret that two share, and none of
/// them is no signature at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum SignatureAlgorithm {
    /// RSA, PKCS#1 v1.5, with SHA-256.
    RS256,
    /// The same with SHA-384.
    RS384,
    /// The same with SHA-512.
    RS512,
    /// RSA, PSS, with SHA-256.
    PS256,
    /// The same with SHA-384.
    PS384,
    /// The same with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// ECDSA on P-521 with SHA-512.
    ES512,
    /// Ed25519.
    EdDSA,
}

impl SignatureAlgorithm {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::ES512,
        Self::EdDSA,
    ];

    /// The algorithm of that name; `None` if there is none.
    fn from_name(name: &str) -> Option<Self> {
        Self::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(name)).ok()
    }
}

/// The head of a token, as far as it matters.
#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    /// Whether it is there: also an empty or a null one asks for what is not understood (RFC 7515 §4.1.11).
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}

impl<'t> Token<'t> {
    /// Takes a token apart.
    pub(super) fn parse(octets: &'t [u8]) -> Result<Self, JoseError> {
        if octets.len() > TOKEN_BYTES {
            return Err(JoseError::TooLong);
        }
        let [head, claims, signature] = parts(octets).ok_or(JoseError::Malformed)?;
        let signed = &octets[..head.len() + 1 + claims.len()];
        let decode = |part| BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| JoseError::Malformed);
        let head: Head = serde_json::from_slice(&decode(head)?).map_err(|_| JoseError::Malformed)?;
        let claims = Claims(serde_json::from_slice(&decode(claims)?).map_err(|_| JoseError::Malformed)?);
        let signature = decode(signature)?;
        if head.crit {
            return Err(JoseError::Critical);
        }
        let algorithm = SignatureAlgorithm::from_name(&head.alg).ok_or(JoseError::Algorithm)?;
        Ok(Self { algorithm, key_id: head.kid, claims, signed, signature })
    }

    /// Who it says has signed it.
    pub(super) fn claimed_issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// What it says without anybody having vouched for it.
    pub(super) fn unverified(&self) -> &Claims {
        &self.claims
    }

    /// Whether one of the keys is the one that it says it is signed with.
    pub(super) fn key_is_among(&self, keys: &Keys) -> bool {
        keys.find(self).is_some()
    }

    /// What it says, if one of the keys has signed it.
    pub(super) fn verify(self, keys: &Keys, allowed: &[SignatureAlgorithm]) -> Result<Claims, JoseError> {
        if !allowed.contains(&self.algorithm) {
            return Err(JoseError::Algorithm);
        }
        let key = keys.find(&self).ok_or(JoseError::UnknownKey)?;
        key.material.verify(self.algorithm, self.signed, &self.signature).ok_or(JoseError::Signature)?;
        Ok(self.claims)
    }
}

impl Claims {
    /// The claim of that name; of one that is in an object, the names with dots between them.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).or_else(|| {
            let (first, rest) = name.split_once('.')?;
            rest.split('.').try_fold(self.0.get(first)?, |value, name| value.get(name))
        })
    }

    /// Whether a claim is that text, or a list in which it is.
    pub(super) fn has_among(&self, name: &str, text: &str) -> bool {
        match self.get(name) {
            Some(Value::String(one)) => one == text,
            Some(Value::Array(list)) => list.iter().any(|one| one == text),
            _ => false,
        }
    }

    /// A time in seconds since 1970, whole or not (RFC 7519 §2). `None`: there is none.
    pub(super) fn time(&self, name: &str) -> Result<Option<SystemTime>, NotATime> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let seconds = value.as_f64().filter(|seconds| seconds.is_finite()).ok_or(NotATime)?;
        // What lies beyond is as good as never, or long ago.
        Ok(Some(UNIX_EPOCH + Duration::from_secs_f64(seconds.clamp(0.0, LATEST_SECONDS))))
    }
}

/// A claim that should be a time is something else.
pub(super) struct NotATime;

/// The year 9999 ends.
const LATEST_SECONDS: f64 = 253_402_300_799.0;

/// Whether a password looks as tokens do.
pub(super) fn looks_like_a_token(password: &[u8]) -> bool {
    let Some([head, ..]) = parts(password) else { return false };
    let head = BASE64_URL_SAFE_NO_PAD.decode(head).unwrap_or_default();
    serde_json::from_slice::<Map<String, Value>>(&head).is_ok()
}

fn parts(octets: &[u8]) -> Option<[&[u8]; 3]> {
    let mut parts = octets.split(|octet| *octet == b'.');
    let three = [parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(three)
}

/// The keys of an issuer that signatures can be checked with.
#[derive(Debug)]
pub(super) struct Keys(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    algorithm: Option<SignatureAlgorithm>,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// The point, uncompressed.
    Elliptic(Curve, Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
    P521,
}

/// Why a document with keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeysError {
    #[error("it is not an object of JSON with a list of keys")]
    NoKeys,
    #[error("it has more than {ISSUER_KEYS} keys")]
    TooMany,
    #[error("it has no key that signatures can be checked with")]
    NoneUsable,
}

#[derive(Deserialize)]
struct KeysDocument {
    keys: Vec<Value>,
}

/// A key as it is written down.
#[derive(Deserialize)]
struct KeyDocument {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Keys {
    /// Reads a set of keys. Those that are for something else than signatures of ours are passed over.
    pub(super) fn parse(octets: &[u8]) -> Result<Self, KeysError> {
        let document: KeysDocument = serde_json::from_slice(octets).map_err(|_| KeysError::NoKeys)?;
        if document.keys.len() > ISSUER_KEYS {
            return Err(KeysError::TooMany);
        }
        let keys: Vec<_> = document.keys.into_iter().filter_map(Key::read).collect();
        if keys.is_empty() { Err(KeysError::NoneUsable) } else { Ok(Self(keys)) }
    }

    /// A token that names no key is checked with the only one that fits.
    fn find(&self, token: &Token<'_>) -> Option<&Key> {
        let mut fitting = self.0.iter().filter(|key| key.fits(token.algorithm));
        match &token.key_id {
            Some(id) => fitting.find(|key| key.id.as_ref() == Some(id)),
            None => fitting.next().filter(|_| fitting.next().is_none()),
        }
    }
}

impl Key {
    fn read(document: Value) -> Option<Self> {
        let document: KeyDocument = serde_json::from_value(document).ok()?;
        let verifies = |operations: Vec<String>| operations.iter().any(|operation| operation == "verify");
        if document.usage.is_some_and(|usage| usage != "sig") || !document.key_ops.is_none_or(verifies) {
            return None;
        }
        let octets = |text: Option<String>| BASE64_URL_SAFE_NO_PAD.decode(text?).ok();
        let material = match (document.kty.as_str(), document.crv.as_deref()) {
            ("RSA", _) => Material::Rsa(RsaPublicKeyComponents { n: octets(document.n)?, e: octets(document.e)? }),
            ("EC", Some(name)) => {
                let (curve, len) = match name {
                    "P-256" => (Curve::P256, 32),
                    "P-384" => (Curve::P384, 48),
                    "P-521" => (Curve::P521, 66),
                    _ => return None,
                };
                let (x, y) = (octets(document.x)?, octets(document.y)?);
                if x.len() != len || y.len() != len {
                    return None;
                }
                Material::Elliptic(curve, [&[4], &x[..], &y[..]].concat())
            }
            ("OKP", Some("Ed25519")) => Material::Ed25519(octets(document.x)?),
            _ => return None,
        };
        let algorithm = match document.alg {
            Some(name) => Some(SignatureAlgorithm::from_name(&name)?),
            None => None,
        };
        Some(Self { id: document.kid, algorithm, material })
    }

    fn fits(&self, algorithm: SignatureAlgorithm) -> bool {
        self.algorithm.is_none_or(|own| own == algorithm) && self.material.fits(algorithm)
    }
}

impl Material {
    fn fits(&self, algorithm: SignatureAlgorithm) -> bool {
        use SignatureAlgorithm::{ES256, ES384, ES512, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        match self {
            Self::Rsa(_) => matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512),
            Self::Elliptic(Curve::P256, _) => algorithm == ES256,
            Self::Elliptic(Curve::P384, _) => algorithm == ES384,
            Self::Elliptic(Curve::P521, _) => algorithm == ES512,
            Self::Ed25519(_) => algorithm == EdDSA,
        }
    }

    /// `None`: the signature is wrong, or the key is too short (RSA below 2048 bits) or none at all.
    fn verify(&self, algorithm: SignatureAlgorithm, signed: &[u8], given: &[u8]) -> Option<()> {
        let result = match self {
            Self::Rsa(key) => key.verify(rsa(algorithm)?, signed, given),
            Self::Elliptic(curve, point) => {
                let algorithm = match curve {
                    Curve::P256 => &signature::ECDSA_P256_SHA256_FIXED,
                    Curve::P384 => &signature::ECDSA_P384_SHA384_FIXED,
                    Curve::P521 => &signature::ECDSA_P521_SHA512_FIXED,
                };
                UnparsedPublicKey::new(algorithm, point).verify(signed, given)
            }
            Self::Ed25519(key) => UnparsedPublicKey::new(&signature::ED25519, key).verify(signed, given),
        };
        result.ok()
    }
}

fn rsa(algorithm: SignatureAlgorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        SignatureAlgorithm::RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        SignatureAlgorithm::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        SignatureAlgorithm::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        SignatureAlgorithm::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
        SignatureAlgorithm::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
        SignatureAlgorithm::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

#[cfg(test)]
pub(super) mod tests;
