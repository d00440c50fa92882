//! Locks in memory: the reference backend and the test double.

mod backend;
mod client;
mod config;
mod controls;
mod session;
mod store;
mod wire;

pub use client::Memory;
pub use config::Config;
pub use config::SCHEMES;
pub use controls::Call;
pub use controls::Controls;
pub use controls::Hung;
pub use controls::When;
pub use store::Store;
