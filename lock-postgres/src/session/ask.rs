//! How the session asks the server, and for how long it waits for an answer.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use lock_core::BootInstant;
use lock_core::Clock;
use lock_core::Result;
use lock_core::Sleep;
use sqlx::Executor as _;
use sqlx::postgres::PgListener;
use sqlx::postgres::PgRow;

use super::Session;
use super::no_answer;
use super::now;
use crate::error::During;
use crate::error::classify;
use crate::error::is_fatal;
use crate::link::Statement;

/// What the driver makes of a question.
type Answer<'c, T> = Pin<Box<dyn Future<Output = sqlx::Result<T>> + Send + 'c>>;

impl Session {
    /// Runs a statement on the session that is there, and never on another one, until the lease that it could
    /// still renew has ended.
    pub(super) async fn rows(
        &mut self,
        statement: Statement,
        limit: Duration,
    ) -> Result<Vec<PgRow>> {
        self.ask(limit, |connection| connection.fetch_all(statement)).await
    }

    /// The same of a statement that has one row at the most, which costs less.
    pub(super) async fn row(
        &mut self,
        statement: Statement,
        limit: Duration,
    ) -> Result<Option<PgRow>> {
        self.ask(limit, |connection| connection.fetch_optional(statement)).await
    }

    /// The same of one that has a row for each of so many.
    pub(super) async fn row_for_each(
        &mut self,
        count: usize,
        statement: Statement,
        limit: Duration,
    ) -> Result<Vec<PgRow>> {
        match count {
            1 => Ok(self.row(statement, limit).await?.into_iter().collect()),
            _ => self.rows(statement, limit).await,
        }
    }

    async fn ask<T>(
        &mut self,
        limit: Duration,
        question: impl for<'c> FnOnce(&'c mut PgListener) -> Answer<'c, T>,
    ) -> Result<T> {
        let Some(live) = &mut self.live else { return Err(no_answer()) };
        let sent = now();
        let end = if self.table.is_empty() { sent + limit } else { live.since + live.lease };
        let answer = tokio::select! {
            biased;
            answer = question(&mut live.connection) => Some(answer),
            () = self.alarm.ring(end) => None,
        };
        match answer {
            Some(Ok(answer)) => {
                live.since = sent;
                Ok(answer)
            }
            Some(Err(failure)) => {
                if is_fatal(&failure) {
                    self.lose();
                }
                Err(classify(failure, During::Statement))
            }
            None => {
                self.lose();
                Err(no_answer())
            }
        }
    }
}

/// One timer for all statements of a session, which follow each other.
///
/// It stays set when a statement has been answered: limits move on, so it rings too early for the next one and is set
/// anew then. A statement costs no timer of its own.
#[derive(Debug, Default)]
pub(super) struct Alarm(Option<(BootInstant, Sleep)>);

impl Alarm {
    /// Completes at `end`.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it stays set.
    pub(super) async fn ring(&mut self, end: BootInstant) {
        let clock = Clock::system();
        while clock.now() < end {
            self.0 = self.0.take().filter(|(at, _)| *at <= end);
            let (_, sleep) = self.0.get_or_insert_with(|| (end, clock.sleep_until(end)));
            sleep.await;
            self.0 = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(40);

    fn now() -> BootInstant {
        Clock::system().now()
    }

    #[tokio::test]
    async fn it_rings_when_it_should_whatever_it_was_set_for() {
        let mut alarm = Alarm::default();
        for before in [SHORT / 4, SHORT * 100] {
            let answered = async {};
            tokio::select! {
                biased;
                () = alarm.ring(now() + before) => panic!("too early"),
                () = answered => {}
            }
            let end = now() + SHORT;
            tokio::time::timeout(SHORT * 50, alarm.ring(end)).await.expect("it rings");
            assert!(now() >= end);
        }
    }
}
