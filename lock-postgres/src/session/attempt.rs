//! How the session takes keys.

use std::time::Duration;

use lock_core::Attempt;
use lock_core::Claim;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Fence;
use lock_core::Holder;
use lock_core::Lease;
use lock_core::Result;
use sqlx::postgres::PgRow;

use super::PATIENCE;
use super::Reply;
use super::Session;
use super::lease_of;
use super::no_answer;
use super::timeout;
use crate::link::Identity;
use crate::link::Statement;
use crate::link::column;
use crate::scene;
use crate::statements;
use crate::table::Way;

type Tries = Vec<(Claim, Reply<Attempt>)>;

/// Locks are counted again after so many more.
const COUNT_EVERY: usize = 256;

impl Session {
    /// Carries out attempts at different keys.
    pub(super) async fn attempt_all(&mut self, tries: Tries) {
        if let Err(error) = self.connect().await {
            return refuse_all(tries, &error);
        }
        let (mut fast, mut in_line) = (Vec::new(), Vec::new());
        for (claim, reply) in tries {
            match self.table.way(&claim) {
                Err(error) => drop(reply.send(Err(error))),
                Ok(Way::Repeat(fence)) => drop(reply.send(self.repeat(&claim, fence).await)),
                Ok(Way::Refuse(holders)) => drop(reply.send(Ok(held_by(holders)))),
                Ok(Way::Fast) => fast.push((claim, reply)),
                Ok(Way::InLine) => in_line.push((claim, reply)),
            }
        }
        if let Err(error) = self.check_room(fast.len() + in_line.len()).await {
            refuse_all(fast, &error);
            return refuse_all(in_line, &error);
        }
        self.take_free(fast, &mut in_line).await;
        for (claim, reply) in in_line {
            match self.take_in_line(&claim).await {
                Ok(Some(attempt)) => drop(reply.send(Ok(attempt))),
                Ok(None) => self.refused.push((claim, reply)),
                Err(error) => drop(reply.send(Err(error))),
            }
        }
    }

    /// Takes free keys exclusively, in one statement. An error of one must not hit the others, so after an
    /// error each is tried alone.
    async fn take_free(&mut self, tries: Tries, in_line: &mut Tries) {
        if tries.is_empty() {
            return;
        }
        let rows = self.acquire(&tries).await;
        match rows {
            Ok(rows) => self.conclude(tries, &rows, in_line).await,
            Err(error) if tries.len() == 1 || self.live.is_none() => refuse_all(tries, &error),
            Err(_) => {
                for one in tries {
                    let one = vec![one];
                    match self.acquire(&one).await {
                        Ok(rows) => self.conclude(one, &rows, in_line).await,
                        Err(error) => refuse_all(one, &error),
                    }
                }
            }
        }
    }

    async fn acquire(&mut self, tries: &Tries) -> Result<Vec<PgRow>> {
        let (lease, acquire) = self.acquisition(tries)?;
        let rows = self.row_for_each(tries.len(), acquire, lease.unwrap_or(PATIENCE)).await;
        match rows {
            Ok(rows) if rows.len() == tries.len() => {
                self.adopt(lease);
                Ok(rows)
            }
            Ok(_) => {
                self.lose();
                Err(not_our_session())
            }
            Err(error) => {
                self.settle().await;
                Err(error)
            }
        }
    }

    /// Returns the statement, and the lease that it begins.
    fn acquisition(&self, tries: &Tries) -> Result<(Option<Duration>, Statement)> {
        let claims = || tries.iter().map(|(claim, _)| claim);
        let lease = self.lease_for(claims());
        let Some(live) = &self.live else { return Err(no_answer()) };
        let statements = &self.link.statements;
        let acquire = match &tries[..] {
            [(claim, _)] => self
                .link
                .statement(&statements.acquire_one)
                .bind(claim.key.to_string())
                .bind(claim.token.to_string())
                .bind(claim.owner.to_string())
                .bind(floor(claim)),
            _ => self
                .link
                .statement(&statements.acquire)
                .bind(claims().map(|claim| claim.key.to_string()).collect::<Vec<_>>())
                .bind(claims().map(|claim| claim.token.to_string()).collect::<Vec<_>>())
                .bind(claims().map(|claim| claim.owner.to_string()).collect::<Vec<_>>())
                .bind(claims().map(floor).collect::<Vec<_>>()),
        };
        let acquire = acquire.bind(live.identity.pid).bind(live.identity.mark).bind(timeout(lease));
        Ok((lease, acquire))
    }

