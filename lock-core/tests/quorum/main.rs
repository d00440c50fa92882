//! A quorum over three stores in memory, in virtual time, with every way to fail that a test can order.

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
