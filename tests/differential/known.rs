//! Where we answer differently on purpose, with the reason.

/// A difference that is wanted.
pub(crate) struct Known {
    /// Why we differ.
    pub(crate) reason: &'static str,
    /// Whether these two lines are it: ours, then RabbitMQ's.
    pub(crate) is_it: fn(&str, &str) -> bool,
}

/// All of them.
pub(crate) const KNOWN: [Known; 1] = [Known {
    reason: "a dead letter is new to the queue that it comes to; RabbitMQ flags it as redelivered if it was so before",
    is_it: |ours, theirs| {
        ours.contains("x-death=") && theirs.replace("redelivered: true", "redelivered: false") == *ours
    },
}];

/// The reason for the first difference between what was seen, if it is known.
pub(crate) fn reason(ours: &[String], theirs: &[String]) -> Option<&'static str> {
    let pairs = (0..ours.len().max(theirs.len())).map(|line| {
        let at = |seen: &[String]| seen.get(line).cloned().unwrap_or_default();
        (at(ours), at(theirs))
    });
    let (ours, theirs) = pairs.into_iter().find(|(ours, theirs)| ours != theirs)?;
    KNOWN.iter().find(|known| (known.is_it)(&ours, &theirs)).map(|known| known.reason)
}
