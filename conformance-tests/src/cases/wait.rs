//! Waiting for a lock: exact, calm and without loss.

use std::sync::Arc;
use std::sync::Mutex;

use futures_util::future::join_all;
use lock_core::Backend as _;
use lock_core::Backoff;
use lock_core::ErrorKind;
use lock_core::LockOptions;
use lock_core::Wait;
use lock_core::Waiting;
use tokio::sync::Notify;

use crate::Cx;
use crate::Failure;
use crate::Outcome;
use crate::Tap;
use crate::Weather;
use crate::case::cases;
use crate::cx::Provider;
use crate::cx::SLACK;
use crate::cx::acquire;
use crate::cx::failed;
use crate::cx::free;
use crate::cx::lock;
use crate::cx::ms;
use crate::cx::now;
use crate::cx::opts;
use crate::cx::settled;
use crate::cx::sleep;
use crate::cx::wake_bound;
use crate::cx::within;
use crate::failure::check;

cases! { "wait":
    "G6" "A12" ends_exactly_in_time;
    "G6 G5" "A12" that_ends_leaves_nothing;
    "G6" "A13" for_nothing_asks_once;
    "G6" "A13" is_no_matter_of_try_lock;
    "G6" "A12" that_fails_names_the_holder;
    "G6" "A12" by_attempts_makes_so_many;
    "G6" "D1" ends_with_the_release;
    "G6" "D1" loses_no_wake_up Heavy;
    "G6" "D3" ends_with_the_lease_of_the_dead [LeasePerLock];
    "G6" "D2" goes_on_without_hints;
    "G6 G12" "D4" of_many_wakes_few;
    "G6 G12" "D11" idly_costs_no_more_for_many;
    "G6" "D5" fairly_is_in_order [Line];
    "G6 G5" "C4" fairly_skips_the_cancelled [Line];
    "G6" "D10" outlives_a_bad_line;
    "G6" "D9 D1" outlives_a_broken_subscription [Push];
    "G6 G5" "D8 D10" lines_up_again_when_its_place_is_lost [Line];
    "G6" "D7" starves_nobody Heavy;
}

async fn ends_exactly_in_time(cx: Cx) -> Outcome {
    let (holder, waiter) = (cx.engine().await?, cx.engine().await?);
    let _held = lock(&holder, "a", opts()).await?;
    for millis in [300, 50] {
        let start = now();
        let refused = waiter.lock("a", &opts().wait(ms(millis))).await;
        let took = now().saturating_since(start);
        check!(took >= ms(millis) && took <= ms(millis) + SLACK, "{millis} ms took {took:?}");
        // A busy store may not have answered at all in the shorter time, and that is said.
        let unanswered = ErrorKind::Unavailable;
        if millis > 50 || !refused.as_ref().is_err_and(|error| error.kind() == unanswered) {
            failed(refused, ErrorKind::Timeout)?;
        }
    }
    Ok(())
}

async fn that_ends_leaves_nothing(cx: Cx) -> Outcome {
    let (holder, waiter) = (cx.engine().await?, cx.engine().await?);
    let client = cx.client().await?;
    let held = lock(&holder, "a", opts()).await?;
    let mut options = opts().wait(ms(100));
    options.fair = client.profile().fair;
    failed(waiter.lock("a", &options).await, ErrorKind::Timeout)?;
    held.unlock().await?;
    sleep(ms(100)).await;
    free(&*client, &cx.key("a"), SLACK).await
}

async fn for_nothing_asks_once(cx: Cx) -> Outcome {
    let (holder, tap) = (cx.engine().await?, cx.tapped().await?);
    let waiter = cx.engine_over(tap.clone())?;
    let _held = lock(&holder, "a", opts()).await?;
    tap.take_calls();
    let options = opts().wait(std::time::Duration::ZERO);
    within(ms(1500), async { failed(waiter.lock("a", &options).await, ErrorKind::Held) }).await??;
    let calls = tap.take_calls();
    check!(calls.len() <= 2, "a lock that is not to wait made {calls:?}");
    Ok(())
}

