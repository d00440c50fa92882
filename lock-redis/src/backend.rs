//! The waist over Redis.

use std::fmt;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use lock_core::Attempt;
use lock_core::Backend;
use lock_core::BootInstant;
use lock_core::Claim;
use lock_core::Clock;
use lock_core::Cursor;
use lock_core::Error;
use lock_core::Evicted;
use lock_core::Eviction;
use lock_core::Hint;
use lock_core::Kept;
use lock_core::KeyRule;
use lock_core::KeyState;
use lock_core::Lease;
use lock_core::LockKey;
use lock_core::Mode;
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

use crate::channels::Channels;
use crate::check::Facts;
use crate::copies::Copies;
use crate::error::During;
use crate::keys;
use crate::keys::Names;
use crate::list;
use crate::node::Line;
use crate::reply;
use crate::reply::Fate;
use crate::reply::Tried;
use crate::route::Argument;
use crate::route::Route;
use crate::route::Step;
use crate::scripts::SCRIPTS;
use crate::scripts::Script;

/// What scripts read as nothing.
const NONE: Argument<'_> = Argument::Number(0);

/// A client of Redis or Valkey: the backend to build an engine on. Cloning shares the client.
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

struct Inner {
    profile: Profile,
    clock: Clock,
    route: Route,
    copies: Option<Copies>,
}

impl Redis {
    pub(crate) fn new(route: Route, copies: Option<Copies>) -> Self {
        keys::prepare();
        let (profile, clock) = (profile(), Clock::system());
        Self(Arc::new(Inner { profile, clock, route, copies }))
    }

    /// Connects, unless that has been done, and returns what the servers say of themselves.
    pub(crate) async fn ready(&self) -> Result<Vec<Arc<Facts>>> {
        self.0.route.ready().await
    }

    fn step<'a>(
        &self,
        script: &'static Script,
        key: &LockKey,
        arguments: Vec<Argument<'a>>,
    ) -> Step<'a> {
        Step::new(script, Names::of(key), arguments)
    }

    /// What an attempt says. What its script takes for granted is left out: the server reads each word.
    fn words<'a>(&self, claim: &'a Claim, ttl: Duration) -> Vec<Argument<'a>> {
        let is_plain = claim.mode == Mode::Exclusive && claim.fence_floor.is_none();
        let mut words = Vec::with_capacity(7);
        let owner = Argument::Owner(&claim.owner);
        words.extend([Argument::Token(claim.token), millis(ttl), owner]);
        if claim.queue || !is_plain {
            words.push(if claim.queue { millis(claim.place_ttl()) } else { NONE });
        }
        if !is_plain {
            let floor = claim.fence_floor.map(|floor| Argument::Number(floor.get()));
            words.extend([floor.unwrap_or(NONE), Argument::Mode(claim.mode), self.publish()]);
        }
        words
    }

    /// Undoes an attempt that too few replicas have.
    async fn give_back(&self, claim: &Claim, error: Error) -> Error {
        match self.release(claim).await {
            Ok(_) => error,
            Err(_) => error.ambiguous(),
        }
    }

    fn publish(&self) -> Argument<'static> {
        Argument::Text(self.0.route.channels().publish())
    }

    fn ttl(&self, claim: &Claim) -> Duration {
        claim.ttl.max(self.0.profile.ttl_min)
    }
}

#[async_trait]
impl Backend for Redis {
    fn profile(&self) -> &Profile {
        &self.0.profile
    }

    async fn attempt(&self, claim: &Claim) -> Result<Attempt> {
        let lease = Lease { since: self.0.clock.now(), ttl: self.ttl(claim) };
        let arguments = self.words(claim, lease.ttl);
        let mut step = self.step(&SCRIPTS.attempt, &claim.key, arguments);
        (step.line, step.behind) = (Line::Writer, self.0.copies.map(Copies::command));
        let answer = self.0.route.run(step).await?;
        let fence = match reply::tried(answer.script)? {
            Tried::Granted(fence) => fence,
            Tried::Refused { holders, retry_in, ahead } => {
                return Ok(Attempt::Held { holders, retry_in, ahead });
            }
        };
        if let Some((copies, answer)) = self.0.copies.zip(answer.behind)
            && let Err(error) = copies.check(answer)
        {
            return Err(Box::pin(self.give_back(claim, error)).await);
        }
        Ok(Attempt::Acquired { fence, lease })
    }

