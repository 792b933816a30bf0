//! Names, arguments and properties of a script, as they go over the wire.

use warren_amqp::{BasicProperties, Table, TableBuilder, Value};

use crate::script::{Arguments, Properties};

/// The names of one run of a script.
#[derive(Debug)]
pub(crate) struct Names {
    prefix: String,
}

impl Names {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub(crate) fn queue(&self, number: usize) -> String {
        format!("{}q{number}", self.prefix)
    }

    pub(crate) fn exchange(&self, number: usize) -> String {
        format!("{}e{number}", self.prefix)
    }

    /// The line as any other run of the script would have it.
    pub(crate) fn strip(&self, line: &str) -> String {
        line.replace(&self.prefix, "")
    }
}

pub(crate) fn queue_arguments(names: &Names, arguments: Arguments) -> Vec<u8> {
    let text = |text: &'static str| Value::LongString(text.as_bytes());
    let dead_letters_to = names.queue(0);
    TableBuilder::build(|table| {
        let dead_letters = |table: &mut TableBuilder<'_>| {
            table.put("x-dead-letter-exchange", text(""));
            table.put("x-dead-letter-routing-key", Value::LongString(dead_letters_to.as_bytes()));
        };
        match arguments {
            Arguments::None => {}
            Arguments::MaxLength => {
                table.put("x-max-length", 2);
            }
            Arguments::MaxLengthReject => {
                table.put("x-max-length", 2).put("x-overflow", text("reject-publish"));
            }
            Arguments::MaxLengthBytes => {
                table.put("x-max-length-bytes", 25);
            }
            Arguments::ExpiresAtOnce => {
                table.put("x-message-ttl", 0);
            }
            Arguments::Priorities => {
                table.put("x-max-priority", 4);
            }
            Arguments::DeadLetters => dead_letters(table),
            Arguments::DeadLettersOfShortQueue => {
                dead_letters(table);
                table.put("x-max-length", 1);
            }
            Arguments::DeadLettersAtOnce => {
                dead_letters(table);
                table.put("x-message-ttl", 0);
            }
            Arguments::SingleActiveConsumer => {
                table.put("x-single-active-consumer", true);
            }
            Arguments::Wrong(number) => {
                const WRONG: [(&str, Value<'static>); 8] = [
                    ("x-message-ttl", Value::I32(-1)),
                    ("x-max-length", Value::LongString(b"many")),
                    ("x-overflow", Value::LongString(b"explode")),
                    ("x-max-priority", Value::I32(1_000)),
                    ("x-dead-letter-routing-key", Value::LongString(b"nowhere")),
                    ("x-expires", Value::I32(0)),
                    ("x-queue-type", Value::LongString(b"nonsense")),
                    ("x-single-active-consumer", Value::I32(1)),
                ];
                let (name, value) = WRONG[number % WRONG.len()];
                table.put(name, value);
            }
        }
    })
}

pub(crate) fn exchange_arguments(names: &Names, alternate: Option<usize>) -> Vec<u8> {
    let alternate = alternate.map(|exchange| names.exchange(exchange));
    TableBuilder::build(|table| {
        if let Some(alternate) = &alternate {
            table.put("alternate-exchange", Value::LongString(alternate.as_bytes()));
        }
    })
}

pub(crate) fn consumer_arguments(priority: Option<i32>) -> Vec<u8> {
    TableBuilder::build(|table| {
        if let Some(priority) = priority {
            table.put("x-priority", priority);
        }
    })
}

/// Headers that bindings ask for and messages have.
pub(crate) fn binding_arguments(headers: Option<usize>) -> Vec<u8> {
    let text = |text: &'static str| Value::LongString(text.as_bytes());
    TableBuilder::build(|table| match headers {
        None => {}
        Some(0) => {
            table.put("x-match", text("all")).put("colour", text("red"));
        }
        Some(1) => {
            table.put("x-match", text("any")).put("colour", text("red")).put("size", 3);
        }
        Some(2) => {
            table.put("x-match", text("all-with-x")).put("x-new", true);
        }
        Some(3) => {
            table.put("x-match", text("any-with-x")).put("x-new", true).put("size", 4);
        }
        Some(4) => {
            table.put("colour", Value::Void);
        }
        Some(_) => {
            table.put("x-match", text("some"));
        }
    })
}

fn headers(number: usize) -> Vec<u8> {
    let text = |text: &'static str| Value::LongString(text.as_bytes());
    TableBuilder::build(|table| match number {
        0 => {
            table.put("colour", text("red"));
        }
        1 => {
            table.put("colour", text("blue")).put("size", Value::I64(3));
        }
        2 => {
            table.put("x-new", true);
        }
        3 => {
            table.put("size", Value::I16(4)).put("x-new", false);
        }
        4 => {}
        _ => {
            table.put("colour", 7).put("list", Value::Void);
        }
    })
}

/// Hands a message's properties to `use_them`.
pub(crate) fn with_properties(names: &Names, properties: Properties, mut use_them: impl FnMut(&BasicProperties<'_>)) {
    let none = BasicProperties::default();
    match properties {
        Properties::None => use_them(&none),
        Properties::Persistent => use_them(&BasicProperties { delivery_mode: Some(2), ..none }),
        Properties::Priority(priority) => use_them(&BasicProperties { priority: Some(priority), ..none }),
        Properties::Headers(number) => {
            let table = headers(number);
            use_them(&BasicProperties { headers: Some(Table::new(&table)), ..none });
        }
        Properties::CarbonCopies => {
            let (first, second) = (names.queue(1), names.queue(2));
            let table = TableBuilder::build(|table| {
                table.array("CC", |keys| {
                    keys.push(Value::LongString(first.as_bytes()));
                });
                table.array("BCC", |keys| {
                    keys.push(Value::LongString(second.as_bytes()));
                });
            });
            use_them(&BasicProperties { headers: Some(Table::new(&table)), ..none });
        }
        Properties::ExpiresAtOnce => use_them(&BasicProperties { expiration: Some("0"), ..none }),
        Properties::ExpiresNever => use_them(&BasicProperties { expiration: Some("600000"), ..none }),
        Properties::Wrong(0) => use_them(&BasicProperties { expiration: Some("abc"), ..none }),
        Properties::Wrong(1) => use_them(&BasicProperties { expiration: Some("-1"), ..none }),
        Properties::Wrong(2) => use_them(&BasicProperties { user_id: Some("somebody"), ..none }),
        Properties::Wrong(_) => {
            let table = TableBuilder::build(|table| {
                table.put("CC", Value::LongString(b"a"));
            });
            use_them(&BasicProperties { headers: Some(Table::new(&table)), ..none });
        }
    }
}
