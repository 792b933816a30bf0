//! What the status says about users and topology.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Problem, Situation, TOPOLOGY_READY, USERS_READY, condition, find};
use crate::api::{Auth, Flaw, Topology};

/// So many of the things that are not as declared are listed.
const FLAWS_MAX: usize = 32;

/// So many of them are in a condition's message.
const TOLD_MAX: usize = 3;

/// Why no ServiceAccount can log in.
const FORBIDDEN: &str = "TokenReviewForbidden";

/// The conditions of what is declared. What is not known stays as it was said before.
pub(super) fn conditions(situation: &Situation<'_>) -> Vec<Condition> {
    let spec = &situation.queue.spec;
    let kinds = [
        (USERS_READY, spec.auth != Auth::default(), users(situation)),
        (TOPOLOGY_READY, spec.topology != Topology::default(), situation.declared.map(|state| state.topology.clone())),
    ];
    let condition_of = |(type_, is_declared, flaws): (&str, bool, Option<Vec<Flaw>>)| match flaws {
        Some(flaws) if is_declared || !flaws.is_empty() => {
            let message = if flaws.is_empty() { "the broker has what is declared".to_owned() } else { told(&flaws) };
            let reason = flaws.first().map_or("AsDeclared", |flaw| flaw.reason.as_str());
            Some(condition(situation, type_, flaws.is_empty(), (reason, &message)))
        }
        Some(_) => None,
        None => find(situation.queue.status.as_ref()?, type_)
            .filter(|before| is_declared && still_counts(before, situation))
            .cloned(),
    };
    kinds.into_iter().filter_map(condition_of).collect()
}

/// Whether nothing is known that speaks against what was said before.
fn still_counts(before: &Condition, situation: &Situation<'_>) -> bool {
    before.reason != FORBIDDEN || situation.token_reviews.is_none()
}

/// What is wrong with users. That ServiceAccounts cannot log in is known also while the broker says nothing.
fn users(situation: &Situation<'_>) -> Option<Vec<Flaw>> {
    let users = situation.declared.map(|state| state.users.clone());
    let reason = match &situation.token_reviews {
        None => return None,
        Some(Ok(())) => return users,
        Some(Err(reason)) => reason,
    };
    let flaw = Flaw {
        object: "ServiceAccounts".into(),
        reason: FORBIDDEN.into(),
        message: format!(
            "the broker may not ask the API server whose token it is shown, so none of them can log in: {reason}"
        ),
    };
    Some(std::iter::once(flaw).chain(users.unwrap_or_default()).collect())
}

/// The things that are not as declared. What is not known stays as it was said before.
pub(super) fn flaws(situation: &Situation<'_>) -> Vec<Flaw> {
    let before = || situation.queue.status.as_ref().map(|status| status.topology.clone()).unwrap_or_default();
    let mut flaws = situation.declared.map_or_else(before, |state| state.topology.clone());
    flaws.truncate(FLAWS_MAX);
    flaws
}

/// What needs a person, if anything does.
pub(super) fn fault(conditions: &[Condition]) -> Option<Problem> {
    let unmet = conditions.iter().find(|condition| condition.status == "False")?;
    let reason = if unmet.type_ == USERS_READY { "UsersNotReady" } else { "TopologyNotReady" };
    Some(Problem { reason, message: unmet.message.clone() })
}

pub(super) fn told(flaws: &[Flaw]) -> String {
    let said = flaws.iter().take(TOLD_MAX).map(|flaw| format!("{}: {}", flaw.object, flaw.message));
    let more = flaws.len().saturating_sub(TOLD_MAX);
    let rest = (more > 0).then(|| format!("and {more} more"));
    said.chain(rest).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_the_first_and_counts_the_rest() {
        let flaw = |object: &str| Flaw { object: object.into(), reason: "Refused".into(), message: "no".into() };
        assert_eq!(told(&[flaw("user a")]), "user a: no");
        let five: Vec<Flaw> = ["a", "b", "c", "d", "e"].into_iter().map(flaw).collect();
        assert_eq!(told(&five), "a: no; b: no; c: no; and 2 more");
    }
}