    async fn keep(&self, claims: &[Claim]) -> Result<Vec<Kept>> {
        let since = self.0.clock.now();
        let step = |claim: &Claim| {
            let (ttl, place) = (millis(self.ttl(claim)), millis(claim.place_ttl()));
            self.step(&SCRIPTS.keep, &claim.key, vec![Argument::Token(claim.token), ttl, place])
        };
        let answers = self.0.route.run_all(claims.iter().map(step).collect()).await?;
        let kept = |(claim, answer): (&Claim, Result<redis::Value>)| {
            Ok(match reply::fate(answer?)? {
                Fate::Holds => Kept::Renewed { lease: Lease { since, ttl: self.ttl(claim) } },
                Fate::Queued(ahead) => Kept::Queued { ahead },
                Fate::Gone => Kept::Gone,
            })
        };
        despite_failures(claims.iter().zip(answers).map(kept).collect(), |_| Kept::Unknown)
    }

    async fn release(&self, claim: &Claim) -> Result<Release> {
        let mut arguments = vec![Argument::Token(claim.token)];
        if self.0.route.channels() != Channels::Plain {
            arguments.push(self.publish());
        }
        let mut step = self.step(&SCRIPTS.release, &claim.key, arguments);
        // Behind the attempt that it undoes, which may still wait for replicas.
        step.line = Line::Writer;
        Ok(match reply::count(self.0.route.run(step).await?.script)? {
            0 => Release::NotHeld,
            _ => Release::Released,
        })
    }

    async fn peek(&self, claims: &[Claim]) -> Result<Vec<Peek>> {
        let step = |claim: &Claim| {
            let arguments = vec![Argument::Token(claim.token), Argument::Mode(claim.mode)];
            self.step(&SCRIPTS.peek, &claim.key, arguments)
        };
        let answers = self.0.route.run_all(claims.iter().map(step).collect()).await?;
        let peeks = answers.into_iter().map(|answer| reply::peek(answer?)).collect();
        // Who tries is told what is wrong.
        let unseen = |error: &Error| match error.is_retryable() {
            true => Peek::Held { retry_in: None, fence: None },
            false => Peek::Free,
        };
        despite_failures(peeks, unseen)
    }

    async fn inspect(&self, key: &LockKey) -> Result<KeyState> {
        let answer = self.0.route.run(self.step(&SCRIPTS.inspect, key, Vec::new())).await?;
        let (holders, waiting) = reply::state(answer.script)?;
        Ok(KeyState::new(key.as_str(), holders, waiting))
    }

    async fn list(&self, prefix: &str, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        list::page(&self.0.route, prefix, cursor.as_ref(), limit).await
    }

    async fn evict(&self, key: &LockKey, _how: Eviction) -> Result<Evicted> {
        let step = self.step(&SCRIPTS.evict, key, vec![self.publish()]);
        Ok(Evicted::new(reply::count(self.0.route.run(step).await?.script)?, 0))
    }

    async fn purge(&self) -> Result<u64> {
        list::purge(&self.0.route).await
    }

    async fn watch(&self, claim: &Claim, _reason: WatchFor, hint: Hint) -> Result<Watch> {
        let names = Names::of(&claim.key);
        let route = &self.0.route;
        let node = route.node(&names).await?;
        let node = node.listener(route.channels());
        let (watch, is_new) = node.hints().add(names.card(), claim.token, hint);
        if is_new && let Err(failure) = node.subscribe(route.channels()).await {
            drop(route.learn(&failure, &names));
            return Err(failure.into_error(During::Request));
        }
        Ok(watch)
    }

    async fn close(&self) -> Result<()> {
        self.0.route.disconnect();
        Ok(())
    }

    fn part(&self, key: &LockKey) -> u64 {
        self.0.route.part(key)
    }

    fn remembers_since(&self) -> Option<BootInstant> {
        self.0.route.remembers_since()
    }
}

impl Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").finish_non_exhaustive()
    }
}

/// Lets no key that is spoilt stand for the others of its batch; an error only if nothing else has come.
fn despite_failures<T>(answers: Vec<Result<T>>, unknown: fn(&Error) -> T) -> Result<Vec<T>> {
    if answers.iter().all(Result::is_err) {
        return answers.into_iter().collect();
    }
    let known = |answer: Result<T>| answer.unwrap_or_else(|error| unknown(&error));
    Ok(answers.into_iter().map(known).collect())
}

fn profile() -> Profile {
    let mut profile = Profile::new("redis");
    profile.fair = true;
    profile.shared = true;
    profile.permits = true;
    profile.wakeup = Wakeup::Push;
    // The server counts in whole milliseconds and drops what it has begun.
    profile.granularity = Duration::from_millis(1);
    // Every release is pushed; looking is for pushes that are lost, and for leases that end.
    profile.poll = PollPlan {
        first: Duration::from_millis(500),
        eager: Duration::ZERO,
        max: Duration::from_secs(1),
    };
    profile.key_rule = KeyRule::new(keys::check);
    profile
}

fn millis(duration: Duration) -> Argument<'static> {
    Argument::Number(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
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
