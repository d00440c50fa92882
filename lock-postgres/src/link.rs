//! Making connections, and refusing servers on which locks would not hold.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use lock_core::BootInstant;
use lock_core::Clock;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Result;
use sqlx::AssertSqlSafe;
use sqlx::Connection as _;
use sqlx::Executor;
use sqlx::PgConnection;
use sqlx::Postgres;
use sqlx::Row as _;
use sqlx::postgres::PgArguments;
use sqlx::postgres::PgConnectOptions;
use sqlx::postgres::PgListener;
use sqlx::postgres::PgPoolOptions;
use sqlx::postgres::PgRow;
use sqlx::query::Query;

use crate::config::PostgresConfig;
use crate::error::During;
use crate::error::classify;
use crate::statements;
use crate::statements::Statements;

/// A statement with its parameters.
pub(crate) type Statement = Query<'static, Postgres, PgArguments>;

/// The oldest server that can end silent sessions.
const OLDEST: i32 = 140_000;

/// How connections are made.
#[derive(Debug)]
pub(crate) struct Link {
    config: PostgresConfig,
    pub(crate) statements: Statements,
}

/// Which session it is; the process number alone comes again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    pub(crate) mark: i32,
}

/// What a server says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) pid: i32,
    /// How many locks the server has room for in all.
    pub(crate) capacity: i64,
    /// When the server began to remember; it forgets advisory locks when it restarts.
    pub(crate) started: BootInstant,
    schema: Schema,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Schema {
    Missing,
    Ours,
    /// Of another version, or made for something else.
    Other,
}

impl Link {
    pub(crate) fn new(config: PostgresConfig) -> Self {
        let statements = Statements::new(&config.schema);
        Self { config, statements }
    }

    /// Opens a session that can hold locks, once `ghost` is surely gone.
    pub(crate) async fn open(
        &self,
        ghost: Option<Identity>,
    ) -> Result<(PgListener, Identity, Facts)> {
        let (server, mut first, facts) = self.first_primary().await?;
        match facts.schema {
            Schema::Ours => {}
            Schema::Missing => self.create(&mut first).await?,
            Schema::Other => return Err(foreign_schema(self.config.schema.as_str())),
        }
        if let Some(ghost) = ghost {
            self.lay(&mut first, ghost).await?;
        }
        let (mut session, facts) = match self.limited(self.connect_at(server)).await {
            Ok(made) => made,
            // The pool behind a listener tries again in silence: a plain connection says what is wrong.
            Err(late) => return Err(self.limited(self.meet(server)).await.err().unwrap_or(late)),
        };
        let mark = self.limited(take_mark(&mut session)).await?;
        Ok((session, Identity { pid: facts.pid, mark }, facts))
    }

    /// Opens a connection that listens.
    pub(crate) async fn listen(&self) -> Result<PgListener> {
        let (server, ..) = self.first_primary().await?;
        let (mut listener, _) = self.limited(self.connect_at(server)).await?;
        let listen = listener.listen(self.config.schema.as_str());
        self.limited(async { listen.await.map_err(unmade) }).await?;
        Ok(listener)
    }

    /// Makes a connection that can be heard while nothing is asked: only so is its end noticed at once.
    async fn connect_at(&self, server: &PgConnectOptions) -> Result<(PgListener, Facts)> {
        let pool = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
        let pool = pool.test_before_acquire(false).connect_with(server.clone());
        let pool = pool.await.map_err(unmade)?;
        let mut connection = PgListener::connect_with(&pool).await.map_err(unmade)?;
        // One that broke is to be told of, not mended in silence.
        connection.eager_reconnect(false);
        connection.ignore_pool_close_event(true);
        connection.execute(statements::FIRST).await.map_err(unmade)?;
        let facts = self.greet(&mut connection).await?;
        Ok((connection, facts))
    }

