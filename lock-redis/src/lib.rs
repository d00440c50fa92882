//! Locks on Redis and Valkey.

mod backend;
mod channels;
mod check;
mod cluster;
mod config;
mod error;
mod hints;
mod keys;
mod list;
mod node;
mod reply;
mod route;
mod scripts;
mod sentinel;
mod server;
mod unattended;

pub use backend::Redis;
pub use config::DRIVER;
