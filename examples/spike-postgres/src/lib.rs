//! A throw-away spike that proves the waist on Postgres: the issue that builds `lock-postgres` removes
//! it. Exclusive mode only, no pool, no TLS; one session and one listener per client.
//!
//! One actor owns the session, so a caller who drops a call never leaves half a reply on it: the actor
//! finishes the statement. A local table keeps the server from being asked for a key that this session
//! holds already (session locks stack). The session is the lease: `idle_session_timeout` ends it on the
//! server, and the actor gives it up that long after it sent the last statement that was acknowledged.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use lock_core::Attempt;
use lock_core::Backend;
use lock_core::BootInstant;
use lock_core::Claim;
use lock_core::Clock;
use lock_core::Cursor;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Evicted;
use lock_core::Eviction;
use lock_core::Fence;
use lock_core::Hint;
use lock_core::Holder;
use lock_core::Kept;
use lock_core::KeyState;
use lock_core::Lease;
use lock_core::LeaseKind;
use lock_core::LockKey;
use lock_core::Page;
use lock_core::Peek;
use lock_core::Profile;
use lock_core::Release;
use lock_core::Result;
use lock_core::Token;
use lock_core::Wakeup;
use lock_core::Watch;
use lock_core::WatchFor;
use sqlx::Connection as _;
use sqlx::PgConnection;
use sqlx::Row as _;
use sqlx::postgres::PgArguments;
use sqlx::postgres::PgConnectOptions;
use sqlx::postgres::PgListener;
use sqlx::postgres::PgRow;
use sqlx::query::Query;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

/// Run once per database. The view joins a holder's row only to a granted lock of the same backend.
const SCHEMA: &str = r#"
SELECT pg_advisory_xact_lock(hashtextextended('lock_spike schema', 0));
CREATE SCHEMA IF NOT EXISTS lock_spike;
CREATE TABLE IF NOT EXISTS lock_spike.holders (
  lock_key text COLLATE "C" PRIMARY KEY, num bigint NOT NULL, fence bigint NOT NULL, token text NOT NULL,
  owner text NOT NULL, pid int NOT NULL, born bigint NOT NULL, evict boolean NOT NULL DEFAULT false);
CREATE INDEX IF NOT EXISTS holders_num ON lock_spike.holders (num);
CREATE OR REPLACE VIEW lock_spike.held AS
  SELECT l.num, l.pid, h.lock_key, h.owner, h.fence
  FROM (SELECT (classid::bigint << 32) | objid::bigint AS num, pid FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 1 AND mode = 'ExclusiveLock' AND granted
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) l
  LEFT JOIN LATERAL (
    SELECT h.* FROM lock_spike.holders h JOIN pg_stat_activity a ON a.pid = h.pid
      AND (extract(epoch FROM a.backend_start) * 1e6)::bigint = h.born
    WHERE h.num = l.num AND h.pid = l.pid ORDER BY h.fence DESC LIMIT 1) h ON true;
"#;
/// Tells this session from all others, and ends the one before it exactly.
const BEGIN: &str = "SELECT pid, (extract(epoch FROM backend_start) * 1e6)::bigint,
    (SELECT pg_terminate_backend(g.pid, 2000) FROM pg_stat_activity g
     WHERE g.pid = $1 AND (extract(epoch FROM g.backend_start) * 1e6)::bigint = $2)
  FROM pg_stat_activity WHERE pid = pg_backend_pid()";
/// The fence is drawn after the lock is won; the holder is looked up only when it is not.
const ACQUIRE: &str = "
WITH got AS MATERIALIZED (
  SELECT num, pg_try_advisory_lock(num) AS ok FROM (SELECT hashtextextended($1, 0) AS num OFFSET 0) n),
mark AS (
  INSERT INTO lock_spike.holders AS h (lock_key, num, token, owner, fence, pid, born)
  SELECT $1, num, $2, $3, greatest($4, (extract(epoch FROM clock_timestamp()) * 1e6)::bigint), $5, $6
  FROM got WHERE ok
  ON CONFLICT (lock_key) DO UPDATE SET fence = greatest(h.fence + 1, excluded.fence),
    token = excluded.token, owner = excluded.owner, pid = excluded.pid, born = excluded.born, evict = false
  RETURNING fence)
SELECT num, (SELECT fence FROM mark), CASE WHEN NOT ok THEN
  (SELECT ARRAY[lock_key, owner, fence::text] FROM lock_spike.held WHERE held.num = got.num LIMIT 1) END
