//! Requests that outlive their caller.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use super::Shared;
use super::background::Debt;
use super::background::Debts;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A request polled in its caller's task, that goes on in the background if the caller is dropped.
///
/// A shutdown waits for it. So a connection is never left with half a reply, and what the future does
/// afterwards (its bookkeeping) is always done.
pub(crate) struct Call<'a, T: Send + 'static> {
    shared: &'a Shared,
    future: Option<Boxed<T>>,
    _debt: Debt<&'a Debts>,
}

impl<'a, T: Send + 'static> Call<'a, T> {
    pub(crate) fn new(
        shared: &'a Shared,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Self {
        Self { shared, future: Some(Box::pin(future)), _debt: shared.executor.owe() }
    }
}

impl<T: Send + 'static> Future for Call<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let future = self.future.as_mut().expect("a call is not polled after it has completed");
        let output = std::task::ready!(future.as_mut().poll(cx));
        self.future = None;
        Poll::Ready(output)
    }
}

impl<T: Send + 'static> Drop for Call<'_, T> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            self.shared.executor.spawn_debt(async move { drop(future.await) });
        }
    }
}
