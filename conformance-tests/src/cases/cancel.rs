//! Dropping any future at any await leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use lock_core::LockProviderExt as _;
use lock_core::SharedBackend;

use crate::Cx;
use crate::Link as _;
use crate::Outcome;
use crate::Tap;
use crate::Weather;
use crate::case::cases;
use crate::cx::Provider;
use crate::cx::drop_after;
use crate::cx::free;
use crate::cx::lock;
use crate::cx::ms;
use crate::cx::now;
use crate::cx::opts;
use crate::cx::sleep;
use crate::cx::within;
use crate::failure::check;

cases! { "cancel":
    "G5" "C1" lock_of_a_free_key;
    "G5" "C1" lock_of_a_held_key;
    "G5" "C1 C4" lock_in_line [Line];
    "G5" "C1 C14" try_lock;
    "G5" "C1" extend;
    "G5 G7" "C1" unlock;
    "G5" "C1" with_lock;
    "G5" "C2" against_the_grant Heavy;
    "G5" "C3" while_the_reply_is_under_way;
    "G5" "C3" while_the_line_hangs;
}

/// How often a future is polled at most before it is dropped.
const POLLS: usize = 12;

/// An engine on a slow line, so that each call is an await of its own, and a look from outside.
pub(super) struct Bench {
    pub(super) engine: Provider,
    tap: Arc<Tap>,
    outside: SharedBackend,
    cx: Cx,
}

impl Bench {
    pub(super) async fn new(cx: &Cx) -> Outcome<Self> {
        let (tap, outside) = (cx.tapped().await?, cx.client().await?);
        tap.set(Weather::Slow { there: ms(1), back: ms(1) });
        Ok(Self { engine: cx.engine_over(tap.clone())?, tap, outside, cx: cx.clone() })
    }

    async fn is_clean(&self) -> Outcome {
        self.are_clean(&["a"]).await
    }

    /// Checks that nothing is under way, held or queued (within two round trips; here in slack).
    pub(super) async fn are_clean(&self, keys: &[&str]) -> Outcome {
        // What was dropped may have been about to send something.
        sleep(ms(10)).await;
        let until = now() + ms(1000);
        while self.tap.calls_under_way() > 0 {
            check!(now() < until, "{} calls are still under way", self.tap.calls_under_way());
            sleep(ms(5)).await;
        }
        for key in keys {
            free(&*self.outside, &self.cx.key(key), ms(1000)).await?;
        }
        Ok(())
    }

    /// Checks that it is clean and that the key can still be had.
    async fn is_whole(&self) -> Outcome {
        self.is_clean().await?;
        lock(&self.engine, "a", opts()).await?.unlock().await?;
        self.is_clean().await
    }
}

async fn lock_of_a_free_key(cx: Cx) -> Outcome {
    let bench = Bench::new(&cx).await?;
    for polls in 0..POLLS {
        drop(drop_after(bench.engine.lock("a", &opts()), polls).await);
        bench.is_clean().await?;
    }
    bench.is_whole().await
}

async fn lock_of_a_held_key(cx: Cx) -> Outcome {
    let (bench, holder) = (Bench::new(&cx).await?, cx.engine().await?);
    for polls in 0..POLLS {
        let held = lock(&holder, "a", opts()).await?;
        let wait = opts().wait(ms(300));
        drop(drop_after(bench.engine.lock("a", &wait), polls).await);
        held.unlock().await?;
        bench.is_clean().await?;
    }
    bench.is_whole().await
}

async fn lock_in_line(cx: Cx) -> Outcome {
    let (bench, holder) = (Bench::new(&cx).await?, cx.engine().await?);
    for polls in 0..POLLS {
        let held = lock(&holder, "a", opts()).await?;
        let wait = opts().fair().wait(ms(300));
        drop(drop_after(bench.engine.lock("a", &wait), polls).await);
        held.unlock().await?;
        bench.is_clean().await?;
    }
    bench.is_whole().await
}

async fn try_lock(cx: Cx) -> Outcome {
    let bench = Bench::new(&cx).await?;
    for polls in 0..POLLS {
        drop(drop_after(bench.engine.try_lock("a", &opts()), polls).await);
        bench.is_clean().await?;
    }
    bench.is_whole().await
}

async fn extend(cx: Cx) -> Outcome {
    let bench = Bench::new(&cx).await?;
    for polls in 0..POLLS {
        let guard = lock(&bench.engine, "a", opts().ttl(ms(20_000))).await?;
        drop(drop_after(bench.engine.extend(&guard, ms(40_000)), polls).await);
        check!(guard.is_valid() && guard.valid_for() <= ms(40_000), "{guard:?}");
        guard.unlock().await?;
        bench.is_clean().await?;
    }
    bench.is_whole().await
}

async fn unlock(cx: Cx) -> Outcome {
    let bench = Bench::new(&cx).await?;
    for polls in 0..POLLS {
        let guard = lock(&bench.engine, "a", opts()).await?;
        drop(drop_after(bench.engine.unlock(guard), polls).await);
        bench.is_clean().await?;
    }
    bench.is_whole().await
}

async fn with_lock(cx: Cx) -> Outcome {
    let bench = Bench::new(&cx).await?;
    for polls in 0..POLLS {
        let body = async |_| {
            sleep(ms(2)).await;
            Ok::<_, lock_core::Error>(())
        };
        let options = opts();
        drop(drop_after(bench.engine.with_lock("a", &options, body), polls).await);
        bench.is_clean().await?;
    }
    bench.is_whole().await
}

async fn against_the_grant(cx: Cx) -> Outcome {
    let (holder, waiter) = (cx.engine().await?, cx.engine().await?);
    let outside = cx.client().await?;
    for round in 0..200_u64 {
        let held = lock(&holder, "a", opts()).await?;
        let options = opts();
        let waiting = lock(&waiter, "a", options);
        let release = async {
            sleep(ms(1)).await;
            held.unlock().await
        };
        // The wait is dropped from just before the release to well after the grant.
        let patience = ms(1) + Duration::from_micros(round * 13 % 1500);
        let (_, released) = tokio::join!(tokio::time::timeout(patience, waiting), release);
        released?;
    }
    free(&*outside, &cx.key("a"), ms(1000)).await?;
    lock(&waiter, "a", opts()).await?.unlock().await?;
    Ok(())
}

async fn while_the_reply_is_under_way(cx: Cx) -> Outcome {
    let outside = cx.client().await?;
    let (engine, link) = cx.proxied().await?;
    link.set(Weather::Slow { there: ms(0), back: ms(200) });
    // Granted in the store by now, unknown to the caller.
    let late = tokio::time::timeout(ms(100), engine.lock("a", &opts())).await;
    check!(late.is_err(), "the reply cannot be there yet: {late:?}");
    sleep(ms(500)).await;
    link.set(Weather::Fair);
    free(&*outside, &cx.key("a"), ms(1000)).await
}

async fn while_the_line_hangs(cx: Cx) -> Outcome {
    let outside = cx.client().await?;
    let (engine, link) = cx.proxied().await?;
    lock(&engine, "b", opts()).await?.unlock().await?;
    link.set(Weather::Hangs);
    let hung = tokio::time::timeout(ms(100), engine.lock("a", &opts())).await;
    check!(hung.is_err(), "nothing can have arrived: {hung:?}");
    link.set(Weather::Fair);
    // The request may still arrive; its release must come after it.
    sleep(ms(200)).await;
    free(&*outside, &cx.key("a"), ms(1000)).await?;
    let _next = within(ms(5000), lock(&engine, "a", opts())).await??;
    Ok(())
}
