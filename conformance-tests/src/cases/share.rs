//! Readers, writers and permits as users see them.

use std::time::Duration;

use futures_util::future::join_all;
use lock_core::ErrorKind;
use lock_core::Eviction;
use lock_core::LockGuard;
use lock_core::LockOptions;
use lock_core::Mode;
use lock_core::Wait;
use tokio::task::JoinHandle;

use crate::Cx;
use crate::Failure;
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
use crate::cx::permits;
use crate::cx::sleep;
use crate::cx::wake_bound;
use crate::cx::within;
use crate::failure::check;

cases! { "share":
    "G1" "A18" between_readers_keeps_writers_out [Shared];
    "G1 G6" "A17" of_permits_ends_at_their_number [Permits];
    "G1" "A17" of_permits_by_another_number_is_a_mistake [Permits];
    "G4" "B4" is_kept_while_its_guards_live [Shared, Permits];
    "G6" "D1 A18" ends_for_the_writer_with_the_last_reader [Shared];
    "G6" "D1 A18" begins_for_all_readers_with_the_writers_release [Shared];
    "G6" "D1 A17" of_permits_wakes_as_many_as_are_free [Permits];
    "G6" "D7 A18" between_readers_that_keep_coming_starves_no_writer [Shared] Heavy;
    "G6" "D7 A18" between_writers_that_keep_coming_starves_no_reader [Shared, Line] Heavy;
    "G5 G6" "C4 A18" goes_on_when_the_writer_in_line_gives_up [Shared, Line];
    "G5" "C1" leaves_nothing_when_cancelled [Shared, Permits];
    "G2 G4" "A15" ends_for_all_by_force [Shared];
}

fn reading() -> LockOptions {
    opts().mode(Mode::Shared)
}

/// Waits for the lock in a task of its own.
fn wait_for(engine: &Provider, options: LockOptions) -> JoinHandle<Outcome<LockGuard>> {
    let engine = engine.clone();
    tokio::spawn(async move { lock(&engine, "a", options).await })
}

async fn between_readers_keeps_writers_out(cx: Cx) -> Outcome {
    let engines = [cx.engine().await?, cx.engine().await?];
    let readers = [
        lock(&engines[0], "a", reading()).await?,
        lock(&engines[1], "a", reading()).await?,
        lock(&engines[0], "a", reading()).await?,
    ];
    check!(readers.iter().all(|guard| guard.is_valid()), "not all are valid: {readers:?}");
    check!(readers[0].mode() == Mode::Shared, "asked to share: {:?}", readers[0]);
    excluded(&engines[0], "a").await?;
    excluded(&engines[1], "a").await?;
    for reader in readers {
        reader.unlock().await?;
    }
    let _writer = lock(&engines[0], "a", opts()).await?;
    let refused = engines[1].try_lock("a", &reading()).await?.acquired();
    check!(refused.is_none(), "a reader beside a writer: {refused:?}");
    Ok(())
}

async fn of_permits_ends_at_their_number(cx: Cx) -> Outcome {
    let engines = [cx.engine().await?, cx.engine().await?];
    let two = || opts().mode(permits(2));
    let first = lock(&engines[0], "a", two().owner("ann")).await?;
    let _second = lock(&engines[1], "a", two().owner("bob")).await?;
    let error = failed(engines[1].lock("a", &two().wait(ms(50))).await, ErrorKind::Timeout)?;
    let mut names: Vec<_> = error.holders().iter().filter_map(|it| it.owner.clone()).collect();
    names.sort();
    check!(names == ["ann", "bob"], "held by {names:?}: {error}");
    first.unlock().await?;
    let _third = within(SLACK, lock(&engines[1], "a", two())).await??;
    Ok(())
}

