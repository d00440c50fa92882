#![doc = include_str!("../docs.md")]

mod backend;
mod client;
mod config;
mod controls;
mod session;
mod store;
mod sync;
mod wire;

pub use client::Memory;
pub use config::Config;
pub use config::DRIVER;
pub use controls::Call;
pub use controls::Controls;
pub use controls::Hung;
pub use controls::When;
pub use store::Store;