    /// Finds the first server that is no replica, by a plain connection: what is wrong with a server is then
    /// said at once, while the pool behind a listener would try again in silence.
    async fn first_primary(&self) -> Result<(&PgConnectOptions, PgConnection, Facts)> {
        let mut last = no_server();
        for server in &self.config.servers {
            match self.limited(self.meet(server)).await {
                Ok((connection, facts)) => return Ok((server, connection, facts)),
                Err(error) => last = worth_another(error)?,
            }
        }
        Err(last)
    }

    async fn meet(&self, server: &PgConnectOptions) -> Result<(PgConnection, Facts)> {
        let mut connection = PgConnection::connect_with(server).await.map_err(unmade)?;
        check_version(&connection)?;
        connection.execute(statements::FIRST).await.map_err(unmade)?;
        let facts = self.greet(&mut connection).await?;
        Ok((connection, facts))
    }

    /// Refuses a pooler that gives each transaction another session: there a lock is left with whoever comes
    /// next. While one connection is within a transaction, the other must still have its own session.
    pub(crate) async fn check_own_session(
        &self,
        connection: &mut PgListener,
        identity: Identity,
        listener: &mut PgListener,
    ) -> Result<()> {
        listener.execute("BEGIN").await.map_err(unmade)?;
        let who = self.within(sqlx::query(statements::WHO).fetch_one(connection)).await;
        listener.execute("COMMIT").await.map_err(unmade)?;
        if column::<i32>(&who?, 0)? == identity.pid {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Config,
            "a pooler of transactions (PgBouncer) stands before the server: use a direct connection, or \
             pool_mode=session",
        ))
    }

    async fn greet(&self, on: impl Executor<'_, Database = Postgres>) -> Result<Facts> {
        let greet = sqlx::query(statements::GREET).bind(self.config.schema.as_str());
        let row = self.within(greet.fetch_one(on)).await?;
        if column(&row, 2)? {
            // It may be promoted yet, or another may be asked.
            let message = "this server is a replica: name the primary, or several hosts";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        check_database(column(&row, 6)?, column(&row, 7)?)?;
        let comment: Option<String> = column(&row, 5)?;
        let schema = match comment.as_deref() {
            Some(statements::VERSION) => Schema::Ours,
            None => Schema::Missing,
            Some(_) => Schema::Other,
        };
        // Later rather than earlier than it was.
        let up = u64::try_from(column::<i64>(&row, 4)?).unwrap_or(0);
        let now = Clock::system().now().as_nanos();
        let started = BootInstant::from_nanos(now.saturating_sub(up.saturating_mul(1000)));
        Ok(Facts { pid: column(&row, 0)?, capacity: column(&row, 3)?, started, schema })
    }

    async fn create(&self, connection: &mut PgConnection) -> Result<()> {
        self.create_alone(connection).await.map_err(|error| match error.kind() {
            ErrorKind::Config | ErrorKind::Corrupt => Error::new(
                ErrorKind::Config,
                format!(
                    "the schema {:?} cannot be created: let an administrator run what lockctl schema prints",
                    self.config.schema
                ),
            )
            .with_source(error),
            _ => error,
        })
    }

    /// Many may come at once. Those who had to wait find it made, and must not touch what others use by now.
    async fn create_alone(&self, connection: &mut PgConnection) -> Result<()> {
        let alone = statements::alone(&self.config.schema);
        self.within(sqlx::raw_sql(AssertSqlSafe(alone)).execute(&mut *connection)).await?;
        let rest = match self.greet(&mut *connection).await?.schema {
            Schema::Missing => statements::schema(&self.config.schema),
            Schema::Ours | Schema::Other => "COMMIT".to_owned(),
        };
        self.within(sqlx::raw_sql(AssertSqlSafe(rest)).execute(connection)).await.map(drop)
    }

    /// Makes sure that a session that was given up holds nothing any more: the server may not have noticed
    /// the end of its connection, or still be at its last statement.
    async fn lay(&self, connection: &mut PgConnection, ghost: Identity) -> Result<()> {
        let end = self.statement(&self.statements.end_ghost).bind(ghost.pid).bind(ghost.mark);
        self.within(end.fetch_all(&mut *connection)).await?;
        let lives = self.statement(&self.statements.lives).bind(ghost.pid).bind(ghost.mark);
        if column(&self.within(lives.fetch_one(connection)).await?, 0)? {
            let message = "the server has not ended the last session yet";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        Ok(())
    }

    pub(crate) fn statement(&self, text: &Arc<str>) -> Statement {
        sqlx::query(AssertSqlSafe(text.clone()))
    }

    /// Awaits an answer while a connection is being made.
    async fn within<T>(&self, answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T> {
        self.limited(async { answer.await.map_err(unmade) }).await
    }

    async fn limited<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let late = || Error::new(ErrorKind::Unavailable, "the server did not answer in time");
        limited(self.config.connect_timeout, work).await.unwrap_or_else(|| Err(late()))
    }
}

/// Awaits `work`, but no longer than it can still be of use.
pub(crate) async fn limited<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = Clock::system().sleep(limit) => None,
    }
}

