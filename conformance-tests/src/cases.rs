//! The table of cases: first the steps of a store, then what users see through the engine.

mod evict;
mod exclusion;
mod faults;
mod fence;
mod keys;
mod lease;
mod line;
mod reads;
mod repeat;
mod token;
mod watch;

use crate::Case;

/// Returns every case.
pub fn all() -> impl Iterator<Item = &'static Case> {
    TABLES.iter().flat_map(|table| table.iter())
}

const TABLES: &[&[Case]] = &[
    exclusion::CASES,
    repeat::CASES,
    token::CASES,
    lease::CASES,
    fence::CASES,
    reads::CASES,
    evict::CASES,
    keys::CASES,
    line::CASES,
    watch::CASES,
    faults::CASES,
];
