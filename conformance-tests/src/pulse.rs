//! How busy the machine is: time in which it lets nobody run is nobody's delay.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::thread;
use std::time::Duration;

use lock_core::BootInstant;

use crate::cx::ms;
use crate::cx::now;

/// Between two beats.
const BEAT: Duration = ms(20);

/// How late a beat is on a machine with room.
const USUAL: Duration = ms(2);

/// A thread that does nothing but sleep, and notes how much too long.
#[derive(Clone, Debug)]
pub(crate) struct Pulse(Arc<Mutex<Vec<Late>>>);

#[derive(Clone, Copy, Debug)]
struct Late {
    due: BootInstant,
    by: Duration,
}

impl Pulse {
    /// Beats until it is dropped.
    pub(crate) fn start() -> Self {
        let late = Arc::default();
        let beats = Arc::downgrade(&late);
        thread::spawn(move || beat(&beats));
        Self(late)
    }

    /// Returns for how long beats were late between two instants.
    pub(crate) fn lost(&self, from: BootInstant, until: BootInstant) -> Duration {
        let within = |late: &&Late| late.due >= from && late.due < until;
        lock(&self.0).iter().filter(within).map(|late| late.by).sum()
    }

    /// Forgets what was before.
    pub(crate) fn clear(&self) {
        lock(&self.0).clear();
    }
}

fn beat(late: &Weak<Mutex<Vec<Late>>>) {
    loop {
        let due = now() + BEAT;
        thread::sleep(BEAT);
        let by = now().saturating_since(due);
        let Some(late) = late.upgrade() else { return };
        if by > USUAL {
            lock(&late).push(Late { due, by });
        }
    }
}

fn lock(late: &Mutex<Vec<Late>>) -> MutexGuard<'_, Vec<Late>> {
    late.lock().unwrap_or_else(PoisonError::into_inner)
}
