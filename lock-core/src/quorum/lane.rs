//! The order of the requests of one token at one member: a release never overtakes an attempt.
//!
//! Requests that nobody waits for any more go on in the background, so several of one token can be under
//! way at a time. Whoever enters a lane has its place in it at once, before it is polled.
//!
//! A release that is repeated until it is certain would keep the next attempt waiting for as long as the
//! member is down. So it gives way to an attempt, which takes its duty over: whatever was left of the token
//! is the attempt's own now, and is released with it if that fails.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use futures_util::FutureExt as _;
use tokio::sync::OwnedMutexGuard;
use tokio::sync::watch;

use crate::Token;

/// The lanes of one member, by token; there is one only while it is used.
#[derive(Debug, Default)]
pub(super) struct Lanes(Arc<Mutex<HashMap<Token, Lane>>>);

#[derive(Debug, Default)]
struct Lane {
    turn: Arc<tokio::sync::Mutex<()>>,
    users: usize,
    /// How many releases are to be repeated until they are certain.
    duties: usize,
    /// How many attempts have entered.
    attempts: watch::Sender<u64>,
}

/// What somebody enters a lane for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Attempt,
    Release,
    /// A release that is repeated until it is certain.
    Duty,
}

impl Lanes {
    /// Takes the next place in the lane of `token`.
    pub(super) fn enter(&self, token: Token, purpose: Purpose) -> Place {
        let mut lanes = lock(&self.0);
        let lane = lanes.entry(token).or_default();
        lane.users += 1;
        lane.duties += usize::from(purpose == Purpose::Duty);
        if purpose == Purpose::Attempt {
            lane.attempts.send_modify(|attempts| *attempts += 1);
        }
        let (turn, inherits) = (lane.turn.clone(), lane.duties > 0);
        let attempts = lane.attempts.subscribe();
        drop(lanes);
        let mut queued: Queued = Box::pin(turn.lock_owned());
        // Polled once: from now on it stands in line.
        let wait = (&mut queued).now_or_never().map_or(Wait::Queued(queued), Wait::Over);
        Place { wait, inherits, attempts, user: User { lanes: self.0.clone(), token, purpose } }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        lock(&self.0).len()
    }
}

type Queued = Pin<Box<dyn Future<Output = OwnedMutexGuard<()>> + Send>>;

enum Wait {
    Queued(Queued),
    Over(OwnedMutexGuard<()>),
}

/// A place in a lane; dropping it leaves the lane.
pub(super) struct Place {
    wait: Wait,
    inherits: bool,
    attempts: watch::Receiver<u64>,
    user: User,
}

impl Place {
    /// Whether somebody before it may still have to release.
    pub(super) fn inherits(&self) -> bool {
        self.inherits
    }

    /// Completes when all who entered before have left.
    pub(super) async fn turn(self) -> Turn {
        let guard = match self.wait {
            Wait::Over(guard) => guard,
            Wait::Queued(queued) => queued.await,
        };
        Turn { attempts: self.attempts, _guard: guard, _user: self.user }
    }
}

/// The head of a lane, until it is dropped.
pub(super) struct Turn {
    attempts: watch::Receiver<u64>,
    _guard: OwnedMutexGuard<()>,
    _user: User,
}

impl Turn {
    /// Completes when an attempt has entered since this did.
    pub(super) async fn superseded(&mut self) {
        // The sender lives in the lane, which lives as long as its users.
        let _ = self.attempts.changed().await;
    }
}

/// Counts who uses a lane.
struct User {
    lanes: Arc<Mutex<HashMap<Token, Lane>>>,
    token: Token,
    purpose: Purpose,
}

impl Drop for User {
    fn drop(&mut self) {
        let mut lanes = lock(&self.lanes);
        if let Some(lane) = lanes.get_mut(&self.token) {
            lane.users -= 1;
            lane.duties -= usize::from(self.purpose == Purpose::Duty);
            if lane.users == 0 {
                lanes.remove(&self.token);
            }
        }
    }
}

fn lock(lanes: &Mutex<HashMap<Token, Lane>>) -> MutexGuard<'_, HashMap<Token, Lane>> {
    lanes.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_entered_first_goes_first_whoever_is_polled_first() {
        let (lanes, token) = (Lanes::default(), Token::random());
        let enter = || lanes.enter(token, Purpose::Release);
        let (first, second) = (enter(), enter());
        let mut second = Box::pin(second.turn());
        assert!((&mut second).now_or_never().is_none());
        drop(first.turn().await);
        assert!((&mut second).now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_leaves_holds_nobody_up_and_an_unused_lane_goes() {
        let (lanes, token) = (Lanes::default(), Token::random());
        let enter = || lanes.enter(token, Purpose::Release);
        let (first, second, third) = (enter(), enter(), enter());
        drop(second);
        drop(first);
        let other = lanes.enter(Token::random(), Purpose::Release);
        assert!(other.turn().now_or_never().is_some(), "another's lane");
        drop(third.turn().now_or_never().expect("the others have left"));
        assert_eq!(lanes.len(), 0);
    }

    #[tokio::test]
    async fn a_duty_gives_way_to_an_attempt_which_inherits_it() {
        let (lanes, token) = (Lanes::default(), Token::random());
        assert!(!lanes.enter(token, Purpose::Attempt).inherits());
        let mut duty = lanes.enter(token, Purpose::Duty).turn().await;
        assert!(duty.superseded().now_or_never().is_none(), "by who came before");
        let attempt = lanes.enter(token, Purpose::Attempt);
        assert!(attempt.inherits());
        assert!(duty.superseded().now_or_never().is_some());
    }
}
