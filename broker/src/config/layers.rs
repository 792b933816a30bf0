//! Four layers make the settings: default < file < environment < flags. Each value remembers where it comes from, and
//! what is wrong anywhere is gathered and told at once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use serde_path_to_error::Segment;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::schema::{self, Kind, Setting, VARIABLE_PREFIX};
use super::{Config, ConfigError, Mistakes, Origin};

/// The variable that names the configuration file. It is no setting, because nothing in the file can say it.
pub const FILE_VARIABLE: &str = "WARREN_CONFIG";

/// What the settings are taken from.
#[derive(Debug, Default)]
pub struct Sources {
    /// The configuration file, in TOML.
    pub file: Option<PathBuf>,
    /// The environment. What does not begin with `WARREN_` is passed over.
    pub variables: Vec<(OsString, OsString)>,
    /// What the command line says; of two for the same key the later counts.
    pub flags: Vec<Flag>,
}

/// A setting from the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// As it stands in the help: `--data-dir`, `--set`.
    pub name: &'static str,
    /// The setting with its section.
    pub key: String,
    /// Its value as text; a list's elements are separated by commas.
    pub value: String,
}

/// The settings with where they come from.
#[derive(Debug)]
pub struct Settings {
    /// The settings, checked.
    pub config: Config,
    /// Variables that begin as ours do and are none, not even nearly.
    pub ignored_variables: Vec<String>,
    pub(super) origins: BTreeMap<String, Origin>,
}

impl Settings {
    /// Reads all layers and checks what they are together.
    ///
    /// # Errors
    /// The file cannot be read or is not TOML; or settings do not exist, are not what they have to be, or do not go
    /// together. Of these, all are named.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let mut layers = Layers::new();
        if let Some(file) = &sources.file {
            layers.read_file(file)?;
        }
        let ignored_variables = layers.read_variables(&sources.variables);
        for flag in &sources.flags {
            layers.give(&flag.key, &flag.value, Origin::Flag(flag.name));
        }
        let config = layers.config();
        let Layers { origins, mut mistakes, .. } = layers;
        if mistakes.is_empty() {
            config.check(&mut mistakes);
            mistakes.locate(&origins);
        }
        mistakes.into_result()?;
        Ok(Self { config, ignored_variables, origins })
    }

    /// Where the value of a setting (its key with its section) comes from.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or_default()
    }

    /// The settings that count, as a file that says the same; with `origins`, behind each where it comes from. What is
    /// not set and has no default is not in it.
    ///
    /// # Errors
    /// A setting cannot be written as TOML, which is a defect.
    pub fn show(&self, origins: bool) -> Result<String, toml::ser::Error> {
        let values = Table::try_from(&self.config)?;
        let mut text = String::new();
        let mut last_section = String::new();
        // In TOML, what is in no section has to come first.
        let (plain, in_sections): (Vec<_>, Vec<_>) =
            schema::settings::<Config>().into_iter().partition(|setting| !setting.key.contains('.'));
        for Setting { key, .. } in plain.iter().chain(&in_sections) {
            let Some(value) = find(&values, key) else { continue };
            let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
            if section != last_section {
                let _ = write!(text, "\n[{section}]\n");
                section.clone_into(&mut last_section);
            }
            let _ = write!(text, "{name} = {value}");
            if origins {
                let _ = write!(text, "  # {}", self.origin(key));
            }
            text.push('\n');
        }
        Ok(text)
    }
}

/// What has been read so far.
struct Layers {
    known: Vec<Setting>,
    values: Table,
    origins: BTreeMap<String, Origin>,
    mistakes: Mistakes,
}

impl Layers {
    fn new() -> Self {
        Self {
            known: schema::settings::<Config>(),
            values: Table::new(),
            origins: BTreeMap::new(),
            mistakes: Mistakes::default(),
        }
    }

