//! The public conformance suite for lock backends.
//!
//! Anyone's store can be held to the numbered promises of this framework from one test file:
//!
//! ```toml
//! [[test]]
//! name = "conformance"
//! harness = false
//! ```
//!
//! whose `main` is `conformance_tests::run(vec![Arc::new(MyFixture)])`. See [`Fixture`].
//!
//! - Each [`Case`] makes one claim, cites its clause (`S1`–`S12` for stores, `G1`–`G12` for users) and
//!   runs in a namespace, on a thread and within a time of its own. Its trial is called
//!   `fixture/group::sentence`; filters and `--list` work as in `cargo test`.
//! - A case that fails says what it saw, on which line, and what the clauses say that it checks.
//! - What a store or fixture cannot do is shown as ignored with its reason; the reasons are counted at the end.
//! - A store that is not there fails the run, unless [`EXCLUDE`] names its fixture.
//! - Cases on a bad line disturb the [`Link`] of [`Fixture::proxied`]: a [`Tap`] around the backend,
//!   or a [`Proxy`] before a server.
//! - Contention is recorded as a [`history`] and judged by the [`check`]ers, one of which looks for an
//!   order in which a single lock could have done all of it.
//! - Modes and lines that a store has not are no fault: their cases are ignored.
//! - With `LOCK_TEST_FULL` in the environment, fleets of processes contend for a minute, and say what
//!   came of it.
//!
//! A [`storm`] goes further: random faults of a store of its own, for a quarter of a minute or for hours. A
//! [`rush`] is for tests that do to a store what only they can: eight processes lock one name meanwhile.
//!
//! The suite is itself tested, by seeded bugs: each is caught by the cases that should catch it, and
//! each case catches one or has an excuse.
//!
//! It does not prove anything: it looks for what is known to go wrong. It runs for about a minute
//! per store, so rare races may pass it; run it often.

mod case;
mod cases;
pub mod check;
mod child;
mod clauses;
mod cx;
mod documents;
mod failure;
mod fixture;
pub mod history;
mod link;
mod port;
mod process;
mod proxy;
mod pulse;
mod run;
pub mod rush;
pub mod storm;
mod tap;

pub use async_trait::async_trait;
pub use case::Case;
pub use case::Load;
pub use case::Need;
pub use cases::all as cases;
pub use cx::Cx;
pub use documents::assert_documented;
pub use failure::Failure;
pub use failure::Outcome;
pub use failure::Verdict;
pub use fixture::Fault;
pub use fixture::Fixture;
pub use fixture::Probe;
pub use fixture::Unsupported;
pub use link::Link;
pub use link::Weather;
pub use port::free_port;
pub use port::is_free;
pub use process::freeze;
pub use proxy::Proxy;
pub use run::EXCLUDE;
pub use run::run;
pub use run::run_case;
pub use tap::Call;
pub use tap::Tap;