FROM got";
/// Unlocks, then notifies if a waiter shows itself by a shared lock on the companion number.
const RELEASE: &str = "
WITH done AS MATERIALIZED (SELECT pg_advisory_unlock($1) AS ok)
SELECT ok, CASE WHEN pg_try_advisory_lock(hashtextextended($2, 1))
  THEN pg_advisory_unlock(hashtextextended($2, 1))::text
  ELSE pg_notify('lock_spike', 'f' || $2)::text END FROM done";
/// Keeps the session alive and asks which locks somebody wants back.
const HEARTBEAT: &str =
    "SELECT lock_key, token FROM lock_spike.holders WHERE pid = $1 AND born = $2 AND evict";
const LIFT: &str = "UPDATE lock_spike.holders SET fence = greatest(fence, $3)
  WHERE lock_key = $1 AND token = $2 RETURNING fence";
const PEEK: &str = "SELECT EXISTS (SELECT FROM lock_spike.held WHERE num = hashtextextended(k, 0))
  FROM unnest($1::text[]) WITH ORDINALITY AS t (k, n) ORDER BY n";
const INSPECT: &str =
    "SELECT lock_key, owner, fence FROM lock_spike.held WHERE num = hashtextextended($1, 0)";
const LIST: &str = "SELECT lock_key, owner, fence FROM lock_spike.held
  WHERE starts_with(lock_key, $1) AND ($2::text IS NULL OR lock_key > $2) ORDER BY lock_key LIMIT $3";
const ASK_BACK: &str = "WITH hit AS (UPDATE lock_spike.holders h SET evict = true
  FROM lock_spike.held WHERE held.lock_key = h.lock_key AND h.lock_key = $1 RETURNING h.lock_key)
  SELECT pg_notify('lock_spike', 'e' || lock_key)::text FROM hit";
const END_SESSION: &str = "WITH hit AS MATERIALIZED (SELECT pid,
    (SELECT count(*) - 1 FROM lock_spike.held o WHERE o.pid = h.pid AND o.lock_key IS NOT NULL) AS others
  FROM lock_spike.held h WHERE num = hashtextextended($1, 0))
  SELECT others, pg_terminate_backend(pid, 2000) FROM hit";
/// Spares rows that were written after it began: their fence is above its clock.
const PURGE: &str = "DELETE FROM lock_spike.holders h
  WHERE fence < (extract(epoch FROM now()) * 1e6)::bigint
    AND NOT EXISTS (SELECT FROM lock_spike.held WHERE held.lock_key = h.lock_key) RETURNING 1";

/// A client of one Postgres database.
pub struct Postgres {
    profile: Profile,
    jobs: mpsc::UnboundedSender<Job>,
    orders: mpsc::UnboundedSender<Order>,
}

type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
type Job = Box<dyn for<'a> FnOnce(&'a mut Session) -> Later<'a, ()> + Send>;
type Statement<'q> = Query<'q, sqlx::Postgres, PgArguments>;

impl Postgres {
    /// Connects to `url`; `ttl` is how long the server keeps a session that says nothing.
    ///
    /// # Errors
    ///
    /// `Config` if the URL makes no sense, `Unavailable` if the server does not answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes what was opened.
    pub async fn connect(url: &str, ttl: Duration) -> Result<Self> {
        let options = PgConnectOptions::from_str(url).map_err(|_| {
            Error::new(ErrorKind::Config, "the URL is not one of a Postgres server")
        })?;
        let (jobs, queue) = mpsc::unbounded_channel();
        let (orders, inbox) = mpsc::unbounded_channel();
        let mut session = Session::new(options, ttl, orders.downgrade());
        session.prepare().await?;
        tokio::spawn(session.run(queue));
        let mut ringer = Ringer::new(url.to_owned(), ttl, jobs.downgrade());
        // From the start: a holder that nobody hints for has to hear that its lock is asked back.
        ringer.show(None).await?;
        tokio::spawn(ringer.run(inbox));
        let mut profile = Profile::new("postgres");
        profile.lease = LeaseKind::Session;
        profile.ttl_min = ttl;
        profile.wakeup = Wakeup::Push;
        profile.watches_holders = true;
        Ok(Self { profile, jobs, orders })
    }

