//! What the status says about consumers.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::declarations::told;
use super::{CONSUMERS_READY, Problem, Situation, condition, find};
use crate::api::{ConsumerStatus, Flaw};
use crate::consumers::plan::Reason;

/// The condition of consumers, if there are some. What is not known stays as it was said before.
pub(super) fn condition_of(situation: &Situation<'_>) -> Option<Condition> {
    if situation.queue.spec.consumers.is_empty() {
        return None;
    }
    if situation.consumers.is_empty() {
        return find(situation.queue.status.as_ref()?, CONSUMERS_READY).cloned();
    }
    let flaws = flaws(situation);
    let (reason, message) = match flaws.first() {
        Some(first) => (first.reason.as_str(), told(&flaws)),
        None => {
            ("AsExpected", "the broker tells what their queues have to do, and nothing keeps them from it".to_owned())
        }
    };
    Some(condition(situation, CONSUMERS_READY, flaws.is_empty(), (reason, &message)))
}

/// What needs a person, if anything does. A broker that says nothing has conditions of its own.
pub(super) fn fault(situation: &Situation<'_>) -> Option<Problem> {
    let flaw = flaws(situation).into_iter().next()?;
    let reasons = [Reason::QueueMissing, Reason::TargetMissing, Reason::TargetTaken, Reason::ScaleRefused];
    let reason = reasons.into_iter().map(Reason::as_str).find(|reason| *reason == flaw.reason)?;
    Some(Problem { reason, message: format!("{}: {}", flaw.object, flaw.message) })
}

/// What is wrong with consumers, and first what needs a person.
fn flaws(situation: &Situation<'_>) -> Vec<Flaw> {
    let flaw = |consumer: &ConsumerStatus| {
        let object = format!("consumer {}", consumer.name);
        Some(Flaw { object, reason: consumer.reason.clone(), message: consumer.message.clone()? })
    };
    let mut flaws: Vec<Flaw> = situation.consumers.iter().filter_map(flaw).collect();
    flaws.sort_by_key(|flaw| flaw.reason == Reason::FiguresMissing.as_str());
    flaws
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::api::MessageQueue;
    use crate::growth::Growth;

    fn status(reason: &str, message: Option<&str>) -> ConsumerStatus {
        let message = message.map(ToOwned::to_owned);
        ConsumerStatus { name: "c".into(), reason: reason.into(), message, ..ConsumerStatus::default() }
    }

    /// The condition as status, reason and message, and the reason of the fault.
    fn told_of(consumers: Vec<ConsumerStatus>) -> (Option<(String, String, String)>, Option<&'static str>) {
        let consumer = json!({"name": "c", "queue": "q", "maxReplicas": 1, "depthPerReplica": 1});
        let queue: MessageQueue =
            serde_json::from_value(json!({"metadata": {"name": "hello"}, "spec": {"consumers": [consumer]}})).unwrap();
        let situation = Situation {
            queue: &queue,
            stateful_set: None,
            pods: &[],
            growth: &Growth::default(),
            tls: None,
            consumers,
            token_reviews: None,
            held: None,
            declared: None,
            problem: None,
            provisioned: true,
            now: Timestamp::UNIX_EPOCH,
        };
        let told = condition_of(&situation).map(|told| (told.status, told.reason, told.message));
        (told, fault(&situation).map(|problem| problem.reason))
    }

    #[test]
    fn what_is_scaled_is_well_and_what_cannot_be_is_named() {
        assert_eq!(told_of(Vec::new()), (None, None), "nothing was looked at yet");
        let (told, fault) = told_of(vec![status("Backlog", None)]);
        let (is, reason, _) = told.unwrap();
        assert_eq!((is.as_str(), reason.as_str(), fault), ("True", "AsExpected", None));
        let (told, fault) =
            told_of(vec![status("FiguresMissing", Some("silence")), status("TargetMissing", Some("none"))]);
        let (is, reason, message) = told.unwrap();
        assert_eq!((is.as_str(), reason.as_str(), fault), ("False", "TargetMissing", Some("TargetMissing")));
        assert!(message.contains("consumer c") && message.contains("none"), "{message}");
    }

    #[test]
    fn a_silent_broker_is_no_fault_of_the_whole() {
        let (told, fault) = told_of(vec![status("FiguresMissing", Some("silence"))]);
        assert_eq!((told.unwrap().1.as_str(), fault), ("FiguresMissing", None));
    }
}
