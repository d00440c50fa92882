//! Real servers for tests and demos, each on a free port of this host and in a folder of its own.
//!
//! [`Kind::start`] starts the program that is installed, and waits until it serves. The [`Server`] can be killed,
//! restarted and frozen; it and its folder go when it is dropped. Should we be killed, the server ends with the thread that
//! started it: start servers on a thread that lives as long as they have to.

mod error;
mod etcd;
mod kind;
mod mysql;
#[path = "../../conformance-tests/src/port.rs"]
#[expect(unreachable_pub, reason = "the suite shows it to all")]
mod port;
mod postgres;
mod process;
mod program;
mod redis;
mod server;
mod zookeeper;

pub use error::Error;
pub use error::Result;
pub use etcd::ETCD;
pub use kind::Kind;
pub use mysql::MYSQL;
pub use postgres::POSTGRES;
pub use process::stop;
pub use program::Program;
pub use program::find;
pub use redis::REDIS;
pub use server::Server;
pub use zookeeper::ZOOKEEPER;
