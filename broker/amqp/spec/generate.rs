//! Writes `src/spec/` from `spec/amqp0-9-1.txt`, whose head describes its grammar.
//!
//! Run `cargo run -p warren-amqp --example generate` after a change; `tests/spec.rs` fails until it has been done.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The description, parsed.
pub(crate) struct Spec {
    /// In the order of the text.
    pub(crate) classes: Vec<Class>,
}

/// One class with its methods.
pub(crate) struct Class {
    /// Class id on the wire.
    pub(crate) id: u16,
    /// Name as in the specification.
    pub(crate) name: String,
    doc: String,
    /// In the order of the text.
    pub(crate) methods: Vec<Method>,
}

/// One method.
pub(crate) struct Method {
    /// Method id on the wire.
    pub(crate) id: u16,
    /// Name as in the specification.
    pub(crate) name: String,
    /// A client may send it.
    pub(crate) to_server: bool,
    /// A server may send it.
    pub(crate) to_client: bool,
    /// Header and body frames follow it.
    pub(crate) content: bool,
    /// In wire order.
    pub(crate) fields: Vec<Field>,
    doc: String,
}

/// One field of a method.
#[derive(Clone)]
pub(crate) struct Field {
    /// Name as in the specification; empty if reserved.
    pub(crate) name: String,
    /// Elementary type: `bit`, `octet`, `short`, `long`, `longlong`, `shortstr`, `longstr` or `table`.
    pub(crate) kind: String,
    doc: String,
}

impl Field {
    /// Skipped when read, zero when written.
    pub(crate) fn reserved(&self) -> bool {
        self.name.is_empty()
    }

    fn ident(&self) -> String {
        match self.name.as_str() {
            "type" => "kind".to_owned(), // `type` is a keyword
            name => name.replace('-', "_"),
        }
    }

    fn rust_type(&self) -> &'static str {
        match self.kind.as_str() {
            "bit" => "bool",
            "octet" => "u8",
            "short" => "u16",
            "long" => "u32",
            "longlong" => "u64",
            "shortstr" => "&'a str",
            "longstr" => "&'a [u8]",
            "table" => "Table<'a>",
            other => panic!("unknown type {other}"),
        }
    }
}

impl Method {
    fn ident(&self) -> String {
        camel(&self.name)
    }

    fn named_fields(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| !field.reserved())
    }

    fn lifetime(&self) -> &'static str {
        if self.named_fields().any(|field| field.rust_type().contains("'a")) { "<'a>" } else { "" }
    }
}

