//! A claim that the store may know of, until it is held or certainly given back.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::Shared;
use super::background::Debt;
use super::background::Debts;
use super::release::release_surely;
use crate::Attempt;
use crate::BootInstant;
use crate::Claim;
use crate::Result;

/// How an attempt ended for its caller.
pub(super) enum Flight {
    Landed(Result<Attempt>),
    /// The caller's deadline came first; the attempt is still under way.
    Late,
    /// The provider is closing; the attempt is still under way.
    Closing,
}

/// A claim that the store may know of: released when it is dropped, unless it was acquired.
pub(super) struct Pending<'a> {
    shared: &'a Arc<Shared>,
    claim: Option<Claim>,
    flight: Option<Pin<Box<dyn Future<Output = Result<Attempt>> + Send>>>,
    /// The store may hold the token, or will; a shutdown waits for it to be known or released.
    owed: Option<Debt<&'a Debts>>,
}

impl<'a> Pending<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, claim: Claim) -> Self {
        Self { shared, claim: Some(claim), flight: None, owed: None }
    }

    pub(super) fn claim(&self) -> &Claim {
        self.claim.as_ref().expect("a pending claim is taken only when it is acquired or dropped")
    }

    /// Lets the next attempts stand in the store's line.
    pub(super) fn line_up(&mut self) {
        if let Some(claim) = &mut self.claim {
            claim.queue = true;
        }
    }

    /// Sends one attempt. At the operation's own time limit the request is dropped; at the caller's
    /// deadline it is left to be finished by `drop`.
    pub(super) async fn attempt(&mut self, deadline: BootInstant) -> Flight {
        let claim = self.claim().clone();
        let backend = self.shared.backend.clone();
        let unsure = self.owed.is_some();
        self.owed.get_or_insert_with(|| self.shared.executor.owe());
        let flight = self.flight.insert(Box::pin(async move { backend.attempt(&claim).await }));
        // No clock is read and no timer set for an attempt that is answered at once.
        let too_late = async {
            let now = self.shared.now();
            let limit = self.shared.limits.begin(now);
            let patience = deadline.saturating_since(now);
            if patience > self.shared.options.operation_timeout {
                limit.await;
                return false;
            }
            tokio::select! {
                biased;
                () = self.shared.clock().sleep_until(deadline) => true,
                () = limit => false,
            }
        };
        tokio::select! {
            biased;
            landed = flight => {
                self.flight = None;
                if !unsure && !self.may_be_known(&landed) {
                    self.owed = None;
                }
                Flight::Landed(landed)
            }
            by_caller = too_late => {
                if by_caller {
                    return Flight::Late;
                }
                self.flight = None;
                Flight::Landed(Err(self.shared.no_answer()))
            }
            // Whoever stands in the line of limits is woken when the provider closes.
            () = self.shared.is_closing() => Flight::Closing,
        }
    }

    fn may_be_known(&self, landed: &Result<Attempt>) -> bool {
        match landed {
            Ok(Attempt::Acquired { .. }) => true,
            Ok(Attempt::Held { .. }) => self.claim().queue,
            Err(error) => error.is_ambiguous() || self.claim().queue,
        }
    }

    /// Takes the claim over: from here on its hold looks after it.
    pub(super) fn acquired(&mut self) -> Claim {
        self.claim.take().expect("a pending claim is taken only when it is acquired or dropped")
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let Some(claim) = self.claim.take().filter(|_| self.owed.is_some()) else { return };
        let flight = self.flight.take();
        let shared = self.shared.clone();
        self.shared.executor.spawn_debt(async move {
            if let Some(flight) = flight {
                // The release must not overtake the attempt.
                drop(shared.limited("lock", flight).await);
            }
            release_surely(shared, claim).await;
        });
    }
}
