//! What a person should hear about: changes that were made and states that flipped, as Kubernetes Events.
//!
//! Events come from transitions only, so a state that stays says nothing more. The recorder counts repetitions within
//! its cache instead of adding Events.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder};
use tracing::warn;

use crate::api::{MessageQueue, MessageQueueStatus};
use crate::apply::Changes;
use crate::consumers::scaler::Scaled;
use crate::declarations::pass::Findings;
use crate::status::{CONSUMERS_READY, DEGRADED, PAUSED, READY, UPGRADE_PENDING, find};

/// Longest note that the API server takes, in octets (`events.k8s.io/v1` Event, field `note`).
const NOTE_LENGTH_MAX: usize = 1024;

/// The Events that one reconcile is worth.
pub fn notices(previous: Option<&MessageQueueStatus>, next: &MessageQueueStatus, changes: &Changes) -> Vec<Event> {
    let mut events = Vec::new();
    for (reason, objects) in
        [("Created", &changes.created), ("Updated", &changes.updated), ("Deleted", &changes.deleted)]
    {
        if !objects.is_empty() {
            events.push(event(EventType::Normal, reason, &format!("{reason} {}", objects.join(", "))));
        }
    }
    events.extend(pause_notice(previous, next));
    events.extend(upgrade_notice(previous, next));
    events.extend(degraded_notice(previous, next));
    events.extend(consumers_notice(previous, next));
    events.extend(ready_notice(previous, next));
    events
}

/// The Events for what was made, changed and deleted in the broker.
pub fn declared(findings: &Findings) -> Vec<Event> {
    let kinds = [("Declared", &findings.written), ("Withdrawn", &findings.deleted)];
    let told = kinds.into_iter().filter(|(_, objects)| !objects.is_empty());
    told.map(|(reason, objects)| event(EventType::Normal, reason, &format!("{reason} {}", objects.join(", "))))
        .collect()
}

/// The Events for targets of consumers that were scaled.
pub fn scaled(scales: &[Scaled]) -> Vec<Event> {
    let note = |Scaled { consumer, target, from, to, reason }: &Scaled| {
        format!("scaled {target} from {from} to {to} for the consumer {consumer}: {}", reason.as_str())
    };
    scales.iter().map(|scaled| event(EventType::Normal, "Scaled", &note(scaled))).collect()
}

/// The Event for a MessageQueue that this release cannot read.
pub fn malformed(reason: &str) -> Event {
    event(EventType::Warning, "Malformed", reason)
}

/// Publishes `events` about `queue`. An Event that cannot be published is logged: it must not keep a queue from working.
pub async fn publish(recorder: &Recorder, about: &ObjectReference, events: &[Event]) {
    for event in events {
        if let Err(error) = recorder.publish(event, about).await {
            warn!(object = about.name, reason = event.reason, %error, "an Event could not be published");
        }
    }
}

