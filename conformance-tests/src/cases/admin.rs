//! Looking, cleaning up, shutting down, and what is refused.

use lock_core::ErrorKind;
use lock_core::Mode;

use crate::Cx;
use crate::Failure;
use crate::Outcome;
use crate::case::cases;
use crate::cx::acquire;
use crate::cx::excluded;
use crate::cx::failed;
use crate::cx::free;
use crate::cx::lock;
use crate::cx::ms;
use crate::cx::opts;
use crate::cx::sleep;
use crate::cx::within;
use crate::failure::check;

cases! { "admin":
    "G6" "A14" status_tells_the_truth;
    "G9" "A14" list_shows_keys_as_they_were_written;
    "G1" "A8" cleanup_takes_no_lock_away;
    "G5" "C8" shutdown_releases_what_is_held;
    "G5 G6" "C8" shutdown_ends_waits;
    "G9" "A2" bad_keys_are_refused_unsent;
    "G1" "A17" modes_that_are_missing_are_refused;
    "G12" "A13" lock_and_unlock_are_one_call_each;
    "G12" "" keeping_many_is_a_few_calls;
    "G11" "" show_no_password;
}

async fn status_tells_the_truth(cx: Cx) -> Outcome {
    let (engine, foreign) = (cx.engine().await?, cx.client().await?);
    check!(!engine.is_locked("a").await?, "a free key is locked");
    let guard = lock(&engine, "a", opts().owner("ann")).await?;
    let state = engine.status("a").await?;
    let holder = state.holders.first().cloned().unwrap_or_default();
    check!(state.key == "a" && holder.owner.as_deref() == Some("ann"), "{state:?}");
    check!(holder.fence == Some(guard.fence()), "{guard:?} is shown as {holder:?}");
    guard.unlock().await?;
    check!(!engine.is_locked("a").await?, "a released key is locked");
    acquire(&*foreign, &cx.claim("a")).await?;
    check!(engine.is_locked("a").await?, "what another holds is not locked");
    Ok(())
}

async fn list_shows_keys_as_they_were_written(cx: Cx) -> Outcome {
    let (engine, other) = (cx.engine().await?, cx.engine().await?);
    let _held = [
        lock(&engine, "job:b", opts()).await?,
        lock(&other, "job:a", opts()).await?,
        lock(&engine, "task", opts()).await?,
    ];
    let names = |states: Vec<lock_core::KeyState>| -> Vec<String> {
        states.into_iter().map(|state| state.key).collect()
    };
    let (jobs, all) = (names(engine.list("job:").await?), names(engine.list("").await?));
    check!(jobs == ["job:a", "job:b"], "{jobs:?}");
    check!(all == ["job:a", "job:b", "task"], "{all:?}");
    Ok(())
}

async fn cleanup_takes_no_lock_away(cx: Cx) -> Outcome {
    let (engine, other) = (cx.engine().await?, cx.engine().await?);
    let guard = lock(&engine, "a", opts()).await?;
    other.cleanup_expired().await?;
    excluded(&other, "a").await?;
    guard.unlock().await?;
    Ok(())
}

async fn shutdown_releases_what_is_held(cx: Cx) -> Outcome {
    let (engine, outside) = (cx.engine().await?, cx.client().await?);
    let guards = [lock(&engine, "a", opts()).await?, lock(&engine, "b", opts()).await?];
    engine.shutdown(ms(5000)).await?;
    check!(guards.iter().all(|guard| !guard.is_valid()), "valid after the shutdown: {guards:?}");
    free(&*outside, &cx.key("a"), ms(1000)).await?;
    free(&*outside, &cx.key("b"), ms(1000)).await?;
    failed(engine.lock("c", &opts()).await, ErrorKind::Closed)?;
    failed(engine.is_locked("c").await, ErrorKind::Closed)?;
    Ok(())
}

