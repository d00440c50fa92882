//! A request that is finished in the background when nobody waits for it any more.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use tokio::runtime::Handle;

/// Waits for a request; dropped, it leaves the request to the runtime.
pub(crate) struct Unattended<'a, F: Future<Output: Send> + Send + 'static> {
    pub(crate) request: Option<Pin<Box<F>>>,
    pub(crate) runtime: &'a Handle,
}

impl<F: Future<Output: Send> + Send + 'static> Future for Unattended<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(request) = &mut self.request else { return Poll::Pending };
        let answer = request.as_mut().poll(context);
        if answer.is_ready() {
            self.request = None;
        }
        answer
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Unattended<'_, F> {
    fn drop(&mut self) {
        if let Some(request) = self.request.take() {
            drop(self.runtime.spawn(request));
        }
    }
}
