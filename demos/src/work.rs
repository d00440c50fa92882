//! What the systems' jobs do: nothing, for a while, and tell from when until when they could do it.

use std::time::Duration;
use std::time::Instant;

use lock::Clock;
use lock::Hold;

use crate::instance::say;
use crate::story::ms;
use crate::story::pause;

/// A piece of work that cannot be divided.
const SLICE: Duration = ms(10);

/// Works for so long, and prints when it began and when it ended, as `LABEL began TIME FENCE` and `LABEL ended TIME`.
///
/// It ends with the last moment at which it knew that the lock was valid, also when it is stopped half-way, or its process was
/// frozen meanwhile.
pub(crate) async fn work(label: &str, takes: Duration, hold: Option<&Hold>) {
    let fence = hold.map_or(0, |hold| hold.fence().get());
    let mut span = Span { label, last: now() };
    say(format_args!("{label} began {} {fence}", span.last));
    let begun = Instant::now();
    while begun.elapsed() < takes {
        pause(SLICE).await;
        // The time is taken first: the lock is valid at least then, if it says so.
        let at = now();
        if hold.is_none_or(Hold::is_valid) {
            span.last = at;
        }
    }
}

/// Says when the work has ended, however it ended.
struct Span<'a> {
    label: &'a str,
    last: u64,
}

impl Drop for Span<'_> {
    fn drop(&mut self) {
        say(format_args!("{} ended {}", self.label, self.last));
    }
}

/// Nanoseconds since the host was started: the same for all its processes, whatever their clocks say.
pub(crate) fn now() -> u64 {
    Clock::system().now().as_nanos()
}
