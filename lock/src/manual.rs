//! The manual: [choosing a backend](choosing), [configuration], [migrating], [testing], and all [errors] of a URL or a
//! configuration.

#[doc = include_str!("manual/choosing.md")]
pub mod choosing {}

#[doc = include_str!("manual/configuration.md")]
pub mod configuration {}

#[doc = include_str!("manual/migrating.md")]
pub mod migrating {}

#[doc = include_str!("manual/testing.md")]
pub mod testing {}

#[doc = include_str!("manual/errors.md")]
pub mod errors {}

#[cfg(test)]
mod tests;
