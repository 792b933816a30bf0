//! What publishers know about their messages, and whether a queue agrees.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

/// The messages that `publish.py` reported. Each is `<publisher>-<number>`, numbers counting up.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The broker confirmed them: they must be there.
    confirmed: BTreeSet<String>,
    /// The connection was lost before a confirm: they may be there.
    unknown: BTreeSet<String>,
}

impl Ledger {
    /// Takes in what a publisher printed.
    pub(crate) fn note(&mut self, line: &str) {
        if let Some(message) = line.strip_prefix("confirmed ") {
            self.confirmed.insert(message.to_owned());
        } else if let Some(message) = line.strip_prefix("unknown ") {
            self.unknown.insert(message.to_owned());
        }
    }

    /// Compares with the messages `found` in a queue, from its head on.
    ///
    /// # Errors
    /// A confirmed message is lost, one is there that nobody sent or that is there twice, or those of one publisher are
    /// not in the order in which it sent them.
    pub(crate) fn check(&self, found: &[String]) -> Result<()> {
        let distinct: BTreeSet<String> = found.iter().cloned().collect();
        let lost: Vec<_> = self.confirmed.difference(&distinct).collect();
        ensure!(lost.is_empty(), "{} confirmed messages are lost: {lost:?}", lost.len());
        let invented: Vec<_> = distinct
            .iter()
            .filter(|message| !self.confirmed.contains(*message) && !self.unknown.contains(*message))
            .collect();
        ensure!(invented.is_empty(), "nobody sent {invented:?}");
        ensure!(distinct.len() == found.len(), "{} messages are there twice", found.len() - distinct.len());
        let publishers: BTreeSet<_> = found.iter().filter_map(|message| Some(message.rsplit_once('-')?.0)).collect();
        for publisher in publishers {
            let number = |message: &String| message.strip_prefix(publisher)?.strip_prefix('-')?.parse::<u64>().ok();
            ensure!(found.iter().filter_map(number).is_sorted(), "the messages of {publisher} are out of order");
        }
        Ok(())
    }
}

impl std::fmt::Display for Ledger {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} messages confirmed, {} of unknown fate", self.confirmed.len(), self.unknown.len())
    }
}

#[test]
fn a_ledger_finds_what_is_lost_invented_doubled_or_out_of_order() {
    let mut ledger = Ledger::default();
    for line in ["confirmed a-9", "unknown a-10", "confirmed a-11", "halfway", "confirmed b-1"] {
        ledger.note(line);
    }
    assert_eq!(ledger.to_string(), "3 messages confirmed, 1 of unknown fate");
    let check = |found: &[&str]| {
        let found: Vec<String> = found.iter().map(|&message| message.to_owned()).collect();
        ledger.check(&found).map_err(|error| error.to_string())
    };
    assert_eq!(check(&["a-9", "a-11", "b-1"]), Ok(()));
    assert_eq!(check(&["b-1", "a-9", "a-10", "a-11"]), Ok(()));
    assert_eq!(check(&["a-9", "b-1"]), Err("1 confirmed messages are lost: [\"a-11\"]".into()));
    assert_eq!(check(&["a-9", "a-11", "a-12", "b-1"]), Err("nobody sent [\"a-12\"]".into()));
    assert_eq!(check(&["a-9", "a-9", "a-11", "b-1"]), Err("1 messages are there twice".into()));
    assert_eq!(check(&["a-11", "a-9", "b-1"]), Err("the messages of a are out of order".into()));
}
