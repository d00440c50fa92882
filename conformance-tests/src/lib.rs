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
//! whose `main` hands a [`Fixture`] to [`run`]. Each [`Case`] makes one claim, cites its clause and
//! runs in a namespace of its own; what a store cannot do is shown as ignored with the reason.

mod case;
mod cases;
pub mod check;
mod child;
mod cx;
mod failure;
mod fixture;
pub mod history;
mod link;
mod process;
mod proxy;
mod run;
mod tap;

pub use async_trait::async_trait;
pub use case::Case;
pub use case::Load;
pub use case::Need;
pub use cases::all as cases;
pub use cx::Cx;
pub use failure::Failure;
pub use failure::Outcome;
pub use failure::Verdict;
pub use fixture::Fault;
pub use fixture::Fixture;
pub use fixture::Probe;
pub use fixture::Unsupported;
pub use link::Link;
pub use link::Weather;
pub use proxy::Proxy;
pub use run::EXCLUDE;
pub use run::run;
pub use run::run_case;
pub use tap::Call;
pub use tap::Tap;
