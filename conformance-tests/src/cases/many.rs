//! Several keys in one call: all or none, in one order, within one deadline.

use lock_core::ErrorKind;
use lock_core::Eviction;
use lock_core::LockGuards;
use lock_core::LockOptions;
use lock_core::Mode;
use lock_core::Wait;

use super::cancel::Bench;
use super::crossing::Crowd;
use super::crossing::TTL;
use super::history::nothing_is_left;
use crate::Cx;
use crate::Outcome;
use crate::case::cases;
use crate::cx::Provider;
use crate::cx::SLACK;
use crate::cx::drop_after;
use crate::cx::excluded;
use crate::cx::failed;
use crate::cx::free;
use crate::cx::lock;
use crate::cx::ms;
use crate::cx::now;
use crate::cx::opts;
use crate::cx::sleep;
use crate::cx::tell;
use crate::cx::within;
use crate::failure::check;

cases! { "many":
    "G1 G2" "A16" are_held_together;
    "G5" "A16" of_which_one_is_held_are_not_taken;
    "G5 G6" "A16" that_time_out_leave_nothing;
    "G6" "A16 A12" share_one_deadline;
    "G6" "A12" name_the_key_that_is_held;
    "G6" "A16" in_opposite_orders_do_not_deadlock Heavy;
    "G6" "" of_one_name_are_one;
    "G1" "" of_no_name_are_refused;
    "G4 G1" "B4" are_kept_while_the_rest_is_waited_for;
    "G4 G5" "" are_given_up_when_one_is_lost;
    "G4" "" tell_which_was_lost;
    "G7 G5" "" are_all_released_though_one_was_lost;
    "G5" "" that_are_dropped_are_free;
    "G8" "" are_entered_by_their_owner;
    "G1" "A18" are_shared_by_readers [Shared];
    "G5" "C1" dropped_half_way_leave_nothing;
    "G5" "C1 C2" dropped_in_a_wait_leave_nothing;
    "G5" "C1 C4" dropped_in_line_leave_nothing [Line];
    "G1 G2 G5 G6" "A16 A6" of_crossing_processes_are_exact [Processes] Heavy in 120;
}

/// Not in order.
const KEYS: [&str; 3] = ["c", "a", "b"];

async fn lock_many(engine: &Provider, options: LockOptions) -> Outcome<LockGuards> {
    let options = if options.wait.is_none() { options.wait(ms(10_000)) } else { options };
    Ok(engine.lock_many(&KEYS, &options).await?)
}

/// Waits until none of the keys is held or waited for.
async fn all_free(cx: &Cx) -> Outcome {
    let client = cx.client().await?;
    for key in KEYS {
        free(&*client, &cx.key(key), ms(1000)).await?;
    }
    Ok(())
}

async fn are_held_together(cx: Cx) -> Outcome {
    let (engine, other) = (cx.engine().await?, cx.engine().await?);
    let before = lock_many(&engine, opts()).await?;
    for key in KEYS {
        excluded(&other, key).await?;
    }
    check!(before.is_valid() && before.iter().len() == 3, "not all are valid: {before:?}");
    let fences = KEYS.map(|key| before.fence(key));
    before.unlock().await?;
    let after = lock_many(&other, opts()).await?;
    for (key, fence) in KEYS.iter().zip(fences) {
        check!(after.fence(key) > fence, "{key}: {:?} after {fence:?}", after.fence(key));
    }
    Ok(())
}

async fn of_which_one_is_held_are_not_taken(cx: Cx) -> Outcome {
    let (holder, engine) = (cx.engine().await?, cx.engine().await?);
    for key in KEYS {
        let held = lock(&holder, key, opts()).await?;
        failed(engine.lock_many(&KEYS, &opts().wait(Wait::Never)).await, ErrorKind::Held)?;
        held.unlock().await?;
        all_free(&cx).await?;
    }
    Ok(())
}

async fn that_time_out_leave_nothing(cx: Cx) -> Outcome {
    let (holder, engine) = (cx.engine().await?, cx.engine().await?);
    let held = lock(&holder, "b", opts()).await?;
    let mut options = opts().wait(ms(100));
    options.fair = engine.profile().fair;
    failed(engine.lock_many(&KEYS, &options).await, ErrorKind::Timeout)?;
    held.unlock().await?;
    all_free(&cx).await
}

