//! Clients of a store in memory, their faults and their hints, under virtual time.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]
#![expect(clippy::disallowed_methods, reason = "tests run several callers at once")]

mod faults;
mod hints;
mod rig;
mod session;
mod through_the_engine;
