//! Patterns of permissions and policies: regular expressions as operators write them for RabbitMQ.
//!
//! RabbitMQ hands them to a backtracking engine, we to one whose time grows with the length of the name only. What both
//! understand means the same here: octets are compared, not characters; a pattern that is not anchored matches
//! anywhere; a brace that begins no repetition is itself. Look-ahead is taken where it is needed in practice, at the
//! beginning behind `^`, as in `^(?!amq\.).*`. Look-behind, back references and possessive repetition are refused.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use regex::bytes::{Regex, RegexBuilder};

use crate::limits::{PATTERN_BYTES, PATTERN_PROGRAM_BYTES};

/// A pattern that names are matched with. Two are equal if they were written and completed alike.
#[derive(Clone)]
pub struct Pattern {
    source: Arc<str>,
    names: Names,
    matcher: Matcher,
}

/// What the placeholders of a topic permission stand for: `{username}` and `{vhost}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    username: Arc<str>,
    vhost: Arc<str>,
}

#[derive(Clone)]
enum Matcher {
    Everything,
    /// The empty name alone.
    Empty,
    Expression(Arc<Expression>),
    /// It came from a log and cannot be read any more.
    Nothing,
}

struct Expression {
    ahead: Vec<Ahead>,
    regex: Regex,
}

/// A look-ahead at the beginning.
struct Ahead {
    wanted: bool,
    regex: Regex,
}

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is longer than [`PATTERN_BYTES`].
    #[error("it is longer than {PATTERN_BYTES} octets")]
    TooLong,
    /// Its program would be larger than [`PATTERN_PROGRAM_BYTES`], which it shares equally with those of its look-ahead.
    #[error("it repeats or looks ahead too much: its program would be larger than {PATTERN_PROGRAM_BYTES} octets")]
    TooLarge,
    /// Look-ahead stands elsewhere than behind the `^` that it begins with, or beside alternatives.
    #[error("look-ahead is possible only behind '^' at the beginning, and not beside '|' outside of parentheses")]
    LookAhead,
    /// It asks for repetition that does not give back, such as `a++`.
    #[error("possessive repetition is not possible")]
    Possessive,
    /// It is no regular expression, or one that only a backtracking engine can match.
    #[error("{0}")]
    Syntax(String),
}

impl Pattern {
    /// The pattern of a policy. The empty one matches everything, as an expression does.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn of_policy(source: &str) -> Result<Self, PatternError> {
        Self::completed(source, Names::none())
    }

    /// The pattern of a permission. The empty one matches the empty name alone.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn of_permission(source: &str) -> Result<Self, PatternError> {
        Self::of_topic(source, &Arc::from(""), &Arc::from(""))
    }

    /// The pattern of a topic permission, its placeholders completed. What stands in for them is compared literally:
    /// no name is ever read as an expression.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn of_topic(source: &str, username: &Arc<str>, vhost: &Arc<str>) -> Result<Self, PatternError> {
        let names = Names { username: Arc::clone(username), vhost: Arc::clone(vhost) };
        if source.is_empty() {
            return Ok(Self { source: Arc::from(""), names, matcher: Matcher::Empty });
        }
        Self::completed(source, names)
    }

    /// Stands for a pattern that was right when it was logged and that this version cannot read: nothing matches it.
    pub(super) fn unreadable(source: &str) -> Self {
        Self { source: Arc::from(source), names: Names::none(), matcher: Matcher::Nothing }
    }

    fn completed(source: &str, names: Names) -> Result<Self, PatternError> {
        if source.len() > PATTERN_BYTES {
            return Err(PatternError::TooLong);
        }
        let matcher = match source {
            "" | ".*" | "^.*" | ".*$" | "^.*$" => Matcher::Everything,
            "^$" => Matcher::Empty,
            _ => Matcher::Expression(Arc::new(Expression::new(source, &names)?)),
        };
        Ok(Self { source: Arc::from(source), names, matcher })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether the name matches. The time it takes grows with the name's length times the pattern's.
    pub fn matches(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Everything => true,
            Matcher::Empty => name.is_empty(),
            Matcher::Nothing => false,
            Matcher::Expression(expression) => expression.matches(name.as_bytes()),
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source && self.names == other.names
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.source)
    }
}

impl Names {
    fn none() -> Self {
        Self { username: Arc::from(""), vhost: Arc::from("") }
    }

