#![doc = include_str!("docs.md")]

mod backend;
mod channels;
mod check;
mod cluster;
mod config;
mod connecting;
mod copies;
mod error;
mod fenced;
mod hints;
mod keys;
mod list;
mod memory;
mod motor;
mod node;
mod redlock;
mod reply;
mod route;
mod scripts;
mod sentinel;
mod server;
mod switch;
mod tls;

pub use backend::Redis;
pub use config::DRIVER;
pub use fenced::FencedScript;
pub use fenced::set_fenced;
pub use redlock::REDLOCK;

/// The driver, of whose connections fenced writes take one.
pub use redis;
