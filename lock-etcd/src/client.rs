//! The way to the servers: one channel at a time, to whichever server answers.
//!
//! A server that is down, has no leader or leaves requests unanswered is left for the next one. Only
//! what was certainly not done is asked again there.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use etcd_client::Client;
use etcd_client::ConnectOptions;
use etcd_client::Txn;
use lock_core::BootInstant;
use lock_core::Clock;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio::sync::watch;

use crate::batch::Settled;
use crate::error::Failure;
use crate::error::What;

/// A request that was given up after this long, while its server said nothing at all, speaks against
/// the server.
const SILENT: Duration = Duration::from_millis(400);

/// The largest answer that is read, in bytes: all that a server can send.
pub(crate) const LARGE: usize = i32::MAX as usize;

/// The servers behind one URL.
pub(crate) struct Route {
    servers: Vec<Arc<Server>>,
    options: ConnectOptions,
    has_login: bool,
    clock: Clock,
    /// Counts how often a server was left; which one is asked follows from it.
    left: watch::Sender<usize>,
    runtime: Handle,
}

struct Server {
    url: String,
    client: OnceCell<Client>,
    /// When it last said something: the nanoseconds of a boot instant.
    heard: AtomicU64,
}

impl Route {
    pub(crate) fn new(urls: Vec<String>, options: ConnectOptions, has_login: bool) -> Self {
        let server =
            |url| Arc::new(Server { url, client: OnceCell::new(), heard: AtomicU64::new(0) });
        Self {
            servers: urls.into_iter().map(server).collect(),
            options,
            has_login,
            clock: Clock::system(),
            left: watch::Sender::new(0),
            runtime: Handle::current(),
        }
    }

    pub(crate) fn now(&self) -> BootInstant {
        self.clock.now()
    }

    /// Whether the servers are told who asks, and look at what that user may do.
    pub(crate) fn has_login(&self) -> bool {
        self.has_login
    }

    /// Where connections live: a caller's runtime may end before its provider does.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Tells each time when a server has been left.
    pub(crate) fn switches(&self) -> watch::Receiver<usize> {
        self.left.subscribe()
    }

    /// Asks the present server. If it certainly did nothing, asks each of the others once.
    pub(crate) async fn ask<T, F>(&self, request: impl Fn(&Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let mut tried = 1;
        loop {
            let turn = *self.left.borrow();
            let outcome = self.ask_at(turn, &request).await;
            let Err(failure) = &outcome else { return outcome };
            match failure.what {
                What::Elsewhere if tried < self.servers.len() => self.leave(turn),
                What::Elsewhere | What::Silence => {
                    self.leave(turn);
                    return outcome;
                }
                What::Refused | What::NoLease => return outcome,
            }
            tried += 1;
        }
    }

    /// Carries out one transaction.
    pub(crate) async fn settle(&self, txn: Txn) -> Result<Settled, Failure> {
        let send = |client: &Client| {
            // Many lines may be in one answer, and what is not read has been done all the same.
            let mut client = client.kv_client().max_decoding_message_size(LARGE);
            let txn = txn.clone();
            async move { client.txn(txn).await }
        };
        let answer = self.ask(send).await?;
        let revision = answer.header().map_or(0, |header| header.revision());
        Ok(Settled { answer, revision })
    }

    async fn ask_at<T, F>(&self, turn: usize, request: impl Fn(&Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let server = &self.servers[turn % self.servers.len()];
        let mut asked = Asked { route: self, server, turn, since: self.now(), over: false };
        let answer = match self.client(server).await {
            Ok(client) => request(client).await,
            Err(error) => Err(error),
        };
        asked.over = true;
        let answer = answer.map_err(Failure::from);
        if !answer
            .as_ref()
            .is_err_and(|failure| matches!(failure.what, What::Silence | What::Elsewhere))
        {
            server.heard.fetch_max(self.now().as_nanos(), Ordering::AcqRel);
        }
        answer
    }

    /// The channel to `server`; it is made by the first request.
    async fn client<'a>(&self, server: &'a Arc<Server>) -> Result<&'a Client, etcd_client::Error> {
        if server.client.get().is_none() {
            // In a task of its own: all wait for it, also while its caller is not polled.
            let (made, options) = (server.clone(), self.options.clone());
            let make = async move {
                let connect = || Client::connect([&made.url], Some(options));
                made.client.get_or_try_init(connect).await.map(drop)
            };
            self.runtime.spawn(make).await.map_err(|_| ended())??;
        }
        server.client.get().ok_or_else(|| ended().into())
    }

    /// Goes on with the next server, unless somebody has done so already.
    pub(crate) fn leave(&self, turn: usize) {
        if self.servers.len() > 1 {
            self.left.send_if_modified(|left| {
                let first = *left == turn;
                *left += usize::from(first);
                first
            });
        }
    }
}

fn ended() -> io::Error {
    io::Error::other("the runtime has ended")
}

/// A request on its way. Whoever gives it up after a silence thereby leaves its server.
struct Asked<'a> {
    route: &'a Route,
    server: &'a Server,
    turn: usize,
    since: BootInstant,
    over: bool,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let silent = || {
            let heard = self.server.heard.load(Ordering::Acquire);
            heard < self.since.as_nanos() && self.route.now().saturating_since(self.since) >= SILENT
        };
        if !self.over && silent() {
            self.route.leave(self.turn);
        }
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<_> = self.servers.iter().map(|server| &server.url).collect();
        f.debug_struct("Route").field("servers", &urls).finish_non_exhaustive()
    }
}
