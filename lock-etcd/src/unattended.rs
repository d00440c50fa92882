//! A call that is finished in the background when nobody waits for it any more.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use tokio::runtime::Handle;

/// Carries a call out in its caller's task; dropped, it leaves the rest to the runtime: the server may have
/// the request already, and what follows from its answer has to be noted.
pub(crate) struct Unattended<'a, F: Future<Output: Send> + Send + 'static> {
    call: Option<Pin<Box<F>>>,
    runtime: &'a Handle,
}

impl<'a, F: Future<Output: Send> + Send + 'static> Unattended<'a, F> {
    pub(crate) fn new(runtime: &'a Handle, call: F) -> Self {
        Self { call: Some(Box::pin(call)), runtime }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for Unattended<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(call) = &mut self.call else { return Poll::Pending };
        let answer = call.as_mut().poll(context);
        if answer.is_ready() {
            self.call = None;
        }
        answer
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Unattended<'_, F> {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            drop(self.runtime.spawn(call));
        }
    }
}
