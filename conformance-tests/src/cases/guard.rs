//! What a guard promises while it lives, and how it ends.

use std::mem;
use std::thread;
use std::time::Duration;

use lock_core::ErrorKind;
use lock_core::Eviction;
use lock_core::Handle;
use lock_core::LeaseKind;
use lock_core::LockGuard;
use lock_core::Loss;

use crate::Cx;
use crate::Failure;
use crate::Outcome;
use crate::case::cases;
use crate::cx::Provider;
use crate::cx::SLACK;
use crate::cx::excluded;
use crate::cx::failed;
use crate::cx::free;
use crate::cx::lock;
use crate::cx::ms;
use crate::cx::now;
use crate::cx::opts;
use crate::cx::sleep;
use crate::cx::sleep_until;
use crate::cx::within;
use crate::failure::check;

cases! { "guard":
    "G3" "A10 B1" is_valid_for_less_than_its_ttl;
    "G1 G4" "B4" is_kept_while_it_lives;
    "G4" "B3" ends_at_its_ttl_without_renewal;
    "G4" "B3" is_at_risk_a_grace_before_its_end;
    "G5" "C10" that_is_forgotten_ends;
    "G7" "A5" frees_the_key_when_unlocked;
    "G7" "A15" says_when_it_was_lost;
    "G4 G1" "A15" learns_of_a_force_unlock;
    "G2" "A15" after_a_force_unlock_has_a_higher_fence;
    "G3" "B4" can_be_extended;
    "G3 G7" "B5" that_is_lost_cannot_be_extended;
    "G5" "" holds_at_least_its_minimum;
    "G5" "C13" goes_from_thread_to_thread;
    "G5" "C9" is_released_by_a_panic;
    "G5" "C7" can_be_dropped_without_a_runtime;
    "G5 G4" "C8" outlives_its_runtime;
    "G4 G1" "C11" outlives_a_blocked_runtime;
    "G1 G5" "B9" is_not_brought_back_by_a_renewal Heavy;
    "G7" "A4" becomes_a_handle_for_others [LeasePerLock];
    "G7" "" is_no_handle_on_a_session;
}

async fn pair(cx: &Cx) -> Outcome<(Provider, Provider, Duration)> {
    let client = cx.client().await?;
    let ttl = cx.ttl(&*client);
    Ok((cx.engine_over(client)?, cx.engine().await?, ttl))
}

async fn is_valid_for_less_than_its_ttl(cx: Cx) -> Outcome {
    let (engine, _, ttl) = pair(&cx).await?;
    let before = now();
    let guard = lock(&engine, "a", opts().ttl(ttl).without_renewal()).await?;
    check!(guard.is_valid(), "a new guard is not valid: {guard:?}");
    let most = guard.ttl() - lock_core::drift(guard.ttl());
    check!(guard.valid_until() <= now() + most, "{guard:?} is valid for more than {most:?}");
    check!(guard.valid_until() > before, "{guard:?} was over before it began");
    Ok(())
}

async fn is_kept_while_it_lives(cx: Cx) -> Outcome {
    let (engine, other, ttl) = pair(&cx).await?;
    let guard = lock(&engine, "a", opts().ttl(ttl)).await?;
    let (fence, until) = (guard.fence(), now() + ttl * 5);
    while now() < until {
        check!(guard.is_valid(), "lost, and nothing happened: {guard:?}");
        excluded(&other, "a").await?;
        sleep(ttl / 8).await;
    }
    check!(guard.fence() == fence, "renewing changed fence {fence} to {}", guard.fence());
    Ok(())
}

async fn ends_at_its_ttl_without_renewal(cx: Cx) -> Outcome {
    let (engine, other, ttl) = pair(&cx).await?;
    let guard = lock(&engine, "a", opts().ttl(ttl).without_renewal()).await?;
    let end = guard.valid_until();
    let hold = guard.hold();
    let taken = tokio::spawn(async move {
        let next = lock(&other, "a", opts()).await;
        (next, hold.is_valid())
    });
    let loss = within(ttl + SLACK, guard.lost()).await?;
    check!(now() >= end && loss == Loss::Expired, "{loss:?} at {:?}, due {end:?}", now());
    check!(!guard.is_valid(), "lost and valid: {guard:?}");
    let (next, both) = within(ttl * 2 + SLACK * 2, taken).await??;
    let _next = next?;
    check!(!both, "another guard came while this one was valid");
    Ok(())
}

async fn is_at_risk_a_grace_before_its_end(cx: Cx) -> Outcome {
    let (engine, _, ttl) = pair(&cx).await?;
    // Early in the TTL, far from where the default would be.
    let (ttl, grace) = (ttl.max(ms(1500)), ttl.max(ms(1500)) * 4 / 5);
    let guard = lock(&engine, "a", opts().ttl(ttl).grace(grace).without_renewal()).await?;
    let due = guard.valid_until() - grace;
    within(ttl + SLACK, guard.at_risk()).await?;
    let late = now().saturating_since(due);
    check!(now() >= due && late <= SLACK, "at risk {late:?} after {due:?}, it is {:?}", now());
    Ok(())
}

