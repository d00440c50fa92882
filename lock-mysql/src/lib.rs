#![doc = include_str!("docs.md")]

mod abandoned;
mod attempt;
mod backend;
mod client;
mod config;
mod error;
mod hold;
mod look;
mod row;
mod schema;
mod server;
mod session;
mod statements;
mod tend;

pub use backend::MySql;
pub use config::DEFAULT_TABLE;
pub use config::DRIVER;
