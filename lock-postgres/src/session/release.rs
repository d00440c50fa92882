//! How the session gives keys back.

use lock_core::Claim;
use lock_core::Error;
use lock_core::LockKey;
use lock_core::Release;
use lock_core::Result;
use lock_core::Token;

use super::PATIENCE;
use super::Reply;
use super::Session;
use super::closed;
use super::no_answer;
use crate::link::column;
use crate::table::Native;
use crate::table::Undo;

/// One release of a key that was held alone.
struct Giving {
    key: LockKey,
    token: Token,
    num: i64,
    reply: Option<Reply<Release>>,
}

impl Session {
    /// Carries out releases of different keys; those held alone in one statement.
    pub(super) async fn release_all(&mut self, releases: Vec<(Claim, Reply<Release>)>) {
        self.expire();
        let mut alone = Vec::new();
        for (Claim { key, token, .. }, reply) in releases {
            match self.table.undo(&key, token) {
                None => drop(reply.send(self.surely_not_held().await)),
                Some(Undo { num, exclusive: true, .. }) => {
                    alone.push(Giving { key, token, num, reply: Some(reply) });
                }
                Some(undo) => drop(reply.send(self.leave(&key, token, undo).await)),
            }
        }
        self.unlock(alone).await;
    }

    /// Takes one claim back that somebody else wants.
    pub(super) async fn give_back(&mut self, key: &LockKey, token: Token) -> Result<()> {
        match self.table.undo(key, token) {
            None => Ok(()),
            Some(Undo { num, exclusive: true, .. }) => {
                self.unlock(vec![Giving { key: key.clone(), token, num, reply: None }]).await;
                if self.live.is_some() { Ok(()) } else { Err(no_answer()) }
            }
            Some(undo) => self.leave(key, token, undo).await.map(drop),
        }
    }

    /// Says that a claim holds nothing, once that is certain: only the server knows whether a session that was
    /// given up still has it.
    async fn surely_not_held(&mut self) -> Result<Release> {
        if self.closed {
            return Err(closed());
        }
        if self.ghost.is_some() {
            self.connect().await?;
        }
        Ok(Release::NotHeld)
    }

    async fn unlock(&mut self, givings: Vec<Giving>) {
        if givings.is_empty() {
            return;
        }
        let statements = &self.link.statements;
        let release = match &givings[..] {
            [one] => {
                self.link.statement(&statements.release_one).bind(one.num).bind(one.key.to_string())
            }
            _ => self
                .link
                .statement(&statements.release)
                .bind(givings.iter().map(|giving| giving.num).collect::<Vec<_>>())
                .bind(givings.iter().map(|giving| giving.key.to_string()).collect::<Vec<_>>()),
        };
        let release = release.bind(self.timeout_after(givings.len()));
        let rows = self.row_for_each(givings.len(), release, PATIENCE).await;
        let rows = rows.and_then(|rows| {
            let told =
                |row| Ok((column::<i64>(row, 0)?, column::<Option<String>>(row, 1)?.is_some()));
            rows.iter().map(told).collect::<Result<Vec<_>>>()
        });
        match rows {
            Ok(told) => {
                for (n, giving) in givings.into_iter().enumerate() {
                    let was_held = told.iter().any(|(at, held)| *held && at - 1 == n as i64);
                    self.table.remove(&giving.key, giving.token);
                    let outcome = if was_held { Release::Released } else { Release::NotHeld };
                    giving.answer(Ok(outcome));
                }
            }
            Err(error) => self.find_out(givings, &error).await,
        }
    }

    /// After an error an unlock may have been carried out all the same: the server says which.
    async fn find_out(&mut self, givings: Vec<Giving>, error: &Error) {
        let Ok(held) = self.held_nums().await else {
            self.lose();
            return givings.into_iter().for_each(|giving| giving.answer(Err(error.clone())));
        };
        for giving in givings {
            if held.contains(&giving.num) {
                giving.answer(Err(error.clone()));
            } else {
                self.table.remove(&giving.key, giving.token);
                giving.answer(Ok(Release::Released));
            }
        }
        self.settle().await;
    }

    async fn held_nums(&mut self) -> Result<Vec<i64>> {
        let rows = self.rows(sqlx::query(crate::statements::SETTLE), PATIENCE).await?;
        rows.iter().map(|row| column(row, 0)).collect()
    }

    /// Takes a claim out that is one of several or stands in line, and then tells.
    async fn leave(&mut self, key: &LockKey, token: Token, undo: Undo) -> Result<Release> {
        let leave = self.link.statement(&self.link.statements.leave).bind(key.to_string());
        let leave = leave.bind(token.to_string()).bind(undo.last).bind(undo.num);
        let left = self.rows(leave.bind(self.timeout_after(1)), PATIENCE).await;
        if let Err(error) = left {
            self.check_whole(key, undo).await;
            return Err(error);
        }
        self.table.remove(key, token);
        let wake = self.link.statement(&self.link.statements.wake).bind(key.to_string());
        // It is given back already; whoever is not told looks by itself.
        if self.rows(wake, PATIENCE).await.is_err() {
            self.settle().await;
        }
        Ok(Release::Released)
    }

    /// After an error: if the session's own lock went and the row did not, nothing but the end of the session
    /// puts that right.
    async fn check_whole(&mut self, key: &LockKey, undo: Undo) {
        if self.live.is_none() {
            return;
        }
        let native = self.table.native(key) != Native::None;
        match self.held_nums().await {
            Ok(held) if native == held.contains(&undo.num) => self.settle().await,
            _ => self.lose(),
        }
    }

    /// The session's time-out once so many claims more are gone: without any there is nothing to lose.
    fn timeout_after(&self, gone: usize) -> &'static str {
        if self.table.has_at_most(gone) { "0" } else { "" }
    }
}

impl Giving {
    fn answer(self, outcome: Result<Release>) {
        if let Some(reply) = self.reply {
            drop(reply.send(outcome));
        }
    }
}
