//! The manual.

#[doc = include_str!("manual/configuration.md")]
pub mod configuration {}

#[doc = include_str!("manual/errors.md")]
pub mod errors {}
