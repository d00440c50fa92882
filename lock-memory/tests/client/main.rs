//! Clients of a store in memory, their faults and their hints, under virtual time.

mod faults;
mod hints;
mod rig;
mod session;
mod through_the_engine;