    /// Has the session do `job`, to its end even if the caller is dropped (S7).
    async fn on_session<T: Send + 'static>(
        &self,
        job: impl for<'a> FnOnce(&'a mut Session) -> Later<'a, Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let job: Job =
            Box::new(move |session| Box::pin(async move { drop(reply.send(job(session).await)) }));
        self.jobs.send(job).map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the client has been closed")
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Postgres")
    }
}

#[async_trait]
impl Backend for Postgres {
    fn profile(&self) -> &Profile {
        &self.profile
    }

    async fn attempt(&self, claim: &Claim) -> Result<Attempt> {
        let claim = claim.clone();
        self.on_session(|session| Box::pin(async move { session.attempt(&claim).await })).await
    }

    async fn keep(&self, claims: &[Claim]) -> Result<Vec<Kept>> {
        let claims = claims.to_vec();
        self.on_session(|session| Box::pin(async move { session.keep(&claims).await })).await
    }

    async fn release(&self, claim: &Claim) -> Result<Release> {
        let claim = claim.clone();
        self.on_session(|session| Box::pin(async move { session.release(&claim).await })).await
    }

    async fn peek(&self, claims: &[Claim]) -> Result<Vec<Peek>> {
        let keys: Vec<String> = claims.iter().map(|claim| claim.key.to_string()).collect();
        let rows =
            self.on_session(|session| Box::pin(session.ask(sqlx::query(PEEK).bind(keys)))).await?;
        let peek = |held| if held { Peek::Held { retry_in: None } } else { Peek::Free };
        rows.iter().map(|row| Ok(peek(column(row, 0)?))).collect()
    }

    async fn inspect(&self, key: &LockKey) -> Result<KeyState> {
        let name = key.to_string();
        let rows = self
            .on_session(|session| Box::pin(session.ask(sqlx::query(INSPECT).bind(name))))
            .await?;
        let holders: Result<_> = rows.iter().map(|row| holder(key.as_str(), row)).collect();
        Ok(KeyState::new(key.as_str(), holders?, 0))
    }

    async fn list(&self, prefix: &str, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let (prefix, after) = (prefix.to_owned(), cursor.map(|cursor| cursor.0));
        let one_more = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let list = sqlx::query(LIST).bind(prefix).bind(after).bind(one_more);
        let rows = self.on_session(|session| Box::pin(session.ask(list))).await?;
        let mut page = Page::default();
        for row in rows.iter().take(limit) {
            let key: String = column(row, 0)?;
            let holders = vec![holder(&key, row)?];
            page.items.push(KeyState::new(key, holders, 0));
        }
        let last = page.items.last().filter(|_| rows.len() > limit);
        page.next = last.map(|state| Cursor(state.key.clone()));
        Ok(page)
    }

    async fn evict(&self, key: &LockKey, how: Eviction) -> Result<Evicted> {
        let key = key.clone();
        self.on_session(move |session| Box::pin(async move { session.evict(&key, how).await }))
            .await
    }

    async fn purge(&self) -> Result<u64> {
        let gone = self.on_session(|session| Box::pin(session.ask(sqlx::query(PURGE)))).await?;
        Ok(gone.len() as u64)
    }

    async fn watch(&self, claim: &Claim, reason: WatchFor, hint: Hint) -> Result<Watch> {
        let id = Arc::new(());
        let waits = reason == WatchFor::Release;
        let watcher = Watcher { key: claim.key.to_string(), waits, hint, id: id.clone() };
        let (armed, answer) = oneshot::channel();
        self.orders.send(Order::Watch(watcher, armed)).map_err(|_| closed())?;
        let watch = Watch::new(Armed { id, orders: self.orders.clone() });
        answer.await.unwrap_or_else(|_| Err(closed()))?;
        Ok(watch)
    }

    async fn close(&self) -> Result<()> {
        self.on_session(|session| Box::pin(async move { session.close() })).await
    }
}

/// What this session holds, by key; only the actor writes it.
#[derive(Default)]
struct Table(HashMap<LockKey, Mine>);

#[derive(Clone, Debug)]
struct Mine {
    num: i64,
    token: Token,
    fence: Fence,
    owner: String,
}