async fn is_no_matter_of_try_lock(cx: Cx) -> Outcome {
    let (holder, other) = (cx.engine().await?, cx.engine().await?);
    let _held = lock(&holder, "a", opts()).await?;
    let options = opts().wait(Wait::Forever);
    let tried = within(ms(1500), other.try_lock("a", &options)).await??;
    check!(tried.acquired().is_none(), "acquired what is held");
    Ok(())
}

/// Waits until nobody attempts any more: all waiters have lined up.
async fn at_rest(tap: &Tap) {
    loop {
        sleep(ms(500)).await;
        if !tap.take_calls().iter().any(|call| call.method == "attempt") {
            return;
        }
    }
}

async fn that_fails_names_the_holder(cx: Cx) -> Outcome {
    let (holder, waiter) = (cx.engine().await?, cx.engine().await?);
    let _held = lock(&holder, "a", opts().owner("ann")).await?;
    let timeout = failed(waiter.lock("a", &opts().wait(ms(300))).await, ErrorKind::Timeout)?;
    let held = failed(waiter.lock("a", &opts().wait(Wait::Never)).await, ErrorKind::Held)?;
    for error in [timeout, held] {
        let owner = error.holders().first().and_then(|holder| holder.owner.clone());
        check!(owner.as_deref() == Some("ann"), "no holder in {error}");
        check!(error.to_string().contains("\"a\""), "no key in {error}");
    }
    Ok(())
}

async fn by_attempts_makes_so_many(cx: Cx) -> Outcome {
    let (holder, waiter) = (cx.engine().await?, cx.engine().await?);
    let _held = lock(&holder, "a", opts()).await?;
    let wait = Wait::Attempts { max: 4, backoff: Backoff::fixed(ms(100)) };
    let start = now();
    failed(waiter.lock("a", &opts().wait(wait)).await, ErrorKind::Timeout)?;
    let took = now().saturating_since(start);
    check!(took >= ms(300) && took <= ms(300) + SLACK, "four attempts, 100 ms apart: {took:?}");
    Ok(())
}

async fn ends_with_the_release(cx: Cx) -> Outcome {
    let (holder, waiter) = (cx.engine().await?, cx.engine().await?);
    let bound = wake_bound(waiter.profile());
    let held = lock(&holder, "a", opts()).await?;
    let waiting = tokio::spawn(async move { lock(&waiter, "a", opts()).await });
    sleep(ms(300)).await;
    held.unlock().await?;
    let _next = within(bound, waiting).await???;
    Ok(())
}

/// Hands a lock to and fro, each time releasing while the other is about to wait.
async fn loses_no_wake_up(cx: Cx) -> Outcome {
    let engines = [cx.engine().await?, cx.engine().await?];
    let bound = wake_bound(engines[0].profile());
    let mut held = lock(&engines[0], "a", opts()).await?;
    for round in 1..150_u64 {
        let next = engines[round as usize % 2].clone();
        let waiting = tokio::spawn(async move { lock(&next, "a", opts()).await });
        // From before the first attempt to well after it.
        sleep(std::time::Duration::from_micros(round * 37 % 2500)).await;
        held.unlock().await?;
        held = within(bound, waiting).await???;
    }
    Ok(())
}

async fn ends_with_the_lease_of_the_dead(cx: Cx) -> Outcome {
    let (dead, waiter) = (cx.client().await?, cx.engine().await?);
    let (_, lease) = acquire(&*dead, &cx.claim_for("a", cx.ttl(&*dead))).await?;
    let bound = lease.ttl + wake_bound(waiter.profile());
    let _next = within(bound, lock(&waiter, "a", opts())).await??;
    Ok(())
}

async fn goes_on_without_hints(cx: Cx) -> Outcome {
    let (holder, tap) = (cx.engine().await?, cx.tapped().await?);
    tap.drop_hints();
    let waiter = cx.engine_over(tap.clone())?;
    // Between the last look and the next one may lie the longest pause.
    let bound = tap.profile().poll.max + SLACK;
    let held = lock(&holder, "a", opts()).await?;
    let waiting = tokio::spawn(async move { lock(&waiter, "a", opts().wait(Wait::Forever)).await });
    sleep(ms(300)).await;
    held.unlock().await?;
    let _next = within(bound, waiting).await???;
    Ok(())
}

