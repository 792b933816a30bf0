//! The certificates of one MessageQueue: its own authority, and the brokers' certificate by it.
//!
//! An authority is replaced without a moment in which anybody trusts too little. The next one is announced to everybody who
//! verifies, [`Terms::overlap`] later it begins to sign, and the one before is forgotten another overlap after that.
//!
//! ```text
//!              announced            signs                 forgotten
//! old      ──────────────────────────┤·······················│        ── signs   ·· is trusted
//! next              │················├───────────────────────────────
//!                   ├──── overlap ───┼────── overlap ────────┤
//! ```
//!
//! `schedule.rs` decides what is due, from what is stored and the time alone; `issue.rs` makes it.

mod issue;
mod schedule;

use std::fmt;
use std::time::Duration;

pub use issue::{CertificateError, Request, renew};

/// For how long certificates are valid, and how long both authorities are trusted when one replaces the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Of a certificate of the brokers. It is replaced when two thirds of it have passed.
    pub certificate: Duration,
    /// Of an authority. The next one is announced when two thirds of it have passed.
    pub authority: Duration,
    /// From when an authority is announced until it signs, and from then on until the one before is forgotten.
    pub overlap: Duration,
}

/// A certificate and its key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its private key (PKCS #8), never logged.
    pub key: String,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// The authorities of one MessageQueue, as its Secret has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities {
    /// The one that signs.
    pub active: Pair,
    /// The one that will.
    pub next: Option<Pair>,
    /// The certificate of the one that did.
    pub old: Option<String>,
    /// The value of the annotation that asked for the last rotation by hand.
    pub rotated_for: Option<String>,
}

impl Authorities {
    /// The certificates of all that are to be trusted, in PEM.
    pub fn bundle(&self) -> String {
        let next = self.next.as_ref().map(|pair| pair.certificate.as_str());
        let all = [Some(self.active.certificate.as_str()), next, self.old.as_deref()];
        all.into_iter().flatten().collect()
    }
}

/// What is stored of the certificates; what is missing or cannot be read is made anew.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// The authorities.
    pub authorities: Option<Authorities>,
    /// The brokers' certificate.
    pub leaf: Option<Pair>,
}

/// The certificates as they should be now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificates {
    /// The authorities.
    pub authorities: Authorities,
    /// The brokers' certificate.
    pub leaf: Pair,
    /// After so long something is due again.
    pub due_in: Duration,
    /// Until when the brokers' certificate is valid: seconds since 1970.
    pub leaf_not_after: i64,
    /// The same of the authority that signs.
    pub authority_not_after: i64,
}

#[cfg(test)]
mod tests;