impl Spec {
    /// Reads the description. Panics with the offending line; this runs at development time only.
    pub(crate) fn parse(text: &str) -> Self {
        let mut known = BTreeMap::new();
        let mut classes: Vec<Class> = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (facts, doc) = line.split_once(" | ").unwrap_or_else(|| panic!("no doc in {line:?}"));
            let doc = doc.to_owned();
            let words: Vec<&str> = facts.split_whitespace().collect();
            match words.as_slice() {
                ["field", name, kind] => {
                    let field = Field { name: (*name).to_owned(), kind: (*kind).to_owned(), doc };
                    known.insert((*name).to_owned(), field);
                }
                ["class", id, name] => classes.push(Class {
                    id: id.parse().unwrap_or_else(|_| panic!("no class id in {line:?}")),
                    name: (*name).to_owned(),
                    doc,
                    methods: Vec::new(),
                }),
                _ => classes.last_mut().expect("a class comes first").methods.push(method(facts, doc, &known)),
            }
        }
        Self { classes }
    }

    /// The files of `src/spec/`, formatted: name and text.
    pub(crate) fn files(&self) -> Vec<(String, String)> {
        let mut files = vec![("mod.rs".to_owned(), rustfmt(&self.module()))];
        files.extend(self.classes.iter().map(|class| (format!("{}.rs", class.name), rustfmt(&class.module()))));
        files
    }

    fn methods(&self) -> impl Iterator<Item = (&Class, &Method)> {
        self.classes.iter().flat_map(|class| class.methods.iter().map(move |method| (class, method)))
    }

    fn module(&self) -> String {
        let mut out = String::from(
            "//! The methods of AMQP 0-9-1 and of RabbitMQ's extensions, a module per class, and two enums by direction.\n\
             //!\n\
             //! Written by `spec/generate.rs` from `spec/amqp0-9-1.txt`; change those.\n\n\
             use alloc::vec::Vec;\n\nuse crate::error::DecodeError;\n\n",
        );
        for class in &self.classes {
            writeln!(out, "pub mod {};", class.name).expect("writing to a String");
        }
        out += &self.direction("ToServer", "A method that a client may send.", |method| method.to_server);
        out += &self.direction("ToClient", "A method that a server may send.", |method| method.to_client);
        out += "/// The method's name, such as `basic.publish`; `None` if no such method exists in either direction.\n\
                pub const fn method_name(class_id: u16, method_id: u16) -> Option<&'static str> {\n\
                Some(match (class_id, method_id) {\n";
        for (class, method) in self.methods() {
            writeln!(out, "({}, {}) => \"{}.{}\",", class.id, method.id, class.name, method.name)
                .expect("writing to a String");
        }
        out += "_ => return None,\n})\n}\n\n\
                /// Splits class and method id off a method frame's payload.\n\
                #[inline]\n\
                fn split_ids(payload: &[u8]) -> Result<(u16, u16, &[u8]), DecodeError> {\n\
                let Some((&[c1, c0, m1, m0], fields)) = payload.split_first_chunk::<4>() else {\n\
                return Err(DecodeError::Truncated { what: \"method frame\", field: \"class and method id\" });\n\
                };\n\
                Ok((u16::from_be_bytes([c1, c0]), u16::from_be_bytes([m1, m0]), fields))\n}\n\n\
                #[cold]\n\
                fn refused(class_id: u16, method_id: u16) -> DecodeError {\n\
                match method_name(class_id, method_id) {\n\
                Some(name) => DecodeError::WrongDirection { name, class_id, method_id },\n\
                None => DecodeError::UnknownMethod { class_id, method_id },\n\
                }\n}\n";
        out
    }

    fn direction(&self, name: &str, doc: &str, goes: impl Fn(&Method) -> bool) -> String {
        let (mut variants, mut decode, mut encode, mut ids, mut names) = Default::default();
        for (class, method) in self.methods().filter(|(_, method)| goes(method)) {
            let variant = camel(&class.name) + &method.ident();
            let path = format!("{}::{}", class.name, method.ident());
            add(&mut variants, format!("/// {}\n{variant}({path}{}),", method.doc, method.lifetime()));
            add(&mut decode, format!("({}, {}) => Self::{variant}({path}::decode(fields)?),", class.id, method.id));
            add(&mut encode, format!("Self::{variant}(method) => method.encode(channel, out),"));
            add(&mut ids, format!("Self::{variant}(_) => {path}::ID,"));
            add(&mut names, format!("Self::{variant}(_) => {path}::NAME,"));
        }
        format!(
            "\n/// {doc}\n#[derive(Debug, Clone, Copy, PartialEq, Eq)]\npub enum {name}<'a> {{\n{variants}}}\n\n\
             impl<'a> {name}<'a> {{\n\
             /// Decodes a method frame's payload: class id, method id, fields.\n///\n\
             /// # Errors\n\
             /// A method that does not exist or does not go in this direction, and whatever its fields have wrong.\n\
             #[inline]\npub fn decode(payload: &'a [u8]) -> Result<Self, DecodeError> {{\n\
             let (class_id, method_id, fields) = split_ids(payload)?;\n\
             Ok(match (class_id, method_id) {{\n{decode}_ => return Err(refused(class_id, method_id)),\n}})\n}}\n\n\
             /// Appends the whole method frame.\npub fn encode(&self, channel: u16, out: &mut Vec<u8>) {{\n\
             match self {{\n{encode}}}\n}}\n\n\
             /// Class and method id.\npub const fn method_id(&self) -> (u16, u16) {{\nmatch self {{\n{ids}}}\n}}\n\n\
             /// The name, such as `basic.publish`.\npub const fn name(&self) -> &'static str {{\n\
             match self {{\n{names}}}\n}}\n}}\n\n"
        )
    }
}

