//! When what is due. Pure.

use super::Terms;

/// The time in which a certificate is valid: seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

/// Certificates are valid a little before they are made, for clocks that are behind.
pub(super) const BACKDATED_SECONDS: i64 = 300;

impl Validity {
    /// When it was made.
    fn made(self) -> i64 {
        self.not_before + BACKDATED_SECONDS
    }

    /// When it is to be replaced.
    fn due(self) -> i64 {
        self.made() + (self.not_after - self.made()) / 3 * 2
    }
}

/// What is known of the authorities.
#[derive(Clone, Copy, Debug)]
pub(super) struct AuthorityState {
    pub(super) active: Validity,
    pub(super) next: Option<Validity>,
    pub(super) has_old: bool,
    /// The brokers' certificate, if the active authority signed it.
    pub(super) leaf: Option<Validity>,
    /// Somebody asks for a new one.
    pub(super) is_asked_for: bool,
}

/// What is to be done with the authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Make the next one.
    Announce,
    /// The next one signs from now on.
    Promote,
    /// The one before is trusted no longer.
    Forget,
    /// Nothing, until then.
    Wait(i64),
}

pub(super) fn authority_step(state: &AuthorityState, terms: &Terms, now: i64) -> Step {
    let overlap = seconds(terms.overlap);
    if let Some(next) = state.next {
        let promoted = (next.made() + overlap).min(state.active.not_after);
        return if now >= promoted { Step::Promote } else { Step::Wait(promoted) };
    }
    let renewed = state.active.due();
    if state.has_old {
        // The first certificate by the active one tells when it began to sign.
        let forgotten = state.leaf.map_or(i64::MAX, |leaf| leaf.made() + overlap);
        return if now >= forgotten { Step::Forget } else { Step::Wait(forgotten.min(renewed)) };
    }
    if state.is_asked_for || now >= renewed { Step::Announce } else { Step::Wait(renewed) }
}

/// When the brokers' certificate is to be replaced.
pub(super) fn leaf_due(leaf: Validity) -> i64 {
    leaf.due()
}

/// A duration in whole seconds.
pub(super) fn seconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}
