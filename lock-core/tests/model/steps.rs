//! The steps of a program, carried out.

use std::sync::Arc;

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Eviction;
use lock_core::LockGuard;
use lock_core::LockProvider as _;
use lock_core::TryLock;
use lock_memory::Call as Request;
use lock_memory::When;

use super::call::Call;
use super::call::Outcome;
use super::call::What;
use super::hold::Ears;
use super::program::KEYS;
use super::program::Polls;
use super::program::Step;
use super::program::Waits;
use super::program::ms;
use super::world::Guard;
use super::world::World;
use super::world::key_of;
use super::world::pick;
use super::world::site_of;

type Check = Result<(), String>;

impl World {
    pub(crate) async fn step(&mut self, step: &Step) -> Check {
        match *step {
            Step::Advance(time) => return self.advance(time).await,
            Step::Jump(time) => return self.jump(time).await,
            Step::Lock(..) | Step::TryLock(..) => self.lock(step),
            Step::Unlock(guard, polls) => self.unlock(guard, polls),
            Step::DropGuard(guard) => self.drop_guard(guard),
            Step::Extend(guard, ttl, polls) => self.extend(guard, ttl, polls),
            Step::Detach(guard) => self.detach(guard)?,
            Step::Renew(at, handle, ttl) => self.renew(site_of(at), handle, ttl),
            Step::Release(at, handle) => self.release(site_of(at), handle),
            Step::Cancel(call) => self.cancel(call),
            Step::Look(at, key) => self.look(site_of(at), key_of(key)),
            Step::Force(at, key, session) => self.force(site_of(at), key_of(key), session),
            Step::Cleanup(at) => self.cleanup(site_of(at)),
            Step::Shutdown(at, timeout) => self.shutdown(site_of(at), timeout),
            _ => {
                self.mishap(step).await;
                return self.rest(false).await;
            }
        }
        self.rest(true).await
    }

    async fn jump(&mut self, time: u64) -> Check {
        let from = self.now();
        self.ledger.jump(from, from + ms(time));
        self.disturb();
        self.hand.jump(ms(time));
        // Nothing has run since, and nobody may believe what is no longer so.
        self.ledger.check_claims(&self.truth())?;
        self.rest(false).await
    }

    fn disturb(&mut self) {
        self.calls.iter_mut().for_each(|call| call.disturbed = true);
    }

    fn start(
        &mut self,
        site: usize,
        what: What,
        polls: Polls,
        future: impl Future<Output = Outcome> + Send + 'static,
    ) {
        let facts = (self.next_number(), site, what, self.truth());
        self.calls.push(Call::start(facts, &self.clock, polls, future));
    }

    fn lock(&mut self, step: &Step) {
        let (at, key, mut asked, tries) = match step {
            Step::Lock(at, key, asked) => (*at, *key, asked.clone(), false),
            Step::TryLock(at, key, asked) => (*at, *key, asked.clone(), true),
            _ => return,
        };
        let (site, key) = (site_of(at), key_of(key));
        if tries {
            asked.wait = Waits::Never;
        }
        let now = self.now();
        let expected = self.ledger.expected((site, key, now), &asked, &self.truth(), &self.calls);
        let floor = self.ledger.keys[key].fence;
        let (polls, options) = (asked.polls, asked.options());
        let (engine, clock) = (self.sites[site].engine.clone(), self.clock.clone());
        self.start(site, What::Lock { key, asked, expected, floor }, polls, async move {
            let locked = if tries {
                engine.try_lock(KEYS[key], &options).await.and_then(acquired)
            } else {
                engine.lock(KEYS[key], &options).await
            };
            Outcome::Locked(locked.map(|guard| {
                let ears = Ears::of(&guard, &clock);
                (guard, ears)
            }))
        });
    }

    /// Takes a guard that nothing else uses now.
    fn take_guard(&mut self, guard: u8) -> Option<(LockGuard, usize)> {
        let at = pick(guard, self.guards.len())?;
        if Arc::strong_count(&self.guards[at].guard) > 1 {
            return None;
        }
        let Guard { guard, hold } = self.guards.remove(at);
        Some((Arc::into_inner(guard).expect("nobody shares it"), hold))
    }