fn spawn_waiters(
    engine: &Provider,
    keys: &[&str],
    count: usize,
) -> Vec<tokio::task::JoinHandle<()>> {
    let spawn = |n: usize| {
        let (engine, key) = (engine.clone(), keys[n % keys.len()].to_owned());
        tokio::spawn(async move {
            // Who gets the lock keeps it; the case drops the task.
            let guard = lock(&engine, &key, opts().wait(Wait::Forever)).await;
            std::future::pending::<()>().await;
            drop(guard);
        })
    };
    (0..count).map(spawn).collect()
}

async fn of_many_wakes_few(cx: Cx) -> Outcome {
    let (holder, tap) = (cx.engine().await?, cx.tapped().await?);
    let crowd = cx.engine_over(tap.clone())?;
    let held = lock(&holder, "a", opts()).await?;
    let waiters = spawn_waiters(&crowd, &["a"], 100);
    at_rest(&tap).await;
    held.unlock().await?;
    sleep(wake_bound(tap.profile()).min(ms(500))).await;
    let calls = tap.take_calls();
    let attempts = calls.iter().filter(|call| call.method == "attempt").count();
    check!((1..=10).contains(&attempts), "one release, 100 waiters, {attempts} attempts");
    waiters.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}

async fn idly_costs_no_more_for_many(cx: Cx) -> Outcome {
    let (holder, tap) = (cx.client().await?, cx.tapped().await?);
    let crowd = cx.engine_over(tap.clone())?;
    let keys = ["a", "b", "c", "d"];
    for key in keys {
        acquire(&*holder, &cx.claim(key)).await?;
    }
    let waiters = spawn_waiters(&crowd, &keys, 40);
    sleep(ms(300)).await;
    tap.take_calls();
    sleep(ms(2000)).await;
    let calls = tap.take_calls();
    let plan = tap.profile().poll;
    // Eager looks for a second, then at most one for each shortest pause while it still doubles.
    let eager = plan.eager.as_millis() / plan.first.as_millis().max(1);
    let later = 2000 / plan.max.as_millis().max(1) + 12;
    // Some may still line up: a few calls for each key, where 40 who look alone make hundreds.
    let allowed = eager + later + 12 * keys.len() as u128;
    check!(calls.len() as u128 <= allowed, "{} calls in 2 s, allowed {allowed}", calls.len());
    waiters.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}

type Order = Arc<Mutex<Vec<usize>>>;

/// Starts a fair wait that notes its turn when it comes; it stands in line when this returns.
async fn fair_waiter(
    engine: &Provider,
    number: usize,
    order: &Order,
) -> Outcome<tokio::task::JoinHandle<Outcome>> {
    let (engine, order, in_line) = (engine.clone(), order.clone(), Arc::new(Notify::new()));
    let told = in_line.clone();
    let waiter = tokio::spawn(async move {
        let tell = move |news| {
            if matches!(news, Waiting::Held { .. }) {
                told.notify_one();
            }
        };
        let options: LockOptions = opts().fair().observe(tell);
        let guard = lock(&engine, "a", options).await?;
        order.lock().map_err(Failure::new)?.push(number);
        sleep(ms(5)).await;
        Ok(guard.unlock().await?)
    });
    within(ms(5000), in_line.notified()).await?;
    // Clocks that order a line may be coarse.
    sleep(ms(10)).await;
    Ok(waiter)
}

async fn fairly_is_in_order(cx: Cx) -> Outcome {
    let engines = [cx.engine().await?, cx.engine().await?, cx.engine().await?];
    let order = Order::default();
    let held = lock(&engines[0], "a", opts().fair()).await?;
    let mut waiters = Vec::new();
    for number in 0..12 {
        // The first of another process would come before the second of this one, were it not fair.
        waiters.push(fair_waiter(&engines[number / 4], number, &order).await?);
    }
    held.unlock().await?;
    for waiter in join_all(waiters).await {
        waiter??;
    }
    let order = order.lock().map_err(Failure::new)?.clone();
    check!(order == (0..12).collect::<Vec<_>>(), "served in the order {order:?}");
    Ok(())
}

