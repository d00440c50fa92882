#![doc = include_str!("docs.md")]

mod abandoned;
mod attempt;
mod backend;
mod client;
mod config;
mod error;
mod fenced;
mod hold;
mod look;
mod row;
mod row_lock;
mod schema;
mod server;
mod session;
mod statements;
mod tend;

pub use backend::MySql;
pub use config::DEFAULT_TABLE;
pub use config::DRIVER;
pub use error::statement_error;
pub use fenced::Fences;
pub use row_lock::RowLock;
pub use row_lock::wait_at_most;
