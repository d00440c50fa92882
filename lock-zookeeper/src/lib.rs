#![doc = include_str!("../docs.md")]

mod attempt;
mod backend;
mod claims;
mod client;
mod config;
mod error;
mod fenced;
mod line;
mod list;
mod look;
mod names;
mod session;
mod watch;

pub use backend::Zookeeper;
pub use config::DRIVER;
pub use fenced::write_fenced;
