//! Runs the suite on the plain model store, which has none of the seeded bugs.

#[expect(dead_code, reason = "the flaws are for the test of mutants")]
mod reference;

use std::process::ExitCode;
use std::sync::Arc;

use reference::ModelStore;

fn main() -> ExitCode {
    conformance_tests::run(vec![Arc::new(ModelStore::sound())])
}
