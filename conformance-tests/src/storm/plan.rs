//! How long a storm is, and from which seed.

use std::env;
use std::str::FromStr;
use std::time::Duration;

use crate::Failure;
use crate::Outcome;
use crate::cx::ms;

/// Says in the environment for how many seconds a storm goes on.
pub const SECONDS: &str = "LOCK_STORM_SECONDS";

/// Says in the environment from which seed it makes its choices; a random one if it is not set.
pub const SEED: &str = "LOCK_STORM_SEED";

/// Long enough for one round: for every change.
const BRIEF: Duration = ms(15_000);

/// How long and from which seed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) length: Duration,
    pub(super) seed: u64,
}

impl Plan {
    pub(super) fn read() -> Outcome<Self> {
        let length = number(SECONDS)?.map_or(BRIEF, Duration::from_secs);
        Ok(Self { length, seed: number(SEED)?.unwrap_or_else(rand::random) })
    }
}

fn number(name: &str) -> Outcome<Option<u64>> {
    let Ok(text) = env::var(name) else { return Ok(None) };
    let number = u64::from_str(&text);
    number.map(Some).map_err(|_| Failure::new(format!("{name} is a number, not {text:?}")))
}
