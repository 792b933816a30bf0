//! The form of a log line.
//!
//! As JSON, an object with `timestamp` (RFC 3339, UTC, microseconds), `level`, `target`, `message`, and behind them the
//! event's own fields and those of the spans it is in (`connection_id`, `peer`), all on one level. As text the same:
//!
//! ```text
//! 2026-01-02T03:04:05.000006Z  INFO audit: login user=guest mechanism=PLAIN outcome=ok connection_id=7 peer=127.0.0.1:1
//! ```
//!
//! Much of what is logged was chosen by clients. So whatever the event, control characters are escaped, also those that
//! turn the direction of text, and values are cut at [`LOG_VALUE_CHARS`], sentences of ours at [`LOG_SENTENCE_CHARS`].

use std::fmt::{self, Debug, Write};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::limits::{LOG_SENTENCE_CHARS, LOG_VALUE_CHARS};

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Text,
    /// Text with a coloured level.
    Colours,
    Json,
}

/// Writes a line for each event.
pub(super) struct Lines<W> {
    style: Style,
    write: W,
}

impl<W: Fn(&str)> Lines<W> {
    pub(super) fn new(style: Style, write: W) -> Self {
        Self { style, write }
    }
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    W: Fn(&str) + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                fields.add(of_span);
            }
        }
        let metadata = event.metadata();
        let (level, target) = (*metadata.level(), metadata.target());
        let line = match self.style {
            Style::Json => fields.json(level, target),
            Style::Text => fields.text(level.as_str(), target),
            Style::Colours => fields.text(&coloured(level), target),
        };
        (self.write)(&line);
    }
}

/// What an event or a span has to say, ready to be written.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    values: Vec<(&'static str, Value)>,
}

impl Fields {
    /// Adds what is not there already: what is nearer to the event counts.
    fn add(&mut self, others: &Self) {
        for (name, value) in &others.values {
            if self.values.iter().all(|(known, _)| known != name) {
                self.values.push((name, value.clone()));
            }
        }
    }

    fn push_text(&mut self, field: &Field, text: &str) {
        let name = field.name();
        let chars = match name {
            "message" | "error" | "reason" => LOG_SENTENCE_CHARS,
            _ => LOG_VALUE_CHARS,
        };
        let text = harmless(text, chars);
        if name == "message" { self.message = text } else { self.values.push((name, Value::String(text))) }
    }

    fn json(self, level: Level, target: &str) -> String {
        let mut object = Map::new();
        object.insert("timestamp".to_owned(), Value::String(now()));
        object.insert("level".to_owned(), Value::from(level.as_str()));
        object.insert("target".to_owned(), Value::from(target));
        object.insert("message".to_owned(), Value::String(self.message));
        for (name, value) in self.values {
            object.entry(name).or_insert(value);
        }
        format!("{}\n", Value::Object(object))
    }

