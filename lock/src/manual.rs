//! The manual.

#[doc = include_str!("manual/configuration.md")]
pub mod configuration {}