impl Table {
    fn holds(&self, claim: &Claim) -> bool {
        self.0.get(&claim.key).is_some_and(|mine| mine.token == claim.token)
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The actor that owns the session.
struct Session {
    options: PgConnectOptions,
    ttl: Duration,
    table: Mutex<Table>,
    orders: mpsc::WeakUnboundedSender<Order>,
    live: Option<Live>,
    /// A session that was given up: the server may not know it yet, and keep its locks.
    ghost: Option<(i32, i64)>,
    closed: bool,
}

struct Live {
    connection: PgConnection,
    pid: i32,
    born: i64,
    /// When the last acknowledged statement was sent.
    since: BootInstant,
}

fn now() -> BootInstant {
    Clock::system().now()
}

impl Session {
    fn new(
        options: PgConnectOptions,
        ttl: Duration,
        orders: mpsc::WeakUnboundedSender<Order>,
    ) -> Self {
        let timeout = ttl.as_millis().to_string();
        let options = options
            .options([("idle_session_timeout", timeout.as_str()), ("synchronous_commit", "off")]);
        let table = Mutex::default();
        Self { options, ttl, table, orders, live: None, ghost: None, closed: false }
    }

    async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Job>) {
        while let Some(job) = queue.recv().await {
            job(&mut self).await;
        }
    }

    async fn prepare(&mut self) -> Result<()> {
        let there = "SELECT to_regclass('lock_spike.held') IS NOT NULL";
        if column(self.ask(sqlx::query(there)).await?.first().ok_or_else(no_row)?, 0)? {
            return Ok(());
        }
        let Some(live) = &mut self.live else { return Err(no_row()) };
        sqlx::raw_sql(SCHEMA).execute(&mut live.connection).await.map_err(classify)?;
        Ok(())
    }

    /// Makes sure that there is a session whose lease has not ended.
    async fn connect(&mut self) -> Result<()> {
        if self.live.as_ref().is_some_and(|live| now() >= live.since + self.ttl) {
            self.lose();
        }
        if self.closed || self.live.is_some() {
            return if self.closed { Err(closed()) } else { Ok(()) };
        }
        let since = now();
        let (pid, born) = self.ghost.unwrap_or_default();
        let opening = async {
            let mut connection = PgConnection::connect_with(&self.options).await?;
            let begin = sqlx::query(BEGIN).bind(pid).bind(born);
            let row = begin.fetch_one(&mut connection).await?;
            Ok((connection, row))
        };
        let (connection, row) = limited(since + self.ttl, opening).await.map_err(classify)?;
        let (pid, born) = (column(&row, 0)?, column(&row, 1)?);
        self.live = Some(Live { connection, pid, born, since });
        self.ghost = None;
        Ok(())
    }

    async fn ask(&mut self, statement: Statement<'_>) -> Result<Vec<PgRow>> {
        self.connect().await?;
        self.rows(statement).await
    }

    /// Runs a statement on the session that is there, and never on another one.
    async fn rows(&mut self, statement: Statement<'_>) -> Result<Vec<PgRow>> {
        let Some(live) = &mut self.live else { return Err(no_row()) };
        let sent = now();
        let begin = if lock(&self.table).0.is_empty() { sent } else { live.since };
        match limited(begin + self.ttl, statement.fetch_all(&mut live.connection)).await {
            Ok(rows) => {
                live.since = sent;
                Ok(rows)
            }
            Err(error) => {
                if ends_session(&error) {
                    self.lose();
                }
                Err(classify(error))
            }
        }
    }

    /// Closes the connection, which ends the session on the server and with it all its locks.
    fn lose(&mut self) {
        self.ghost = self.live.take().map(|live| (live.pid, live.born)).or(self.ghost);
        lock(&self.table).0.clear();
        if let Some(orders) = self.orders.upgrade() {
            drop(orders.send(Order::RingAll));
        }
    }

    fn close(&mut self) -> Result<()> {
        self.lose();
        self.closed = true;
        Ok(())
    }

    fn mine(&self, key: &LockKey) -> Option<Mine> {
        lock(&self.table).0.get(key).cloned()
    }

    fn acquired(&self, fence: Fence) -> Result<Attempt> {
        let since = self.live.as_ref().ok_or_else(no_row)?.since;
        Ok(Attempt::Acquired { fence, lease: Lease { since, ttl: self.ttl } })
    }

    async fn attempt(&mut self, claim: &Claim) -> Result<Attempt> {
        self.connect().await?;
        if self.mine(&claim.key).is_some_and(|mine| mine.token == claim.token) {
            // Nothing is held on a session that does not answer.
            self.heartbeat().await?;
        }
        match self.mine(&claim.key) {
            Some(mine) if mine.token == claim.token => self.repeat(claim, mine).await,
            Some(mine) => Ok(held(Holder::new().owned_by(mine.owner).with_fence(mine.fence))),
            None => match self.acquire(claim).await {
                Err(error) if self.live.is_some() => self.prove_free(&claim.key, error).await,
                outcome => outcome,
            },
        }
    }

    async fn repeat(&mut self, claim: &Claim, mine: Mine) -> Result<Attempt> {
        let Some(floor) = claim.fence_floor.filter(|floor| *floor > mine.fence) else {
            return self.acquired(mine.fence);
        };
        let lift = sqlx::query(LIFT).bind(claim.key.to_string()).bind(mine.token.to_string());
        let rows = self.rows(lift.bind(floor.get().cast_signed())).await?;
        let fence = fence(column(rows.first().ok_or_else(no_row)?, 0)?)?;
        lock(&self.table).0.insert(claim.key.clone(), Mine { fence, ..mine });
        self.acquired(fence)
    }

    async fn acquire(&mut self, claim: &Claim) -> Result<Attempt> {
        let Some(Live { pid, born, .. }) = self.live else { return Err(no_row()) };
        let (key, token, owner) = (claim.key.as_str(), claim.token, claim.owner.to_string());
        let floor = claim.fence_floor.map_or(0, |floor| floor.get().cast_signed());
        let acquire = sqlx::query(ACQUIRE).bind(key).bind(token.to_string()).bind(&owner);
        let rows = self.rows(acquire.bind(floor).bind(pid).bind(born)).await?;
        let row = rows.first().ok_or_else(no_row)?;
        let num: i64 = column(row, 0)?;
        let Some(drawn) = column(row, 1)? else {
            let names: Option<Vec<Option<String>>> = column(row, 2)?;
            return Ok(held(foreign(key, names.unwrap_or_default())?));
        };
        let fence = fence(drawn)?;
        if let Some(other) = self.collision(num) {
            // Session locks stack: this grant sits on top of the other key's.
            self.rows(sqlx::query("SELECT pg_advisory_unlock($1)").bind(num)).await?;
            return Ok(held(Holder::new().on_other_key(other)));
        }
        lock(&self.table).0.insert(claim.key.clone(), Mine { num, token, fence, owner });
        self.acquired(fence)
    }

    fn collision(&self, num: i64) -> Option<String> {
        let table = lock(&self.table);
        table.0.iter().find(|(_, mine)| mine.num == num).map(|(key, _)| key.to_string())
    }

    /// After an error the lock may be held all the same: unlocks until the server says that it is not,
    /// or closes the session.
    async fn prove_free(&mut self, key: &LockKey, error: Error) -> Result<Attempt> {
        let ask = "SELECT hashtextextended($1, 0)";
        let row = self.rows(sqlx::query(ask).bind(key.as_str())).await?;
        let num: i64 = column(row.first().ok_or_else(no_row)?, 0)?;
        if self.collision(num).is_some() {
            self.lose();
            return Err(error);
        }
        loop {
            let rows = self.rows(sqlx::query("SELECT pg_advisory_unlock($1)").bind(num)).await;
            let held = rows.and_then(|rows| column(rows.first().ok_or_else(no_row)?, 0));
            match held {
                Ok(true) => {}
                Ok(false) => return Err(error),
                Err(_) => {
                    self.lose();
                    return Err(error);
                }
            }
        }
    }

    async fn keep(&mut self, claims: &[Claim]) -> Result<Vec<Kept>> {
        if let Err(error) = self.heartbeat().await
            && self.live.is_some()
        {
            return Err(error);
        }
        // A session that is lost cannot be kept again, so all that it held is gone.
        let since = self.live.as_ref().map_or(BootInstant::from_nanos(0), |live| live.since);
        let lease = Lease { since, ttl: self.ttl };
        let table = lock(&self.table);
        let kept = |claim| if table.holds(claim) { Kept::Renewed { lease } } else { Kept::Gone };
        Ok(claims.iter().map(kept).collect())
    }

    /// Keeps the session alive and gives back what somebody asked back.
    async fn heartbeat(&mut self) -> Result<()> {
        let Some(Live { pid, born, .. }) = self.live else { return Err(no_row()) };
        for row in self.rows(sqlx::query(HEARTBEAT).bind(pid).bind(born)).await? {
            let (key, token): (String, String) = (column(&row, 0)?, column(&row, 1)?);
            let key = LockKey::new(&key)?;
            let mine = self.mine(&key).filter(|mine| mine.token.to_string() == token);
            if let Some(mine) = mine {
                self.unlock(&key, mine.num).await?;
            }
        }
        Ok(())
    }

    async fn release(&mut self, claim: &Claim) -> Result<Release> {
        match self.mine(&claim.key).filter(|mine| mine.token == claim.token) {
            Some(mine) => self.unlock(&claim.key, mine.num).await,
            None => {
                if self.ghost.is_some() {
                    // Whether a lost session still holds it, only the server can tell.
                    self.connect().await?;
                }
                Ok(Release::NotHeld)
            }
        }
    }

    async fn unlock(&mut self, key: &LockKey, num: i64) -> Result<Release> {
        let rows = self.rows(sqlx::query(RELEASE).bind(num).bind(key.as_str())).await?;
        lock(&self.table).0.remove(key);
        let was_held = column(rows.first().ok_or_else(no_row)?, 0)?;
        Ok(if was_held { Release::Released } else { Release::NotHeld })
    }

    async fn evict(&mut self, key: &LockKey, how: Eviction) -> Result<Evicted> {
        let statement = if how == Eviction::EndSession { END_SESSION } else { ASK_BACK };
        let mine = self.mine(key).is_some();
        let others = lock(&self.table).0.len().saturating_sub(1) as u64;
        if mine && how == Eviction::EndSession {
            self.lose();
            return Ok(Evicted::new(1, others));
        }
        let rows = self.ask(sqlx::query(statement).bind(key.as_str())).await?;
        if mine {
            self.heartbeat().await?;
        }
        let mut evicted = Evicted::new(rows.len() as u64, 0);
        if how == Eviction::EndSession {
            for row in &rows {
                evicted.others += column::<i64>(row, 0)?.cast_unsigned();
            }
        }
        Ok(evicted)
    }
}

fn held(holder: Holder) -> Attempt {
    Attempt::Held { holders: vec![holder], retry_in: None, ahead: None }
}

fn holder(asked: &str, row: &PgRow) -> Result<Holder> {
    let fence = column::<Option<i64>>(row, 2)?.map(|fence| fence.to_string());
    foreign(asked, vec![column(row, 0)?, column(row, 1)?, fence])
}

/// Describes a holder by key, owner and fence; all are missing if it is no client of ours.
fn foreign(asked: &str, mut told: Vec<Option<String>>) -> Result<Holder> {
    told.resize(3, None);
    let mut holder = Holder::new();
    holder.other_key = told[0].take().filter(|key| key != asked);
    holder.owner = told[1].take();
    if let Some(text) = &told[2] {
        holder.fence = Some(fence(text.parse().unwrap_or(0))?);
    }
    Ok(holder)
}

fn fence(value: i64) -> Result<Fence> {
    Fence::new(u64::try_from(value).unwrap_or(0))
}

fn column<'r, T>(row: &'r PgRow, index: usize) -> Result<T>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    let wrong = |error| Error::new(ErrorKind::Corrupt, "unexpected column").with_source(error);
    row.try_get(index).map_err(wrong)
}

