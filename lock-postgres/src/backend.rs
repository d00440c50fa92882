//! The waist over Postgres.

use std::fmt;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use lock_core::Attempt;
use lock_core::Backend;
use lock_core::BootInstant;
use lock_core::Claim;
use lock_core::Cursor;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Evicted;
use lock_core::Eviction;
use lock_core::Hint;
use lock_core::Kept;
use lock_core::KeyState;
use lock_core::LeaseKind;
use lock_core::LockKey;
use lock_core::Page;
use lock_core::Peek;
use lock_core::PollPlan;
use lock_core::Profile;
use lock_core::Release;
use lock_core::Result;
use lock_core::Wakeup;
use lock_core::Watch;
use lock_core::WatchFor;
use lock_core::async_trait;
use sqlx::postgres::PgRow;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::config::PostgresConfig;
use crate::hints::Hints;
use crate::link::Link;
use crate::link::Statement;
use crate::link::column;
use crate::look;
use crate::ringer::Order;
use crate::ringer::Ringer;
use crate::scene::Scene;
use crate::session::LEASE_MIN;
use crate::session::Request;
use crate::session::Session;
use crate::session::closed;
use crate::shared::Shared;
use crate::statements;

/// How many rows a purge removes at once.
const PURGE_ROWS: i64 = 1000;

/// A client of one Postgres database: the backend to build an engine on.
pub struct Postgres {
    profile: Profile,
    link: Arc<Link>,
    hints: Arc<Hints>,
    shared: Arc<Shared>,
    session: mpsc::UnboundedSender<Request>,
    ringer: mpsc::UnboundedSender<Order>,
}

/// Connects, creates the schema if it is missing, and returns the backend.
///
/// # Errors
///
/// `Config` if the server, the role or what stands before the server is not fit; `Unavailable` if nobody
/// answers, or only replicas do.
///
/// # Cancel safety
///
/// Dropping the future closes what was opened; the schema may have been created.
pub async fn connect(config: PostgresConfig) -> Result<Postgres> {
    let link = Arc::new(Link::new(config));
    let (hints, shared) = (Arc::new(Hints::default()), Arc::new(Shared::default()));
    let mut session = Session::new(link.clone(), hints.clone(), shared.clone());
    session.connect().await?;
    let mut listener = link.listen().await?;
    session.check_own(&mut listener).await?;
    let (requests, queue) = mpsc::unbounded_channel();
    let (orders, inbox) = mpsc::unbounded_channel();
    let ringer = Ringer::new(link.clone(), hints.clone(), requests.downgrade(), listener);
    tokio::spawn(session.run(queue));
    tokio::spawn(ringer.run(inbox));
    Ok(Postgres { profile: profile(), link, hints, shared, session: requests, ringer: orders })
}

/// Returns the statements that create the schema that `config` names.
pub fn schema(config: &PostgresConfig) -> String {
    statements::schema(&config.schema)
}

fn profile() -> Profile {
    let mut profile = Profile::new("postgres");
    profile.lease = LeaseKind::Session;
    profile.ttl_min = LEASE_MIN;
    profile.fair = true;
    profile.shared = true;
    profile.permits = true;
    profile.wakeup = Wakeup::Push;
    profile.watches_holders = true;
    // Every release is told; looking is for what nobody tells: a session that ends.
    profile.poll = PollPlan {
        first: Duration::from_millis(500),
        eager: Duration::ZERO,
        max: Duration::from_secs(1),
    };
    profile
}

impl Postgres {
    /// Has the session do it, to its end even if the caller is dropped (S7).
    async fn on_session<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.session.send(request(reply)).map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Reads by the other connection.
    async fn ask(&self, statement: Statement) -> Result<Vec<PgRow>> {
        let (reply, answer) = oneshot::channel();
        self.ringer.send(Order::Ask(statement, reply)).map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    async fn scenes(&self, keys: &[String]) -> Result<Vec<Result<Scene>>> {
        let rows = self.ask(look::statement(&self.link, keys)).await?;
        look::scenes(keys, &rows)
    }

    async fn ask_back(&self, key: &LockKey) -> Result<Evicted> {
        let asked = self.count(&self.link.statements.ask_back, key).await?;
        if asked == 0 && self.count(&self.link.statements.strangers, key).await? > 0 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "it is held by a client that is not ours and cannot be asked for it: only its whole session can \
                 be ended (--kill-session)",
            ));
        }
        Ok(Evicted::new(asked, 0))
    }

    /// Runs a statement about a key whose answer is a number.
    async fn count(&self, text: &Arc<str>, key: &LockKey) -> Result<u64> {
        let rows = self.ask(self.link.statement(text).bind(key.to_string())).await?;
        let count: i64 = rows.first().map_or(Ok(0), |row| column(row, 0))?;
        Ok(count.cast_unsigned())
    }

    async fn end_sessions(&self, key: &LockKey) -> Result<Evicted> {
        let text = &self.link.statements.end_sessions;
        let rows = self.ask(self.link.statement(text).bind(key.to_string())).await?;
        let (mut evicted, mut pids) = (Evicted::default(), Vec::new());
        for row in &rows {
            pids.push(column(row, 0)?);
            evicted.holders += column::<i64>(row, 1)?.cast_unsigned();
            evicted.others += column::<i64>(row, 2)?.cast_unsigned();
        }
        // If it was our own, the actor should not find out by the next failure.
        drop(self.session.send(Request::Ended(pids)));
        Ok(evicted)
    }
}

