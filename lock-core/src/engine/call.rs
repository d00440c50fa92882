//! Requests that outlive their caller.

use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use super::background::Debt;
use super::background::Debts;
use super::held::Held;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A request for a hold, polled in its caller's task, that goes on in the background if the caller is
/// dropped.
///
/// A shutdown waits for it. So a connection is never left with half a reply, and what the future does
/// afterwards (its bookkeeping) is always done.
pub(crate) struct Call<T: Send + 'static> {
    future: Option<Boxed<T>>,
    debt: Debt<Holder>,
}

/// A hold, as the way to the debts of its engine.
struct Holder(Arc<Held>);

impl Deref for Holder {
    type Target = Debts;

    fn deref(&self) -> &Debts {
        self.0.shared().executor.debts()
    }
}

impl<T: Send + 'static> Call<T> {
    pub(crate) fn new(held: &Arc<Held>, future: impl Future<Output = T> + Send + 'static) -> Self {
        let debt = Debt::new(Holder(held.clone()));
        Self { future: Some(Box::pin(future)), debt }
    }
}

impl<T: Send + 'static> Future for Call<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let future = self.future.as_mut().expect("a call is not polled after it has completed");
        let output = std::task::ready!(future.as_mut().poll(cx));
        self.future = None;
        Poll::Ready(output)
    }
}

impl<T: Send + 'static> Drop for Call<T> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            let Holder(held) = self.debt.to();
            held.shared().executor.spawn_debt(async move { drop(future.await) });
        }
    }
}