    async fn conclude(&mut self, tries: Tries, rows: &[PgRow], in_line: &mut Tries) {
        let mut outcomes: Vec<_> = rows.iter().map(taken).collect();
        outcomes.sort_by_key(|outcome| outcome.as_ref().map_or(0, |taken| taken.n));
        let mut spoilt = false;
        for ((claim, reply), outcome) in tries.into_iter().zip(outcomes) {
            match outcome {
                Ok(Taken { ok: Some(true), num, fence: Some(fence), .. }) => {
                    let granted = self.grant(&claim, num, fence).await;
                    drop(reply.send(granted));
                }
                Ok(Taken { ok: None, .. }) => in_line.push((claim, reply)),
                Ok(_) => self.refused.push((claim, reply)),
                Err(error) => {
                    spoilt = true;
                    drop(reply.send(Err(error)));
                }
            }
        }
        if spoilt {
            self.settle().await;
        }
    }

    /// Takes one key in a shared mode or with regard to its line; `None` if it is held.
    async fn take_in_line(&mut self, claim: &Claim) -> Result<Option<Attempt>> {
        let lease = self.lease_for([claim].into_iter());
        let native = self.table.native(&claim.key);
        let Some(live) = &self.live else { return Err(no_answer()) };
        let Identity { pid, mark } = live.identity;
        let attempt = self
            .link
            .statement(&self.link.statements.attempt)
            .bind(claim.key.to_string())
            .bind(claim.token.to_string())
            .bind(claim.mode.to_string())
            .bind(claim.owner.to_string())
            .bind(claim.queue)
            .bind(floor(claim))
            .bind(pid)
            .bind(mark)
            .bind(native.as_str())
            .bind(timeout(lease));
        let tried = self.row(attempt, lease.unwrap_or(PATIENCE)).await;
        let tried =
            tried.and_then(|row| row.as_ref().map_or_else(|| Err(not_our_session()), tried_row));
        let (num, fence, clash) = match tried {
            Ok(tried) => tried,
            Err(error) => {
                self.settle().await;
                return Err(error);
            }
        };
        if let Some(stored) = clash {
            let clash = || claim.check_beside(claim.token, stored.parse()?);
            return Err(clash().err().unwrap_or_else(not_our_session));
        }
        let stands = claim.queue || self.table.find(claim).is_some();
        if fence.is_some() || claim.queue {
            self.adopt(lease);
        }
        match fence {
            Some(fence) => self.grant(claim, num, fence).await.map(Some),
            None => {
                if stands {
                    self.table.put(claim, num, None);
                }
                Ok(None)
            }
        }
    }

    /// Notes what was granted, unless this session has the same number under another key.
    async fn grant(&mut self, claim: &Claim, num: i64, fence: Fence) -> Result<Attempt> {
        let Some(live) = &self.live else { return Err(no_answer()) };
        let lease = Lease { since: live.since, ttl: live.lease };
        let twin = self.table.twin(&claim.key, num).map(|twin| twin.to_string());
        if let Some(twin) = twin {
            let undo = if claim.mode == lock_core::Mode::Exclusive {
                statements::UNDO
            } else {
                statements::UNDO_SHARED
            };
            self.rows(sqlx::query(undo).bind(num), PATIENCE).await?;
            let leave = self.link.statement(&self.link.statements.leave);
            let leave = leave.bind(claim.key.to_string()).bind(claim.token.to_string());
            self.rows(leave.bind(false).bind(num).bind(""), PATIENCE).await?;
            return Ok(held_by(vec![Holder::new().on_other_key(twin)]));
        }
        self.table.put(claim, num, Some(fence));
        Ok(Attempt::Acquired { fence, lease })
    }

