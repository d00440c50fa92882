#![doc = include_str!("../docs.md")]

mod attempt;
mod backend;
mod batch;
mod claims;
mod client;
mod config;
mod error;
mod evict;
mod fenced;
mod hub;
mod keep;
mod keys;
mod lease;
mod line;
mod list;
mod look;
mod names;
mod requests;

pub use backend::Etcd;
pub use config::DRIVER;
pub use fenced::fenced;
pub use fenced::judge;