async fn that_is_forgotten_ends(cx: Cx) -> Outcome {
    let (engine, other, ttl) = pair(&cx).await?;
    let start = now();
    mem::forget(lock(&engine, "a", opts().ttl(ttl).max_hold(ttl * 2)).await?);
    let _next = within(ttl * 4 + SLACK, lock(&other, "a", opts())).await??;
    let took = now().saturating_since(start);
    check!(took >= ttl * 2 - SLACK, "to be held for {:?}, free after {took:?}", ttl * 2);
    Ok(())
}

async fn frees_the_key_when_unlocked(cx: Cx) -> Outcome {
    let (engine, other, _) = pair(&cx).await?;
    for _ in 0..10 {
        lock(&engine, "a", opts()).await?.unlock().await?;
        let next = other.try_lock("a", &opts()).await?.acquired();
        check!(next.is_some(), "unlocked, and still held");
        other.unlock(next.expect("just checked")).await?;
    }
    Ok(())
}

async fn says_when_it_was_lost(cx: Cx) -> Outcome {
    let (engine, other, _) = pair(&cx).await?;
    let guard = lock(&engine, "a", opts()).await?;
    other.force_unlock("a", Eviction::LockOnly).await?;
    let next = lock(&other, "a", opts()).await?;
    failed(guard.unlock().await, ErrorKind::Lost)?;
    check!(next.is_valid(), "the late unlock took {next:?}");
    excluded(&engine, "a").await
}

async fn learns_of_a_force_unlock(cx: Cx) -> Outcome {
    let (engine, other, ttl) = pair(&cx).await?;
    let guard = lock(&engine, "a", opts().ttl(ttl)).await?;
    other.force_unlock("a", Eviction::LockOnly).await?;
    let loss = within(ttl + SLACK, guard.lost()).await?;
    check!(!guard.is_valid(), "{loss:?} and valid: {guard:?}");
    check!(guard.check().is_err(), "{loss:?} and checked");
    Ok(())
}

async fn after_a_force_unlock_has_a_higher_fence(cx: Cx) -> Outcome {
    let (engine, other, _) = pair(&cx).await?;
    let guard = lock(&engine, "a", opts()).await?;
    other.force_unlock("a", Eviction::LockOnly).await?;
    let next = lock(&other, "a", opts()).await?;
    check!(next.fence() > guard.fence(), "{} after {}", next.fence(), guard.fence());
    Ok(())
}

async fn can_be_extended(cx: Cx) -> Outcome {
    let (engine, other, ttl) = pair(&cx).await?;
    let guard = lock(&engine, "a", opts().ttl(ttl).without_renewal()).await?;
    engine.extend(&guard, ttl * 3).await?;
    // With a session the lease is the session's, and the engine ends the lock at its own TTL.
    let own = engine.profile().lease == LeaseKind::PerLock;
    check!(!own || guard.valid_for() > ttl, "extended to {:?}: {guard:?}", ttl * 3);
    sleep(ttl * 2).await;
    check!(guard.is_valid(), "extended and lost: {guard:?}");
    excluded(&other, "a").await
}

async fn that_is_lost_cannot_be_extended(cx: Cx) -> Outcome {
    let (engine, other, ttl) = pair(&cx).await?;
    let guard = lock(&engine, "a", opts().ttl(ttl).without_renewal()).await?;
    within(ttl + SLACK, guard.lost()).await?;
    failed(engine.extend(&guard, ttl).await, ErrorKind::Lost)?;
    check!(!guard.is_valid(), "brought back: {guard:?}");
    let _next = within(ttl * 2 + SLACK, lock(&other, "a", opts())).await??;
    Ok(())
}

async fn holds_at_least_its_minimum(cx: Cx) -> Outcome {
    let (engine, other, ttl) = pair(&cx).await?;
    let least = ms(700);
    let start = now();
    let guard = lock(&engine, "a", opts().ttl(ttl.max(ms(1000))).min_hold(least)).await?;
    guard.unlock().await?;
    excluded(&other, "a").await?;
    let _next = within(ttl + ms(3000), lock(&other, "a", opts())).await??;
    let held = now().saturating_since(start);
    check!(held >= least, "to be held for {least:?}, free after {held:?}");
    Ok(())
}

async fn goes_from_thread_to_thread(cx: Cx) -> Outcome {
    let (engine, other, _) = pair(&cx).await?;
    let guard = lock(&engine, "a", opts()).await?;
    let guard = tokio::spawn(async move { (guard.is_valid(), guard) }).await?;
    check!(guard.0, "lost on the way");
    let dropped = thread::spawn(move || drop(guard.1)).join();
    check!(dropped.is_ok(), "dropping on another thread panicked");
    within(ms(2000), lock(&other, "a", opts())).await??.unlock().await?;
    Ok(())
}