    /// Answers for a claim that holds already, on a session that answers.
    async fn repeat(&mut self, claim: &Claim, fence: Fence) -> Result<Attempt> {
        self.heartbeat().await?;
        if self.table.find(claim).is_none() {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "somebody wanted the lock back meanwhile",
            ));
        }
        let (num, floor) = (self.table.undo(&claim.key, claim.token), floor(claim));
        let lifted = fence.max(claim.fence_floor.unwrap_or(fence));
        if lifted > fence {
            let raise =
                self.link.statement(&self.link.statements.raise).bind(claim.key.to_string());
            self.rows(raise.bind(claim.token.to_string()).bind(floor), PATIENCE).await?;
        }
        self.grant(claim, num.map_or(0, |undo| undo.num), lifted).await
    }

    /// Tells those who were refused by whom.
    pub(super) async fn tell_refused(&mut self) {
        let refused = std::mem::take(&mut self.refused);
        if refused.is_empty() {
            return;
        }
        let claims: Vec<_> = refused.iter().map(|(claim, _)| claim.clone()).collect();
        match self.look(&claims).await {
            Ok(scenes) => {
                for ((claim, reply), scene) in refused.into_iter().zip(scenes) {
                    drop(reply.send(scene.map(|scene| scene.refuse(&claim))));
                }
            }
            Err(error) => refuse_all(refused, &error),
        }
    }

    /// The lease to begin, if nothing is held: the shortest that is asked for. While anything is held it stays,
    /// because leases that were promised must not get shorter.
    fn lease_for<'a>(&self, claims: impl Iterator<Item = &'a Claim>) -> Option<Duration> {
        let shortest = claims.map(|claim| claim.ttl).min()?;
        self.table.is_empty().then(|| lease_of(shortest))
    }

    fn adopt(&mut self, lease: Option<Duration>) {
        if let (Some(live), Some(lease)) = (&mut self.live, lease) {
            live.lease = lease;
        }
    }

    /// Counts what others have locked, once again when there are so many more of ours.
    pub(super) async fn count_others(&mut self, ours: usize) -> Result<()> {
        let rows = self.rows(sqlx::query(statements::COUNT), PATIENCE).await?;
        let others = rows.first().map_or(Ok(0), |row| column(row, 0))?;
        if let Some(live) = &mut self.live {
            (live.others, live.count_at) = (others, ours + COUNT_EVERY);
        }
        Ok(())
    }

    /// Refuses to fill more than half of the server's table of locks: when that is full, the server takes no
    /// statement of anybody, and no connection.
    async fn check_room(&mut self, more: usize) -> Result<()> {
        let ours = self.table.locks() + more;
        if self.live.as_ref().is_some_and(|live| ours >= live.count_at) && more > 0 {
            self.count_others(ours).await?;
        }
        let Some(live) = &self.live else { return Err(no_answer()) };
        let (all, room) =
            (live.others + i64::try_from(ours).unwrap_or(i64::MAX), live.capacity / 2);
        if all <= room {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            format!(
                "the server has room for {} locks, and half of it is all that is safe to fill: raise \
                 max_locks_per_transaction",
                live.capacity
            ),
        ))
    }
}

/// What became of one claim in the statement that takes free keys.
struct Taken {
    n: i64,
    num: i64,
    /// Whether the lock was got; nothing if the key has other claims.
    ok: Option<bool>,
    fence: Option<Fence>,
}

fn taken(row: &PgRow) -> Result<Taken> {
    let fence = column::<Option<i64>>(row, 3)?.map(scene::fence).transpose()?;
    Ok(Taken { n: column(row, 0)?, num: column(row, 1)?, ok: column(row, 2)?, fence })
}

fn tried_row(row: &PgRow) -> Result<(i64, Option<Fence>, Option<String>)> {
    let fence = column::<Option<i64>>(row, 1)?.map(scene::fence).transpose()?;
    Ok((column(row, 0)?, fence, column(row, 2)?))
}

fn floor(claim: &Claim) -> i64 {
    claim.fence_floor.map_or(0, |floor| floor.get().cast_signed())
}

fn held_by(holders: Vec<Holder>) -> Attempt {
    Attempt::Held { holders, retry_in: None, ahead: None }
}

fn refuse_all(tries: Tries, error: &Error) {
    for (_, reply) in tries {
        drop(reply.send(Err(error.clone())));
    }
}

fn not_our_session() -> Error {
    Error::new(
        ErrorKind::Config,
        "a pooler of transactions (PgBouncer) gave the statement to another session: use a direct \
         connection, or pool_mode=session",
    )
}