    fn unlock(&mut self, guard: u8, polls: Polls) {
        let Some((guard, hold)) = self.take_guard(guard) else { return };
        let valid = guard.is_valid();
        self.ledger.let_go(hold, self.clock.now());
        let last = !self.ledger.holds[hold].is_guarded();
        let site = self.ledger.holds[hold].site;
        let unlock = async move { Outcome::Done(guard.unlock().await) };
        self.start(site, What::Unlock { hold, last, valid }, polls, unlock);
    }

    fn drop_guard(&mut self, guard: u8) {
        let Some((guard, hold)) = self.take_guard(guard) else { return };
        self.ledger.let_go(hold, self.clock.now());
        drop(guard);
    }

    fn extend(&mut self, guard: u8, ttl: u64, polls: Polls) {
        let Some(at) = pick(guard, self.guards.len()) else { return };
        let Guard { guard, hold } = &self.guards[at];
        let (guard, hold, valid) = (guard.clone(), *hold, guard.is_valid());
        let entry = &mut self.ledger.holds[hold];
        entry.extended = true;
        let site = entry.site;
        let extend = async move { Outcome::Done(guard.extend(ms(ttl)).await) };
        self.start(site, What::Extend { hold, ttl, valid }, polls, extend);
    }

    fn detach(&mut self, guard: u8) -> Check {
        let Some((guard, hold)) = self.take_guard(guard) else { return Ok(()) };
        let entry = &self.ledger.holds[hold];
        let expected = match () {
            () if self.ledger.session => Some(ErrorKind::Unsupported),
            () if !guard.is_valid() => Some(ErrorKind::Lost),
            () if entry.guards > 1 => Some(ErrorKind::InvalidInput),
            () => None,
        };
        let detached = guard.into_handle();
        let answered = detached.as_ref().err().map(Error::kind);
        if answered != expected {
            return Err(format!("detach said {detached:?}, expected {expected:?}"));
        }
        match detached {
            Ok(handle) => {
                self.ledger.detach(hold);
                self.handles.push(handle);
            }
            Err(_) => self.ledger.let_go(hold, self.clock.now()),
        }
        Ok(())
    }

    fn renew(&mut self, site: usize, handle: u8, ttl: u64) {
        let Some(at) = pick(handle, self.handles.len()) else { return };
        let (handle, engine) = (self.handles[at].clone(), self.sites[site].engine.clone());
        let (key, fence) = (key_named(&handle.key), handle.fence.get());
        self.start(site, What::Renew { key, fence }, Polls::All, async move {
            Outcome::Renewed(engine.renew(&handle, ms(ttl)).await)
        });
    }

    fn release(&mut self, site: usize, handle: u8) {
        let Some(at) = pick(handle, self.handles.len()) else { return };
        let (handle, engine) = (self.handles[at].clone(), self.sites[site].engine.clone());
        let (key, fence) = (key_named(&handle.key), handle.fence.get());
        self.start(site, What::Release { key, fence }, Polls::All, async move {
            Outcome::Done(engine.release(&handle).await)
        });
    }

    fn cancel(&mut self, call: u8) {
        if let Some(at) = pick(call, self.calls.len()) {
            self.calls.remove(at).cancel();
        }
    }

    fn look(&mut self, site: usize, key: usize) {
        let engine = self.sites[site].engine.clone();
        self.start(site, What::Look { key }, Polls::All, async move {
            let look = async {
                let (state, locked) =
                    (engine.status(KEYS[key]).await?, engine.is_locked(KEYS[key]).await?);
                Ok((state, locked, engine.list("").await?))
            };
            Outcome::Looked(look.await)
        });
    }

