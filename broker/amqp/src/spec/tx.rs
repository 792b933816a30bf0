//! Class 90, `tx`. Transactions of publishes and acknowledgements on one channel.
//!
//! Written by `spec/generate.rs`; change that.

use alloc::vec::Vec;

use crate::error::DecodeError;
use crate::wire::{self, Reader};

/// `tx.select` (90, 10): The channel becomes transactional.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Select;

impl Select {
    /// Class and method id.
    pub const ID: (u16, u16) = (90, 10);
    /// The name.
    pub const NAME: &'static str = "tx.select";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &[u8]) -> Result<Self, DecodeError> {
        let reader = Reader::new(Self::NAME, fields);
        reader.finish()?;
        Ok(Self)
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |_| {});
    }
}

/// `tx.select-ok` (90, 11): Transactions are on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelectOk;

impl SelectOk {
    /// Class and method id.
    pub const ID: (u16, u16) = (90, 11);
    /// The name.
    pub const NAME: &'static str = "tx.select-ok";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &[u8]) -> Result<Self, DecodeError> {
        let reader = Reader::new(Self::NAME, fields);
        reader.finish()?;
        Ok(Self)
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |_| {});
    }
}

/// `tx.commit` (90, 20): Make the transaction's work happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit;

impl Commit {
    /// Class and method id.
    pub const ID: (u16, u16) = (90, 20);
    /// The name.
    pub const NAME: &'static str = "tx.commit";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &[u8]) -> Result<Self, DecodeError> {
        let reader = Reader::new(Self::NAME, fields);
        reader.finish()?;
        Ok(Self)
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |_| {});
    }
}

/// `tx.commit-ok` (90, 21): It happened; the next transaction has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitOk;

impl CommitOk {
    /// Class and method id.
    pub const ID: (u16, u16) = (90, 21);
    /// The name.
    pub const NAME: &'static str = "tx.commit-ok";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &[u8]) -> Result<Self, DecodeError> {
        let reader = Reader::new(Self::NAME, fields);
        reader.finish()?;
        Ok(Self)
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |_| {});
    }
}

/// `tx.rollback` (90, 30): Forget the transaction's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rollback;

impl Rollback {
    /// Class and method id.
    pub const ID: (u16, u16) = (90, 30);
    /// The name.
    pub const NAME: &'static str = "tx.rollback";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &[u8]) -> Result<Self, DecodeError> {
        let reader = Reader::new(Self::NAME, fields);
        reader.finish()?;
        Ok(Self)
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |_| {});
    }
}

/// `tx.rollback-ok` (90, 31): It is forgotten; the next transaction has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollbackOk;

impl RollbackOk {
    /// Class and method id.
    pub const ID: (u16, u16) = (90, 31);
    /// The name.
    pub const NAME: &'static str = "tx.rollback-ok";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &[u8]) -> Result<Self, DecodeError> {
        let reader = Reader::new(Self::NAME, fields);
        reader.finish()?;
        Ok(Self)
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |_| {});
    }
}
