//! Locks on Redis and Valkey.

mod backend;
mod config;
mod error;
mod hints;
mod keys;
mod list;
mod node;
mod reply;
mod route;
mod scripts;
mod unattended;

pub use backend::Redis;
pub use config::DRIVER;
