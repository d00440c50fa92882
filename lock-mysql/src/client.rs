//! The connections: a few, made when they are needed, and shared by all calls.
//!
//! Each step has a connection of its own while it runs, and runs to its end also when its caller goes away,
//! so that no connection is ever left with half an answer. sqlx's own pool would ask each connection whether
//! it is well whenever it comes back, which costs a round trip.

use std::future::Future;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use lock_core::BootInstant;
use lock_core::Clock;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Result;
use lock_core::Token;
use lock_core::Unattended;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::abandoned::Abandoned;
use crate::config::Config;
use crate::error::Failure;
use crate::error::Remedy;
use crate::schema;
use crate::server::Facts;
use crate::session::Session;
use crate::statements::Statements;

/// How many connections anything may use.
const SHARED: usize = 3;

/// How many more are kept for renewals and releases, which must not wait for attempts that hang.
const RESERVED: usize = 1;

/// How long a connection may take to be made.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to go on with the connections that there are, where the server takes no more.
const CROWDED: Duration = Duration::from_secs(1);

/// How often a step is done once more because the server undid it in favour of another one. The server
/// picks its victims by what they have done, so one that comes back at once gets through.
const REPEATS: usize = 8;

/// How often a step is done once more after it waited a second for a row in vain: the row of a key that many
/// want is seldom free.
const WAITS: usize = 2;

/// Which connections a step may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Shared,
    /// The reserved one as well.
    Any,
}

/// A piece of work on one connection, that can be done once more from its beginning.
pub(crate) trait Step: Send + Sync + 'static {
    type Output: Send + 'static;

    const LANE: Lane = Lane::Shared;

    /// Returns whose release has to come after this step.
    fn token(&self) -> Option<Token> {
        None
    }

    fn run(
        &self,
        session: &mut Session,
    ) -> impl Future<Output = Result<Self::Output, Failure>> + Send;
}

/// A client of one server. Cloning shares its connections.
#[derive(Clone)]
pub(crate) struct Client(Arc<Inner>);

struct Inner {
    config: Config,
    sql: Arc<Statements>,
    clock: Clock,
    /// Where connections live: a caller's runtime may end before its provider does.
    runtime: Handle,
    shared: Arc<Semaphore>,
    reserved: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
    /// Tells that there is one more that is idle.
    returned: Notify,
    /// One connection is made at a time.
    making: Arc<Semaphore>,
    abandoned: Arc<Abandoned>,
}

struct Idle {
    session: Session,
    since: BootInstant,
}

impl Client {
    /// Connects, and makes sure that the tables are there and ours.
    pub(crate) async fn open(config: Config) -> Result<Self> {
        let client = Self(Arc::new(Inner {
            sql: Arc::new(Statements::new(&config.table)),
            config,
            clock: Clock::system(),
            runtime: Handle::current(),
            shared: Arc::new(Semaphore::new(SHARED)),
            reserved: Arc::new(Semaphore::new(RESERVED)),
            idle: Mutex::default(),
            returned: Notify::new(),
            making: Arc::new(Semaphore::new(1)),
            abandoned: Arc::default(),
        }));
        let Config { table, any_cluster, .. } = &client.0.config;
        client.run(Prepare { table: table.clone(), any_cluster: *any_cluster }).await?;
        Ok(client)
    }

    pub(crate) fn now(&self) -> BootInstant {
        self.0.clock.now()
    }

    /// Completes when no step of `token` is under way that nobody waits for.
    pub(crate) async fn settled(&self, token: Token) {
        self.0.abandoned.settled(token).await;
    }

    /// Does a piece of work. Dropped before a connection is there, nothing is done; later, it goes on.
    pub(crate) async fn run<S: Step>(&self, step: S) -> Result<S::Output> {
        let permit = self.permit(S::LANE).await?;
        let session = self.session().await?;
        let (client, token) = (self.clone(), step.token());
        let work = async move {
            let outcome = client.carry_out(session, &step).await;
            drop(permit);
            outcome
        };
        let Inner { abandoned, runtime, .. } = &*self.0;
        Unattended::new(work, |rest| abandoned.see_through(rest, token, runtime)).await
    }

    /// Closes all connections; what is under way ends first.
    pub(crate) async fn close(&self) {
        let all = u32::try_from(SHARED).unwrap_or(u32::MAX);
        let _all = self.0.shared.acquire_many(all).await;
        let idle = std::mem::take(&mut *self.lock());
        for idle in idle {
            idle.session.close().await;
        }
    }