fn no_row() -> Error {
    Error::new(ErrorKind::Unavailable, "the session is lost").ambiguous()
}

/// Awaits an answer until the lease that it could still renew is over.
async fn limited<T>(
    end: BootInstant,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    tokio::select! {
        biased;
        answer = answer => answer,
        () = Clock::system().sleep_until(end) => Err(sqlx::Error::WorkerCrashed),
    }
}

/// Whether the connection is of no use any more; the server's own answers leave it intact.
fn ends_session(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().map(|error| error.code().unwrap_or_default());
    code.is_none_or(|code| code.starts_with("57P"))
}

fn classify(error: sqlx::Error) -> Error {
    let code = error.as_database_error().map(|error| error.code().unwrap_or_default());
    let wrong = match code.as_deref() {
        None | Some("57P01" | "57P02" | "57P03" | "57P05") => {
            let message = "the server did not answer or ended the session";
            return Error::new(ErrorKind::Unavailable, message).with_source(error).ambiguous();
        }
        Some(code) if code.starts_with("28") || code.starts_with("42") => ErrorKind::Config,
        Some(_) => ErrorKind::Unavailable,
    };
    Error::new(wrong, "the server refused the statement").with_source(error)
}

/// What the ringer is told.
enum Order {
    Watch(Watcher, oneshot::Sender<Result<()>>),
    Forget(Arc<()>),
    RingAll,
}

