//! Random faults for as long as you like: processes lock, some are killed or frozen, lines go bad, and
//! the store is hurt in each way that its fixture offers.
//!
//! A storm is a row of rounds. In each, faults come for some seconds, all is mended, and a calm follows in
//! which every waiter must be served. Then all come to rest, and what the processes recorded is judged by
//! the [`check`](crate::check)ers:
//!
//! - No two valid guards exclude each other (C3), and one lock could have done all of it (C5), but for what
//!   the store [`Forgot`]: each such time excuses overlaps with what was granted before it, and no other.
//! - Fences rise over everything, forgotten or not, and from round to round (C1, C2).
//! - Losses are told (C10), nobody waits for longer than the bound in a calm (C7), nothing is left (C9) but by the
//!   store's own fault ([`Target::mend`]), and no call fails but for an outage. Time in which the machine let nobody run does not count; it is shown.
//!
//! The seed of a run is printed. It repeats the choices, not the moments at which they meet.

mod crew;
mod judge;
mod mischief;
mod plan;
mod round;
mod stage;
mod tally;
mod target;
pub(crate) mod work;

use std::env;
use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::Arguments;
use libtest_mimic::Failed;
use libtest_mimic::Trial;

use crate::Fixture;
use crate::Verdict;

use plan::Plan;
use stage::Stage;

pub use plan::SECONDS;
pub use plan::SEED;
pub use target::Forgot;
pub use target::Line;
pub use target::Target;

/// The storms of a backend; running them is the body of a test's `main` (with `harness = false`).
///
/// [`SECONDS`] and [`SEED`] in the environment say for how long, and from which seed.
#[derive(Default)]
pub struct Storms {
    fixtures: Vec<Arc<dyn Fixture>>,
    trials: Vec<Trial>,
}

impl Storms {
    /// Adds one that is run always.
    pub fn usual<T: Target>(mut self) -> Self {
        let stage = Arc::new(Stage::<T>::default());
        self.fixtures.push(stage.clone());
        self.trials.push(Trial::test(format!("storm::{}", T::NAME), move || over(&stage)));
        self
    }

    /// Adds one that is run with `LOCK_TEST_FULL`, or if [`SECONDS`] is set.
    pub fn rare<T: Target>(self) -> Self {
        let asked = ["LOCK_TEST_FULL", SECONDS].iter().any(|name| env::var_os(name).is_some());
        if asked { self.usual::<T>() } else { self }
    }

    /// Runs them, one after the other. Arguments are those of `cargo test`.
    pub fn run(self) -> ExitCode {
        if let Some(code) = crate::child::run(&self.fixtures) {
            return code;
        }
        let mut arguments = Arguments::from_args();
        arguments.test_threads = Some(1);
        libtest_mimic::run(&arguments, self.trials).exit_code()
    }
}

impl fmt::Debug for Storms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.fixtures.iter().map(|fixture| fixture.name())).finish()
    }
}

fn over<T: Target>(stage: &Arc<Stage<T>>) -> Result<(), Failed> {
    let storm = async {
        let plan = Plan::read()?;
        stage.begin()?;
        let outcome = round::rounds(stage, &plan).await;
        stage.end();
        outcome
    };
    match crate::run::block_on(storm).into() {
        Verdict::Passed => Ok(()),
        Verdict::Skipped(message) | Verdict::Failed(message) => Err(message.into()),
    }
}
