//! One lock API over the stores people already run.
//!
//! [`connect`] takes a URL and returns a [`LockProvider`]; from there on nothing depends on the store. A
//! lock comes as a [`LockGuard`], which is renewed while it lives, knows its own deadline, and has a
//! [`Fence`]: a number that only rises, to be sent with each write, so that the resource can refuse a
//! holder who came too late.
//!
//! ```
//! use std::time::Duration;
//!
//! use lock::{Hold, LockOptions, LockProviderExt, Run};
//!
//! # #[cfg(feature = "memory")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> lock::Result<()> {
//! let locks = lock::connect("memory:?prefix=shop:").await?; // or redis://HOST
//!
//! let options = LockOptions::new().ttl(Duration::from_secs(10)).wait(Duration::from_secs(5));
//! let guard = locks.lock("sku:123", &options).await?; // renewed until it is dropped
//! println!("send fence {} with each write", guard.fence());
//! guard.unlock().await?;
//!
//! match locks.run_or_skip("nightly-report", &LockOptions::new(), report).await? {
//!     Run::Done(rows) => println!("{rows} rows"),
//!     Run::Skipped(holder) => println!("another replica runs it: {holder}"),
//! }
//! # Ok(())
//! # }
//!
//! async fn report(hold: Hold) -> lock::Result<u64> {
//!     println!("reporting under fence {}", hold.fence());
//!     Ok(42)
//! }
//! # #[cfg(not(feature = "memory"))] fn main() {}
//! ```
//!
//! Each backend is a feature of its name: `memory`, `sqlite` and `redis`, on by default, `mysql`, `postgres`,
//! `zookeeper`, and `etcd`, which needs protoc to be built. Encryption comes with each but ZooKeeper's, which is
//! `zookeeper-tls`, and its SASL is `zookeeper-sasl`. The [manual] tells [how to start](manual::start), [which
//! to choose](manual::choosing), [what can be configured](manual::configuration), [how to test](manual::testing),
//! [how to move to another](manual::migrating) and [what each error means](manual::errors).
//!
//! A lock alone does not make a write safe: [`Hold::is_valid`] is true when it is asked, and the process
//! can be stopped right after. That is what the fence is for. The feature `tower` has a layer that compares it in front of a
//! service, `lock::http::FenceLayer`.

mod backends;
mod config;
mod connect;
mod dual;
#[cfg(feature = "tower")]
pub mod http;
pub mod manual;
mod plan;

pub use backends::DRIVERS;
pub use config::Config;
pub use config::DEFAULT_RETRY_DELAY;
pub use config::Io;
pub use config::Section;
pub use connect::connect;
pub use dual::dual;
pub use lock_core::*;

/// Fenced writes and the classification of errors in your own transactions of SQLite.
#[cfg(feature = "sqlite")]
pub mod sqlite {
    pub use lock_sqlite::Fences;
    pub use lock_sqlite::statement_error;
}

/// Fenced writes to Redis.
#[cfg(feature = "redis")]
pub mod redis {
    pub use lock_redis::FencedScript;
    pub use lock_redis::set_fenced;
}

/// Fenced writes, locking reads and the classification of errors in your own transactions of MySQL and MariaDB.
#[cfg(feature = "mysql")]
pub mod mysql {
    pub use lock_mysql::Fences;
    pub use lock_mysql::RowLock;
    pub use lock_mysql::statement_error;
    pub use lock_mysql::wait_at_most;
}

/// Fenced writes, locking reads and the classification of errors in your own transactions of Postgres.
#[cfg(feature = "postgres")]
pub mod postgres {
    pub use lock_postgres::Fences;
    pub use lock_postgres::RowLock;
    pub use lock_postgres::statement_error;
    pub use lock_postgres::wait_at_most;
}

/// Fenced writes to etcd.
#[cfg(feature = "etcd")]
pub mod etcd {
    pub use lock_etcd::fenced;
    pub use lock_etcd::judge;
}

/// Fenced writes to ZooKeeper.
#[cfg(feature = "zookeeper")]
pub mod zookeeper {
    pub use lock_zookeeper::write_fenced;
}

/// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