struct Watcher {
    key: String,
    /// Waiters show themselves to releasers by a shared lock on the companion number.
    waits: bool,
    hint: Hint,
    id: Arc<()>,
}

/// Disarms its watcher when dropped.
struct Armed {
    id: Arc<()>,
    orders: mpsc::UnboundedSender<Order>,
}

impl Drop for Armed {
    fn drop(&mut self) {
        drop(self.orders.send(Order::Forget(self.id.clone())));
    }
}

/// The actor that owns the listening connection and gives the hints.
struct Ringer {
    url: String,
    ttl: Duration,
    jobs: mpsc::WeakUnboundedSender<Job>,
    listener: Option<PgListener>,
    watchers: Vec<Watcher>,
}

impl Ringer {
    fn new(url: String, ttl: Duration, jobs: mpsc::WeakUnboundedSender<Job>) -> Self {
        Self { url, ttl, jobs, listener: None, watchers: Vec::new() }
    }

    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let heard = async {
                match &mut self.listener {
                    Some(listener) => listener.try_recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => return,
                },
                heard = heard => match heard {
                    Ok(Some(notice)) => self.pass_on(notice.payload()),
                    _ => self.deaf(),
                },
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::RingAll => self.watchers.iter().for_each(|watcher| watcher.hint.give()),
            Order::Forget(id) => {
                let at = self.watchers.iter().position(|w| Arc::ptr_eq(&w.id, &id));
                let Some(gone) = at.map(|at| self.watchers.swap_remove(at)) else { return };
                if gone.waits && !self.waits_for(&gone.key) {
                    let hide = "SELECT pg_advisory_unlock_shared(hashtextextended($1, 1))";
                    drop(self.companion(hide, &gone.key).await);
                }
            }
            Order::Watch(watcher, armed) => {
                let first = watcher.waits && !self.waits_for(&watcher.key);
                let key = watcher.key.clone();
                self.watchers.push(watcher);
                drop(armed.send(self.show(first.then_some(key)).await));
            }
        }
    }

    fn waits_for(&self, key: &str) -> bool {
        self.watchers.iter().any(|watcher| watcher.waits && watcher.key == key)
    }

    /// Listens, and shows that somebody waits for `key`; on a new connection, for all keys.
    async fn show(&mut self, key: Option<String>) -> Result<()> {
        let show = "SELECT pg_advisory_lock_shared(hashtextextended($1, 1))";
        if self.listener.is_some() {
            return match key {
                Some(key) => self.companion(show, &key).await,
                None => Ok(()),
            };
        }
        let opening = async {
            let mut listener = PgListener::connect(&self.url).await?;
            listener.listen("lock_spike").await?;
            Ok(listener)
        };
        self.listener = Some(limited(now() + self.ttl, opening).await.map_err(classify)?);
        let mut keys: Vec<_> = self.watchers.iter().filter(|w| w.waits).map(|w| &w.key).collect();
        keys.sort();
        keys.dedup();
        for key in keys.into_iter().cloned().collect::<Vec<_>>() {
            self.companion(show, &key).await?;
        }
        Ok(())
    }

    async fn companion(&mut self, statement: &'static str, key: &str) -> Result<()> {
        let Some(listener) = &mut self.listener else { return Ok(()) };
        let done = sqlx::query(statement).bind(key).execute(listener);
        let done = limited(now() + self.ttl, done).await;
        if done.is_err() {
            self.deaf();
        }
        done.map(drop).map_err(classify)
    }

    fn pass_on(&self, payload: &str) {
        let Some((kind, key)) = payload.split_at_checked(1) else { return };
        if kind == "e"
            && let Some(jobs) = self.jobs.upgrade()
        {
            let give_back: Job =
                Box::new(|session| Box::pin(async move { drop(session.heartbeat().await) }));
            drop(jobs.send(give_back));
        }
        let told = self.watchers.iter().filter(|watcher| watcher.key == key);
        told.for_each(|watcher| watcher.hint.give());
    }

    /// The connection broke: all look for themselves, and the next who watches connects again.
    fn deaf(&mut self) {
        self.listener = None;
        self.watchers.iter().for_each(|watcher| watcher.hint.give());
    }
}
