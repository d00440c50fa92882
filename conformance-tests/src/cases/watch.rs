//! Hints come when they were asked for.

use std::sync::Arc;
use std::task::Wake;
use std::task::Waker;

use lock_core::Eviction;
use lock_core::Hint;
use lock_core::WatchFor;
use tokio::sync::Notify;

use crate::Cx;
use crate::Outcome;
use crate::case::cases;
use crate::cx::acquire;
use crate::cx::ms;
use crate::cx::within;

cases! { "watch":
    "G6" "D1" of_a_waiter_tells_of_a_release [Push];
    "G6" "D1" is_armed_when_it_returns [Push] Heavy;
    "G6" "D1" of_the_next_in_line_tells_of_a_release [Push, Line];
    "G4 G6" "A15" of_a_holder_tells_of_its_eviction [WatchesHolders];
    "G5" "C4" that_was_dropped_harms_nobody;
}

/// A hint whose giving can be awaited.
pub(super) struct Bell(Notify);

impl Bell {
    /// Completes when the hint is given. Without it nothing would come, so the bound is one that a busy
    /// machine keeps.
    #[track_caller]
    pub(super) fn rings(&self) -> impl Future<Output = Outcome> {
        within(ms(2000), self.0.notified())
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

pub(super) fn bell() -> (Arc<Bell>, Hint) {
    let bell = Arc::new(Bell(Notify::new()));
    (bell.clone(), Hint::new(Waker::from(bell)))
}

async fn of_a_waiter_tells_of_a_release(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let held = cx.claim("a");
    acquire(&*first, &held).await?;
    let (bell, hint) = bell();
    let _watch = second.watch(&cx.claim("a"), WatchFor::Release, hint).await?;
    first.release(&held).await?;
    bell.rings().await
}

async fn is_armed_when_it_returns(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    for round in 0..100 {
        let name = format!("a{round}");
        let held = cx.claim(&name);
        acquire(&*first, &held).await?;
        let (bell, hint) = bell();
        let watch = second.watch(&cx.claim(&name), WatchFor::Release, hint).await?;
        first.release(&held).await?;
        bell.rings().await?;
        drop(watch);
    }
    Ok(())
}

async fn of_the_next_in_line_tells_of_a_release(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let (held, waiter) = (cx.claim("a"), cx.in_line("a"));
    acquire(&*first, &held).await?;
    let (bell, hint) = bell();
    let _watch = second.watch(&waiter, WatchFor::Release, hint).await?;
    second.attempt(&waiter).await?;
    first.release(&held).await?;
    bell.rings().await?;
    acquire(&*second, &waiter).await?;
    Ok(())
}

async fn of_a_holder_tells_of_its_eviction(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let held = cx.claim("a");
    acquire(&*first, &held).await?;
    let (bell, hint) = bell();
    let _watch = first.watch(&held, WatchFor::Eviction, hint).await?;
    second.evict(&held.key, Eviction::LockOnly).await?;
    bell.rings().await
}

async fn that_was_dropped_harms_nobody(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let held = cx.claim("a");
    acquire(&*first, &held).await?;
    for _ in 0..20 {
        let (_, hint) = bell();
        drop(second.watch(&cx.claim("a"), WatchFor::Release, hint).await?);
    }
    first.release(&held).await?;
    acquire(&*second, &cx.claim("a")).await?;
    Ok(())
}
