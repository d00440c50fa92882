//! One connection, set up, and the statements that are run on it.

use std::sync::Arc;
use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::ConnectOptions as _;
use sqlx::Connection as _;
use sqlx::Executor as _;
use sqlx::MySql;
use sqlx::mysql::MySqlArguments;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::mysql::MySqlConnection;
use sqlx::mysql::MySqlRow;
use sqlx::query::Query;

use crate::error::During;
use crate::error::Failure;
use crate::error::Remedy;
use crate::error::classify;
use crate::server::Facts;
use crate::statements::Ask;
use crate::statements::BATCH;
use crate::statements::Statement;
use crate::statements::Statements;

/// A connection whose settings are ours. It runs one step at a time, and each to its end.
#[derive(Debug)]
pub(crate) struct Session {
    connection: MySqlConnection,
    pub(crate) sql: Arc<Statements>,
    /// How long it may be idle without the server closing it.
    pub(crate) idle_limit: Duration,
}

/// What a statement may ask for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values<'a> {
    pub(crate) key: &'a str,
    pub(crate) token: String,
    pub(crate) owner: &'a str,
    pub(crate) mode: String,
    pub(crate) ttl: i64,
    pub(crate) floor: i64,
    pub(crate) fence: Option<i64>,
    pub(crate) first: &'a str,
    pub(crate) after: &'a str,
    pub(crate) end: &'a str,
    pub(crate) limit: i64,
    pub(crate) keys: &'a [&'a str],
    pub(crate) tokens: &'a [String],
}

/// What a statement did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    /// Rows matched or rows changed, as the client's flags and the statement have it.
    pub(crate) rows: u64,
    /// What the statement gave to `LAST_INSERT_ID`.
    pub(crate) id: u64,
}

impl Session {
    /// Connects and sets the session up.
    pub(crate) async fn open(
        options: &MySqlConnectOptions,
        sql: Arc<Statements>,
        any_cluster: bool,
    ) -> Result<Self, Failure> {
        let failed = |failure| classify(failure, During::Look);
        let connection = options.connect().await.map_err(failed)?;
        let mut session = Self { connection, sql, idle_limit: Duration::ZERO };
        session.idle_limit = session.check(Facts::SETUP, any_cluster).await?.idle_limit();
        Ok(session)
    }

    /// Asks the server about itself, and refuses it if it would break the promise.
    pub(crate) async fn check(
        &mut self,
        ask: &'static str,
        any_cluster: bool,
    ) -> Result<Facts, Failure> {
        let rows = sqlx::raw_sql(ask).fetch_all(&mut self.connection).await;
        let facts = Facts::read(&rows.map_err(|failure| classify(failure, During::Look))?);
        match facts.check(any_cluster) {
            Ok(()) => Ok(facts),
            // Another connection may find another server.
            Err(error) => Err(Failure { error, remedy: Remedy::Close }),
        }
    }

    pub(crate) fn connection(&mut self) -> &mut MySqlConnection {
        &mut self.connection
    }

    /// Runs a statement that returns no rows.
    pub(crate) async fn execute(
        &mut self,
        statement: impl Fn(&Statements) -> &Statement,
        values: &Values<'_>,
    ) -> Result<Done, Failure> {
        let (query, during) = prepare(statement(&self.sql), values);
        let done = query.execute(&mut self.connection).await;
        let done = done.map_err(|failure| classify(failure, during))?;
        Ok(Done { rows: done.rows_affected(), id: done.last_insert_id() })
    }

    /// Runs a statement that returns rows.
    pub(crate) async fn rows(
        &mut self,
        statement: impl Fn(&Statements) -> &Statement,
        values: &Values<'_>,
    ) -> Result<Vec<MySqlRow>, Failure> {
        let (query, during) = prepare(statement(&self.sql), values);
        let rows = query.fetch_all(&mut self.connection).await;
        rows.map_err(|failure| classify(failure, during))
    }

    /// Runs a statement that asks for nothing and is run seldom.
    pub(crate) async fn command(&mut self, text: &str) -> Result<(), Failure> {
        let done = self.connection.execute(AssertSqlSafe(text)).await;
        done.map(drop).map_err(|failure| classify(failure, During::Write))
    }

    /// Begins a transaction. If this process freezes within it, or is cut off, the server ends it soon:
    /// it keeps the row of a key locked.
    pub(crate) async fn begin(&mut self) -> Result<(), Failure> {
        let begin = "SET SESSION wait_timeout = 5; START TRANSACTION";
        let begun = self.connection.execute(begin).await;
        begun.map(drop).map_err(|failure| classify(failure, During::Look))
    }

    /// Commits what went well and undoes the rest. What cannot be undone ends with its connection.
    pub(crate) async fn end<T>(&mut self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        let failure = match outcome {
            Ok(done) => {
                let commit = "COMMIT; SET SESSION wait_timeout = DEFAULT";
                return self.command(commit).await.map(|()| done);
            }
            Err(failure) => failure,
        };
        let undo = "ROLLBACK; SET SESSION wait_timeout = DEFAULT";
        if failure.remedy != Remedy::Close && self.command(undo).await.is_err() {
            return Err(Failure { remedy: Remedy::Close, ..failure });
        }
        Err(failure)
    }

    /// Takes leave, so that the server does not count a client that vanished.
    pub(crate) async fn close(self) {
        // A connection that is broken already is closed all the same.
        let _ = self.connection.close().await;
    }
}

type Prepared = Query<'static, MySql, MySqlArguments>;

/// Fills a statement's lists up by repeating their last item.
fn prepare(statement: &Statement, values: &Values<'_>) -> (Prepared, During) {
    let length = values.keys.len().max(values.tokens.len());
    debug_assert!(length <= BATCH, "lists are cut before");
    let (size, text) = statement.text(length);
    let mut query = sqlx::query(AssertSqlSafe(text));
    for ask in &statement.asks {
        query = match ask {
            Ask::Key => query.bind(values.key),
            Ask::Token => query.bind(values.token.as_str()),
            Ask::Owner => query.bind(values.owner),
            Ask::Mode => query.bind(values.mode.as_str()),
            Ask::Ttl => query.bind(values.ttl),
            Ask::Floor => query.bind(values.floor),
            Ask::Fence => query.bind(values.fence),
            Ask::First => query.bind(values.first),
            Ask::After => query.bind(values.after),
            Ask::End => query.bind(values.end),
            Ask::Limit => query.bind(values.limit),
            Ask::Keys => filled(values.keys, size).fold(query, |query, key| query.bind(*key)),
            Ask::Tokens => {
                filled(values.tokens, size).fold(query, |query, it| query.bind(it.as_str()))
            }
        };
    }
    (query, if statement.writes { During::Write } else { During::Look })
}

fn filled<T>(items: &[T], size: usize) -> impl Iterator<Item = &T> {
    let last = items.last().into_iter().cycle();
    items.iter().chain(last).take(size)
}
