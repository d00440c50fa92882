//! A quorum over three stores in memory, in virtual time, with every way to fail that a test can order.

#![expect(clippy::unwrap_used, reason = "a rig that fails has to end its test")]

#[path = "../common/mod.rs"]
mod common;

mod acquiring;
mod cancelling;
mod fence;
mod forming;
mod keeping;
mod looking;
mod outage;
mod readmission;
mod rig;
mod splitting;
mod waiting;