async fn share_one_deadline(cx: Cx) -> Outcome {
    let (holder, engine) = (cx.engine().await?, cx.engine().await?);
    let first = lock(&holder, "a", opts()).await?;
    let _second = lock(&holder, "b", opts()).await?;
    let start = now();
    let release = async {
        sleep(ms(600)).await;
        first.unlock().await
    };
    let options = opts().wait(ms(1000));
    let (ended, released) = tokio::join!(engine.lock_many(&KEYS, &options), release);
    released?;
    let took = now().saturating_since(start);
    failed(ended, ErrorKind::Timeout)?;
    check!(took >= ms(1000) && took <= ms(1000) + SLACK, "1 s for all keys took {took:?}");
    Ok(())
}

async fn name_the_key_that_is_held(cx: Cx) -> Outcome {
    let (holder, engine) = (cx.engine().await?, cx.engine().await?);
    let _held = lock(&holder, "b", opts().owner("ann")).await?;
    for wait in [Wait::Never, Wait::For(ms(500))] {
        let Err(error) = engine.lock_many(&KEYS, &opts().wait(wait)).await else {
            return Err(crate::Failure::new("one key is held, and all were taken"));
        };
        let owner = error.holders().first().and_then(|holder| holder.owner.clone());
        check!(error.key() == Some("b"), "b is held: {error}");
        check!(owner.as_deref() == Some("ann"), "no holder in {error}");
    }
    Ok(())
}

async fn in_opposite_orders_do_not_deadlock(cx: Cx) -> Outcome {
    let engines = [cx.engine().await?, cx.engine().await?, cx.engine().await?];
    for _ in 0..20 {
        // Both want "b" while somebody has it: who took "a" first would hold what the other needs.
        let held = lock(&engines[0], "b", opts()).await?;
        let mut crossing = Vec::new();
        for (engine, keys) in engines[1..].iter().cloned().zip([["b", "a"], ["a", "b"]]) {
            crossing.push(tokio::spawn(async move {
                engine.lock_many(&keys, &opts().wait(ms(5000))).await?.unlock().await
            }));
            sleep(ms(30)).await;
        }
        held.unlock().await?;
        for task in crossing {
            task.await??;
        }
    }
    all_free(&cx).await
}

async fn of_one_name_are_one(cx: Cx) -> Outcome {
    let (engine, other) = (cx.engine().await?, cx.engine().await?);
    let guards = engine.lock_many(&["b", "a", "b"], &opts().wait(ms(500))).await?;
    check!(guards.iter().len() == 2, "two keys, and {guards:?}");
    guards.unlock().await?;
    lock(&other, "b", opts().wait(ms(500))).await?.unlock().await?;
    Ok(())
}

async fn of_no_name_are_refused(cx: Cx) -> Outcome {
    let engine = cx.engine().await?;
    failed(engine.lock_many(&[], &opts()).await, ErrorKind::InvalidInput)?;
    Ok(())
}

async fn are_kept_while_the_rest_is_waited_for(cx: Cx) -> Outcome {
    let (holder, engine) = (cx.engine().await?, cx.engine().await?);
    let ttl = cx.ttl(&*cx.client().await?);
    let held = lock(&holder, "c", opts()).await?;
    let release = async {
        sleep(ttl * 3).await;
        excluded(&holder, "a").await?;
        Outcome::Ok(held.unlock().await?)
    };
    let options = opts().ttl(ttl).wait(ttl * 3 + ms(10_000));
    let (guards, released) = tokio::join!(lock_many(&engine, options), release);
    released?;
    let guards = guards?;
    check!(guards.check().is_ok() && guards.is_valid(), "not all are valid: {guards:?}");
    Ok(())
}

async fn are_given_up_when_one_is_lost(cx: Cx) -> Outcome {
    let (holder, engine) = (cx.engine().await?, cx.engine().await?);
    let ttl = cx.ttl(&*cx.client().await?);
    let held = lock(&holder, "c", opts()).await?;
    let evict = async {
        sleep(ms(200)).await;
        holder.force_unlock("a", Eviction::LockOnly).await
    };
    let options = opts().ttl(ttl).wait(ms(20_000));
    let calls = async { tokio::join!(engine.lock_many(&KEYS, &options), evict) };
    let (ended, evicted) = within(ms(200) + ttl * 2 + SLACK, calls).await?;
    evicted?;
    let error = failed(ended, ErrorKind::Lost)?;
    check!(error.key() == Some("a"), "a was lost: {error}");
    held.unlock().await?;
    all_free(&cx).await
}

