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
mod tally;
pub(crate) mod work;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use libtest_mimic::Arguments;
use libtest_mimic::Failed;
use libtest_mimic::Trial;
use lock_core::BootInstant;
use lock_core::Clock;
use lock_core::LockKey;

use crate::Fixture;
use crate::Link;
use crate::Outcome;
use crate::Verdict;

use plan::Plan;

pub use plan::SECONDS;
pub use plan::SEED;

/// A store that can be hurt while processes use it: a [`Fixture`] whose
/// [`environment`](Fixture::environment) other processes reach it with.
///
/// It has a store of its own, as every other test would suffer.
#[async_trait]
pub trait Target: Fixture {
    /// Names what can be done to the store. Each is as likely as the others.
    fn blows(&self) -> Vec<&'static str>;

    /// Strikes one of the [`blows`](Self::blows), lets it last for about `long` if it lasts, and mends it:
    /// returns once the store serves again. Says what the store may have forgotten of `keys` by that.
    ///
    /// # Errors
    ///
    /// If it cannot be struck or the store does not come back.
    ///
    /// # Cancel safety
    ///
    /// It is not dropped before it ends, but when the whole storm has failed.
    async fn strike(
        &self,
        blow: &'static str,
        long: Duration,
        keys: &[LockKey],
    ) -> Outcome<Option<Forgot>>;

    /// Mends what the store has broken by itself and keeps broken after all faults, as whoever runs it would, and
    /// says what that was. Asked for when something is left of the locks though nobody holds any; by default a
    /// store breaks nothing.
    ///
    /// # Errors
    ///
    /// If it cannot be mended.
    ///
    /// # Cancel safety
    ///
    /// It is not dropped before it ends.
    async fn mend(&self) -> Outcome<Option<&'static str>> {
        Ok(None)
    }

    /// Returns the lines that lie between the processes and the store and can go bad, none by default. Each
    /// process uses one of them.
    fn lines(&self) -> Vec<Line> {
        Vec::new()
    }

    /// Returns within which time of the end of all faults a waiting client has surely asked the store again.
    fn recovery(&self) -> Duration;
}

/// A line between processes and a store.
#[derive(Clone)]
#[expect(clippy::exhaustive_structs, reason = "targets build it")]
pub struct Line {
    /// How it is disturbed.
    pub link: Arc<dyn Link>,
    /// The environment with which a process uses it.
    pub environment: Vec<(String, String)>,
}

/// A time in which a store may have forgotten what it granted before its end, as its guarantees say.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "targets build it")]
pub struct Forgot {
    /// Until then all was known.
    pub from: BootInstant,
    /// From then on all that is granted is known.
    pub until: BootInstant,
    /// Which keys.
    pub keys: Vec<LockKey>,
}

impl Forgot {
    /// All of `keys` between `from` and now.
    pub fn since(from: BootInstant, keys: &[LockKey]) -> Self {
        Self { from, until: Clock::system().now(), keys: keys.to_vec() }
    }
}

/// Runs a storm over each target; the body of a test's `main` (with `harness = false`).
///
/// Arguments are those of `cargo test`. [`SECONDS`] and [`SEED`] in the environment say for how long, and from
/// which seed.
pub fn run(targets: Vec<Arc<dyn Target>>) -> ExitCode {
    let fixtures: Vec<Arc<dyn Fixture>> =
        targets.iter().map(|target| target.clone() as Arc<dyn Fixture>).collect();
    if let Some(code) = crate::child::run(&fixtures) {
        return code;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let trials = targets
        .into_iter()
        .map(|target| Trial::test(format!("storm::{}", target.name()), move || one(&target)));
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn one(target: &Arc<dyn Target>) -> Result<(), Failed> {
    let storm = async {
        let plan = Plan::read()?;
        target.set_up().await?;
        let outcome = round::rounds(target, &plan).await;
        target.tear_down().await;
        outcome
    };
    match crate::run::block_on(storm).into() {
        Verdict::Passed => Ok(()),
        Verdict::Skipped(message) | Verdict::Failed(message) => Err(message.into()),
    }
}
