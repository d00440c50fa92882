#![doc = include_str!("docs.md")]

mod backend;
mod config;
mod error;
mod fenced;
mod hints;
mod link;
mod look;
mod names;
mod ringer;
mod row_lock;
mod scene;
mod session;
mod shared;
mod statements;
mod table;

pub use backend::Postgres;
pub use backend::connect;
pub use backend::schema;
pub use config::DEFAULT_SCHEMA;
pub use config::DRIVER;
pub use config::PostgresConfig;
pub use error::statement_error;
pub use fenced::Fences;
pub use row_lock::RowLock;
pub use row_lock::wait_at_most;
#[doc(hidden)]
pub use statements::of_a_free_key;