impl Class {
    fn module(&self) -> String {
        let kinds = |kind: &str| self.methods.iter().flat_map(Method::named_fields).any(|field| field.kind == kind);
        let mut out = format!(
            "//! Class {}, `{}`. {}\n//!\n//! Written by `spec/generate.rs`; change that.\n\n\
             use alloc::vec::Vec;\n\nuse crate::error::DecodeError;\n",
            self.id, self.name, self.doc
        );
        if kinds("table") {
            out += "use crate::table::Table;\n";
        }
        out += "use crate::wire::{self, Reader};\n\n";
        for method in &self.methods {
            out += &method.item(self);
        }
        out
    }
}

impl Method {
    fn item(&self, class: &Class) -> String {
        let (ident, lifetime) = (self.ident(), self.lifetime());
        let name = format!("{}.{}", class.name, self.name);
        let mut fields = String::new();
        for field in self.named_fields() {
            add(&mut fields, format!("/// {}\npub {}: {},", field.doc, field.ident(), field.rust_type()));
        }
        let body = if fields.is_empty() { ";".to_owned() } else { format!("{{\n{fields}}}") };
        let source = if lifetime.is_empty() { "&[u8]" } else { "&'a [u8]" };
        format!(
            "/// `{name}` ({}, {}): {}{}\n#[derive(Debug, Clone, Copy, PartialEq, Eq)]\n\
             pub struct {ident}{lifetime} {body}\n\n\
             impl{lifetime} {ident}{lifetime} {{\n\
             /// Class and method id.\npub const ID: (u16, u16) = ({}, {});\n\
             /// The name.\npub const NAME: &'static str = \"{name}\";\n\n\
             /// Decodes the fields, which follow the ids in a method frame's payload.\n///\n/// # Errors\n\
             /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.\n\
             #[inline]\npub fn decode(fields: {source}) -> Result<Self, DecodeError> {{\n{}}}\n\n\
             /// Appends the whole method frame.\npub fn encode(&self, channel: u16, out: &mut Vec<u8>) {{\n{}}}\n}}\n\n",
            class.id,
            self.id,
            self.doc,
            if self.content { " Header and body frames follow." } else { "" },
            class.id,
            self.id,
            self.decoder(),
            self.encoder(),
        )
    }

    fn decoder(&self) -> String {
        let mut out = if self.fields.is_empty() {
            String::from("let reader = Reader::new(Self::NAME, fields);\n")
        } else {
            String::from("let mut reader = Reader::new(Self::NAME, fields);\n")
        };
        for group in self.groups() {
            let [first, ..] = group else { continue };
            let named: Vec<_> = group.iter().enumerate().filter(|(_, field)| !field.reserved()).collect();
            match (first.kind.as_str(), named.is_empty()) {
                ("bit", true) => out += "reader.octet(\"reserved\")?;\n",
                ("bit", false) => {
                    let label = group.iter().map(|field| field.name.as_str()).collect::<Vec<_>>().join(", ");
                    add(&mut out, format!("let bits = reader.octet(\"{label}\")?;"));
                    for (position, field) in named {
                        add(&mut out, format!("let {} = wire::bit(bits, {position});", field.ident()));
                    }
                }
                ("shortstr", true) => out += "reader.shortstr_octets(\"reserved\")?;\n",
                (kind, true) => add(&mut out, format!("reader.{kind}(\"reserved\")?;")),
                (kind, false) => add(&mut out, format!("let {} = reader.{kind}(\"{}\")?;", first.ident(), first.name)),
            }
        }
        let idents: Vec<_> = self.named_fields().map(Field::ident).collect();
        let value = if idents.is_empty() { String::new() } else { format!("{{ {} }}", idents.join(", ")) };
        out + &format!("reader.finish()?;\nOk(Self {value})\n")
    }

