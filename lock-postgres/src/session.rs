//! The actor that owns the session, on which all locks of a client hang.
//!
//! Callers put requests into its queue; what has gathered while a statement was under way goes into one. A
//! caller who is dropped leaves no half of a reply behind: the actor finishes the statement. The session is the
//! lease: the server ends it when it has been silent for so long, and the actor gives it up that long after it
//! sent the last statement that was answered.
//!
//! A call that is alone goes through the actor too. What that adds to its round trip is small beside it, while a
//! caller who had the session and is not polled would keep all the others, and the watch over it, from theirs.

mod ask;
mod attempt;
mod queue;
mod release;

use std::sync::Arc;
use std::time::Duration;

use lock_core::Attempt;
use lock_core::BootInstant;
use lock_core::Claim;
use lock_core::Clock;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Kept;
use lock_core::Lease;
use lock_core::LockKey;
use lock_core::Release;
use lock_core::Result;
use sqlx::postgres::PgListener;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use self::ask::Alarm;
use self::queue::Batch;
use self::queue::Queue;
use crate::hints::Hints;
use crate::link::Identity;
use crate::link::Link;
use crate::link::column;
use crate::look;
use crate::shared::Shared;
use crate::statements;
use crate::table::Native;
use crate::table::Table;

/// The shortest lease: less than that a busy server may be silent.
pub(crate) const LEASE_MIN: Duration = Duration::from_secs(1);

/// The longest lease of a session, whatever the TTLs of its locks: a vanished host is not waited for longer.
const LEASE_MAX: Duration = Duration::from_secs(60);

/// How long to wait for an answer while nothing is held that could end.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) type Reply<T> = oneshot::Sender<Result<T>>;

/// What the actor is asked for.
#[derive(Debug)]
pub(crate) enum Request {
    Attempt(Claim, Reply<Attempt>),
    Release(Claim, Reply<Release>),
    Keep(Vec<Claim>, Reply<Vec<Kept>>),
    /// Somebody wants locks back.
    GiveBack,
    /// These sessions were ended.
    Ended(Vec<i32>),
    Close(Reply<()>),
}

/// The actor.
pub(crate) struct Session {
    link: Arc<Link>,
    hints: Arc<Hints>,
    shared: Arc<Shared>,
    table: Table,
    live: Option<Live>,
    alarm: Alarm,
    /// A session that was given up: the server may not know it yet, and keep its locks.
    ghost: Option<Identity>,
    /// Who is still to be told by whom they were refused: one look does for all.
    refused: Vec<(Claim, Reply<Attempt>)>,
    closed: bool,
}

/// A session that answers.
struct Live {
    connection: PgListener,
    identity: Identity,
    /// When the last statement that was answered had been sent.
    since: BootInstant,
    /// How long the server keeps the session silent, while anything is held.
    lease: Duration,
    /// How many locks the server has room for in all, and how many others have.
    capacity: i64,
    others: i64,
    /// At how many locks of our own to count those of others again.
    count_at: usize,
}

impl Session {
    pub(crate) fn new(link: Arc<Link>, hints: Arc<Hints>, shared: Arc<Shared>) -> Self {
        let table = Table::default();
        let (live, alarm, ghost, refused) = (None, Alarm::default(), None, Vec::new());
        Self { link, hints, shared, table, live, alarm, ghost, refused, closed: false }
    }

    /// Serves until nobody can ask any more.
    pub(crate) async fn run(mut self, mut requests: mpsc::UnboundedReceiver<Request>) {
        let mut queue = Queue::default();
        while let Some(first) = self.next(&mut requests).await {
            self.take_in(first, &mut queue).await;
            self.gather(&mut requests, &mut queue).await;
            while let Some(batch) = queue.next() {
                let crowd = batch.is_crowd();
                self.carry_out(batch).await;
                if crowd {
                    // Who was answered may come with the next wish, which then goes along with those of others.
                    tokio::task::yield_now().await;
                }
                self.gather(&mut requests, &mut queue).await;
            }
        }
    }