async fn shutdown_ends_waits(cx: Cx) -> Outcome {
    let (holder, engine) = (cx.engine().await?, cx.engine().await?);
    let _held = lock(&holder, "a", opts()).await?;
    let waiter = engine.clone();
    let waiting = tokio::spawn(async move { waiter.lock("a", &opts().wait(ms(20_000))).await });
    sleep(ms(200)).await;
    engine.shutdown(ms(5000)).await?;
    failed(within(ms(1000), waiting).await??, ErrorKind::Closed)?;
    check!(holder.status("a").await?.waiting == 0, "a waiter was left behind");
    Ok(())
}

async fn bad_keys_are_refused_unsent(cx: Cx) -> Outcome {
    let tap = cx.tapped().await?;
    let engine = cx.engine_over(tap.clone())?;
    let long = "k".repeat(513 - cx.namespace().len());
    for key in ["", "a\0b", &*long] {
        failed(engine.lock(key, &opts()).await, ErrorKind::InvalidInput)?;
        failed(engine.try_lock(key, &opts()).await, ErrorKind::InvalidInput)?;
        failed(engine.is_locked(key).await, ErrorKind::InvalidInput)?;
    }
    let calls = tap.take_calls();
    check!(calls.is_empty(), "sent {calls:?}");
    Ok(())
}

async fn modes_that_are_missing_are_refused(cx: Cx) -> Outcome {
    let engine = cx.engine().await?;
    let modes: [Mode; 2] = ["shared".parse()?, "permits:3".parse()?];
    let able = [engine.profile().shared, engine.profile().permits];
    for (mode, able) in modes.into_iter().zip(able) {
        let tried = engine.try_lock("a", &opts().mode(mode)).await;
        if !able {
            let error = failed(tried, ErrorKind::Unsupported)?;
            let text = error.to_string();
            let named = text.contains(&mode.to_string()) && text.contains(engine.profile().name);
            check!(named, "names not both mode and backend: {text}");
        }
    }
    if able == [true; 2] { Err(Failure::skipped("the store has all modes")) } else { Ok(()) }
}

async fn lock_and_unlock_are_one_call_each(cx: Cx) -> Outcome {
    let tap = cx.tapped().await?;
    let engine = cx.engine_over(tap.clone())?;
    for _ in 0..5 {
        tap.take_calls();
        lock(&engine, "a", opts()).await?.unlock().await?;
        let calls: Vec<_> = tap.take_calls().into_iter().map(|call| call.method).collect();
        // A watch is armed, not asked: it is no round trip of the caller's.
        let asked: Vec<_> = calls.iter().filter(|method| **method != "watch").collect();
        check!(asked == [&"attempt", &"release"], "a free key cost {calls:?}");
    }
    Ok(())
}

async fn keeping_many_is_a_few_calls(cx: Cx) -> Outcome {
    let tap = cx.tapped().await?;
    let (engine, ttl) = (cx.engine_over(tap.clone())?, cx.ttl(&*tap).max(ms(1000)));
    let mut guards = Vec::new();
    for n in 0..30 {
        guards.push(lock(&engine, &n.to_string(), opts().ttl(ttl)).await?);
    }
    tap.take_calls();
    sleep(ttl * 2).await;
    let calls = tap.take_calls();
    let keeps = calls.iter().filter(|call| call.method == "keep").count();
    // Each third of the TTL once; what was locked far apart may be kept apart for a while.
    check!((1..=20).contains(&keeps), "30 locks were kept by {keeps} calls in two TTLs");
    check!(guards.iter().all(|guard| guard.is_valid()), "one of 30 was lost");
    Ok(())
}

async fn show_no_password(cx: Cx) -> Outcome {
    let secrets = cx.fixture().secrets();
    if secrets.is_empty() {
        return Err(Failure::skipped("the fixture has no password"));
    }
    let engine = cx.engine().await?;
    let guard = lock(&engine, "a", opts()).await?;
    let refused = engine.lock("a", &opts().wait(ms(20))).await;
    let handle = format!("{engine:?} {guard:?} {refused:?} {:?}", guard.hold());
    let text = refused.err().map(|error| error.to_string()).unwrap_or_default() + &handle;
    check!(secrets.iter().all(|secret| !text.contains(secret)), "a password is shown");
    Ok(())
}