    /// The placeholder at the beginning of `text` and the name in its place; of topic permissions only.
    fn of(&self, text: &str) -> Option<(&'static str, &str)> {
        let placeholders = [("{username}", &self.username), ("{vhost}", &self.vhost)];
        let found = placeholders.into_iter().find(|(placeholder, _)| text.starts_with(placeholder));
        found.filter(|(_, name)| !name.is_empty()).map(|(placeholder, name)| (placeholder, &**name))
    }
}

impl Expression {
    fn new(source: &str, names: &Names) -> Result<Self, PatternError> {
        let mut ahead = Vec::new();
        let mut rest = source.strip_prefix('^').unwrap_or_default();
        while let Some((wanted, inner, behind)) = look_ahead(rest)? {
            ahead.push((wanted, format!("^(?:{})", translated(inner, names)?.text)));
            rest = behind;
        }
        if ahead.is_empty() {
            return Ok(Self { ahead: Vec::new(), regex: compile(&translated(source, names)?.text, 1)? });
        }
        let translated = translated(rest, names)?;
        if translated.alternatives {
            return Err(PatternError::LookAhead);
        }
        let programs = ahead.len() + 1;
        let compile_ahead = |(wanted, text): (bool, String)| Ok(Ahead { wanted, regex: compile(&text, programs)? });
        let ahead = ahead.into_iter().map(compile_ahead).collect::<Result<_, _>>()?;
        Ok(Self { ahead, regex: compile(&format!("^{}", translated.text), programs)? })
    }

    fn matches(&self, name: &[u8]) -> bool {
        self.ahead.iter().all(|ahead| ahead.regex.is_match(name) == ahead.wanted) && self.regex.is_match(name)
    }
}

/// Compiles one of so many programs of a pattern.
fn compile(pattern: &str, programs: usize) -> Result<Regex, PatternError> {
    let built = RegexBuilder::new(pattern).unicode(false).size_limit(PATTERN_PROGRAM_BYTES / programs).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => PatternError::TooLarge,
        // The last line of the parser's message is the reason; those before it draw the place.
        error => PatternError::Syntax(error.to_string().lines().last().unwrap_or_default().to_string()),
    })
}

/// Splits a look-ahead off the front: whether it is wanted or must not match, what is in it, and what follows.
fn look_ahead(pattern: &str) -> Result<Option<(bool, &str, &str)>, PatternError> {
    let (wanted, inner) = match (pattern.strip_prefix("(?!"), pattern.strip_prefix("(?=")) {
        (Some(inner), _) => (false, inner),
        (_, Some(inner)) => (true, inner),
        _ => return Ok(None),
    };
    let end = closing_parenthesis(inner).ok_or(PatternError::LookAhead)?;
    Ok(Some((wanted, &inner[..end], &inner[end + 1..])))
}

/// Where the parenthesis ends that was opened before `pattern`.
fn closing_parenthesis(pattern: &str) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        let (piece, len) = piece(&pattern[at..])?;
        match piece {
            Piece::Open => depth += 1,
            Piece::Close if depth == 0 => return Some(at),
            Piece::Close => depth -= 1,
            _ => {}
        }
        at += len;
    }
}

/// A pattern as our engine writes it.
struct Translated {
    text: String,
    /// It has `|` outside of parentheses.
    alternatives: bool,
}

/// Writes out what the two engines read differently, and puts names in the place of placeholders.
fn translated(pattern: &str, names: &Names) -> Result<Translated, PatternError> {
    let mut out = Translated { text: String::with_capacity(pattern.len()), alternatives: false };
    let (mut rest, mut depth, mut repeated) = (pattern, 0_usize, false);
    while let Some((piece, len)) = piece(rest) {
        let named = names.of(rest).filter(|_| matches!(piece, Piece::Brace));
        let (text, behind) = rest.split_at(named.map_or(len, |(placeholder, _)| placeholder.len()));
        match piece {
            Piece::Brace => {
                out.text.push_str(&named.map_or_else(|| String::from("\\{"), |(_, name)| regex::escape(name)))
            }
            Piece::Class => class(text, &mut out.text)?,
            // Ours reads these two as borders of words.
            Piece::Escape if matches!(text, "\\<" | "\\>") => out.text.push_str(&text[1..]),
            Piece::Repetition if repeated && text == "+" => return Err(PatternError::Possessive),
            Piece::Escape | Piece::Repetition | Piece::Open | Piece::Close | Piece::Bar | Piece::Other => {
                out.text.push_str(text);
            }
        }
        match piece {
            Piece::Open => depth += 1,
            Piece::Close => depth = depth.saturating_sub(1),
            Piece::Bar => out.alternatives |= depth == 0,
            _ => {}
        }
        repeated = matches!(piece, Piece::Repetition);
        rest = behind;
    }
    Ok(out)
}