async fn fairly_skips_the_cancelled(cx: Cx) -> Outcome {
    let (engines, client) = ([cx.engine().await?, cx.engine().await?], cx.client().await?);
    let order = Order::default();
    let held = lock(&engines[0], "a", opts().fair()).await?;
    let mut waiters = Vec::new();
    for number in 0..5 {
        waiters.push(fair_waiter(&engines[number % 2], number, &order).await?);
    }
    waiters.swap_remove(2).abort();
    held.unlock().await?;
    // The cancelled one has left; a dead one would be skipped only seconds later.
    within(ms(2500), join_all(waiters)).await?;
    let order = order.lock().map_err(Failure::new)?.clone();
    check!(order == [0, 1, 3, 4], "served in the order {order:?}");
    free(&*client, &cx.key("a"), SLACK).await
}

async fn outlives_a_bad_line(cx: Cx) -> Outcome {
    let holder = cx.engine().await?;
    let (waiter, link) = cx.proxied().await?;
    let mut held = Some(lock(&holder, "a", opts()).await?);
    let waiting = tokio::spawn(async move { lock(&waiter, "a", opts()).await });
    for _ in 0..3 {
        sleep(ms(100)).await;
        link.set(Weather::Down);
        // The release makes the waiter ask, which it cannot now; in a line its turn comes so.
        drop(held.take());
        sleep(ms(100)).await;
        held = holder.try_lock("a", &opts()).await?.acquired();
        link.set(Weather::Fair);
    }
    drop(held);
    let _next = within(ms(5000), waiting).await???;
    Ok(())
}

async fn outlives_a_broken_subscription(cx: Cx) -> Outcome {
    let (holder, tap) = (cx.engine().await?, cx.tapped().await?);
    let waiter = cx.engine_over(tap.clone())?;
    // Twice, because a look that is due anyway may bring it about once.
    for key in ["a", "b"] {
        let (held, waiter) = (lock(&holder, key, opts()).await?, waiter.clone());
        let waiting = tokio::spawn(async move { lock(&waiter, key, opts()).await });
        sleep(ms(200)).await;
        tap.break_hints();
        // It may look once and arm again, at its own pace; from then on hints come as before.
        sleep(ms(300)).await;
        held.unlock().await?;
        let _next = within(SLACK, waiting).await???;
    }
    Ok(())
}

async fn lines_up_again_when_its_place_is_lost(cx: Cx) -> Outcome {
    let holder = cx.engine().await?;
    let (waiter, link) = cx.proxied().await?;
    let client = cx.client().await?;
    let options = opts().fair().ttl(cx.ttl(&*client));
    let held = lock(&holder, "a", opts()).await?;
    let waiting = tokio::spawn(async move { lock(&waiter, "a", options).await });
    settled(&*client, &cx.key("a"), ms(5000), |state| state.waiting == 1).await?;
    link.set(Weather::Hangs);
    // Its own lease in the line, or its session, ends meanwhile.
    settled(&*client, &cx.key("a"), ms(10_000), |state| state.waiting == 0).await?;
    link.set(Weather::Fair);
    settled(&*client, &cx.key("a"), ms(5000), |state| state.waiting == 1).await?;
    held.unlock().await?;
    let _next = within(wake_bound(holder.profile()), waiting).await???;
    Ok(())
}

async fn starves_nobody(cx: Cx) -> Outcome {
    let until = now() + ms(2000);
    let mut loops = Vec::new();
    for _ in 0..2 {
        let engine = cx.engine().await?;
        loops.push(tokio::spawn(async move {
            let mut grants = 0_u64;
            while now() < until {
                lock(&engine, "a", opts()).await?.unlock().await?;
                grants += 1;
            }
            Outcome::Ok(grants)
        }));
    }
    let [one, two] = &join_all(loops).await[..] else { unreachable!("two loops ran") };
    let (one, two) = (one.as_ref().map_err(Failure::new)?, two.as_ref().map_err(Failure::new)?);
    let (one, two) = (one.clone()?, two.clone()?);
    check!(one.min(two) * 10 >= one + two, "two hot loops got {one} and {two}");
    Ok(())
}