    fn encoder(&self) -> String {
        if self.fields.is_empty() {
            return "wire::put_method(out, channel, Self::ID, |_| {});\n".to_owned();
        }
        let mut out = String::from("wire::put_method(out, channel, Self::ID, |out| {\n");
        for group in self.groups() {
            let [first, ..] = group else { continue };
            let value = if first.reserved() { "0".to_owned() } else { format!("self.{}", first.ident()) };
            add(
                &mut out,
                match first.kind.as_str() {
                    "bit" if group.iter().all(Field::reserved) => "out.push(0);".to_owned(),
                    "bit" => {
                        let values: Vec<_> = group.iter().map(|field| format!("self.{}", field.ident())).collect();
                        format!("out.push(wire::bits([{}]));", values.join(", "))
                    }
                    "octet" => format!("out.push({value});"),
                    "shortstr" if first.reserved() => "out.push(0);".to_owned(),
                    "longstr" | "table" if first.reserved() => "out.extend_from_slice(&[0; 4]);".to_owned(),
                    "shortstr" => format!("wire::put_shortstr(out, {value});"),
                    "longstr" => format!("wire::put_longstr(out, {value});"),
                    "table" => format!("wire::put_longstr(out, {value}.octets());"),
                    "short" if first.reserved() => "out.extend_from_slice(&[0; 2]);".to_owned(),
                    _ => format!("out.extend_from_slice(&{value}.to_be_bytes());"),
                },
            );
        }
        out + "});\n"
    }

    /// The fields, neighbouring bits together.
    fn groups(&self) -> impl Iterator<Item = &[Field]> {
        self.fields.chunk_by(|one, next| one.kind == "bit" && next.kind == "bit")
    }
}

fn method(facts: &str, doc: String, known: &BTreeMap<String, Field>) -> Method {
    let (head, fields) = facts.split_once('(').unwrap_or_else(|| panic!("no fields in {facts:?}"));
    let words: Vec<&str> = head.split_whitespace().collect();
    let (id, direction, name, content) = match words.as_slice() {
        [id, direction, name] => (id, direction, name, false),
        [id, direction, name, "content"] => (id, direction, name, true),
        _ => panic!("not a method: {facts:?}"),
    };
    let fields = fields.trim_end_matches(')').split_whitespace().map(|field| match field.strip_prefix('_') {
        Some(kind) => Field { name: String::new(), kind: kind.to_owned(), doc: String::new() },
        None => known.get(field).unwrap_or_else(|| panic!("field {field} is not described")).clone(),
    });
    Method {
        id: id.parse().unwrap_or_else(|_| panic!("no method id in {facts:?}")),
        name: (*name).to_owned(),
        to_server: direction.contains('>'),
        to_client: direction.contains('<'),
        content,
        fields: fields.collect(),
        doc,
    }
}

fn add(out: &mut String, line: String) {
    *out += &line;
    out.push('\n');
}

fn camel(name: &str) -> String {
    name.split('-').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

/// The text as rustfmt, which the pinned toolchain brings along, formats it.
fn rustfmt(text: &str) -> String {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut child = Command::new("rustfmt")
        .current_dir(env!("CARGO_MANIFEST_DIR")) // for the workspace's rustfmt.toml
        .args(["--edition", "2024", "--emit", "stdout"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("rustfmt is part of the pinned toolchain");
    child.stdin.take().expect("stdin is piped").write_all(text.as_bytes()).expect("rustfmt reads its input");
    let output = child.wait_with_output().expect("rustfmt ends");
    assert!(output.status.success(), "rustfmt refused:\n{text}");
    String::from_utf8(output.stdout).expect("rustfmt writes UTF-8")
}

fn main() {
    let package = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(package.join("spec/amqp0-9-1.txt")).expect("the description is readable");
    for (name, content) in Spec::parse(&text).files() {
        std::fs::write(package.join("src/spec").join(name), content).expect("src/spec is writable");
    }
}
