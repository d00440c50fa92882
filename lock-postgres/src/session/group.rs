//! What goes into one statement together.

use std::collections::HashSet;
use std::collections::VecDeque;

use lock_core::Attempt;
use lock_core::Claim;
use lock_core::LockKey;
use lock_core::Release;

use super::Reply;
use super::Request;

/// The most requests in one statement.
const GROUP: usize = 128;

/// Requests of different keys, which go together.
#[derive(Default)]
pub(super) struct Group {
    pub(super) keys: HashSet<LockKey>,
    pub(super) attempts: Vec<(Claim, Reply<Attempt>)>,
    pub(super) releases: Vec<(Claim, Reply<Release>)>,
}

impl Group {
    /// Takes as many as can go together.
    pub(super) fn of(pending: &mut VecDeque<Request>) -> Self {
        let mut group = Self::default();
        while group.keys.len() < GROUP
            && let Some(request) = pending.pop_front()
        {
            if let Some(other) = group.take(request) {
                pending.push_front(other);
                break;
            }
        }
        group
    }

    /// Takes a request in, or returns it: if it is of another kind, or of a key that is here already, for their
    /// order has to stay.
    fn take(&mut self, request: Request) -> Option<Request> {
        let key = match &request {
            // Whoever was dropped before it began wants nothing any more.
            Request::Attempt(_, reply) if reply.is_closed() => return None,
            Request::Attempt(claim, _) | Request::Release(claim, _) => &claim.key,
            _ => return Some(request),
        };
        if !self.keys.insert(key.clone()) {
            return Some(request);
        }
        match request {
            Request::Attempt(claim, reply) => self.attempts.push((claim, reply)),
            Request::Release(claim, reply) => self.releases.push((claim, reply)),
            _ => {}
        }
        None
    }
}
