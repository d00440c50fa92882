//! The engine against a reference: random programs of users, operators and faults, in virtual time.
//!
//! A program runs over two providers of one store in memory. After every step, and every quarter second
//! in between, the reference compares what guards claim and calls answer with what users are promised
//! (GUARANTEES.md) and with what the store itself shows. Where the engine is free – who wins without
//! `fair`, whether a call took effect whose reply was lost – the reference allows for all. Faults on the way
//! of a provider excuse what they can cause until their aftermath is over, and never a false claim.
//!
//! A failure prints a small program that can be kept in `found`.

mod answers;
mod call;
mod found;
mod generate;
mod hold;
mod ledger;
mod others;
mod program;
mod rules;
mod steps;
mod truth;
mod world;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_keeps_its_promises(program in generate::programs()) {
        world::run(&program).map_err(TestCaseError::fail)?;
    }
}