async fn of_permits_by_another_number_is_a_mistake(cx: Cx) -> Outcome {
    let engines = [cx.engine().await?, cx.engine().await?];
    let _held = lock(&engines[0], "a", opts().mode(permits(2))).await?;
    // Waiting would not help, so it is told at once.
    let wait = opts().mode(permits(3)).wait(Wait::Forever);
    let refused = within(ms(1500), engines[1].lock("a", &wait)).await?;
    let text = failed(refused, ErrorKind::InvalidInput)?.to_string();
    check!(text.contains("permits:2"), "names not what is stored: {text}");
    Ok(())
}

async fn is_kept_while_its_guards_live(cx: Cx) -> Outcome {
    let engines = [cx.engine().await?, cx.engine().await?];
    let ttl = cx.ttl(&*cx.client().await?);
    let mut guards = Vec::new();
    for (key, mode) in [("r", Mode::Shared), ("p", permits(2))] {
        for engine in &engines {
            guards.push(lock(engine, key, opts().mode(mode).ttl(ttl)).await?);
        }
    }
    let until = now() + ttl * 3;
    while now() < until {
        check!(guards.iter().all(|guard| guard.is_valid()), "lost while it lives: {guards:?}");
        excluded(&engines[0], "r").await?;
        excluded(&engines[1], "p").await?;
        sleep(ttl / 5).await;
    }
    Ok(())
}

async fn ends_for_the_writer_with_the_last_reader(cx: Cx) -> Outcome {
    let engines = [cx.engine().await?, cx.engine().await?];
    let bound = wake_bound(engines[0].profile());
    let readers =
        [lock(&engines[0], "a", reading()).await?, lock(&engines[1], "a", reading()).await?];
    let writer = wait_for(&engines[1], opts());
    sleep(ms(200)).await;
    let [one, two] = readers;
    one.unlock().await?;
    sleep(ms(100)).await;
    check!(!writer.is_finished(), "a writer came in beside {two:?}");
    two.unlock().await?;
    let _writer = within(bound, writer).await???;
    Ok(())
}

async fn begins_for_all_readers_with_the_writers_release(cx: Cx) -> Outcome {
    let (holder, engines) = (cx.engine().await?, [cx.engine().await?, cx.engine().await?]);
    let bound = wake_bound(holder.profile());
    let writer = lock(&holder, "a", opts()).await?;
    // A long TTL: a place in line is rarely refreshed then, which would tell of the turn as well.
    let reading = || reading().ttl(ms(30_000));
    let readers: Vec<_> = (0..6).map(|n| wait_for(&engines[n % 2], reading())).collect();
    sleep(ms(300)).await;
    check!(!readers.iter().any(JoinHandle::is_finished), "a reader came in beside {writer:?}");
    writer.unlock().await?;
    let mut together = Vec::new();
    for reader in within(bound * 2, join_all(readers)).await? {
        together.push(reader??);
    }
    check!(together.iter().all(|guard| guard.is_valid()), "not together: {together:?}");
    Ok(())
}

async fn of_permits_wakes_as_many_as_are_free(cx: Cx) -> Outcome {
    let three = || opts().mode(permits(3)).wait(ms(20_000));
    let holder = cx.engine().await?;
    let bound = wake_bound(holder.profile());
    let held = lock(&holder, "a", opts()).await?;
    let mut waiters = Vec::new();
    for _ in 0..5 {
        // Each in a process of its own, as far as the store can see.
        waiters.push(wait_for(&cx.engine().await?, three()));
    }
    sleep(ms(300)).await;
    held.unlock().await?;
    sleep(bound * 2).await;
    let served = waiters.iter().filter(|waiter| waiter.is_finished()).count();
    check!(served == 3, "three permits became free, {served} of five waiters were served");
    waiters.iter().for_each(JoinHandle::abort);
    Ok(())
}

/// Takes and leaves the lock, over and over.
fn keep_coming(engine: &Provider, options: LockOptions, hold: Duration) -> JoinHandle<Outcome> {
    let engine = engine.clone();
    tokio::spawn(async move {
        loop {
            let guard = lock(&engine, "a", options.clone().wait(ms(20_000))).await?;
            sleep(hold).await;
            guard.unlock().await?;
        }
    })
}

