//! The table of cases: first the steps of a store, then what users see through the engine.

mod admin;
mod cancel;
pub(crate) mod contend;
pub(crate) mod crossing;
mod election;
mod evict;
mod exclusion;
mod faults;
mod fence;
mod fleet;
mod guard;
pub(crate) mod history;
mod holder;
mod keys;
mod lease;
mod line;
mod many;
mod mode;
mod process;
mod queue;
mod reads;
mod reentry;
mod repeat;
mod section;
mod share;
mod time;
mod token;
mod wait;
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
    mode::CASES,
    holder::CASES,
    queue::CASES,
    watch::CASES,
    faults::CASES,
    wait::CASES,
    cancel::CASES,
    guard::CASES,
    time::CASES,
    reentry::CASES,
    section::CASES,
    share::CASES,
    many::CASES,
    election::CASES,
    admin::CASES,
    process::CASES,
    fleet::CASES,
    history::CASES,
];