    fn force(&mut self, site: usize, key: usize, session: bool) {
        let engine = self.sites[site].engine.clone();
        let how = if session { Eviction::EndSession } else { Eviction::LockOnly };
        // Where there is a session, it is the holder's, with all that hangs on it.
        let session = session && self.ledger.session;
        if session {
            self.disturb();
        }
        self.ledger.force(key, session, self.clock.now());
        self.start(site, What::Force { key, session }, Polls::All, async move {
            Outcome::Forced(engine.force_unlock(KEYS[key], how).await)
        });
    }

    fn cleanup(&mut self, site: usize) {
        let engine = self.sites[site].engine.clone();
        self.start(site, What::Cleanup, Polls::All, async move {
            Outcome::Cleaned(engine.cleanup_expired().await)
        });
    }

    fn shutdown(&mut self, site: usize, timeout: u64) {
        let first = !std::mem::replace(&mut self.ledger.sites[site].closed, true);
        let engine = self.sites[site].engine.clone();
        self.start(site, What::Shutdown { timeout, first }, Polls::All, async move {
            Outcome::Done(engine.shutdown(ms(timeout)).await)
        });
    }

    /// What happens to users.
    async fn mishap(&mut self, step: &Step) {
        let now = self.now();
        match *step {
            Step::Mute(at) => {
                self.sites[site_of(at)].controls.drop_hints();
                self.ledger.mute(site_of(at));
            }
            Step::Heal(at) => self.heal(site_of(at)),
            Step::Resume(at) => self.resume(site_of(at)),
            Step::Expire(key) => {
                self.ledger.take_away(key_of(key), now);
                self.sites[0].controls.expire(KEYS[key_of(key)]).expect("a good key");
            }
            Step::Steal(key, ttl) => self.steal(key_of(key), ttl),
            Step::EndSession(at) => {
                let site = site_of(at);
                if self.sites[site].controls.end_session() > 0 || self.ledger.session {
                    self.disturb();
                    self.ledger.end_session(site, now);
                }
            }
            Step::Forget => {
                // The clock has to be ahead of the fences that are forgotten.
                self.hand.advance(ms(1)).await;
                self.disturb();
                self.ledger.forget(self.clock.now());
                self.sites[0].controls.forget_everything();
            }
            _ => self.fault(step),
        }
    }

    fn steal(&mut self, key: usize, ttl: u64) {
        self.ledger.take_away(key, self.clock.now());
        let fence = self.sites[0].controls.steal(KEYS[key], "thief", ms(ttl));
        self.ledger.stolen(key, fence.expect("a good thief").get());
    }

    /// What happens to requests.
    fn fault(&mut self, step: &Step) {
        let broken = || Error::new(ErrorKind::Unavailable, "connection refused");
        let (Step::Fail(at, ..)
        | Step::Refuse(at, ..)
        | Step::FailAll(at)
        | Step::Hang(at, ..)
        | Step::Delay(at, ..)) = *step
        else {
            return;
        };
        self.ledger.storm(site_of(at));
        let site = &mut self.sites[site_of(at)];
        match *step {
            Step::Fail(_, call, when) => site.controls.fail_next(call, when, broken()),
            Step::Refuse(_, call) => site.controls.fail_next(call, When::Before, refused(call)),
            Step::FailAll(_) => site.controls.fail_all(broken()),
            Step::Hang(_, call, when) => site.hung.push(site.controls.hang_next(call, when)),
            Step::Delay(_, call, when, time) => site.controls.delay(call, when, ms(time)),
            _ => {}
        }
    }
}

fn refused(call: Request) -> Error {
    Error::new(ErrorKind::Corrupt, format!("{call:?} refused"))
}

/// Contention as the error that `lock` makes of it.
fn acquired(tried: TryLock) -> lock_core::Result<LockGuard> {
    match tried {
        TryLock::Acquired(guard) => Ok(guard),
        TryLock::Held(holders) => Err(Error::new(ErrorKind::Held, "held").with_holders(holders)),
    }
}

fn key_named(name: &str) -> usize {
    KEYS.iter().position(|key| *key == name).expect("a key of the program")
}