    fn read_file(&mut self, path: &PathBuf) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        let syntax = |source| ConfigError::Syntax { path: path.clone(), source: Box::new(source) };
        let document = DeTable::parse(&text).map_err(syntax)?;
        let values: Table = text.parse().map_err(syntax)?;
        let file = File { path: Arc::new(path.clone()), text: &text };
        self.read_table(document.get_ref(), values, "", &file);
        Ok(())
    }

    fn read_table(&mut self, document: &DeTable<'_>, mut values: Table, prefix: &str, file: &File<'_>) {
        for (name, described) in document {
            let key = format!("{prefix}{}", name.get_ref());
            let origin = file.origin(name.span().start);
            let Some(value) = values.remove(name.get_ref().as_ref()) else { continue };
            if self.known.iter().any(|setting| setting.key == key) {
                self.set(&key, value, origin);
                continue;
            }
            match (described.get_ref(), value) {
                (DeValue::Table(document), Value::Table(values)) if self.is_section(&key) => {
                    // Even an empty section may be one that lacks something.
                    self.set_section(&key);
                    self.origins.insert(key.clone(), origin);
                    self.read_table(document, values, &format!("{key}."), file);
                }
                _ if self.is_section(&key) => {
                    self.mistakes.add_at(origin, &key, "it is a section: write its keys below a line with [its name]");
                }
                _ => self.unknown(&key, origin),
            }
        }
    }

    /// Answers with the variables that are not for us.
    fn read_variables(&mut self, variables: &[(OsString, OsString)]) -> Vec<String> {
        let ours = |(name, value): &'_ (OsString, OsString)| {
            let name = name.to_str().filter(|name| name.starts_with(VARIABLE_PREFIX) && *name != FILE_VARIABLE)?;
            Some((name.to_owned(), value.clone()))
        };
        let keys: BTreeMap<_, _> = self.known.iter().map(|setting| (setting.variable(), setting.key.clone())).collect();
        let mut ignored = Vec::new();
        for (name, value) in variables.iter().filter_map(ours) {
            let origin = Origin::Variable(name.clone());
            match (keys.get(&name), value.to_str()) {
                (Some(key), Some(value)) => self.give(key, value, origin),
                (Some(key), None) => self.mistakes.add_at(origin, key, "it is not UTF-8"),
                (None, _) if is_service_link(&name) => {}
                (None, _) => match self.meant_variable(&name, keys.keys()) {
                    Some(meant) => {
                        let text = format!("there is no such setting; did you mean {meant}?");
                        self.mistakes.add_at(origin, name, text);
                    }
                    None => ignored.push(name),
                },
            }
        }
        ignored
    }

    /// The variable that was meant by an unknown one, if it looks like one of ours: its name is near, or begins with a section.
    fn meant_variable<'v>(&self, name: &str, variables: impl Iterator<Item = &'v String>) -> Option<&'v str> {
        let nearest = nearest(name, variables.map(String::as_str), str::to_owned)?;
        let rest = name.strip_prefix(VARIABLE_PREFIX)?.to_lowercase();
        let in_section = || {
            let sections = self.known.iter().filter_map(|setting| setting.key.split_once('.'));
            sections.into_iter().any(|(section, _)| rest.starts_with(&format!("{section}_")))
        };
        (nearest.1 >= NEAR || in_section()).then_some(nearest.0)
    }

    /// Sets what somebody has given as text.
    fn give(&mut self, key: &str, text: &str, origin: Origin) {
        let Some(setting) = self.known.iter().find(|setting| setting.key == key) else {
            return self.unknown(key, origin);
        };
        match parse(text, &setting.kind) {
            Ok(value) => self.set(key, value, origin),
            Err(expected) => self.mistakes.add_at(origin, key, format!("it is {text:?}: {expected}")),
        }
    }

    fn set(&mut self, key: &str, value: Value, origin: Origin) {
        let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
        if let Some(table) = self.set_section(section) {
            table.insert(name.to_owned(), value);
            self.origins.insert(key.to_owned(), origin);
        }
    }

    /// The table of a section, which is made if it is not there.
    fn set_section(&mut self, section: &str) -> Option<&mut Table> {
        let mut table = &mut self.values;
        for name in section.split('.').filter(|name| !name.is_empty()) {
            let inner = table.entry(name).or_insert_with(|| Value::Table(Table::new()));
            table = inner.as_table_mut()?;
        }
        Some(table)
    }

    fn is_section(&self, key: &str) -> bool {
        self.known.iter().any(|setting| setting.key.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
    }

    fn unknown(&mut self, key: &str, origin: Origin) {
        let text = match self.meant(key) {
            Some(meant) => format!("there is no such setting; did you mean {meant}?"),
            None => "there is no such setting; docs/configuration.md names all".to_owned(),
        };
        self.mistakes.add_at(origin, key, text);
    }

    /// What was meant by an unknown key: one of that name elsewhere, else the nearest in its section or of all.
    fn meant(&self, key: &str) -> Option<&str> {
        let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
        let last = |key: &'_ str| key.rsplit('.').next().unwrap_or_default().to_owned();
        let keys = || self.known.iter().map(|setting| setting.key.as_str());
        if let Some(elsewhere) = keys().find(|key| last(key) == name) {
            return Some(elsewhere);
        }
        let (nearest, nearness) = if self.is_section(section) {
            let of_section = keys().filter(|key| key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.')));
            nearest(name, of_section, last)?
        } else {
            let sections = keys().filter_map(|key| Some(key.rsplit_once('.')?.0));
            nearest(key, keys().chain(sections), str::to_owned)?
        };
        (nearness >= NEAR).then_some(nearest)
    }

    /// The settings. What is not what it has to be is a mistake, and left out until the rest is valid.
    fn config(&mut self) -> Config {
        loop {
            let error = match serde_path_to_error::deserialize::<_, Config>(Value::Table(self.values.clone())) {
                Ok(config) => return config,
                Err(error) => error,
            };
            let names = error.path().iter().map_while(|segment| match segment {
                Segment::Map { key } => Some(key.as_str()),
                _ => None,
            });
            let key = names.collect::<Vec<_>>().join(".");
            self.mistakes.add_at(self.origin_near(&key), &key, error.inner().message().trim_end());
            if !remove(&mut self.values, &key) {
                return Config::default();
            }
        }
    }

    /// Where a setting or anything in a section comes from.
    fn origin_near(&self, key: &str) -> Origin {
        let below = |(other, _): &(&String, &Origin)| other.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
        let first_below = || self.origins.iter().find(below).map(|(_, origin)| origin);
        self.origins.get(key).or_else(first_below).cloned().unwrap_or_default()
    }
}

struct File<'f> {
    path: Arc<PathBuf>,
    text: &'f str,
}