async fn tell_which_was_lost(cx: Cx) -> Outcome {
    let (engine, other) = (cx.engine().await?, cx.engine().await?);
    let ttl = cx.ttl(&*cx.client().await?);
    let guards = lock_many(&engine, opts().ttl(ttl)).await?;
    other.force_unlock("b", Eviction::LockOnly).await?;
    let (key, loss) = within(ttl + SLACK, guards.lost()).await?;
    check!(key == "b", "b was lost, told is {key}: {loss:?}");
    let error = failed(guards.check(), ErrorKind::Lost)?;
    check!(!guards.is_valid() && error.key() == Some("b"), "{error}, and {guards:?}");
    Ok(())
}

async fn are_all_released_though_one_was_lost(cx: Cx) -> Outcome {
    let (engine, other) = (cx.engine().await?, cx.engine().await?);
    let ttl = cx.ttl(&*cx.client().await?);
    let guards = lock_many(&engine, opts().ttl(ttl)).await?;
    other.force_unlock("b", Eviction::LockOnly).await?;
    // A session store asks the holder, who may not have heard of it yet.
    within(ttl + SLACK, guards.lost()).await?;
    let error = failed(guards.unlock().await, ErrorKind::Lost)?;
    check!(error.key() == Some("b"), "b was lost: {error}");
    all_free(&cx).await
}

async fn that_are_dropped_are_free(cx: Cx) -> Outcome {
    let engine = cx.engine().await?;
    drop(lock_many(&engine, opts()).await?);
    all_free(&cx).await
}

async fn are_entered_by_their_owner(cx: Cx) -> Outcome {
    let (engine, other) = (cx.engine().await?, cx.engine().await?);
    let own = lock(&engine, "b", opts().owner("ann")).await?;
    let guards = lock_many(&engine, opts().owner("ann").wait(ms(500))).await?;
    check!(guards.fence("b") == Some(own.fence()), "{guards:?} entered {own:?}");
    guards.unlock().await?;
    excluded(&other, "b").await?;
    own.unlock().await?;
    all_free(&cx).await
}

async fn are_shared_by_readers(cx: Cx) -> Outcome {
    let (engine, other) = (cx.engine().await?, cx.engine().await?);
    let shared = opts().mode(Mode::Shared).wait(ms(2000));
    let one = lock_many(&engine, shared.clone()).await?;
    let two = lock_many(&other, shared).await?;
    check!(one.is_valid() && two.is_valid(), "not all are valid: {one:?}, {two:?}");
    one.unlock().await?;
    failed(engine.lock_many(&KEYS, &opts().wait(Wait::Never)).await, ErrorKind::Held)?;
    two.unlock().await?;
    all_free(&cx).await
}

/// For a call that takes three keys on a slow line.
const POLLS: usize = 30;

async fn dropped_half_way_leave_nothing(cx: Cx) -> Outcome {
    let bench = Bench::new(&cx).await?;
    for polls in 0..POLLS {
        drop(drop_after(bench.engine.lock_many(&KEYS, &opts()), polls).await);
        bench.are_clean(&KEYS).await?;
    }
    lock_many(&bench.engine, opts()).await?.unlock().await?;
    bench.are_clean(&KEYS).await
}

async fn dropped_in_a_wait_leave_nothing(cx: Cx) -> Outcome {
    wait_and_drop(&cx, opts()).await
}

async fn dropped_in_line_leave_nothing(cx: Cx) -> Outcome {
    wait_and_drop(&cx, opts().fair()).await
}

async fn wait_and_drop(cx: &Cx, options: LockOptions) -> Outcome {
    let (bench, holder) = (Bench::new(cx).await?, cx.engine().await?);
    let options = options.wait(ms(300));
    for polls in 0..POLLS {
        let held = lock(&holder, "b", opts()).await?;
        let waiting = bench.engine.lock_many(&KEYS, &options);
        let release = async {
            sleep(ms(15)).await;
            held.unlock().await
        };
        let (_, released) = tokio::join!(drop_after(waiting, polls), release);
        released?;
        bench.are_clean(&KEYS).await?;
    }
    lock_many(&bench.engine, opts()).await?.unlock().await?;
    bench.are_clean(&KEYS).await
}

async fn of_crossing_processes_are_exact(cx: Cx) -> Outcome {
    let crowd = Crowd::cross(&cx).await?;
    crowd.counted_exactly()?;
    crowd.went_on(ms(1000))?;
    tell(&crowd.figures());
    // What killed processes held has ended by then.
    nothing_is_left(&cx, TTL + SLACK).await
}
