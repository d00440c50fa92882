//! Acquiring: a vote of the members, a second round for the fence, and all of it undone if it fails.
//!
//! **Validity.** The lease counts from before the first request and is the shortest that was granted; drift
//! and granularity come off once, where every lease is judged. What is too short is released.
//!
//! **Fence.** Every member draws one inside its step; the highest is the acquisition's, and is written back
//! until enough members have it. Any later acquisition meets one of these, which draws a higher one.
//! If enough of them drew the same, there is no second round: it would change nothing there.
//!
//! **Split votes.** When several contenders got some members each and nobody enough, each releases and votes
//! again after a random pause, some times; then it is for the wait loop.

use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use rand::RngExt as _;

use super::group::Group;
use super::merge;
use super::merge::Seen;
use super::round::Round;
use super::undo::Undo;
use crate::Attempt;
use crate::BootInstant;
use crate::Claim;
use crate::Error;
use crate::ErrorKind;
use crate::Fence;
use crate::Lease;
use crate::Result;

/// How many votes one attempt takes part in while they are split.
const VOTES: u32 = 6;

/// What a vote is taken to have lasted at least, when a pause is drawn.
const PAUSE: Duration = Duration::from_millis(1);

/// The longest pause after a split vote.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// How one vote ended.
struct Outcome {
    answer: Result<Attempt>,
    /// If another vote may end otherwise at once.
    split: Option<Split>,
}

/// What is known of a vote that nobody has won.
struct Split {
    /// The fences of those in the way.
    fences: Vec<Option<Fence>>,
    /// How long those took who answered.
    took: Duration,
}

impl Outcome {
    fn last(answer: Result<Attempt>) -> Self {
        Self { answer, split: None }
    }
}

/// A member that granted.
#[derive(Clone, Copy)]
struct Grant {
    member: usize,
    fence: Fence,
    lease: Lease,
}

impl Group {
    pub(crate) async fn attempt(&self, claim: &Claim) -> Result<Attempt> {
        self.check(claim)?;
        let claim = &self.raised(claim);
        let (mut votes, give_up) = (1, self.now() + self.budget(claim.ttl) * 2);
        let mut before = None;
        loop {
            let began = self.now();
            let Outcome { answer, split } = self.vote(claim, began).await;
            // Another contender draws a new fence for each vote; one that stays is a holder's.
            let Some(split) = split.filter(|split| before.as_ref() != Some(&split.fences)) else {
                return answer;
            };
            if votes == VOTES || self.now() >= give_up {
                return answer;
            }
            self.clock().sleep(pause(split.took, votes)).await;
            (before, votes) = (Some(split.fences), votes + 1);
        }
    }

    async fn vote(&self, claim: &Claim, since: BootInstant) -> Outcome {
        let budget = self.budget(claim.ttl);
        let mut undo = Undo::new(self, claim);
        let settled = Arc::new(OnceLock::new());
        let mut round = self.ask(self.patience(claim.ttl), |node| node.attempt(claim, &settled));
        round.until(budget, |round| self.is_decided(round)).await;
        let (granted, refused) = (round.count(is_grant), round.count(is_refusal));
        let failure = (granted < self.need()).then(|| self.failure(&round, budget));
        let took = round.answered_at().map_or(Duration::ZERO, |at| at.saturating_since(since));
        let answers = round.take_answers();
        undo.tried(&answers);
        let grants = grants(&answers);
        let Some(failure) = failure else {
            return match self.settle(claim, since, &grants).await {
                Ok((fence, lease)) => {
                    // Those who grant later take the fence over and stay.
                    let _ = settled.set(fence);
                    undo.forget();
                    Outcome::last(Ok(Attempt::Acquired { fence, lease }))
                }
                Err(error) => {
                    self.take_back(&mut undo, &grants).await;
                    Outcome::last(Err(undo.mark(error)))
                }
            };
        };
        self.take_back(&mut undo, &grants).await;
        let seen = seen(&answers);
        let settled = seen.iter().any(|it| it.fence().is_some() && it.votes() >= self.need());
        let split = granted > 0 && refused > 0 && !settled;
        let split = split.then(|| Split { fences: seen.iter().map(Seen::fence).collect(), took });
        let silent_or_failed = self.size() - granted - refused;
        let answer = if refused < self.block() && silent_or_failed >= self.block() {
            Err(undo.mark(failure).with_holders(merge::in_the_way(seen, self.block())))
        } else {
            // Those who failed were too few to prevent it: it was somebody else.
            Ok(self.refusal(&answers, seen, granted, split.is_some()))
        };
        Outcome { answer, split }
    }

    /// A vote is over when it is won, or when it is clear why it cannot be.
    fn is_decided(&self, round: &Round<'_, Attempt>) -> bool {
        round.count(is_grant) >= self.need()
            || round.count(is_refusal) >= self.block()
            || round.failed() >= self.block()
            // Somebody is in the way, and it is no use to wait for those who never answer.
            || round.count(is_refusal) > 0 && round.lacks_only_the_silent()
    }

