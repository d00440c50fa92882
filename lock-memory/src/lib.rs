//! Locks in memory: the reference backend and the test double.
