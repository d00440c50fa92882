//! A client: the session that is used, and a new one when that is over.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lock_core::Clock;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Fence;
use lock_core::Result;
use tokio::runtime::Handle;
use zookeeper_client::Client as Zk;
use zookeeper_client::CreateMode;
use zookeeper_client::CreateOptions;
use zookeeper_client::Error as ZkError;

use crate::claims::Claims;
use crate::config::Config;
use crate::config::config;
use crate::error::classify;
use crate::names::FENCE_BASE;
use crate::names::Recipe;
use crate::session::Session;

#[derive(Debug)]
pub(crate) struct Client {
    config: Arc<Config>,
    /// What the first session was granted.
    timeout: Duration,
    live: Mutex<Option<Arc<Session>>>,
    /// Held while a session is being opened, so that there is one.
    opening: tokio::sync::Mutex<()>,
    closed: AtomicBool,
    fence_base: AtomicU64,
    pub(crate) claims: Claims,
    runtime: Handle,
}

impl Client {
    /// Opens the first session; creates the chroot if it is missing.
    pub(crate) async fn open(config: Config) -> Result<Arc<Self>> {
        let mut client = Self {
            config: Arc::new(config),
            timeout: Duration::ZERO,
            live: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            closed: AtomicBool::new(false),
            fence_base: AtomicU64::new(0),
            claims: Claims::default(),
            runtime: Handle::current(),
        };
        let session = client.connect().await?;
        client.timeout = session.timeout();
        *client.live() = Some(Arc::new(session));
        Ok(Arc::new(client))
    }

    /// Where calls and sessions live: a caller's runtime may end before its provider does.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Returns the session to use.
    pub(crate) async fn session(self: &Arc<Self>) -> Result<Arc<Session>> {
        if let Some(session) = self.usable() {
            return Ok(session);
        }
        // In a task of its own: all wait for it, also while its caller is not polled.
        let client = self.clone();
        let opening = self.runtime.spawn(async move { client.renewed().await });
        let ended = |_| Error::new(ErrorKind::Closed, "the runtime has ended");
        opening.await.map_err(ended)?
    }

    /// Opens another session in the place of one that is over.
    async fn renewed(&self) -> Result<Arc<Session>> {
        let _opening = self.opening.lock().await;
        if let Some(session) = self.usable() {
            return Ok(session);
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the client has been closed"));
        }
        self.claims.forget_ended();
        let session = Arc::new(self.connect().await?);
        *self.live() = Some(session.clone());
        if self.closed.load(Ordering::Acquire) {
            self.live().take();
        }
        Ok(session)
    }

    /// Returns the session if there is one that can be used.
    pub(crate) fn usable(&self) -> Option<Arc<Session>> {
        let mut live = self.live();
        drop(live.take_if(|session| session.is_terminated()));
        live.clone()
    }

    /// How long the servers of the first session wait for a sign of life.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) fn margin(&self) -> Duration {
        margin(self.timeout, &self.config)
    }

    /// Returns whose locks are to wait for ours.
    pub(crate) fn recipe(&self) -> Recipe {
        self.config.recipe
    }

    /// Returns how nodes of `mode` are created.
    pub(crate) fn options(&self, mode: CreateMode) -> CreateOptions<'static> {
        mode.with_acls(self.config.acls)
    }

    /// Turns the transaction that created a contender into a fence.
    pub(crate) fn fence(&self, czxid: i64) -> Result<Fence> {
        let base = self.fence_base.load(Ordering::Acquire);
        Fence::new(u64::try_from(czxid).unwrap_or(0).saturating_add(base))
    }

    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let session = self.live().take();
        if let Some(session) = session {
            session.close().await;
        }
    }

    async fn connect(&self) -> Result<Session> {
        let since = Clock::system().now();
        let zk = self.config.connector().connect(&self.config.hosts).await.map_err(classify)?;
        let zk = self.enter_chroot(zk).await?;
        let session = Session::new(self.config.clone(), zk, since);
        session.confirm().await?;
        let base = self.stored_fence_base(&session).await?;
        self.fence_base.store(base, Ordering::Release);
        Ok(session)
    }

    async fn enter_chroot(&self, zk: Zk) -> Result<Zk> {
        let chroot = &self.config.chroot;
        if chroot == "/" {
            return Ok(zk);
        }
        if zk.check_stat(chroot).await.map_err(classify)?.is_none() {
            zk.mkdir(chroot, &self.options(CreateMode::Persistent)).await.map_err(classify)?;
        }
        let unfit = |_| config("the path of the URL cannot be a chroot".into());
        zk.chroot(chroot.clone()).map_err(unfit)
    }

    /// Returns what is added to every fence; stores it if the URL is the first to name it.
    async fn stored_fence_base(&self, session: &Session) -> Result<u64> {
        if let Some(wanted) = self.config.fence_base {
            let options = self.options(CreateMode::Persistent);
            let text = wanted.to_string();
            match session.zk().create(FENCE_BASE, text.as_bytes(), &options).await {
                Ok(_) | Err(ZkError::NodeExists) => {}
                Err(failure) => return Err(classify(failure)),
            }
        }
        // In one request of a kind that older servers do not know.
        let mut reader = session.zk().new_multi_reader();
        reader.add_get_data(FENCE_BASE).map_err(classify)?;
        let stored = match reader.commit().await.map_err(classify)?.pop() {
            Some(zookeeper_client::MultiReadResult::Data { data, .. }) => Some(data),
            _ => None,
        };
        let Some(stored) = stored else { return Ok(0) };
        let number = str::from_utf8(&stored).ok().and_then(|text| text.parse().ok());
        let Some(number) = number.filter(|number| *number <= Fence::MAX.get() / 2) else {
            return Err(Error::new(ErrorKind::Corrupt, format!("{FENCE_BASE} is no number")));
        };
        match self.config.fence_base {
            Some(wanted) if wanted != number => {
                Err(config(format!("the store has fence_base={number}: it can be set only once")))
            }
            _ => Ok(number),
        }
    }

    fn live(&self) -> MutexGuard<'_, Option<Arc<Session>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much earlier than its timeout after a confirmed request the servers may end a session.
///
/// A server that does not lead reports every half tick who lives. What it heard after its last report may
/// be lost with it, and what it reported then may be as old as the driver's pause between pings, at most
/// 3/20 of the timeout. A timeout that was raised is that of two ticks.
fn margin(timeout: Duration, config: &Config) -> Duration {
    let raised = timeout > config.session_timeout;
    let half_tick = if raised { timeout / 4 } else { config.tick_time / 2 };
    half_tick.min(timeout / 4) + timeout * 3 / 20
}
