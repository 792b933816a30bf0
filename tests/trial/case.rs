//! What became of the cases of a suite, and the forms in which they say it.

use std::fmt::{self, Display};
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// One case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// As its suite calls it.
    pub name: String,
    /// What became of it.
    pub verdict: Verdict,
    /// Why it did not pass, in a few words, as far as the suite says so.
    pub detail: String,
}

/// What became of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is as it should be.
    Passed,
    /// It is not.
    Failed,
    /// The suite itself left it out.
    Skipped,
}

/// How many cases became what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// As they should be.
    pub passed: u32,
    /// Not so.
    pub failed: u32,
    /// Left out by their suites.
    pub skipped: u32,
}

impl Case {
    fn new(verdict: Verdict, name: &str, detail: &str) -> Self {
        Self { name: name.to_owned(), verdict, detail: detail.trim().to_owned() }
    }

    /// A case that has failed if there is something to say about it.
    #[must_use]
    pub fn of(name: &str, failure: &str) -> Self {
        let verdict = if failure.is_empty() { Verdict::Passed } else { Verdict::Failed };
        Self::new(verdict, name, failure)
    }

    /// Lines `passed<TAB>name<TAB>detail`, as our programs and our pytest plugin print them. Other lines are not read.
    pub fn from_lines(text: &str) -> Vec<Self> {
        let read = |line: &str| {
            let mut fields = line.splitn(3, '\t');
            let verdict = match fields.next()? {
                "passed" => Verdict::Passed,
                "failed" => Verdict::Failed,
                "skipped" => Verdict::Skipped,
                _ => return None,
            };
            Some(Self::new(verdict, fields.next()?, fields.next().unwrap_or_default()))
        };
        text.lines().filter_map(read).collect()
    }

    /// What `go test -v` prints: `--- PASS: TestName (0.00s)`, indented for subtests. A test that has begun and never ends
    /// has failed. What a test logs is the detail of the last line before it.
    pub fn from_go(text: &str) -> Vec<Self> {
        let (mut cases, mut begun) = (Vec::<Self>::new(), Vec::<&str>::new());
        for line in text.lines().map(str::trim_start) {
            if let Some(name) = line.strip_prefix("=== RUN") {
                begun.push(name.trim());
            }
            let Some((verdict, rest)) = line.strip_prefix("--- ").and_then(|rest| rest.split_once(": ")) else {
                continue;
            };
            let verdict = match verdict {
                "PASS" => Verdict::Passed,
                "FAIL" => Verdict::Failed,
                "SKIP" => Verdict::Skipped,
                _ => continue,
            };
            let name = rest.split_whitespace().next().unwrap_or_default();
            begun.retain(|begun| *begun != name);
            cases.push(Self::new(verdict, name, ""));
        }
        cases.extend(begun.into_iter().map(|name| Self::new(Verdict::Failed, name, "it did not end")));
        cases
    }

    /// What `cargo test` prints: `test name ... ok`, with `prefix` before each name.
    pub fn from_cargo(text: &str, prefix: &str) -> Vec<Self> {
        let read = |line: &str| {
            let (name, verdict) = line.strip_prefix("test ")?.split_once(" ... ")?;
            let verdict = match verdict.split([',', ' ']).next()? {
                "ok" => Verdict::Passed,
                "FAILED" => Verdict::Failed,
                "ignored" => Verdict::Skipped,
                _ => return None,
            };
            Some(Self::new(verdict, &format!("{prefix}{name}"), ""))
        };
        text.lines().filter_map(read).collect()
    }
}

impl Tally {
    /// Counts cases.
    pub fn of(cases: &[Case]) -> Self {
        let count = |verdict| cases.iter().filter(|case| case.verdict == verdict).count() as u32;
        Self { passed: count(Verdict::Passed), failed: count(Verdict::Failed), skipped: count(Verdict::Skipped) }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(cases: &[Case]) -> Vec<(&str, Verdict)> {
        cases.iter().map(|case| (case.name.as_str(), case.verdict)).collect()
    }

    #[test]
    fn lines_of_ours_are_read_and_others_are_not() {
        let text = "noise\npassed\ta[x y]\nfailed\tb\tit is\tso\nskipped\tc\tno TLS\npassed";
        let cases = Case::from_lines(text);
        assert_eq!(verdicts(&cases), [("a[x y]", Verdict::Passed), ("b", Verdict::Failed), ("c", Verdict::Skipped)]);
        assert_eq!(cases[1].detail, "it is\tso");
    }

    #[test]
    fn a_go_test_that_never_ends_has_failed() {
        let text = "=== RUN   TestA\n=== RUN   TestA/sub\n    --- SKIP: TestA/sub (0.00s)\n--- PASS: TestA (0.00s)\n\
                    === RUN   TestB\npanic: test timed out\n";
        let expected = [("TestA/sub", Verdict::Skipped), ("TestA", Verdict::Passed), ("TestB", Verdict::Failed)];
        assert_eq!(verdicts(&Case::from_go(text)), expected);
    }

    #[test]
    fn what_cargo_test_prints_is_read() {
        let text = "running 3 tests\ntest a ... ok\ntest b::c ... FAILED\ntest d ... ignored, reason\ntest result: ok.";
        let expected = [("t::a", Verdict::Passed), ("t::b::c", Verdict::Failed), ("t::d", Verdict::Skipped)];
        assert_eq!(verdicts(&Case::from_cargo(text, "t::")), expected);
    }
}
