//! Looking: what is free, who holds, and the hands of an operator.

use std::sync::Arc;

use super::group::Group;
use super::group::LOOK;
use super::merge;
use super::node::Node;
use super::round::Round;
use crate::Claim;
use crate::Evicted;
use crate::Eviction;
use crate::KeyState;
use crate::LockKey;
use crate::Peek;
use crate::Result;

impl Group {
    /// Looks everywhere: free is what enough members show as free.
    pub(crate) async fn peek(&self, claims: &[Claim]) -> Result<Vec<Peek>> {
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        let budget = self.look_budget();
        let shared: Arc<[Claim]> = claims.into();
        let mut round = self.ask(LOOK, |node| node.peek(shared.clone()));
        let all = 0..claims.len();
        let seen = |round: &Round<'_, Vec<Peek>>| all.clone().all(|at| self.is_seen(round, at));
        round.until(budget, |round| round.failed() >= self.block() || seen(round)).await;
        if !seen(&round) && round.good().count() < self.need() {
            return Err(self.failure(&round, budget));
        }
        Ok(all.map(|at| self.peeked(&round, at)).collect())
    }

    fn is_seen(&self, round: &Round<'_, Vec<Peek>>, at: usize) -> bool {
        let free = round.count(|peeks| peeks[at] == Peek::Free);
        free >= self.need() || round.good().count() - free >= self.block()
    }

    fn peeked(&self, round: &Round<'_, Vec<Peek>>, at: usize) -> Peek {
        let free = round.count(|peeks| peeks[at] == Peek::Free);
        if free >= self.need() {
            return Peek::Free;
        }
        let ends = round.good().filter_map(|(_, peeks)| match peeks[at] {
            Peek::Held { retry_in, .. } | Peek::Crowded { retry_in } => Some(retry_in),
            Peek::Free => None,
        });
        Peek::Held { retry_in: merge::free_in(ends.collect(), self.need() - free), fence: None }
    }

    /// Shows whoever is in the way: of a quorum who holds a majority of the members. While some do not
    /// answer, whoever may hold with them is shown too, so that nothing held is shown as free.
    pub(crate) async fn inspect(&self, key: &LockKey) -> Result<KeyState> {
        let budget = self.look_budget();
        let mut round = self.ask(LOOK, |node| node.inspect(key));
        let decided = |round: &Round<'_, KeyState>| {
            round.failed() >= self.block()
                || round.good().count() >= self.need() && self.is_clear(round)
        };
        round.until(budget, decided).await;
        if round.good().count() < self.need() {
            return Err(self.failure(&round, budget));
        }
        let unknown = self.size() - round.good().count();
        let seen = merge::gather(round.good().map(|(_, state)| state.holders.as_slice()));
        let waiting = round.good().map(|(_, state)| state.waiting).max().unwrap_or(0);
        Ok(KeyState::new(key.as_str(), merge::holders(seen, unknown, self.block()), waiting))
    }

    /// Whether those who are still to answer cannot change what is shown.
    fn is_clear(&self, round: &Round<'_, KeyState>) -> bool {
        let pending = round.pending();
        let seen = merge::gather(round.good().map(|(_, state)| state.holders.as_slice()));
        let open = |votes: usize| votes < self.block() && votes + pending >= self.block();
        pending == 0 || !open(0) && !seen.iter().any(|it| open(it.votes()))
    }

    /// Takes the lock away everywhere; needs enough members, so that nobody can hold it afterwards.
    ///
    /// A member that is late is not asked any more: it could hit the next holder.
    pub(crate) async fn evict(&self, key: &LockKey, how: Eviction) -> Result<Evicted> {
        let budget = self.look_budget();
        let mut round = self.ask(std::time::Duration::ZERO, |node| node.evict(key, how));
        round.until(budget, |_| false).await;
        if round.good().count() < self.need() {
            return Err(self.failure(&round, budget).ambiguous());
        }
        let mut holders: Vec<u64> = round.good().map(|(_, evicted)| evicted.holders).collect();
        holders.sort_unstable_by(|a, b| b.cmp(a));
        let others = round.good().map(|(_, evicted)| evicted.others).sum();
        Ok(Evicted::new(holders.get(self.block() - 1).copied().unwrap_or(0), others))
    }

    /// Cleans up everywhere and counts what went at those who answered.
    pub(crate) async fn purge(&self) -> Result<u64> {
        let mut round = self.ask(LOOK, Node::purge);
        round.until(LOOK, |round| round.good().count() >= self.need()).await;
        if round.good().count() < self.need() {
            return Err(self.failure(&round, LOOK));
        }
        Ok(round.good().map(|(_, gone)| gone).sum())
    }
}
