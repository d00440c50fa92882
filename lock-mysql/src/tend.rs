//! What operators ask for: to take a lock away, and to clear away what the dead left behind.

use lock_core::Evicted;
use lock_core::LockKey;
use lock_core::Result;
use sqlx::Row as _;
use sqlx::mysql::MySqlRow;

use crate::attempt::leave;
use crate::client::Step;
use crate::error::During;
use crate::error::Failure;
use crate::error::classify;
use crate::look::look;
use crate::row::Seen;
use crate::session::Session;
use crate::session::Values;
use crate::statements::BATCH;

/// Frees a key, also from holders whose rows make no sense: this is the way out of that. The line stays,
/// but for places that make no sense.
pub(crate) struct Evict(pub(crate) LockKey);

impl Step for Evict {
    type Output = Evicted;

    async fn run(&self, session: &mut Session) -> Result<Evicted, Failure> {
        session.begin().await?;
        let outcome = self.evict(session).await;
        session.end(outcome).await
    }
}

impl Evict {
    async fn evict(&self, session: &mut Session) -> Result<Evicted, Failure> {
        let key = self.0.as_str();
        let (keys, values) = ([key], Values { key, ..Values::default() });
        session.rows(|sql| &sql.lock_many, &Values { keys: &keys, ..Values::default() }).await?;
        let rows = look(session, &keys).await?;
        session.execute(|sql| &sql.free_key, &values).await?;
        session.execute(|sql| &sql.bury_holders, &values).await?;
        for senseless in rows.iter().filter(|row| row.place != 0 && Seen::of([*row]).is_err()) {
            let token = senseless.token.clone().unwrap_or_default();
            session
                .execute(|sql| &sql.drop_claim, &Values { key, token, ..Values::default() })
                .await?;
        }
        leave(session, &keys).await?;
        Ok(Evicted::new(Seen::count_holders(&rows), 0))
    }
}

/// Clears away one page of the rows that nobody holds or waits for: those of the dead are emptied, and
/// removed once their fence is old enough.
pub(crate) struct Purge {
    pub(crate) after: String,
}

/// What one step of a purge did.
pub(crate) struct Purged {
    pub(crate) gone: u64,
    /// Where the next page begins, if there is one.
    pub(crate) next: Option<String>,
}

impl Step for Purge {
    type Output = Purged;

    async fn run(&self, session: &mut Session) -> Result<Purged, Failure> {
        let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
        let values = Values { after: &self.after, limit, ..Values::default() };
        let found = texts(&session.rows(|sql| &sql.find_free, &values).await?, 0)?;
        let keys: Vec<&str> = found.iter().map(String::as_str).collect();
        if keys.is_empty() {
            return Ok(Purged { gone: 0, next: None });
        }
        let values = Values { keys: &keys, ..Values::default() };
        let gone = session.execute(|sql| &sql.purge, &values).await?.rows;
        let emptied = session.execute(|sql| &sql.purge_dead, &values).await?.rows;
        let next = found.last().filter(|_| found.len() == BATCH).cloned();
        Ok(Purged { gone: gone + emptied, next })
    }
}

/// Removes some of the dead from the second table and says how many.
pub(crate) struct PurgeClaims;

impl Step for PurgeClaims {
    type Output = u64;

    async fn run(&self, session: &mut Session) -> Result<u64, Failure> {
        let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
        let values = Values { limit, ..Values::default() };
        let rows = session.rows(|sql| &sql.find_dead_claims, &values).await?;
        let (keys, tokens) = (texts(&rows, 0)?, texts(&rows, 1)?);
        if keys.is_empty() {
            return Ok(0);
        }
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let values = Values { keys: &keys, tokens: &tokens, ..Values::default() };
        Ok(session.execute(|sql| &sql.purge_claims, &values).await?.rows)
    }
}

fn texts(rows: &[MySqlRow], column: usize) -> Result<Vec<String>, Failure> {
    let text = |row: &MySqlRow| row.try_get_unchecked(column);
    let texts = rows.iter().map(text).collect::<Result<_, _>>();
    texts.map_err(|failure| classify(failure, During::Look))
}