#[async_trait]
impl Backend for Postgres {
    fn profile(&self) -> &Profile {
        &self.profile
    }

    async fn attempt(&self, claim: &Claim) -> Result<Attempt> {
        self.on_session(|reply| Request::Attempt(claim.clone(), reply)).await
    }

    async fn keep(&self, claims: &[Claim]) -> Result<Vec<Kept>> {
        self.on_session(|reply| Request::Keep(claims.to_vec(), reply)).await
    }

    async fn release(&self, claim: &Claim) -> Result<Release> {
        self.on_session(|reply| Request::Release(claim.clone(), reply)).await
    }

    async fn peek(&self, claims: &[Claim]) -> Result<Vec<Peek>> {
        let keys: Vec<_> = claims.iter().map(|claim| claim.key.to_string()).collect();
        let scenes = self.scenes(&keys).await?;
        let peek = |(claim, scene): (_, &Result<Scene>)| match scene {
            Ok(scene) => scene.peek(claim),
            // Its own attempt says why, and the others go on.
            Err(_) => Peek::Free,
        };
        Ok(claims.iter().zip(&scenes).map(peek).collect())
    }

    async fn inspect(&self, key: &LockKey) -> Result<KeyState> {
        let scene = self.scenes(&[key.to_string()]).await?.pop().transpose()?;
        Ok(scene.unwrap_or_default().state(key.as_str()))
    }

    async fn list(&self, prefix: &str, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let limit = limit.max(1);
        let one_more = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let list = self.link.statement(&self.link.statements.list).bind(prefix.to_owned());
        let rows = self.ask(list.bind(cursor.map(|cursor| cursor.0)).bind(one_more)).await?;
        let keys = rows.iter().map(|row| column(row, 0)).collect::<Result<Vec<String>>>()?;
        let page = &keys[..keys.len().min(limit)];
        let scenes = if page.is_empty() { Vec::new() } else { self.scenes(page).await? };
        let state = |(key, scene): (&String, Result<Scene>)| match scene {
            Ok(scene) => Ok(scene.state(key)),
            Err(error) => Err(error.about(key)),
        };
        let states = page.iter().zip(scenes).map(state).collect::<Result<Vec<_>>>()?;
        let next = page.last().filter(|_| keys.len() > limit).cloned().map(Cursor);
        // Whoever let go between the two looks is gone.
        let in_use = |state: &KeyState| state.is_locked() || state.waiting > 0;
        Ok(Page { items: states.into_iter().filter(in_use).collect(), next })
    }

    async fn evict(&self, key: &LockKey, how: Eviction) -> Result<Evicted> {
        match how {
            Eviction::EndSession => self.end_sessions(key).await,
            _ => self.ask_back(key).await,
        }
    }

    async fn purge(&self) -> Result<u64> {
        let mut gone = 0;
        for text in [&self.link.statements.purge_claims, &self.link.statements.purge] {
            loop {
                let rows = self.ask(self.link.statement(text).bind(PURGE_ROWS)).await?;
                gone += rows.len() as u64;
                if (rows.len() as i64) < PURGE_ROWS {
                    break;
                }
            }
        }
        Ok(gone)
    }

    async fn watch(&self, claim: &Claim, reason: WatchFor, hint: Hint) -> Result<Watch> {
        if reason == WatchFor::Eviction {
            return Ok(self.hints.add_holder(hint));
        }
        let (watch, shown) = self.hints.add_waiter(claim.key.as_str(), claim.token, hint);
        if !shown {
            let (reply, armed) = oneshot::channel();
            let show = Order::Show(claim.key.to_string(), reply);
            self.ringer.send(show).map_err(|_| closed())?;
            armed.await.unwrap_or_else(|_| Err(closed()))?;
        }
        Ok(watch)
    }

    async fn close(&self) -> Result<()> {
        let closed = self.on_session(Request::Close).await;
        // The other connection ends too, once it has nothing to do.
        drop(self.ringer.send(Order::Close));
        closed
    }

    fn remembers_since(&self) -> Option<BootInstant> {
        Some(self.shared.remembers_since())
    }
}

impl Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("link", &self.link).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use conformance_tests::assert_documented;

    use super::*;

    #[test]
    fn the_documents_show_the_profile() {
        assert_documented(&profile(), include_str!("docs.md"));
    }
}