/// The reference under which `kubectl describe` finds Events of the MessageQueue with this metadata.
pub fn about(metadata: &ObjectMeta) -> ObjectReference {
    ObjectReference {
        api_version: Some(MessageQueue::api_version(&()).into_owned()),
        kind: Some(MessageQueue::kind(&()).into_owned()),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

fn pause_notice(previous: Option<&MessageQueueStatus>, next: &MessageQueueStatus) -> Option<Event> {
    let before = previous.and_then(|status| find(status, PAUSED));
    match (before, find(next, PAUSED)) {
        (None, Some(paused)) => Some(event(EventType::Normal, PAUSED, &paused.message)),
        (Some(_), None) => Some(event(EventType::Normal, "Resumed", "changes are carried out again")),
        _ => None,
    }
}

fn upgrade_notice(previous: Option<&MessageQueueStatus>, next: &MessageQueueStatus) -> Option<Event> {
    let pending = find(next, UPGRADE_PENDING)?;
    let was_told = previous.is_some_and(|status| find(status, UPGRADE_PENDING).is_some());
    (!was_told).then(|| event(EventType::Normal, UPGRADE_PENDING, &pending.message))
}

fn degraded_notice(previous: Option<&MessageQueueStatus>, next: &MessageQueueStatus) -> Option<Event> {
    let state = |status: &MessageQueueStatus| {
        find(status, DEGRADED).filter(|condition| condition.status == "True").map(|condition| condition.reason.clone())
    };
    let (before, now) = (previous.and_then(state), state(next));
    match (before, now) {
        (before, Some(reason)) if before.as_ref() != Some(&reason) => {
            Some(event(EventType::Warning, &reason, &find(next, DEGRADED)?.message))
        }
        (Some(reason), None) => Some(event(EventType::Normal, "Recovered", &format!("{reason} is over"))),
        _ => None,
    }
}

/// What keeps consumers from being scaled, unless that is told as a fault of the whole.
fn consumers_notice(previous: Option<&MessageQueueStatus>, next: &MessageQueueStatus) -> Option<Event> {
    let unmet = |status: &MessageQueueStatus| {
        let unmet = find(status, CONSUMERS_READY).filter(|condition| condition.status == "False")?;
        let is_a_fault = find(status, DEGRADED).is_some_and(|degraded| degraded.reason == unmet.reason);
        (!is_a_fault).then(|| (unmet.reason.clone(), unmet.message.clone()))
    };
    let previous = previous?;
    // A broker that has not started yet was never heard, which is nothing new.
    find(previous, CONSUMERS_READY)?;
    let before = unmet(previous).map(|(reason, _)| reason);
    match (before, unmet(next)) {
        (before, Some((reason, message))) if before.as_ref() != Some(&reason) => {
            Some(event(EventType::Warning, &reason, &message))
        }
        (Some(reason), None) => Some(event(EventType::Normal, "Recovered", &format!("{reason} is over"))),
        _ => None,
    }
}

fn ready_notice(previous: Option<&MessageQueueStatus>, next: &MessageQueueStatus) -> Option<Event> {
    let is_ready =
        |status: &MessageQueueStatus| find(status, READY).is_some_and(|condition| condition.status == "True");
    let was_ready = previous.is_some_and(is_ready);
    let ready = find(next, READY)?;
    match (was_ready, is_ready(next)) {
        (false, true) => {
            let address = next.address.as_deref().unwrap_or_default();
            Some(event(EventType::Normal, "Ready", &format!("clients can connect to {address}")))
        }
        // A fault has its own Event.
        (true, false) if degraded_notice(previous, next).is_none() => {
            Some(event(EventType::Normal, &ready.reason, &ready.message))
        }
        _ => None,
    }
}

fn event(type_: EventType, reason: &str, note: &str) -> Event {
    let end = note.floor_char_boundary(NOTE_LENGTH_MAX);
    Event { type_, reason: reason.into(), note: Some(note[..end].into()), action: "Reconcile".into(), secondary: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumers::plan::Reason;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
    use k8s_openapi::jiff::Timestamp;

    fn status(ready: (&str, &str), degraded: (&str, &str)) -> MessageQueueStatus {
        let condition = |type_: &str, (status, reason): (&str, &str)| Condition {
            type_: type_.into(),
            status: status.into(),
            reason: reason.into(),
            message: format!("message of {reason}"),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
            observed_generation: None,
        };
        MessageQueueStatus {
            address: Some("hello.default.svc:5672".into()),
            conditions: vec![condition(READY, ready), condition(DEGRADED, degraded)],
            ..MessageQueueStatus::default()
        }
    }

    fn told(previous: Option<&MessageQueueStatus>, next: &MessageQueueStatus) -> Vec<(EventType, String, String)> {
        notices(previous, next, &Changes::default())
            .into_iter()
            .map(|event| (event.type_, event.reason, event.note.unwrap_or_default()))
            .collect()
    }

    #[test]
    fn a_state_that_stays_says_nothing() {
        let ready = status(("True", "Ready"), ("False", "AsExpected"));
        assert_eq!(told(Some(&ready), &ready), []);
        let broken = status(("False", "ImagePullFailed"), ("True", "ImagePullFailed"));
        assert_eq!(told(Some(&broken), &broken), []);
    }

    #[test]
    fn becoming_ready_names_the_address() {
        let ready = status(("True", "Ready"), ("False", "AsExpected"));
        let note = "clients can connect to hello.default.svc:5672".to_owned();
        assert_eq!(told(None, &ready), [(EventType::Normal, "Ready".into(), note)]);
    }

    #[test]
    fn a_fault_is_one_warning_and_its_end_a_recovery() {
        let ready = status(("True", "Ready"), ("False", "AsExpected"));
        let broken = status(("False", "BrokerFailed"), ("True", "BrokerFailed"));
        let warning = (EventType::Warning, "BrokerFailed".into(), "message of BrokerFailed".into());
        assert_eq!(told(Some(&ready), &broken), [warning]);
        let reasons: Vec<_> = told(Some(&broken), &ready).into_iter().map(|(_, reason, _)| reason).collect();
        assert_eq!(reasons, ["Recovered", "Ready"]);
    }

    #[test]
    fn another_fault_is_another_warning() {
        let first = status(("False", "ImagePullFailed"), ("True", "ImagePullFailed"));
        let second = status(("False", "BrokerFailed"), ("True", "BrokerFailed"));
        assert_eq!(told(Some(&first), &second).len(), 1);
    }

    #[test]
    fn a_pause_and_its_end_are_told() {
        let ready = status(("True", "Ready"), ("False", "AsExpected"));
        let mut paused = ready.clone();
        paused.conditions.push(Condition { type_: PAUSED.into(), ..ready.conditions[0].clone() });
        let reasons =
            |before, after| told(Some(before), after).into_iter().map(|(_, reason, _)| reason).collect::<Vec<_>>();
        assert_eq!(reasons(&ready, &paused), ["Paused"]);
        assert_eq!(reasons(&paused, &paused), Vec::<String>::new());
        assert_eq!(reasons(&paused, &ready), ["Resumed"]);
    }

    #[test]
    fn what_keeps_consumers_from_being_scaled_is_told_once_and_so_is_its_end() {
        let with = |(status_of, reason): (&str, &str), degraded| {
            let mut status = status(("True", "Ready"), degraded);
            let (status_of, reason) = (status_of.to_owned(), reason.to_owned());
            let message = format!("message of {reason}");
            status.conditions.push(Condition {
                type_: CONSUMERS_READY.into(),
                status: status_of,
                reason,
                message,
                ..status.conditions[0].clone()
            });
            status
        };
        let fine = ("False", "AsExpected");
        let ready = with(("True", "AsExpected"), fine);
        let silent = with(("False", "FiguresMissing"), fine);
        let warning = (EventType::Warning, "FiguresMissing".into(), "message of FiguresMissing".into());
        assert_eq!(told(Some(&ready), &silent), [warning]);
        assert_eq!(told(Some(&silent), &silent), []);
        let over = (EventType::Normal, "Recovered".into(), "FiguresMissing is over".into());
        assert_eq!(told(Some(&silent), &ready), [over]);
        let first = status(("True", "Ready"), fine);
        assert_eq!(told(Some(&first), &silent), [], "a broker that starts was never heard");
        let missing = with(("False", "TargetMissing"), ("True", "TargetMissing"));
        assert_eq!(told(Some(&ready), &missing).len(), 1, "a fault of the whole is told once");
    }

    #[test]
    fn a_scale_says_from_what_to_what_and_why() {
        let scaled = Scaled {
            consumer: "invoices".into(),
            target: "Deployment workers".into(),
            from: 0,
            to: 7,
            reason: Reason::Backlog,
        };
        let events = super::scaled(&[scaled]);
        let note = "scaled Deployment workers from 0 to 7 for the consumer invoices: Backlog";
        assert_eq!((events[0].reason.as_str(), events[0].note.as_deref()), ("Scaled", Some(note)));
    }

    #[test]
    fn changes_are_listed_by_kind_and_name() {
        let ready = status(("True", "Ready"), ("False", "AsExpected"));
        let changes = Changes { created: vec!["Secret a".into(), "Service b".into()], ..Changes::default() };
        let events = notices(Some(&ready), &ready, &changes);
        assert_eq!(events[0].note.as_deref(), Some("Created Secret a, Service b"));
    }

    #[test]
    fn a_long_note_is_cut_at_a_character() {
        let note = event(EventType::Warning, "X", &"ü".repeat(1000)).note.unwrap();
        assert_eq!(note.len(), NOTE_LENGTH_MAX);
    }
}