    fn text(self, level: &str, target: &str) -> String {
        let mut line = format!("{} {level:>5} {target}: {}", now(), self.message);
        for (name, value) in self.values {
            // Writing to a string cannot fail.
            let _ = match value {
                Value::String(text) if is_plain(&text) => write!(line, " {name}={text}"),
                // As JSON writes it, with quotation marks.
                value => write!(line, " {name}={value}"),
            };
        }
        line.push('\n');
        line
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push_text(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.push_text(field, &format!("{value:?}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.values.push((field.name(), Value::from(value)));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.values.push((field.name(), Value::from(value)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.values.push((field.name(), Value::from(value)));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.values.push((field.name(), Value::from(value)));
    }
}

/// The text without what could harm a terminal or pretend to be another line, and not longer than so many characters.
fn harmless(text: &str, chars: usize) -> String {
    let mut out = String::with_capacity(text.len().min(chars));
    for (index, character) in text.chars().enumerate() {
        if index == chars {
            out.push('…');
            break;
        }
        if is_harmful(character) { out.extend(character.escape_default()) } else { out.push(character) }
    }
    out
}

/// Control characters, and those that change direction or begin a line without being seen.
fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a value needs no quotation marks to be told from what surrounds it.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.contains([' ', '"', '=', '\\']) && !text.contains(char::is_whitespace)
}

fn coloured(level: Level) -> String {
    let colour = match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    };
    format!("\u{1b}[{colour}m{level:>5}\u{1b}[0m")
}

fn now() -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _: fmt::Result = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{info, info_span, warn};
    use tracing_subscriber::Registry;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// The lines that `work` logs.
    fn logged(style: Style, work: impl FnOnce()) -> Vec<String> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let write = move |line: &str| sink.lock().expect("no panic").push(line.to_owned());
        tracing::subscriber::with_default(Registry::default().with(Lines::new(style, write)), work);
        let lines = lines.lock().expect("no panic");
        lines.clone()
    }

    fn json(work: impl FnOnce()) -> Value {
        let lines = logged(Style::Json, work);
        let [line] = &lines[..] else { panic!("{lines:?}") };
        serde_json::from_str(line).expect("JSON")
    }

    #[test]
    fn fields_of_event_and_spans_are_on_one_level() {
        let line = json(|| {
            let span = info_span!("connection", connection_id = 7_u64, peer = %"[::1]:1");
            span.in_scope(|| warn!(target: "audit", user = "guest", count = 3, ok = true, "login"));
        });
        let expected = [("level", "WARN"), ("target", "audit"), ("message", "login"), ("user", "guest")];
        for (name, value) in expected {
            assert_eq!(line[name], value, "{line}");
        }
        assert_eq!((&line["connection_id"], &line["peer"]), (&Value::from(7), &Value::from("[::1]:1")));
        assert_eq!((&line["count"], &line["ok"]), (&Value::from(3), &Value::from(true)));
        let time = line["timestamp"].as_str().expect("text");
        assert!(time.len() == 27 && time.ends_with('Z') && time.contains('T'), "{time}");
    }

    #[test]
    fn text_has_the_same_on_a_line() {
        let lines = logged(Style::Text, || {
            let span = info_span!("connection", connection_id = 7);
            span.in_scope(|| info!(target: "t", user = "a b", empty = "", vhost = "/", "said it"));
        });
        let (_, rest) = lines[0].split_once(' ').expect("a time");
        assert_eq!(rest, " INFO t: said it user=\"a b\" empty=\"\" vhost=/ connection_id=7\n");
    }

    #[test]
    fn what_clients_choose_cannot_make_lines_or_move_the_cursor() {
        let hostile = "a\nb\r\u{1b}[2J\u{7f}\u{9b}\u{202e}\u{2028}c\t";
        let expected = "a\\nb\\r\\u{1b}[2J\\u{7f}\\u{9b}\\u{202e}\\u{2028}c\\t";
        let line = json(|| info!(user = hostile, display = %hostile, "{hostile}"));
        assert_eq!((&line["user"], &line["message"]), (&Value::from(expected), &Value::from(expected)));
        assert_eq!(line["display"], expected);
        let lines = logged(Style::Text, || info!(user = hostile, debug = ?hostile, "{hostile}"));
        assert_eq!(lines.len(), 1);
        let line = lines[0].strip_suffix('\n').expect("a line");
        assert!(!line.contains(is_harmful), "{line:?}");
    }

    #[test]
    fn values_are_cut_at_256_characters_and_sentences_at_1024() {
        for (len, cut) in [(256, false), (257, true)] {
            let text = "ü".repeat(len);
            let line = json(|| info!(user = text, "m"));
            let user = line["user"].as_str().expect("text");
            assert_eq!((user.ends_with('…'), user.chars().count()), (cut, len), "{len}");
        }
        for (len, cut) in [(1_024, false), (1_025, true)] {
            let text = "x".repeat(len);
            let line = json(|| info!(error = text, reason = text, "{text}"));
            for name in ["error", "reason", "message"] {
                assert_eq!(line[name].as_str().expect("text").ends_with('…'), cut, "{name} {len}");
            }
        }
    }
}
