//! Where we answer differently on purpose, with the reason.

use crate::script::{Arguments, Deed, Properties, Step};

/// A difference that is wanted.
pub(crate) struct Known {
    /// Why we differ.
    pub(crate) reason: &'static str,
    /// Whether these two lines of a script are it: ours, then RabbitMQ's.
    pub(crate) is_it: fn(&[Step], &str, &str) -> bool,
}

/// All of them.
pub(crate) const KNOWN: [Known; 4] = [
    Known {
        reason: "a dead letter is new to the queue that it comes to; RabbitMQ flags it as redelivered if it was so before",
        is_it: |_, ours, theirs| {
            ours.contains("x-death=") && theirs.replace("redelivered: true", "redelivered: false") == *ours
        },
    },
    Known {
        reason: "the keys of BCC are forgotten when a message has been routed; RabbitMQ takes them out of the routing keys of \
                 x-death then, and with them one that is the same",
        is_it: |_, ours, theirs| {
            let sorted = |line: &str| {
                let mut words: Vec<_> = line.split([',', '[', ']']).map(|word| word.trim().to_owned()).collect();
                words.sort_unstable();
                words
            };
            ours.contains("routing-keys=[") && sorted(ours) == sorted(theirs)
        },
    },
    Known {
        reason: "each priority expires at its own head; in RabbitMQ what is over stays while something is before it",
        is_it: |script, ours, theirs| {
            let prioritizes =
                |step: &Step| matches!(step.deed, Deed::DeclareQueue { arguments: Arguments::Priorities, .. });
            let expires =
                |step: &Step| matches!(step.deed, Deed::Publish { properties: Properties::ExpiresAtOnce, .. });
            let ready = |line: &str| line.split_once(" ready").map(|(before, _)| before.to_owned());
            let fewer = ready(ours).zip(ready(theirs)).is_some_and(|(ours, theirs)| ours < theirs);
            fewer && script.iter().any(prioritizes) && script.iter().any(expires)
        },
    },
    Known {
        reason: "a message, and the one that it pushed out of another queue, come to a third in any order; it is chance in \
                 RabbitMQ too",
        is_it: |script, ours, theirs| {
            let pushes_out = |step: &Step| {
                matches!(step.deed, Deed::DeclareQueue { arguments: Arguments::DeadLettersOfShortQueue, .. })
            };
            let is_message = |line: &str| line.contains("BasicDeliver(") || line.contains("BasicGetOk(");
            let is_dead = |line: &str| line.contains("reason=\"maxlen\"");
            is_message(ours) && is_message(theirs) && is_dead(ours) != is_dead(theirs) && script.iter().any(pushes_out)
        },
    },
];

/// The reason for the first difference between what was seen, if it is known.
pub(crate) fn reason(script: &[Step], ours: &[String], theirs: &[String]) -> Option<&'static str> {
    let pairs = (0..ours.len().max(theirs.len())).map(|line| {
        let at = |seen: &[String]| seen.get(line).cloned().unwrap_or_default();
        (at(ours), at(theirs))
    });
    let (ours, theirs) = pairs.into_iter().find(|(ours, theirs)| ours != theirs)?;
    KNOWN.iter().find(|known| (known.is_it)(script, &ours, &theirs)).map(|known| known.reason)
}