/// Writes out a class: ours knows classes within classes and the operators `&&`, `~~` and `--`.
fn class(text: &str, out: &mut String) -> Result<(), PatternError> {
    if text.contains("--") {
        return Err(PatternError::Syntax(String::from("'--' in a class is not possible; write the octets one by one")));
    }
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        let plain = match character {
            '[' => at == 0 || text[at..].starts_with("[:"),
            '&' | '~' => false,
            _ => true,
        };
        if !plain {
            out.push('\\');
        }
        out.push(character);
        if character == '\\' {
            out.extend(characters.next().map(|(_, escaped)| escaped));
        }
    }
    Ok(())
}

/// What a pattern consists of, as far as it matters here.
#[derive(Clone, Copy)]
enum Piece {
    /// A backslash and what it escapes.
    Escape,
    /// `[…]`
    Class,
    /// `*`, `+`, `?` or `{2,3}`
    Repetition,
    /// A brace that begins no repetition.
    Brace,
    Open,
    Close,
    Bar,
    Other,
}

/// The first piece of a pattern and its length; `None` at the end.
fn piece(pattern: &str) -> Option<(Piece, usize)> {
    let first = pattern.chars().next()?;
    Some(match first {
        '\\' => (Piece::Escape, 1 + pattern[1..].chars().next().map_or(0, char::len_utf8)),
        '[' => (Piece::Class, class_length(pattern)),
        '*' | '+' | '?' => (Piece::Repetition, 1),
        '{' => repetition_length(pattern).map_or((Piece::Brace, 1), |length| (Piece::Repetition, length)),
        '(' => (Piece::Open, 1),
        ')' => (Piece::Close, 1),
        '|' => (Piece::Bar, 1),
        other => (Piece::Other, other.len_utf8()),
    })
}

/// The length of the class that the pattern begins with; all of it if the class has no end. A bracket that closes is
/// part of the class if it comes first.
fn class_length(pattern: &str) -> usize {
    let start = if pattern.starts_with("[^") { 2 } else { 1 };
    let mut at = if pattern[start..].starts_with(']') { start + 1 } else { start };
    while let Some(character) = pattern[at..].chars().next() {
        let rest = &pattern[at..];
        at += match character {
            ']' => return at + 1,
            '\\' => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            '[' if rest.starts_with("[:") => rest.find(":]").map_or(1, |end| end + 2),
            other => other.len_utf8(),
        };
    }
    pattern.len()
}

