#![doc = include_str!("docs.md")]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "lock-sqlite needs Linux: its leases end on CLOCK_BOOTTIME and its hints use inotify"
);

mod actor;
mod backend;
mod boot;
mod client;
mod config;
mod core;
mod error;
mod fenced;
mod fs;
mod open;
mod row;
mod scene;
mod statements;
mod store;
mod turn;
mod wake;

pub use backend::Sqlite;
pub use backend::connect;
pub use backend::schema;
pub use config::DEFAULT_BUSY_TIMEOUT;
pub use config::DEFAULT_TABLE;
pub use config::DRIVER;
pub use config::SqliteConfig;
pub use error::statement_error;
pub use fenced::Fences;
