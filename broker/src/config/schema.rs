//! Which settings there are and what each takes. Nobody writes that down a second time: it is asked of the types, whose
//! `Deserialize` says it while it runs.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

/// A setting that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Its key with its sections, such as `listeners.amqp`.
    pub(crate) key: String,
    /// What it takes.
    pub(crate) kind: Kind,
}

impl Setting {
    /// The environment variable that sets it: `WARREN_LISTENERS_AMQP`.
    pub(crate) fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.key.replace('.', "_").to_uppercase())
    }
}

/// What the variables of all settings begin with.
pub(crate) const VARIABLE_PREFIX: &str = "WARREN_";

/// What a setting takes, as far as it matters when it is given as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text, also addresses and paths.
    Text,
    /// A whole number.
    Integer,
    /// A number.
    Float,
    /// `true` or `false`.
    Boolean,
    /// One of these words.
    Words(&'static [&'static str]),
    /// Several of the same kind.
    List(Box<Self>),
    /// A number or a text, or something that has its place in a file only.
    Any,
}

/// All settings of `T`, in the order in which its fields stand.
pub(crate) fn settings<'de, T: Deserialize<'de>>() -> Vec<Setting> {
    let mut all = Vec::new();
    collect::<T>(&mut Vec::new(), &mut all);
    all
}

fn collect<'de, T: Deserialize<'de>>(path: &mut Vec<&'static str>, all: &mut Vec<Setting>) {
    let mut found = None;
    // It ends with the error that says that all is known.
    let _ = T::deserialize(Probe { path, found: &mut found });
    match found {
        Some(Found::Section(fields)) => {
            for field in fields {
                path.push(field);
                collect::<T>(path, all);
                path.pop();
            }
        }
        Some(Found::Setting(kind)) => all.push(Setting { key: path.join("."), kind }),
        None => all.push(Setting { key: path.join("."), kind: Kind::Any }),
    }
}

enum Found {
    Section(&'static [&'static str]),
    Setting(Kind),
}

/// A deserializer that goes down a path of fields and finds out what is wanted at its end. It has no values, so whatever
/// is asked of it there is its answer, and an error ends the conversation.
struct Probe<'p> {
    path: &'p [&'static str],
    found: &'p mut Option<Found>,
}

impl Probe<'_> {
    fn end<T>(self, kind: Kind) -> Result<T, Known> {
        *self.found = Some(Found::Setting(kind));
        Err(Known)
    }
}

macro_rules! kinds {
    ($($method:ident => $kind:expr),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Known> {
            self.end($kind)
        })*
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Known;

    kinds! {
        deserialize_any => Kind::Any,
        deserialize_bool => Kind::Boolean,
        deserialize_u8 => Kind::Integer,
        deserialize_u16 => Kind::Integer,
        deserialize_u32 => Kind::Integer,
        deserialize_u64 => Kind::Integer,
        deserialize_i32 => Kind::Integer,
        deserialize_i64 => Kind::Integer,
        deserialize_f32 => Kind::Float,
        deserialize_f64 => Kind::Float,
        deserialize_str => Kind::Text,
        deserialize_string => Kind::Text,
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Known> {
        let Some((field, path)) = self.path.split_first() else {
            *self.found = Some(Found::Section(fields));
            return Err(Known);
        };
        visitor.visit_map(OneField { field: Some(field), value: Probe { path, found: self.found } })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Known> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Known> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Known> {
        self.end(Kind::Words(words))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Known> {
        let mut element = None;
        // As everywhere: the error says that it is known.
        let _ = visitor.visit_seq(OneElement(Probe { path: &[], found: &mut element }));
        let kind = match element {
            Some(Found::Setting(kind)) => kind,
            Some(Found::Section(_)) | None => Kind::Any,
        };
        self.end(Kind::List(Box::new(kind)))
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct map identifier ignored_any
    }
}

/// A table with one field, whose value is asked what it takes.
struct OneField<'p> {
    field: Option<&'static str>,
    value: Probe<'p>,
}

impl<'de> MapAccess<'de> for OneField<'_> {
    type Error = Known;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Known> {
        self.field.take().map(|field| seed.deserialize(StrDeserializer::new(field))).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Known> {
        seed.deserialize(Probe { path: self.value.path, found: self.value.found })
    }
}

/// A list with an element, which is asked what it takes.
struct OneElement<'p>(Probe<'p>);

impl<'de> SeqAccess<'de> for OneElement<'_> {
    type Error = Known;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Known> {
        seed.deserialize(Probe { path: self.0.path, found: self.0.found }).map(Some)
    }
}

/// What was asked for is known; there is no more to say.
#[derive(Debug)]
struct Known;

impl fmt::Display for Known {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("known")
    }
}

impl std::error::Error for Known {}

impl Error for Known {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[test]
    fn the_types_say_which_settings_there_are_and_what_they_take() {
        let settings = settings::<Config>();
        let kind = |key: &str| settings.iter().find(|setting| setting.key == key).map(|setting| setting.kind.clone());
        assert_eq!(kind("data_dir"), Some(Kind::Text));
        assert_eq!(kind("max_message_bytes"), Some(Kind::Integer));
        assert_eq!(kind("listeners.amqp"), Some(Kind::List(Box::new(Kind::Text))));
        assert_eq!(kind("listeners.amqps"), Some(Kind::List(Box::new(Kind::Text))));
        assert_eq!(kind("tls.client_certificates"), Some(Kind::Words(&["none", "optional", "required"])));
        assert_eq!(kind("log.segment_bytes"), Some(Kind::Integer));
        assert_eq!(kind("log"), None, "a section is no setting");
    }

    #[test]
    fn every_setting_has_a_variable_of_its_own() {
        let mut variables: Vec<_> = settings::<Config>().iter().map(Setting::variable).collect();
        assert!(variables.contains(&"WARREN_LISTENERS_AMQP".to_owned()) && variables.len() > 10, "{variables:?}");
        // The file itself is named by this one.
        variables.push("WARREN_CONFIG".to_owned());
        variables.sort();
        let count = variables.len();
        variables.dedup();
        assert_eq!(variables.len(), count);
    }
}
