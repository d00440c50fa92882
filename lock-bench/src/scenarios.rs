//! The tables of the benchmark.

mod contention;
mod handover;
mod held;
mod idle;
mod uncontended;

use crate::scenario::Scenario;

pub(crate) const SCENARIOS: &[&dyn Scenario] = &[
    &uncontended::Uncontended,
    &handover::Handover,
    &idle::Idle,
    &contention::Contention,
    &held::Held,
];
