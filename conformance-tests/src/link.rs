//! What lies between a client and its store, and can fail.

use std::time::Duration;

/// A link that a case can disturb and heal.
pub trait Link: Send + Sync {
    /// Puts the link into `weather`, which replaces the one before.
    fn set(&self, weather: Weather);
}

/// The state of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Weather {
    /// All is well.
    #[default]
    Fair,
    /// Everything arrives, late.
    Slow {
        /// How long a request takes to the store.
        there: Duration,
        /// How long a reply takes back.
        back: Duration,
    },
    /// Requests reach the store; the connection breaks before the reply.
    LosesReplies,
    /// Nothing arrives and nothing breaks. What is under way goes on when the weather changes.
    Hangs,
    /// Connections break and new ones are refused.
    Down,
}
