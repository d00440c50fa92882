//! Several stores that act as one: what a quorum and a dual share.
//!
//! A call succeeds when `need` members agree; `block` of them can prevent that. Of a quorum over 2n + 1
//! both are n + 1; of a dual over two, both have to agree and each can prevent it.

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::member::Member;
use super::node::Flight;
use super::node::Node;
use super::options::QuorumOptions;
use super::round::Round;
use crate::BootInstant;
use crate::Claim;
use crate::Clock;
use crate::Error;
use crate::ErrorKind;
use crate::LeaseKind;
use crate::Profile;
use crate::Release;
use crate::Result;
use crate::engine::Executor;

/// How long a look goes on in the background after nobody waits for it any more.
pub(super) const LOOK: Duration = Duration::from_secs(5);

/// How long a release is repeated at least where a session may hold the lock: nothing else ends it.
const SESSION: Duration = Duration::from_secs(60);

/// What tells one kind of combination from another.
pub(crate) struct Kind {
    /// How many have to agree.
    pub(crate) need: usize,
    /// What the members can do together.
    pub(crate) profile: Profile,
    /// The default time that a member may take.
    pub(crate) budget: Duration,
    /// How long a member does not count after a start with which it forgets.
    pub(crate) out_after_start: Option<Duration>,
}

/// Several stores that act as one.
pub(crate) struct Group {
    nodes: Vec<Arc<Node>>,
    kind: Kind,
    options: QuorumOptions,
    executor: Executor,
}

impl Group {
    pub(crate) fn new(
        members: Vec<Member>,
        mut kind: Kind,
        options: QuorumOptions,
    ) -> Result<Arc<Self>> {
        kind.profile.min_validity = options.min_validity.unwrap_or_default();
        let executor = Executor::new(options.background.clone())?;
        let node = |member: Member| {
            let Member { name, backend } = member;
            Arc::new(Node::new(name, backend, options.clock.clone(), kind.out_after_start))
        };
        let nodes = members.into_iter().map(node).collect();
        Ok(Arc::new(Self { nodes, kind, options, executor }))
    }

    pub(crate) fn profile(&self) -> &Profile {
        &self.kind.profile
    }

    pub(super) fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    pub(super) fn size(&self) -> usize {
        self.nodes.len()
    }

    /// How many have to agree.
    pub(super) fn need(&self) -> usize {
        self.kind.need
    }

    /// How many can prevent that.
    pub(super) fn block(&self) -> usize {
        self.size() - self.need() + 1
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.options.clock
    }

    pub(super) fn now(&self) -> BootInstant {
        self.options.clock.now()
    }

    /// How long a round waits for a member, on behalf of a lease of `ttl`.
    pub(super) fn budget(&self, ttl: Duration) -> Duration {
        self.options.budget.unwrap_or_else(|| self.kind.budget.min(ttl / 5))
    }

    /// How long a round waits for a member where no lease runs out meanwhile.
    pub(super) fn look_budget(&self) -> Duration {
        self.options.budget.unwrap_or(self.kind.budget)
    }

    pub(super) fn min_validity(&self, ttl: Duration) -> Duration {
        self.options.min_validity.unwrap_or(ttl / 5)
    }

    /// How long a request about a lock of `ttl` is worth finishing: until the store has ended it anyway.
    pub(super) fn patience(&self, ttl: Duration) -> Duration {
        match self.profile().lease {
            LeaseKind::PerLock => ttl,
            LeaseKind::Session => ttl.max(SESSION),
        }
    }

    /// Checks what the engine has checked too, for callers without one.
    pub(super) fn check(&self, claim: &Claim) -> Result<()> {
        let profile = self.profile();
        profile.check_mode(claim.mode)?;
        profile.key_rule.check(&claim.key)?;
        if claim.queue {
            let message = format!("fair order is not supported by backend {}", profile.name);
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        if claim.ttl > profile.ttl_max {
            let (name, max) = (profile.name, profile.ttl_max);
            let message =
                format!("backend {name} keeps a lock for at most {max:?}, not {:?}", claim.ttl);
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        profile.check_validity(claim.ttl.max(profile.ttl_min))
    }

    /// The claim with a TTL that every member can grant.
    pub(super) fn raised(&self, claim: &Claim) -> Claim {
        Claim { ttl: claim.ttl.max(self.profile().ttl_min), ..claim.clone() }
    }

    /// Asks all members.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        patience: Duration,
        ask: impl Fn(&Arc<Node>) -> Flight<T>,
    ) -> Round<'_, T> {
        Round::new(self, patience, |_, node| Some(ask(node)))
    }

    /// Does something that nobody waits for.
    pub(super) fn spawn(&self, job: impl Future<Output = ()> + Send + 'static) {
        self.executor.spawn(job);
    }

    /// Lets a request that nobody waits for go on, for `patience` at the most.
    pub(super) fn finish<T: Send + 'static>(
        &self,
        member: usize,
        request: impl Future<Output = T> + Send + 'static,
        patience: Duration,
    ) {
        let (late, clock) = (self.nodes[member].late(), self.clock());
        let (silent, over) = (clock.sleep(self.look_budget()), clock.sleep(patience));
        self.executor.spawn_debt(async move {
            tokio::pin!(request, over);
            tokio::select! {
                _ = &mut request => return,
                () = &mut over => return,
                () = silent => late.node().fell_silent(),
            }
            tokio::select! {
                _ = request => {}
                () = over => {}
            }
        });
    }

    /// Releases at one member in the background, until it is certain or `patience` is over; after all
    /// that was asked of it for this claim before. `first` is a try that is under way.
    pub(super) fn release_later(
        &self,
        member: usize,
        first: Option<Flight<Release>>,
        claim: &Claim,
        patience: Duration,
    ) {
        let (node, late) = (self.nodes[member].clone(), self.nodes[member].late());
        let place = node.enter_to_release(claim, patience);
        let release = node.release_surely(first, place, claim.clone(), patience);
        self.executor.spawn_debt(async move {
            release.await;
            drop(late);
        });
    }

    pub(crate) async fn close(&self) -> Result<()> {
        let budget = self.look_budget();
        tokio::select! {
            () = self.executor.settled() => {}
            () = self.clock().sleep(budget) => {}
        }
        let mut round = self.ask(LOOK, Node::close);
        round.until(budget, |_| false).await;
        let failed = round.failed() + round.pending() > 0;
        if failed { Err(self.failure(&round, budget)) } else { Ok(()) }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.nodes.iter().map(|node| &node.name).collect();
        f.debug_struct(self.profile().name).field("members", &names).finish_non_exhaustive()
    }
}

/// Refuses two members that are one and the same.
pub(crate) fn check_distinct(members: &[Member]) -> Result<()> {
    let mut names = HashSet::new();
    for (at, member) in members.iter().enumerate() {
        let again = members[..at].iter().any(|other| Arc::ptr_eq(&other.backend, &member.backend));
        if again || !names.insert(&member.name) {
            let message = format!("{} is a member twice: remove one", member.name);
            return Err(Error::new(ErrorKind::Config, message));
        }
    }
    Ok(())
}
