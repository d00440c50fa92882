//! The engine's metrics: per backend, never per key.

use std::time::Duration;

use metrics::Counter;
use metrics::Gauge;
use metrics::Histogram;

/// Handles to the metrics of one provider. They belong to the recorder that was installed when the
/// provider was made.
#[derive(Debug)]
pub(crate) struct Metrics {
    attempts: Counter,
    acquired: Counter,
    timeouts: Counter,
    lost: Counter,
    keep_failures: Counter,
    held: Gauge,
    wait: Histogram,
    hold: Histogram,
}

impl Metrics {
    pub(crate) fn new(backend: &'static str) -> Self {
        Self {
            attempts: metrics::counter!("lock_attempts_total", "backend" => backend),
            acquired: metrics::counter!("lock_acquired_total", "backend" => backend),
            timeouts: metrics::counter!("lock_timeouts_total", "backend" => backend),
            lost: metrics::counter!("lock_lost_total", "backend" => backend),
            keep_failures: metrics::counter!("lock_keep_failures_total", "backend" => backend),
            held: metrics::gauge!("lock_held", "backend" => backend),
            wait: metrics::histogram!("lock_wait_seconds", "backend" => backend),
            hold: metrics::histogram!("lock_hold_seconds", "backend" => backend),
        }
    }

    pub(crate) fn attempted(&self) {
        self.attempts.increment(1);
    }

    pub(crate) fn acquired_after(&self, waited: Duration) {
        self.acquired.increment(1);
        self.wait.record(waited);
    }

    pub(crate) fn timed_out(&self) {
        self.timeouts.increment(1);
    }

    pub(crate) fn lost(&self) {
        self.lost.increment(1);
    }

    pub(crate) fn keep_failed(&self) {
        self.keep_failures.increment(1);
    }

    pub(crate) fn opened(&self) {
        self.held.increment(1);
    }

    pub(crate) fn closed_after(&self, held: Duration) {
        self.held.decrement(1);
        self.hold.record(held);
    }
}
