//! The backends that are measured: each has one file and one line here.

mod memory;
mod redis;
mod sqlite;

use crate::failure::Failure;
use crate::failure::Outcome;
use crate::subject::Subject;

pub(crate) const SUBJECTS: &[&Subject] = &[&memory::SUBJECT, &sqlite::SUBJECT, &redis::SUBJECT];

/// Finds a backend by its name.
pub(crate) fn find(name: &str) -> Outcome<&'static Subject> {
    let found = SUBJECTS.iter().find(|subject| subject.name == name);
    found.copied().ok_or_else(|| Failure::new(format!("no backend is called {name:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backend_that_is_compiled_in_is_measured() {
        // Redlock is a quorum over what is measured as Redis.
        for driver in lock::DRIVERS.iter().filter(|driver| driver.name != "redlock") {
            find(driver.name).unwrap();
        }
    }
}
