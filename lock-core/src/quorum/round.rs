//! One request to several members at once.
//!
//! All are asked before any answer is looked at. The round ends as soon as its caller has seen enough; what
//! is still under way then goes on in the background and is given up only when the lease it serves has
//! ended, so that a slow member costs no connection and no release overtakes what it undoes.

use std::future::Future;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use super::group::Group;
use super::node::Flight;
use super::node::Node;
use crate::BootInstant;
use crate::Result;

/// The part of its budget that a member gets which did not answer the last time.
const GRACE: u32 = 10;

/// The requests of one round and the answers so far, by member.
pub(super) struct Round<'a, T: Send + 'static> {
    group: &'a Group,
    patience: Duration,
    flights: Vec<Option<Flight<T>>>,
    answers: Vec<Option<Result<T>>>,
    /// When the latest answer came.
    answered_at: Option<BootInstant>,
}

impl<'a, T: Send + 'static> Round<'a, T> {
    /// Prepares the requests; `ask` returns none for a member that is not to be asked.
    ///
    /// What is under way when the round is dropped goes on for `patience` at the most.
    pub(super) fn new(
        group: &'a Group,
        patience: Duration,
        mut ask: impl FnMut(usize, &Arc<Node>) -> Option<Flight<T>>,
    ) -> Self {
        let flights: Vec<_> =
            group.nodes().iter().enumerate().map(|(at, node)| ask(at, node)).collect();
        let answers = flights.iter().map(|_| None).collect();
        Self { group, patience, flights, answers, answered_at: None }
    }

    /// Completes when `enough` says so, when all have answered, or when `budget` is over; sooner, if
    /// only members are missing that did not answer the last time either.
    pub(super) async fn until(&mut self, budget: Duration, enough: impl Fn(&Self) -> bool + Send) {
        let clock = self.group.clock();
        let (mut grace, mut limit) = (clock.sleep(budget / GRACE), clock.sleep(budget));
        let run = poll_fn(|cx| {
            self.poll(cx);
            if self.pending() == 0 || enough(self) {
                return Poll::Ready(());
            }
            let graced = Pin::new(&mut grace).poll(cx).is_ready() && self.lacks_only_the_silent();
            if graced { Poll::Ready(()) } else { Pin::new(&mut limit).poll(cx) }
        });
        run.await;
        if !enough(self) {
            self.missing().for_each(Node::fell_silent);
        }
    }

    /// Whether all who are missing did not answer the last time either.
    pub(super) fn lacks_only_the_silent(&self) -> bool {
        self.missing().all(Node::is_silent)
    }

    fn missing(&self) -> impl Iterator<Item = &Node> {
        let flights = self.flights.iter().zip(self.group.nodes());
        flights.filter(|(flight, _)| flight.is_some()).map(|(_, node)| &**node)
    }

    fn poll(&mut self, cx: &mut Context<'_>) {
        for (flight, answer) in self.flights.iter_mut().zip(&mut self.answers) {
            let polled = flight.as_mut().map(|flight| flight.as_mut().poll(cx));
            if let Some(Poll::Ready(landed)) = polled {
                (*flight, *answer) = (None, Some(landed));
                self.answered_at = Some(self.group.now());
            }
        }
    }

    /// When the latest answer came: those who are silent make a round longer, and tell nothing.
    pub(super) fn answered_at(&self) -> Option<BootInstant> {
        self.answered_at
    }

    /// How many have not answered yet.
    pub(super) fn pending(&self) -> usize {
        self.flights.iter().flatten().count()
    }

    pub(super) fn is_pending(&self, member: usize) -> bool {
        self.flights[member].is_some()
    }

    /// How many have failed.
    pub(super) fn failed(&self) -> usize {
        self.answers.iter().flatten().filter(|answer| answer.is_err()).count()
    }

    /// The answer of one member, if it has given one.
    pub(super) fn answer(&self, member: usize) -> Option<&Result<T>> {
        self.answers[member].as_ref()
    }

    /// What was answered, with who did.
    pub(super) fn good(&self) -> impl Iterator<Item = (usize, &T)> {
        let answered = self.answers.iter().enumerate();
        answered.filter_map(|(at, answer)| answer.as_ref()?.as_ref().ok().map(|good| (at, good)))
    }

    /// How many gave an answer that passes `test`.
    pub(super) fn count(&self, test: impl Fn(&T) -> bool) -> usize {
        self.good().filter(|(_, answer)| test(answer)).count()
    }

    /// Takes out what is under way, to be looked after elsewhere.
    pub(super) fn take_flights(&mut self) -> Vec<Option<Flight<T>>> {
        self.flights.iter_mut().map(Option::take).collect()
    }

    /// Takes the answers out; those that have not come stay away.
    pub(super) fn take_answers(&mut self) -> Vec<Option<Result<T>>> {
        self.answers.iter_mut().map(Option::take).collect()
    }
}

impl<T: Send + 'static> Drop for Round<'_, T> {
    fn drop(&mut self) {
        for (at, flight) in self.flights.iter_mut().enumerate() {
            if let Some(flight) = flight.take() {
                self.group.finish(at, flight, self.patience);
            }
        }
    }
}
