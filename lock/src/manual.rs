//! The manual.
//!
//! | to | read |
//! |---|---|
//! | take the first lock | [start] |
//! | pick a store | [choosing] |
//! | know what holds, and what breaks it | [guarantees] |
//! | make writes safe | [fencing] |
//! | wait, in order, for one key or several | [waiting] |
//! | set a URL, a file, the environment | [configuration] |
//! | understand an error | [errors] |
//! | test code that locks | [testing] |
//! | run it | [operating], [security] |
//! | move to another store or library | [migrating] |
//! | write a backend, run the suite | [suite] |

#[doc = include_str!("manual/start.md")]
pub mod start {}

#[doc = include_str!("manual/choosing.md")]
pub mod choosing {}

#[doc = include_str!("manual/guarantees.md")]
pub mod guarantees {}

#[doc = include_str!("manual/fencing.md")]
pub mod fencing {}

#[doc = include_str!("manual/waiting.md")]
pub mod waiting {}

#[doc = include_str!("manual/configuration.md")]
pub mod configuration {}

#[doc = include_str!("manual/errors.md")]
pub mod errors {}

#[doc = include_str!("manual/testing.md")]
pub mod testing {}

#[doc = include_str!("manual/operating.md")]
pub mod operating {}

#[doc = include_str!("manual/security.md")]
pub mod security {}

#[doc = include_str!("manual/migrating.md")]
pub mod migrating {}

#[doc = include_str!("manual/suite.md")]
pub mod suite {}

#[cfg(test)]
mod tests;
