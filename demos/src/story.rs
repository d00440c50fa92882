//! What a demo prints as it happens, and how it is judged.

use std::error::Error;
use std::fmt::Display;
use std::time::Duration;
use std::time::Instant;

/// Whatever can end a demo; what it says is printed, and the program fails.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// The result of all that can fail.
pub(crate) type Result<T = (), E = Failure> = std::result::Result<T, E>;

/// One run of a demo, from whose begin times are counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Story {
    begun: Instant,
}

impl Story {
    /// Prints the title and starts the clock.
    pub(crate) fn begin(title: &str) -> Self {
        println!("\n{title}");
        Self { begun: Instant::now() }
    }

    /// Says what somebody does or sees, and when.
    pub(crate) fn tell(&self, who: &str, what: impl Display) {
        println!("{:>7.3} s  {who:<12}  {what}", self.begun.elapsed().as_secs_f64());
    }

    /// Begins a part.
    pub(crate) fn part(&self, what: impl Display) {
        println!("\n           {what}");
    }

    /// Prints a line of a table under what is told.
    pub(crate) fn line(&self, what: impl Display) {
        println!("           {what}");
    }

    /// Judges: prints what is so, or ends the demo because it is not.
    pub(crate) fn check(&self, is_so: bool, what: impl Display) -> Result {
        if !is_so {
            return Err(format!("wrong, this should be so: {what}").into());
        }
        self.ok(what);
        Ok(())
    }

    /// Says what is so, as what came before has made sure of.
    pub(crate) fn ok(&self, what: impl Display) {
        println!("       ok  {what}");
    }
}

/// Shorthand for what all demos are full of.
pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Waits on the runtime.
pub(crate) async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}