impl File<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let line_ends = self.text.bytes().take(offset).filter(|octet| *octet == b'\n').count();
        Origin::File { path: Arc::clone(&self.path), line: line_ends + 1 }
    }
}

/// How near (0 to 1, as Jaro counts it) a name has to be to be what was meant.
const NEAR: f64 = 0.8;

/// The one of `others` whose `part` is nearest to `name`, and how near.
fn nearest<'n>(
    name: &str,
    others: impl Iterator<Item = &'n str>,
    part: impl Fn(&str) -> String,
) -> Option<(&'n str, f64)> {
    let with_nearness = others.map(|other| (other, strsim::jaro(name, &part(other))));
    with_nearness.max_by(|one, other| one.1.total_cmp(&other.1))
}

/// Variables that Kubernetes makes for a Service called `warren` or `warren-…` in the pod's namespace.
fn is_service_link(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_PORT")
        || name.contains("_SERVICE_PORT")
        || name.contains("_PORT_")
}

/// A value given as text, or what it should have been.
fn parse(text: &str, kind: &Kind) -> Result<Value, String> {
    let toml = || format!("v = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
    match kind {
        Kind::Text => Ok(Value::String(text.to_owned())),
        Kind::Words(words) if words.contains(&text) => Ok(Value::String(text.to_owned())),
        Kind::Words(words) => Err(format!("it may be {}", words.join(", "))),
        Kind::Integer => text.parse().map(Value::Integer).map_err(|_| "it has to be a whole number".to_owned()),
        Kind::Float => text.parse().map(Value::Float).map_err(|_| "it has to be a number".to_owned()),
        Kind::Boolean => text.parse().map(Value::Boolean).map_err(|_| "it may be true or false".to_owned()),
        Kind::Any => Ok(toml().unwrap_or_else(|| Value::String(text.to_owned()))),
        Kind::List(_) if text.starts_with('[') && toml().is_some_and(|value| value.is_array()) => {
            toml().ok_or_else(String::new)
        }
        Kind::List(element) => {
            let elements = text.split(',').map(str::trim).filter(|element| !element.is_empty());
            elements.map(|text| parse(text, element)).collect::<Result<_, _>>().map(Value::Array)
        }
    }
}

/// The value of a key with its section.
pub(super) fn find<'t>(table: &'t Table, key: &str) -> Option<&'t Value> {
    match key.split_once('.') {
        Some((section, rest)) => find(table.get(section)?.as_table()?, rest),
        None => table.get(key),
    }
}

/// False if there is nothing to remove.
fn remove(table: &mut Table, key: &str) -> bool {
    match key.split_once('.') {
        Some((section, rest)) => {
            table.get_mut(section).and_then(Value::as_table_mut).is_some_and(|table| remove(table, rest))
        }
        None => table.remove(key).is_some(),
    }
}