async fn is_released_by_a_panic(cx: Cx) -> Outcome {
    let (engine, other, _) = pair(&cx).await?;
    let guard = lock(&engine, "a", opts()).await?;
    let section = tokio::spawn(async move {
        let _guard: LockGuard = guard;
        std::panic::resume_unwind(Box::new("quietly"));
    });
    check!(section.await.is_err(), "the section did not panic");
    within(ms(2000), lock(&other, "a", opts())).await??.unlock().await?;
    Ok(())
}

async fn can_be_dropped_without_a_runtime(cx: Cx) -> Outcome {
    let (engine, other) = (cx.connected().await?, cx.client().await?);
    let guard = lock(&engine, "a", opts()).await?;
    let dropped = thread::spawn(move || {
        drop(guard);
        drop(engine);
    });
    check!(dropped.join().is_ok(), "dropping without a runtime panicked");
    free(&*other, &cx.key("a"), ms(2000)).await
}

/// Locks on a runtime that is gone when this returns.
fn lock_and_end(cx: Cx, ttl: Duration) -> Outcome<(Provider, LockGuard)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let engine = cx.connected().await?;
        let guard = lock(&engine, "a", opts().ttl(ttl)).await?;
        Ok((engine, guard))
    })
}

async fn outlives_its_runtime(cx: Cx) -> Outcome {
    let (_, other, ttl) = pair(&cx).await?;
    let there = cx.clone();
    let ended = thread::spawn(move || lock_and_end(there, ttl)).join();
    let (engine, guard) = ended.map_err(|_| Failure::new("panicked with its runtime"))??;
    sleep(ttl * 2).await;
    check!(guard.is_valid(), "lost with its runtime: {guard:?}");
    excluded(&other, "a").await?;
    drop(guard);
    free(&*cx.client().await?, &cx.key("a"), ms(2000)).await?;
    engine.shutdown(ms(2000)).await?;
    Ok(())
}

async fn outlives_a_blocked_runtime(cx: Cx) -> Outcome {
    let (_, other, ttl) = pair(&cx).await?;
    let there = cx.clone();
    let blocked = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let engine = there.connected().await?;
            let guard = lock(&engine, "a", opts().ttl(ttl)).await?;
            thread::sleep(ttl * 3);
            Outcome::Ok(guard.is_valid())
        })
    });
    sleep(ttl).await;
    while !blocked.is_finished() {
        let free = !other.is_locked("a").await?;
        check!(!free || blocked.is_finished(), "free while its holder was blocked");
        sleep(ms(20)).await;
    }
    let valid = blocked.join().map_err(|_| Failure::new("panicked while blocked"))??;
    check!(valid, "lost while its runtime was blocked");
    Ok(())
}

async fn is_not_brought_back_by_a_renewal(cx: Cx) -> Outcome {
    let (engine, _, ttl) = pair(&cx).await?;
    let outside = cx.client().await?;
    for round in 0..150_u64 {
        let guard = lock(&engine, "a", opts().ttl(ttl * 2)).await?;
        let hold = guard.hold();
        let renew = async {
            let _ = guard.extend(ttl * 2).await;
        };
        // The renewal is dropped somewhere, and the release follows at once.
        let _ = tokio::time::timeout(Duration::from_micros(round * 7 % 900), renew).await;
        guard.unlock().await?;
        check!(!hold.is_valid(), "valid after its release: {hold:?}");
        let state = outside.inspect(&cx.key("a")).await?;
        check!(!state.is_locked(), "round {round}: brought back: {state:?}");
    }
    sleep(ms(50)).await;
    free(&*outside, &cx.key("a"), SLACK).await
}

async fn becomes_a_handle_for_others(cx: Cx) -> Outcome {
    let (engine, other, ttl) = pair(&cx).await?;
    let guard = lock(&engine, "a", opts().ttl(ttl)).await?;
    let handle: Handle = guard.into_handle()?.to_string().parse()?;
    drop(engine);
    other.renew(&handle, ttl * 2).await?;
    sleep(ttl).await;
    excluded(&other, "a").await?;
    other.release(&handle).await?;
    failed(other.release(&handle).await, ErrorKind::NotHeld)?;
    failed(other.renew(&handle, ttl).await, ErrorKind::NotHeld)?;
    // Nobody renews a handle by itself.
    let guard = lock(&other, "a", opts().ttl(ttl)).await?;
    let until = guard.valid_until();
    guard.into_handle()?;
    sleep_until(until + SLACK).await;
    free(&*cx.client().await?, &cx.key("a"), SLACK).await
}

async fn is_no_handle_on_a_session(cx: Cx) -> Outcome {
    let (engine, _, _) = pair(&cx).await?;
    if engine.profile().lease == LeaseKind::PerLock {
        return Err(Failure::skipped("locks do not end with a session"));
    }
    let guard = lock(&engine, "a", opts()).await?;
    failed(guard.into_handle(), ErrorKind::Unsupported)?;
    free(&*cx.client().await?, &cx.key("a"), ms(2000)).await
}