/// The length of `{2}`, `{2,}` or `{2,3}` that the pattern begins with.
fn repetition_length(pattern: &str) -> Option<usize> {
    let end = pattern.find('}')?;
    let (least, most) = pattern[1..end].split_once(',').unwrap_or_else(|| (&pattern[1..end], ""));
    let digits = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit());
    (!least.is_empty() && digits(least) && digits(most)).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, matching: &[&str], other: &[&str]) {
        let pattern = Pattern::of_policy(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        matching.iter().for_each(|name| assert!(pattern.matches(name), "{pattern:?} should match {name:?}"));
        other.iter().for_each(|name| assert!(!pattern.matches(name), "{pattern:?} should not match {name:?}"));
    }

    #[test]
    fn patterns_mean_what_they_mean_to_rabbitmq() {
        check(".*", &["", "a"], &[]);
        check("", &["", "a"], &[]);
        let nothing = Pattern::of_permission("").expect("valid");
        assert!(nothing.matches("") && !nothing.matches("a"));
        check("^$", &[""], &["a"]);
        check("b", &["b", "abc"], &["a", "B"]);
        check("^(orders|invoices)\\.", &["orders.eu", "invoices."], &["xorders.", "ordersx"]);
        check("^a{2}$", &["aa"], &["a", "a{2}"]);
        check("^{unknown}$", &["{unknown}"], &["unknown"]);
        check("{username", &["x{username"], &["username"]);
        check("a{", &["a{"], &["a"]);
        check("^\\<a\\>$", &["<a>"], &["a"]);
        check("^[a[&~]$", &["[", "&", "~", "a"], &["b", "]"]);
        check("^[]a]$", &["]", "a"], &["b"]);
        check("^[[:digit:]]+$", &["12"], &["a", ":"]);
        check("^[^\\]]$", &["a"], &["]"]);
        check("(?i)^Q$", &["q", "Q"], &["x"]);
    }

    #[test]
    fn names_are_octets() {
        check("^é$", &["é"], &["e"]);
        check("^..$", &["é"], &["éé"]);
        check("^.$", &["a"], &["é"]);
        check("^\\w$", &["a", "_"], &["é"]);
    }

    #[test]
    fn look_ahead_at_the_beginning_is_understood() {
        check("^(?!amq\\.).*", &["orders", "", "amqp"], &["amq.topic"]);
        check("^(?!a|b)(?=.*x$)[^y]*$", &["cx"], &["ax", "bx", "c", "cyx"]);
        check("^(?!(a(b)[)]))a", &["ab", "ac"], &["ab)", "x"]);
        for pattern in ["^(?!a)b|c", "^(?!a"] {
            assert_eq!(Pattern::of_policy(pattern), Err(PatternError::LookAhead), "{pattern}");
        }
        check("^(?!a)(b|c)", &["b", "c"], &["a"]);
        for pattern in ["(?!a)b", "a(?=b)", "(?<=a)b", "(a)\\1", "(", "[", "a{2,1}", "*", "\\", "^(?!()a", "[+--]"] {
            let error = Pattern::of_policy(pattern).expect_err(pattern);
            assert!(matches!(error, PatternError::Syntax(_) | PatternError::LookAhead), "{pattern}: {error}");
        }
    }

    #[test]
    fn possessive_repetition_is_refused_for_ours_would_match_more() {
        for pattern in ["a++a", "a*+", "a?+", "a{2}+"] {
            assert_eq!(Pattern::of_policy(pattern), Err(PatternError::Possessive), "{pattern}");
        }
        check("^[+]+\\++$", &["+++"], &["+"]);
    }

    #[test]
    fn a_pattern_has_a_longest_length_and_a_largest_program() {
        assert!(Pattern::of_policy(&"a".repeat(PATTERN_BYTES)).is_ok());
        assert_eq!(Pattern::of_policy(&"a".repeat(PATTERN_BYTES + 1)), Err(PatternError::TooLong));
        check("^(a{50}){10}$", &[&"a".repeat(500)], &["a"]);
        assert_eq!(Pattern::of_policy("(((a{50}){50}){50})"), Err(PatternError::TooLarge));
    }

    #[test]
    fn a_program_is_as_large_as_it_may_be_with_its_look_ahead_and_no_larger() {
        let largest = |pattern: fn(usize) -> String| {
            let too_large = |times: &usize| Pattern::of_policy(&pattern(*times)) == Err(PatternError::TooLarge);
            let first = (1..PATTERN_PROGRAM_BYTES).step_by(10).find(too_large).expect("some number is too large");
            (first - 9..=first).find(too_large).expect("so is this one") - 1
        };
        let alone = largest(|times| format!("^a{{{times}}}$"));
        assert!(Pattern::of_policy(&format!("^a{{{alone}}}$")).is_ok());
        // A repeated octet takes a state of several words.
        assert!((PATTERN_PROGRAM_BYTES / 64..PATTERN_PROGRAM_BYTES / 8).contains(&alone), "{alone}");
        let beside_another = largest(|times| format!("^(?!x)a{{{times}}}$"));
        assert!((alone / 2).abs_diff(beside_another) < alone / 10, "{beside_another} beside another, {alone} alone");
    }

    #[test]
    fn placeholders_are_completed_literally() {
        let (user, vhost) = (Arc::from("b.o|b"), Arc::from("/"));
        let pattern = Pattern::of_topic("^{username}-{vhost}-[{username}]", &user, &vhost).expect("valid");
        for (key, matches) in [("b.o|b-/-u", true), ("bxo|b-/-u", false), ("b.o", false), ("b.o|b-/-o", false)] {
            assert_eq!(pattern.matches(key), matches, "{key}");
        }
        let escaped = Pattern::of_topic("^\\{username}$", &Arc::from("d"), &vhost).expect("valid");
        assert!(escaped.matches("{username}") && !escaped.matches("1") && !escaped.matches("d"));
        let unknown = Pattern::of_topic("^{client_id}$", &user, &vhost).expect("valid");
        assert!(unknown.matches("{client_id}"));
        assert!(Pattern::of_policy("^{username}$").expect("valid").matches("{username}"));
    }

    #[test]
    fn what_was_logged_and_cannot_be_read_matches_nothing() {
        let pattern = Pattern::unreadable("(");
        assert!(!pattern.matches("(") && !pattern.matches(""));
        assert_eq!(pattern.as_str(), "(");
    }
}