    /// Returns the next request. A session that the server ends meanwhile is over at once.
    async fn next(&mut self, requests: &mut mpsc::UnboundedReceiver<Request>) -> Option<Request> {
        loop {
            tokio::select! {
                biased;
                request = requests.recv() => return request,
                () = self.ended() => self.lose(),
            }
        }
    }

    /// Completes when the server has closed the session's connection.
    async fn ended(&mut self) {
        match &mut self.live {
            // It listens to nothing, so all that can come is its end.
            Some(live) => while let Ok(Some(_)) = live.connection.try_recv().await {},
            None => std::future::pending().await,
        }
    }

    async fn gather(&mut self, requests: &mut mpsc::UnboundedReceiver<Request>, queue: &mut Queue) {
        while let Ok(request) = requests.try_recv() {
            self.take_in(request, queue).await;
        }
    }

    /// Renews before all else, so that no crowd of calls costs what is held.
    async fn take_in(&mut self, request: Request, queue: &mut Queue) {
        match queue.put(request) {
            Some(Request::Keep(claims, reply)) => drop(reply.send(self.keep(&claims).await)),
            Some(Request::GiveBack) => drop(self.heartbeat().await),
            Some(Request::Ended(pids)) if self.has_one_of(&pids) => self.lose(),
            _ => {}
        }
    }

    /// Tells whether the session is one of these.
    fn has_one_of(&self, pids: &[i32]) -> bool {
        self.live.as_ref().is_some_and(|live| pids.contains(&live.identity.pid))
    }

    async fn carry_out(&mut self, batch: Batch) {
        match batch {
            Batch::Releases(releases) => self.release_all(releases).await,
            Batch::Attempts(attempts) => {
                self.attempt_all(attempts).await;
                self.tell_refused().await;
            }
            Batch::Close(replies) => {
                let closed = self.close().await;
                replies.into_iter().for_each(|reply| drop(reply.send(closed.clone())));
            }
        }
    }

    /// Makes sure that there is a session whose lease has not ended.
    pub(crate) async fn connect(&mut self) -> Result<()> {
        if self.closed {
            return Err(closed());
        }
        self.expire();
        if self.live.is_some() {
            return Ok(());
        }
        let since = now();
        let (connection, identity, facts) = self.link.open(self.ghost).await?;
        self.ghost = None;
        self.shared.started(facts.started);
        let lease = LEASE_MIN;
        let (capacity, others, count_at) = (facts.capacity, 0, 0);
        self.live = Some(Live { connection, identity, since, lease, capacity, others, count_at });
        // The first look on a session is planned, which may take longer than a caller waits.
        self.rows(look::statement(&self.link, &[String::new()]), PATIENCE).await?;
        self.count_others(0).await
    }

    /// Proves that the session is its own, with the help of another connection.
    pub(crate) async fn check_own(&mut self, listener: &mut PgListener) -> Result<()> {
        let Some(live) = &mut self.live else { return Err(no_answer()) };
        self.link.check_own_session(&mut live.connection, live.identity, listener).await
    }

    /// Gives up a session that the server may have ended by now.
    fn expire(&mut self) {
        let over = |live: &Live| now() >= live.since + live.lease;
        if !self.table.is_empty() && self.live.as_ref().is_some_and(over) {
            self.lose();
        }
    }

    /// Closes the connection, which ends the session on the server, sooner or later, and all its locks.
    pub(crate) fn lose(&mut self) {
        self.ghost = self.live.take().map(|live| live.identity).or(self.ghost);
        if !self.table.is_empty() {
            self.table = Table::default();
            self.hints.alarm();
        }
    }

    /// After any error the server may have what was asked for: gives back all that the table does not know.
    async fn settle(&mut self) {
        for _ in 0..3 {
            match self.give_back_strays().await {
                Ok(0) => return,
                Ok(_) => {}
                Err(_) => break,
            }
        }
        self.lose();
    }

    /// Returns how many there were. What the table knows and the server does not, is over.
    async fn give_back_strays(&mut self) -> Result<usize> {
        let held = self.rows(sqlx::query(statements::SETTLE), PATIENCE).await?;
        let mut strays = 0;
        for row in held {
            let (num, exclusive): (i64, bool) = (column(&row, 0)?, column(&row, 1)?);
            let held = if exclusive { Native::Exclusive } else { Native::Shared };
            if self.table.expects(num) != held {
                strays += 1;
                let undo = if exclusive { statements::UNDO } else { statements::UNDO_SHARED };
                self.rows(sqlx::query(undo).bind(num), PATIENCE).await?;
            }
        }
        Ok(strays)
    }

