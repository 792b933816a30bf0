//! `[memory]`: when publishers wait for memory.

use std::fmt;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::alarms::memory::WATERMARK_MAX;

/// When publishers wait for memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Memory {
    /// From so much memory on, publishers wait until messages have been consumed. Default: 0.6.
    pub high_watermark: Watermark,
}

/// A part of the memory that the process may have (the smallest limit of its control groups, or what the host has), or a
/// number of octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watermark {
    /// So many thousandths, from 1 to 800: above, there would be no way to the hard stop at 850.
    Thousandths(u16),
    /// So many octets, from 16 MiB on.
    Octets(u64),
}

/// What an idle node needs, and some room.
const LEAST_OCTETS: u64 = 16 << 20;

impl Watermark {
    /// In octets, where the process may have `limit`.
    pub(crate) fn octets(self, limit: u64) -> u64 {
        match self {
            Self::Thousandths(parts) => limit / 1_000 * u64::from(parts),
            Self::Octets(octets) => octets,
        }
    }
}

impl Default for Watermark {
    fn default() -> Self {
        Self::Thousandths(600)
    }
}

impl Serialize for Watermark {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Thousandths(parts) => serializer.serialize_f64(f64::from(*parts) / 1_000.0),
            Self::Octets(octets) => serializer.serialize_u64(*octets),
        }
    }
}

impl<'de> Deserialize<'de> for Watermark {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FractionOrOctets)
    }
}

struct FractionOrOctets;

impl Visitor<'_> for FractionOrOctets {
    type Value = Watermark;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a part of memory from 0.001 to 0.8, or a number of octets from 16777216 on")
    }

    fn visit_f64<E: Error>(self, part: f64) -> Result<Watermark, E> {
        let thousandths = (part * 1_000.0).round();
        if (1.0..=WATERMARK_MAX as f64).contains(&thousandths) {
            // It is a whole number from 1 to 800.
            return Ok(Watermark::Thousandths(thousandths as u16));
        }
        Err(E::invalid_value(Unexpected::Float(part), &self))
    }

    fn visit_i64<E: Error>(self, octets: i64) -> Result<Watermark, E> {
        let octets = u64::try_from(octets).map_err(|_| E::invalid_value(Unexpected::Signed(octets), &self))?;
        self.visit_u64(octets)
    }

    fn visit_u64<E: Error>(self, octets: u64) -> Result<Watermark, E> {
        if octets < LEAST_OCTETS {
            return Err(E::invalid_value(Unexpected::Unsigned(octets), &self));
        }
        Ok(Watermark::Octets(octets))
    }
}