/// Lets `count` tasks over several engines keep coming, and checks that one who asks for something
/// else gets it three times.
async fn outlasts(cx: &Cx, crowd: LockOptions, one: LockOptions, bound: Duration) -> Outcome {
    let mut coming = Vec::new();
    for n in 0..4 {
        let hold = ms(20 + 7 * n);
        coming.push(keep_coming(&cx.engine().await?, crowd.clone(), hold));
        sleep(ms(9)).await;
    }
    let engine = cx.engine().await?;
    for _ in 0..3 {
        let Ok(got) = within(bound, lock(&engine, "a", one.clone())).await else {
            let (many, mode) = (crowd.mode, one.mode);
            let message = format!("{many} claims that keep coming starved {mode} for {bound:?}");
            return Err(Failure::new(message));
        };
        let guard = got?;
        sleep(ms(5)).await;
        guard.unlock().await?;
        sleep(ms(50)).await;
    }
    for task in &coming {
        check!(!task.is_finished(), "one of the crowd gave up");
        task.abort();
    }
    Ok(())
}

async fn between_readers_that_keep_coming_starves_no_writer(cx: Cx) -> Outcome {
    let bound = wake_bound(cx.client().await?.profile()) * 4 + ms(1000);
    outlasts(&cx, reading(), opts(), bound).await
}

async fn between_writers_that_keep_coming_starves_no_reader(cx: Cx) -> Outcome {
    let bound = wake_bound(cx.client().await?.profile()) * 4 + ms(1000);
    outlasts(&cx, opts().fair(), reading().fair(), bound).await
}

async fn goes_on_when_the_writer_in_line_gives_up(cx: Cx) -> Outcome {
    let engines = [cx.engine().await?, cx.engine().await?, cx.engine().await?];
    let bound = wake_bound(engines[0].profile());
    let held = lock(&engines[0], "a", reading().fair()).await?;
    let writer = wait_for(&engines[1], opts().fair().wait(ms(20_000)));
    sleep(ms(150)).await;
    let reader = wait_for(&engines[2], reading().fair().wait(ms(20_000)));
    sleep(ms(150)).await;
    check!(!reader.is_finished(), "a reader overtook the writer in line");
    writer.abort();
    let _reader = within(bound, reader).await???;
    check!(held.is_valid(), "the first reader holds on: {held:?}");
    Ok(())
}

async fn leaves_nothing_when_cancelled(cx: Cx) -> Outcome {
    let (engine, outside) = (cx.engine().await?, cx.client().await?);
    for mode in [Mode::Shared, permits(2)] {
        let key = mode.to_string();
        for polls in 0..6 {
            drop(drop_after(engine.lock(&key, &opts().mode(mode)), polls).await);
            drop(drop_after(engine.try_lock(&key, &opts().mode(mode)), polls).await);
        }
        free(&*outside, &cx.key(&key), ms(2000)).await?;
        lock(&engine, &key, opts()).await?.unlock().await?;
    }
    Ok(())
}

async fn ends_for_all_by_force(cx: Cx) -> Outcome {
    let engines = [cx.engine().await?, cx.engine().await?];
    let ttl = cx.ttl(&*cx.client().await?);
    let short = || reading().ttl(ttl);
    let guards = [lock(&engines[0], "a", short()).await?, lock(&engines[1], "a", short()).await?];
    let evicted = cx.engine().await?.force_unlock("a", Eviction::LockOnly).await?;
    check!(evicted.holders == 2, "two held it: {evicted:?}");
    for guard in &guards {
        within(ttl + SLACK, guard.lost()).await?;
    }
    let next = lock(&cx.engine().await?, "a", opts()).await?;
    let highest = guards.iter().map(|guard| guard.fence()).max();
    check!(Some(next.fence()) > highest, "{:?} after {highest:?}", next.fence());
    Ok(())
}