    async fn keep(&mut self, claims: &[Claim]) -> Result<Vec<Kept>> {
        if self.closed {
            return Err(closed());
        }
        self.expire();
        if !claims.iter().any(|claim| self.table.find(claim).is_some()) {
            return Ok(vec![Kept::Gone; claims.len()]);
        }
        claims.iter().for_each(|claim| self.table.go_on(claim));
        let beat = self.heartbeat().await;
        let Some(live) = &self.live else { return Ok(vec![Kept::Gone; claims.len()]) };
        beat?;
        let lease = Lease { since: live.since, ttl: live.lease };
        let waiting = self.waiting(claims);
        let scenes = if waiting.is_empty() { Vec::new() } else { self.look(&waiting).await? };
        let mut places = waiting.iter().zip(&scenes).map(|(claim, scene)| match scene {
            Ok(scene) => scene.ahead(claim).map_or(Kept::Gone, |ahead| Kept::Queued { ahead }),
            Err(_) => Kept::Unknown,
        });
        let kept = claims.iter().map(|claim| match self.table.find(claim) {
            None => Kept::Gone,
            Some(own) if own.fence.is_some() => Kept::Renewed { lease },
            Some(_) => places.next().unwrap_or(Kept::Gone),
        });
        Ok(kept.collect())
    }

    /// Returns those of `claims` that stand in line.
    fn waiting(&self, claims: &[Claim]) -> Vec<Claim> {
        let waits = |claim: &&Claim| self.table.find(claim).is_some_and(|own| own.fence.is_none());
        claims.iter().filter(waits).cloned().collect()
    }

    /// Keeps the session alive, lets its lease become longer if all that it holds may, and gives back what
    /// somebody wants back.
    async fn heartbeat(&mut self) -> Result<()> {
        self.expire();
        let Some(live) = &self.live else { return Err(no_answer()) };
        let Identity { pid, mark } = live.identity;
        let longer = self.table.shortest_ttl().map(lease_of).filter(|lease| *lease > live.lease);
        let beat = self.link.statement(&self.link.statements.heartbeat).bind(pid).bind(mark);
        let wanted = self.rows(beat.bind(timeout(longer)), PATIENCE).await?;
        if let (Some(live), Some(longer)) = (&mut self.live, longer) {
            live.lease = longer;
        }
        let mut given = false;
        for row in &wanted {
            let Some(key) = column::<Option<String>>(row, 0)? else { continue };
            let token: String = column(row, 1)?;
            self.give_back(&LockKey::new(&key)?, token.parse()?).await?;
            given = true;
        }
        if given {
            self.hints.alarm();
        }
        Ok(())
    }

    /// Looks at the keys of some claims.
    async fn look(&mut self, claims: &[Claim]) -> Result<Vec<Result<crate::scene::Scene>>> {
        let keys: Vec<_> = claims.iter().map(|claim| claim.key.to_string()).collect();
        let rows = self.rows(look::statement(&self.link, &keys), PATIENCE).await?;
        look::scenes(&keys, &rows)
    }

    async fn close(&mut self) -> Result<()> {
        self.closed = true;
        // A server that does not answer ends the session by itself.
        drop(self.rows(sqlx::query(statements::LET_GO), PATIENCE).await);
        self.live = None;
        self.table = Table::default();
        Ok(())
    }
}

fn now() -> BootInstant {
    Clock::system().now()
}

/// The lease of a session for a lock of this TTL.
fn lease_of(ttl: Duration) -> Duration {
    ttl.clamp(LEASE_MIN, LEASE_MAX)
}

/// A time-out as the server takes it; nothing leaves it as it is.
fn timeout(lease: Option<Duration>) -> String {
    lease.map_or_else(String::new, |lease| lease.as_millis().to_string())
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the client has been closed")
}

fn no_answer() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the server did not answer in time, and the session was given up",
    )
    .ambiguous()
}
