//! One lock API over the stores people already run.

mod backends;
mod config;
mod connect;
pub mod manual;
mod plan;

pub use backends::DRIVERS;
pub use config::Config;
pub use config::DEFAULT_RETRY_DELAY;
pub use config::Io;
pub use config::Section;
pub use connect::connect;
pub use lock_core::*;
