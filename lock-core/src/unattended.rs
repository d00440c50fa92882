//! Calls that outlive their caller.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

/// A call that runs in its caller's task and is handed over when it is dropped before it has ended.
///
/// A request that a store may have already must not end with its caller: its connection would be left with half
/// a reply, and what follows from the answer would not be noted. `leave` gets what is left of the call, and as a
/// rule spawns it: `Unattended::new(call, |rest| drop(runtime.spawn(rest)))`.
///
/// # Cancel safety
///
/// That is what it is for: dropped at any time, the call goes on with `leave`.
pub struct Unattended<F, L: FnOnce(Pin<Box<F>>)> {
    call: Option<(Pin<Box<F>>, L)>,
}

impl<F: Future, L: FnOnce(Pin<Box<F>>)> Unattended<F, L> {
    /// Has `call` carried out, if need be by `leave`.
    pub fn new(call: F, leave: L) -> Self {
        Self { call: Some((Box::pin(call), leave)) }
    }
}

impl<F: Future, L: FnOnce(Pin<Box<F>>) + Unpin> Future for Unattended<F, L> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some((call, _)) = &mut self.call else { return Poll::Pending };
        let output = call.as_mut().poll(context);
        if output.is_ready() {
            self.call = None;
        }
        output
    }
}

impl<F, L: FnOnce(Pin<Box<F>>)> Drop for Unattended<F, L> {
    fn drop(&mut self) {
        if let Some((rest, leave)) = self.call.take() {
            leave(rest);
        }
    }
}

impl<F, L: FnOnce(Pin<Box<F>>)> fmt::Debug for Unattended<F, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unattended").field("has_ended", &self.call.is_none()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn what_has_ended_is_not_left() {
        let call = Unattended::new(async { 1 }, |_| panic!("nothing is left of it"));
        assert_eq!(call.now_or_never(), Some(1));
    }

    #[test]
    fn what_is_dropped_goes_on_where_it_was() {
        let (mut left, mut polls) = (None, 0);
        let call = poll_fn(|_| {
            polls += 1;
            if polls == 2 { Poll::Ready(polls) } else { Poll::Pending }
        });
        assert_eq!(Unattended::new(call, |rest| left = Some(rest)).now_or_never(), None);
        assert_eq!(left.and_then(FutureExt::now_or_never), Some(2));
    }
}
