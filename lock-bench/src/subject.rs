//! A backend as the benchmark knows it: one constant of this kind in one file of `subjects`.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use crate::failure::Outcome;
use crate::order::Post;
use crate::seat::Desk;
use crate::seat::Seat;
use crate::store::Making;
use crate::store::Probing;
use crate::way::Way;

/// A backend and what it stands beside.
pub(crate) struct Subject {
    /// The backend's name, as in its driver.
    pub(crate) name: &'static str,
    /// Makes a store, or a part of one, that nobody else uses; the folder is empty and stays while the
    /// store is in use.
    pub(crate) store: fn(folder: PathBuf) -> Making,
    /// Opens a connection to ask the store's server at a URL about itself, if there is one.
    pub(crate) probe: Option<fn(url: String) -> Probing>,
    /// Tells what store it is and of which version.
    pub(crate) version: fn() -> Version,
    /// Whether other processes reach the store; if not, all clients of a lane share one process.
    pub(crate) has_processes: bool,
    /// Whether a descriptor of this process, by what it points at, is a connection to the store.
    pub(crate) is_connection: fn(&str) -> bool,
    /// The bare statements through the same client.
    pub(crate) bare: Option<Rival>,
    /// What others use instead.
    pub(crate) peers: &'static [Rival],
    /// What a reader of the figures should know, such as why there is no peer.
    pub(crate) notes: &'static [&'static str],
}

/// Another way to lock than through the framework.
pub(crate) struct Rival {
    pub(crate) name: &'static str,
    pub(crate) open: fn(&Post) -> Opening,
}

/// A rival's client that is being opened.
pub(crate) type Opening = Pin<Box<dyn Future<Output = Outcome<Box<dyn Seat>>> + Send>>;

/// A version that is being asked for.
pub(crate) type Version = Pin<Box<dyn Future<Output = Outcome<String>> + Send>>;

impl Subject {
    /// The lane that the others are compared with: the bare statements, or the first peer.
    pub(crate) fn reference(&self) -> Option<&'static str> {
        self.bare.iter().chain(self.peers).next().map(|rival| rival.name)
    }
}

/// Opens a client that locks this way.
pub(crate) fn open<W: Way>(way: impl Future<Output = Outcome<W>> + Send + 'static) -> Opening {
    Box::pin(async { Ok(Box::new(Desk::new(way.await?)) as Box<dyn Seat>) })
}