    async fn permit(&self, lane: Lane) -> Result<OwnedSemaphorePermit> {
        let shared = self.0.shared.clone().acquire_owned();
        let permit = match lane {
            Lane::Shared => shared.await,
            Lane::Any => tokio::select! {
                biased;
                permit = shared => permit,
                permit = self.0.reserved.clone().acquire_owned() => permit,
            },
        };
        permit.map_err(|_| ended())
    }

    /// Returns a connection: an idle one, or the first to come of one that is being made and one that others
    /// are done with. Who came first must not be served last because a connection takes long to make.
    async fn session(&self) -> Result<Session> {
        loop {
            let returned = self.0.returned.notified();
            tokio::pin!(returned);
            returned.as_mut().enable();
            if let Some(session) = self.take_idle() {
                return Ok(session);
            }
            let slot = tokio::select! {
                biased;
                () = &mut returned => continue,
                slot = self.0.making.clone().acquire_owned() => slot.map_err(|_| ended())?,
            };
            let mut made = AbortOnDrop(Some(self.0.runtime.spawn(self.clone().make(slot))));
            tokio::select! {
                biased;
                made = made.join() => made.map_err(|failure| failure.error)?,
                () = &mut returned => made.go_on(),
            }
        }
    }

    /// Returns an idle connection that the server has not closed yet.
    fn take_idle(&self) -> Option<Session> {
        let now = self.now();
        loop {
            let idle = self.lock().pop()?;
            if now.saturating_since(idle.since) < idle.session.idle_limit {
                return Some(idle.session);
            }
        }
    }

    fn put_idle(&self, session: Session) {
        let since = self.now();
        self.lock().push(Idle { session, since });
        self.0.returned.notify_waiters();
    }

    /// Makes one connection more.
    async fn make(self, slot: OwnedSemaphorePermit) -> Result<(), Failure> {
        let Config { options, any_cluster, .. } = &self.0.config;
        let opening = Session::open(options, self.0.sql.clone(), *any_cluster);
        // One that hangs must not keep the next from being made.
        let opened = tokio::time::timeout(PATIENCE, opening).await;
        let opened = opened.unwrap_or_else(|_| Err(too_slow().into()));
        let refused = opened.as_ref().is_err_and(|failure| failure.remedy == Remedy::Share);
        if refused && self.has_connections() {
            // One of them comes back before long; nobody asks for another meanwhile.
            tokio::time::sleep(CROWDED).await;
        }
        self.put_idle(opened?);
        drop(slot);
        Ok(())
    }

    /// Whether there are any, at work or idle: each has the statements.
    fn has_connections(&self) -> bool {
        Arc::strong_count(&self.0.sql) > 1
    }

    async fn carry_out<S: Step>(&self, mut session: Session, step: &S) -> Result<S::Output> {
        let (mut repeats, mut waits) = (REPEATS, WAITS);
        loop {
            match step.run(&mut session).await {
                Err(failure) if failure.remedy == Remedy::Repeat && repeats > 0 => repeats -= 1,
                Err(failure) if failure.remedy == Remedy::Wait && waits > 0 => waits -= 1,
                Err(failure) if failure.remedy == Remedy::Close => {
                    // What broke this one has most likely broken the others.
                    let idle = std::mem::take(&mut *self.lock());
                    drop(idle);
                    return Err(failure.error);
                }
                outcome => {
                    self.put_idle(session);
                    return outcome.map_err(|failure| failure.error);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes sure that the server will do and that the tables are ours.
struct Prepare {
    table: String,
    any_cluster: bool,
}

impl Step for Prepare {
    type Output = ();

    async fn run(&self, session: &mut Session) -> Result<(), Failure> {
        session.check(Facts::ASK, self.any_cluster).await?;
        schema::ensure(session, &self.table).await
    }
}

/// A connection that is being made; nobody needs it when its caller has gone.
struct AbortOnDrop(Option<JoinHandle<Result<(), Failure>>>);

impl AbortOnDrop {
    async fn join(&mut self) -> Result<(), Failure> {
        match &mut self.0 {
            Some(making) => making.await.unwrap_or_else(|_| Err(ended().into())),
            None => Ok(()),
        }
    }

    /// Leaves it to those who come next.
    fn go_on(&mut self) {
        self.0 = None;
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

fn too_slow() -> Error {
    Error::new(ErrorKind::Unavailable, "the server took too long to accept a connection")
}

fn ended() -> Error {
    Error::new(ErrorKind::Unavailable, "the runtime that the connections live on has ended")
}
