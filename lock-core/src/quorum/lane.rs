//! The order of the requests of one token at one member: a release never overtakes an attempt.
//!
//! Requests that nobody waits for any more go on in the background, so several of one token can be under
//! way at a time. Whoever enters a lane has its place in it at once, before it is polled.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use futures_util::FutureExt as _;
use tokio::sync::OwnedMutexGuard;

use crate::Token;

/// The lanes of one member, by token; there is one only while it is used.
#[derive(Debug, Default)]
pub(super) struct Lanes(Arc<Mutex<HashMap<Token, Lane>>>);

#[derive(Debug, Default)]
struct Lane {
    turn: Arc<tokio::sync::Mutex<()>>,
    users: usize,
}

impl Lanes {
    /// Takes the next place in the lane of `token`.
    pub(super) fn enter(&self, token: Token) -> Place {
        let mut lanes = lock(&self.0);
        let lane = lanes.entry(token).or_default();
        lane.users += 1;
        let turn = lane.turn.clone();
        drop(lanes);
        let mut queued: Queued = Box::pin(turn.lock_owned());
        // Polled once: from now on it stands in line.
        let wait = (&mut queued).now_or_never().map_or(Wait::Queued(queued), Wait::Over);
        Place { wait, user: User { lanes: self.0.clone(), token } }
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
    user: User,
}

impl Place {
    /// Completes when all who entered before have left.
    pub(super) async fn turn(self) -> Turn {
        let guard = match self.wait {
            Wait::Over(guard) => guard,
            Wait::Queued(queued) => queued.await,
        };
        Turn { _guard: guard, _user: self.user }
    }
}

/// The head of a lane, until it is dropped.
pub(super) struct Turn {
    _guard: OwnedMutexGuard<()>,
    _user: User,
}

/// Counts who uses a lane.
struct User {
    lanes: Arc<Mutex<HashMap<Token, Lane>>>,
    token: Token,
}

impl Drop for User {
    fn drop(&mut self) {
        let mut lanes = lock(&self.lanes);
        if let Some(lane) = lanes.get_mut(&self.token) {
            lane.users -= 1;
            if lane.users == 0 {
                lanes.remove(&self.token);
            }
        }
    }
}

fn lock(lanes: &Mutex<HashMap<Token, Lane>>) -> MutexGuard<'_, HashMap<Token, Lane>> {
    lanes.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({})", self.user.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_entered_first_goes_first_whoever_is_polled_first() {
        let (lanes, token) = (Lanes::default(), Token::random());
        let (first, second) = (lanes.enter(token), lanes.enter(token));
        let mut second = Box::pin(second.turn());
        assert!((&mut second).now_or_never().is_none());
        drop(first.turn().await);
        assert!((&mut second).now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_leaves_holds_nobody_up_and_an_unused_lane_goes() {
        let (lanes, token) = (Lanes::default(), Token::random());
        let (first, second, third) = (lanes.enter(token), lanes.enter(token), lanes.enter(token));
        drop(second);
        drop(first);
        assert!(lanes.enter(Token::random()).turn().now_or_never().is_some(), "another's lane");
        drop(third.turn().now_or_never().expect("the others have left"));
        assert_eq!(lanes.len(), 0);
    }
}
