//! What waits for the session, and what of it goes into one statement together. Pure.

use std::collections::HashSet;
use std::collections::VecDeque;

use lock_core::Attempt;
use lock_core::Claim;
use lock_core::LockKey;
use lock_core::Release;

use super::Reply;
use super::Request;

/// The most requests in one statement.
const BATCH: usize = 128;

/// Attempts and releases, apart: whoever lets go makes room for others, so releases go first. No release
/// overtakes the attempt that it takes back, because its caller has waited for that one or dropped it.
#[derive(Default)]
pub(super) struct Queue {
    releases: VecDeque<(Claim, Reply<Release>)>,
    attempts: VecDeque<(Claim, Reply<Attempt>)>,
    closes: Vec<Reply<()>>,
}

/// What is next: different keys, for those of one key have to stay in order.
pub(super) enum Batch {
    Releases(Vec<(Claim, Reply<Release>)>),
    Attempts(Vec<(Claim, Reply<Attempt>)>),
    Close(Vec<Reply<()>>),
}

impl Batch {
    /// Tells whether several wait for its answer: one alone is not worth waiting for.
    pub(super) fn is_crowd(&self) -> bool {
        match self {
            Self::Releases(all) => all.len() > 1,
            Self::Attempts(all) => all.len() > 1,
            Self::Close(_) => false,
        }
    }
}

impl Queue {
    /// Takes a request in, or returns one that does not wait for others.
    pub(super) fn put(&mut self, request: Request) -> Option<Request> {
        match request {
            Request::Attempt(claim, reply) => self.attempts.push_back((claim, reply)),
            Request::Release(claim, reply) => self.releases.push_back((claim, reply)),
            Request::Close(reply) => self.closes.push(reply),
            Request::Keep(..) | Request::GiveBack | Request::Ended(_) => return Some(request),
        }
        None
    }

    /// Takes out what goes into the next statement.
    pub(super) fn next(&mut self) -> Option<Batch> {
        // Whoever was dropped before it began wants nothing any more.
        self.attempts.retain(|(_, reply)| !reply.is_closed());
        if !self.releases.is_empty() {
            return Some(Batch::Releases(different(&mut self.releases)));
        }
        if !self.attempts.is_empty() {
            return Some(Batch::Attempts(different(&mut self.attempts)));
        }
        let closes = std::mem::take(&mut self.closes);
        (!closes.is_empty()).then_some(Batch::Close(closes))
    }
}

/// Takes out the first, up to one whose key is among them already.
fn different<T>(waiting: &mut VecDeque<(Claim, T)>) -> Vec<(Claim, T)> {
    let mut keys: HashSet<&LockKey> = HashSet::new();
    let first = waiting.iter().take(BATCH).take_while(|(claim, _)| keys.insert(&claim.key));
    let count = first.count();
    waiting.drain(..count).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lock_core::Owner;
    use tokio::sync::oneshot;
    use tokio::sync::oneshot::Receiver;

    use super::*;

    fn claim(key: &str) -> Claim {
        let (key, owner) = (LockKey::new(key).unwrap(), Owner::new("ann").unwrap());
        Claim::new(key, owner, Duration::from_secs(1))
    }

    /// Puts attempts in; whoever drops what is returned wants nothing any more.
    fn attempt(queue: &mut Queue, keys: &[&str]) -> Vec<Receiver<lock_core::Result<Attempt>>> {
        let put = |key: &&str| {
            let (reply, answer) = oneshot::channel();
            assert!(queue.put(Request::Attempt(claim(key), reply)).is_none());
            answer
        };
        keys.iter().map(put).collect()
    }

    fn release(queue: &mut Queue, key: &str) {
        assert!(queue.put(Request::Release(claim(key), oneshot::channel().0)).is_none());
    }

    /// Shows what is next: a kind and keys.
    fn next(queue: &mut Queue) -> String {
        let keys = |claims: Vec<&Claim>| -> String {
            claims.into_iter().map(|claim| claim.key.as_str()).collect()
        };
        match queue.next() {
            None => "nothing".to_owned(),
            Some(Batch::Releases(all)) => {
                "-".to_owned() + &keys(all.iter().map(|it| &it.0).collect())
            }
            Some(Batch::Attempts(all)) => {
                "+".to_owned() + &keys(all.iter().map(|it| &it.0).collect())
            }
            Some(Batch::Close(_)) => "close".to_owned(),
        }
    }

    #[test]
    fn releases_go_first_and_the_close_last() {
        let mut queue = Queue::default();
        assert!(queue.put(Request::Close(oneshot::channel().0)).is_none());
        let _wanted = attempt(&mut queue, &["a", "b"]);
        release(&mut queue, "c");
        assert_eq!(next(&mut queue), "-c");
        let _late = attempt(&mut queue, &["d"]);
        assert_eq!(next(&mut queue), "+abd");
        assert_eq!(next(&mut queue), "close");
        assert_eq!(next(&mut queue), "nothing");
    }

    #[test]
    fn attempts_at_one_key_go_one_after_the_other() {
        let mut queue = Queue::default();
        let _wanted = attempt(&mut queue, &["a", "b", "a", "c"]);
        assert_eq!(next(&mut queue), "+ab");
        assert_eq!(next(&mut queue), "+ac");
    }

    #[test]
    fn who_was_dropped_is_left_out() {
        let mut queue = Queue::default();
        drop(attempt(&mut queue, &["a"]));
        let _wanted = attempt(&mut queue, &["b"]);
        assert_eq!(next(&mut queue), "+b");
    }

    #[test]
    fn what_is_urgent_does_not_wait() {
        assert!(Queue::default().put(Request::GiveBack).is_some());
        assert!(Queue::default().put(Request::Ended(Vec::new())).is_some());
        assert!(Queue::default().put(Request::Keep(Vec::new(), oneshot::channel().0)).is_some());
    }

    #[test]
    fn a_statement_takes_so_many_and_no_more() {
        let mut queue = Queue::default();
        let keys: Vec<_> = (0..=BATCH).map(|n| n.to_string()).collect();
        let _wanted = attempt(&mut queue, &keys.iter().map(String::as_str).collect::<Vec<_>>());
        let sizes = std::iter::from_fn(|| match queue.next()? {
            Batch::Attempts(all) => Some(all.len()),
            _ => None,
        });
        assert_eq!(sizes.collect::<Vec<_>>(), [BATCH, 1]);
    }
}