async fn take_mark(connection: &mut PgListener) -> Result<i32> {
    loop {
        let mark = Clock::system().now().as_nanos();
        let mark = i32::try_from(mixed(mark) >> 33).unwrap_or(i32::MAX).max(1);
        let take = sqlx::query(statements::TAKE_MARK).bind(mark);
        let row = take.fetch_one(&mut *connection).await.map_err(unmade)?;
        // Somebody else's by chance: another is drawn.
        if column(&row, 0)? {
            return Ok(mark);
        }
    }
}

/// Spreads the bits of a number that is never the same twice.
const fn mixed(number: u64) -> u64 {
    let spread = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let spread = (spread ^ (spread >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    spread ^ (spread >> 31)
}

fn check_version(connection: &PgConnection) -> Result<()> {
    match connection.server_version_num().and_then(|version| i32::try_from(version).ok()) {
        Some(version) if version < OLDEST => {
            let message =
                format!("Postgres {} is too old: locks need 14 or later", version / 10_000);
            Err(Error::new(ErrorKind::Config, message))
        }
        _ => Ok(()),
    }
}

/// Refuses a database that cannot keep each key, or hides rows.
fn check_database(encoding: &str, hides_rows: bool) -> Result<()> {
    // The second keeps the bytes as they are.
    if !matches!(encoding, "UTF8" | "SQL_ASCII") {
        let message = format!(
            "the database's encoding is {encoding}, which cannot keep every key: name one that is in UTF8"
        );
        return Err(Error::new(ErrorKind::Config, message));
    }
    if hides_rows {
        let message = "row level security hides locks of others from this role: turn it off for the tables of the \
                       locks (ALTER TABLE … DISABLE ROW LEVEL SECURITY), or give the role BYPASSRLS";
        return Err(Error::new(ErrorKind::Config, message));
    }
    Ok(())
}

fn no_server() -> Error {
    Error::new(ErrorKind::Config, "the URL names no server")
}

/// What is wrong with the settings is wrong at each server.
fn worth_another(error: Error) -> Result<Error> {
    if error.kind() == ErrorKind::Config { Err(error) } else { Ok(error) }
}

fn foreign_schema(schema: &str) -> Error {
    let message = format!(
        "the schema {schema:?} is of another version of this library or of somebody else: name another by \
         ?schema=…"
    );
    Error::new(ErrorKind::Config, message)
}

fn unmade(failure: sqlx::Error) -> Error {
    classify(failure, During::Connect)
}

/// Reads a column.
pub(crate) fn column<'r, T>(row: &'r PgRow, index: usize) -> Result<T>
where
    T: sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>,
{
    row.try_get(index).map_err(|failure| classify(failure, During::Statement))
}
