//! What an attempt or a release still owes the members: paid in the background when it is dropped.

use std::time::Duration;

use super::group::Group;
use super::node::Flight;
use super::round::Round;
use crate::Attempt;
use crate::Claim;
use crate::Error;
use crate::Release;
use crate::Result;

/// What one member may still have of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owes {
    /// Nothing: it refused, or confirmed the release.
    Nothing,
    /// Nothing, if its error can be believed: it is released once, to be sure.
    Once,
    /// It may hold, now or later.
    Surely,
}

/// Releases a claim wherever it may be, when dropped: dropped with a call that was cancelled too.
pub(super) struct Undo<'a> {
    group: &'a Group,
    claim: &'a Claim,
    owes: Vec<Owes>,
    /// Releases that are under way.
    releases: Vec<Option<Flight<Release>>>,
}

impl<'a> Undo<'a> {
    /// Begins before anything is sent: everybody may hold it.
    pub(super) fn new(group: &'a Group, claim: &'a Claim) -> Self {
        let (owes, releases) = (vec![Owes::Surely; group.size()], Vec::new());
        Self { group, claim, owes, releases }
    }

    /// Takes in what the members said to an attempt.
    pub(super) fn tried(&mut self, answers: &[Option<Result<Attempt>>]) {
        for (owes, answer) in self.owes.iter_mut().zip(answers) {
            *owes = match answer {
                Some(Ok(Attempt::Held { .. })) => Owes::Nothing,
                Some(Err(error)) if !error.is_ambiguous() => Owes::Once,
                Some(Ok(Attempt::Acquired { .. }) | Err(_)) | None => Owes::Surely,
            };
        }
    }

    /// Takes in what the members said to a release.
    pub(super) fn released(&mut self, round: &mut Round<'_, Release>) {
        for (member, _) in round.good() {
            self.owes[member] = Owes::Nothing;
        }
        self.releases = round.take_flights();
    }

    /// Releases at `members`, which have just answered, and waits for it as long as a round may take.
    pub(super) async fn release(&mut self, members: &[usize]) {
        let patience = self.group.patience(self.claim.ttl);
        let mut round = Round::new(self.group, patience, |at, node| {
            members.contains(&at).then(|| node.release(self.claim))
        });
        round.until(self.group.budget(self.claim.ttl), |_| false).await;
        self.released(&mut round);
    }

    /// Whether somebody may still hold it.
    pub(super) fn is_unsure(&self) -> bool {
        self.owes.contains(&Owes::Surely)
    }

    /// Marks an error that leaves somebody in doubt.
    pub(super) fn mark(&self, error: Error) -> Error {
        if self.is_unsure() { error.ambiguous() } else { error }
    }

    /// Keeps what there is: the lock is held.
    pub(super) fn forget(mut self) {
        self.owes.clear();
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        let mut releases = std::mem::take(&mut self.releases);
        releases.resize_with(self.owes.len(), || None);
        for (member, (owes, first)) in self.owes.iter().zip(releases).enumerate() {
            let patience = match owes {
                Owes::Nothing => continue,
                Owes::Once => Duration::ZERO,
                Owes::Surely => self.group.patience(self.claim.ttl),
            };
            self.group.release_later(member, first, self.claim, patience);
        }
    }
}