    /// Releases what was granted, before anything is said: the next vote must not meet our own leavings.
    async fn take_back(&self, undo: &mut Undo<'_>, grants: &[Grant]) {
        let members: Vec<usize> = grants.iter().map(|grant| grant.member).collect();
        if !members.is_empty() {
            undo.release(&members).await;
        }
    }

    /// Makes an acquisition of enough grants: one fence everywhere, and a lease that is worth it.
    async fn settle(
        &self,
        claim: &Claim,
        since: BootInstant,
        grants: &[Grant],
    ) -> Result<(Fence, Lease)> {
        let fence = self.fence(grants);
        let (mut good, behind): (Vec<Grant>, Vec<Grant>) =
            grants.iter().partition(|grant| grant.fence == fence);
        if good.len() < self.need() {
            good.extend(self.write_back(claim, fence, &good, &behind).await?);
        }
        let lease = Lease {
            since: good.iter().map(|grant| grant.lease.since).fold(since, BootInstant::min),
            ttl: good.iter().map(|grant| grant.lease.ttl).min().unwrap_or_default(),
        };
        let left = lease.valid_until(self.profile().granularity).saturating_since(self.now());
        if left < self.min_validity(lease.ttl) {
            return Err(too_late(left));
        }
        Ok((fence, lease))
    }

    /// The fence that enough members have already, as those of a repeat; otherwise the highest.
    fn fence(&self, grants: &[Grant]) -> Fence {
        let fences = || grants.iter().map(|grant| grant.fence);
        let shared = |fence: &Fence| fences().filter(|it| it == fence).count() >= self.need();
        let highest = || fences().max().expect("enough members granted");
        fences().find(shared).unwrap_or_else(highest)
    }

    /// Raises the fence of those who drew a lower one, until enough have it.
    async fn write_back(
        &self,
        claim: &Claim,
        fence: Fence,
        good: &[Grant],
        behind: &[Grant],
    ) -> Result<Vec<Grant>> {
        let claim = Claim { fence_floor: Some(fence), ..claim.clone() };
        let budget = self.budget(claim.ttl);
        let none = Arc::new(OnceLock::new());
        let mut round = Round::new(self, self.patience(claim.ttl), |at, node| {
            behind.iter().any(|grant| grant.member == at).then(|| node.attempt(&claim, &none))
        });
        let has = |attempt: &Attempt| matches!(attempt, Attempt::Acquired { fence: stored, .. } if *stored >= fence);
        let wanted = self.need() - good.len();
        round.until(budget, |round| round.count(has) >= wanted).await;
        if round.count(has) < wanted {
            return Err(self.unwritten(&round, budget));
        }
        Ok(grants(&round.take_answers()))
    }

    fn unwritten(&self, round: &Round<'_, Attempt>, budget: Duration) -> Error {
        if round.failed() + round.pending() > 0 {
            return self.failure(round, budget);
        }
        Error::new(ErrorKind::Unavailable, "the lock was taken away while it was being acquired")
    }

    fn refusal(
        &self,
        answers: &[Option<Result<Attempt>>],
        seen: Vec<Seen>,
        granted: usize,
        split: bool,
    ) -> Attempt {
        let ends = answers.iter().flatten().filter_map(|answer| match answer {
            Ok(Attempt::Held { retry_in, .. }) => Some(*retry_in),
            _ => None,
        });
        let free_in = merge::free_in(ends.collect(), self.need() - granted);
        let soon = split.then(|| pause(Duration::ZERO, VOTES));
        Attempt::Held {
            holders: merge::in_the_way(seen, self.block()),
            retry_in: free_in.into_iter().chain(soon).min(),
            ahead: None,
        }
    }
}

/// A random pause after the `nth` split vote, spread over some times what the vote took.
fn pause(took: Duration, nth: u32) -> Duration {
    let most = (took.max(PAUSE) * 2_u32.saturating_pow(nth)).min(PAUSE_MAX);
    most.mul_f64(rand::rng().random_range(0.0..1.0))
}

fn is_grant(attempt: &Attempt) -> bool {
    matches!(attempt, Attempt::Acquired { .. })
}

fn is_refusal(attempt: &Attempt) -> bool {
    matches!(attempt, Attempt::Held { .. })
}

fn grants(answers: &[Option<Result<Attempt>>]) -> Vec<Grant> {
    let grant = |(member, answer): (usize, &Option<Result<Attempt>>)| match answer {
        Some(Ok(Attempt::Acquired { fence, lease })) => {
            Some(Grant { member, fence: *fence, lease: *lease })
        }
        _ => None,
    };
    answers.iter().enumerate().filter_map(grant).collect()
}

fn seen(answers: &[Option<Result<Attempt>>]) -> Vec<Seen> {
    merge::gather(answers.iter().flatten().filter_map(|answer| match answer {
        Ok(Attempt::Held { holders, .. }) => Some(holders.as_slice()),
        _ => None,
    }))
}

fn too_late(left: Duration) -> Error {
    let message = format!("the members took so long that only {left:?} of the lease were left");
    Error::new(ErrorKind::Unavailable, message)
}
