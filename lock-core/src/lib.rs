//! The engine, the two traits and the guards of the lock framework.
//!
//! Users hold an `Arc<dyn LockProvider>`; a store implements [`Backend`]. Between them stands one
//! engine that does all that is the same everywhere.

mod backend;
mod clock;
mod error;
mod handle;
mod holder;
mod identity;
mod key;
mod lease;
mod mode;
mod options;
mod profile;

pub use async_trait::async_trait;
pub use backend::Attempt;
pub use backend::Backend;
pub use backend::Claim;
pub use backend::Cursor;
pub use backend::Evicted;
pub use backend::Eviction;
pub use backend::Hint;
pub use backend::Kept;
pub use backend::KeyState;
pub use backend::Page;
pub use backend::Peek;
pub use backend::Release;
pub use backend::SharedBackend;
pub use backend::Watch;
pub use clock::BootInstant;
pub use clock::Clock;
pub use clock::ManualClock;
pub use clock::Sleep;
pub use error::Error;
pub use error::ErrorKind;
pub use error::Result;
pub use handle::Handle;
pub use holder::Holder;
pub use identity::Fence;
pub use identity::MAX_OWNER_BYTES;
pub use identity::Owner;
pub use identity::Token;
pub use key::LockKey;
pub use key::MAX_KEY_BYTES;
pub use lease::Lease;
pub use lease::drift;
pub use mode::Mode;
pub use options::Backoff;
pub use options::LockOptions;
pub use options::Renew;
pub use options::Wait;
pub use profile::FenceKind;
pub use profile::LeaseKind;
pub use profile::PollPlan;
pub use profile::Profile;
pub use profile::Wakeup;
