//! Contention for a while, recorded and checked as a whole.

use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::future::join_all;
use lock_core::Attempt;
use lock_core::BootInstant;
use lock_core::Eviction;
use lock_core::LeaseKind;
use lock_core::LockGuard;
use lock_core::Mode;
use lock_core::Waiting;
use lock_core::Wakeup;

use super::contend::Habit;
use super::contend::release;
use super::contend::run_loops;
use super::contend::try_once;
use crate::Cx;
use crate::Outcome;
use crate::Weather;
use crate::case::cases;
use crate::check;
use crate::check::Refusals;
use crate::cx::Provider;
use crate::cx::SLACK;
use crate::cx::dies;
use crate::cx::lock;
use crate::cx::ms;
use crate::cx::now;
use crate::cx::opts;
use crate::cx::permits;
use crate::cx::sleep;
use crate::cx::wake_bound;
use crate::failure::check;
use crate::history::Done;
use crate::history::Op;
use crate::history::Record;
use crate::history::Recorder;

cases! { "history":
    "G1 G2 G6" "A6" of_many_tasks_is_sound Heavy;
    "G1 G2 G4" "A15 F1" of_force_unlocks_is_sound Heavy;
    "G6" "D5" of_fair_waiters_follows_arrival [Line] Heavy;
    "G1 G5" "B7 F1" of_a_bad_line_is_sound Heavy;
    "G1 G2 S1" "A13" of_tries_is_exact Heavy;
    "G1 G2 G6" "A18 A6" of_readers_and_writers_is_sound [Shared] Heavy;
    "G1 G2 S3" "A17 A6" of_permits_with_holders_that_die_is_sound [Permits] Heavy;
    "G1 G5" "B7 F1" of_all_modes_on_a_bad_line_is_sound [Shared, Permits] Heavy;
}

/// Checks what must be true of every history.
async fn is_sound(cx: &Cx, history: &[Record]) -> Outcome {
    let lost = history.iter().find(|r| r.op == Op::Release && r.result == Done::Fail);
    check!(lost.is_none(), "lost well before its TTL, and nobody forced it: {lost:?}");
    is_sound_but_for_losses(cx, history).await
}

/// Checks what must be true even if sessions ended.
async fn is_sound_but_for_losses(cx: &Cx, history: &[Record]) -> Outcome {
    check!(history.len() > 50, "only {} records: too few to say anything", history.len());
    holds_are_sound(history)?;
    check::writes_follow_fences(history)?;
    check::unknowns_are_released(history)?;
    check::losses_are_told(history, SLACK)?;
    nothing_is_left(cx, SLACK).await
}

/// Checks what must be true even if holders died.
pub(crate) fn holds_are_sound(history: &[Record]) -> Outcome {
    check::fences_are_unique(history)?;
    check::fences_rise_in_real_time(history)?;
    check::fences_follow_holds(history)?;
    check::holds_do_not_overlap(history)?;
    Ok(check::is_linearizable(history, Refusals::Free)?)
}

/// Checks that nobody holds or waits for anything any more, within `bound`.
pub(crate) async fn nothing_is_left(cx: &Cx, bound: Duration) -> Outcome {
    let (client, until) = (cx.client().await?, now() + bound);
    loop {
        let left = check::nothing_is_left(&client.list(cx.namespace(), None, 10).await?.items);
        if left.is_ok() || now() > until {
            return Ok(left?);
        }
        sleep(ms(20)).await;
    }
}

/// Writers that each hold for a moment.
fn writers(count: usize) -> Vec<Habit> {
    vec![Habit::new().holding(ms(1)); count]
}

async fn of_many_tasks_is_sound(cx: Cx) -> Outcome {
    let engines = [cx.engine().await?, cx.engine().await?];
    let history = run_loops(&engines, writers(6), now() + ms(2000), &Arc::default()).await?;
    is_sound(&cx, &history).await?;
    check::free_keys_are_granted(&history, wake_bound(engines[0].profile()))?;
    if engines[0].profile().wakeup == Wakeup::Push {
        check::nobody_starves(&history, 10 * 6)?;
    }
    // Else those of one client hand the key on, and the other's look has to fall between two of them.
    Ok(())
}

async fn of_force_unlocks_is_sound(cx: Cx) -> Outcome {
    let engines = [cx.engine().await?, cx.engine().await?];
    let (until, breaker) = (now() + ms(2000), cx.engine().await?);
    let recorder = Arc::new(Recorder::default());
    let whole = cx.fixture().refuses_only_held();
    let breaking = tokio::spawn({
        let recorder = recorder.clone();
        async move {
            while now() < until {
                sleep(ms(50)).await;
                let record = Record::begin(99, "a", Op::Evict);
                breaker.force_unlock("a", Eviction::LockOnly).await?;
                // A session store asks the holder: nobody knows when it will have obeyed.
                let own = breaker.profile().lease == LeaseKind::PerLock;
                recorder.add(record.end(if own { Done::Ok } else { Done::Info }));
            }
            Outcome::Ok(())
        }
    });
    let history = run_loops(&engines, writers(4), until, &recorder).await?;
    breaking.await??;
    // A guard learns of a force unlock after the fact, so only the fence protects then (C3 is out).
    check!(history.len() > 50, "only {} records: too few to say anything", history.len());
    check::fences_are_unique(&history)?;
    check::fences_rise_in_real_time(&history)?;
    check::writes_follow_fences(&history)?;
    // Over several parts a force unlock is several steps: it may hit one holder, and then who came after.
    if whole { Ok(check::is_linearizable(&history, Refusals::Free)?) } else { Ok(()) }
}

async fn of_fair_waiters_follows_arrival(cx: Cx) -> Outcome {
    let engines = [cx.engine().await?, cx.engine().await?];
    let (recorder, arrivals) = (Arc::new(Recorder::default()), Arc::new(Recorder::default()));
    let waiter = |process: u64| {
        let engine = engines[process as usize % 2].clone();
        let (recorder, arrivals) = (recorder.clone(), arrivals.clone());
        tokio::spawn(async move {
            for _ in 0..10 {
                let (record, guard, in_line) = wait_in_line(&engine, process).await?;
                arrivals.add(Record { invoke_ns: in_line, ..record.clone() });
                recorder.add(record);
                sleep(ms(10)).await;
                release(guard, process, &recorder).await;
            }
            Outcome::Ok(())
        })
    };
    for ended in join_all((0..5).map(waiter).collect::<Vec<_>>()).await {
        ended??;
    }
    let (history, arrivals) = (recorder.history(), arrivals.history());
    check!(history.len() >= 90, "only {} records", history.len());
    // Who stood in line before another even asked comes first; the rest came as good as together, as do those
    // who came within one tick of a coarse clock.
    let asked = |it: &Record| {
        let grant = history.iter().find(|grant| grant.op == Op::Acquire && grant.fence == it.fence);
        grant.map_or(0, |grant| it.invoke_ns - grant.invoke_ns)
    };
    let slowest = arrivals.iter().map(asked).max().unwrap_or(0);
    check::grants_follow_arrival(&arrivals, Duration::from_nanos(slowest) + ms(1))?;
    holds_are_sound(&history)
}

/// Waits fairly for "a"; tells the call, its guard, and when it certainly stood in line.
async fn wait_in_line(engine: &Provider, process: u64) -> Outcome<(Record, LockGuard, u64)> {
    let stands = Arc::new(OnceLock::new());
    let told = stands.clone();
    let tell = move |news| {
        if matches!(news, Waiting::Held { .. }) {
            told.get_or_init(|| now().as_nanos());
        }
    };
    let record = Record::begin(process, "a", Op::Acquire);
    let guard = lock(engine, "a", opts().fair().observe(tell)).await?;
    let record = record.end(Done::Ok).of(&guard);
    let in_line = *stands.get_or_init(|| record.return_ns);
    Ok((record, guard, in_line))
}

/// Runs the loops while the line of the first engine goes bad again and again.
async fn in_bad_weather(cx: &Cx, habits: Vec<Habit>, long: Duration) -> Outcome {
    let (bad, link) = cx.proxied().await?;
    let (engines, until) = ([bad, cx.engine().await?], now() + long);
    // The link must outlive the loops: what they owe the store is paid over it.
    let line = link.clone();
    let storm = tokio::spawn(async move {
        let weathers = [
            Weather::LosesReplies,
            Weather::Slow { there: ms(20), back: ms(20) },
            Weather::Down,
            Weather::Hangs,
        ];
        for weather in weathers.into_iter().cycle().take_while(|_| now() < until) {
            line.set(weather);
            sleep(ms(60)).await;
            line.set(Weather::Fair);
            sleep(ms(60)).await;
        }
    });
    let history = run_loops(&engines, habits, until, &Arc::default()).await?;
    storm.await?;
    // What could not be released ends with its lease.
    nothing_is_left(cx, ms(2500)).await?;
    match engines[0].profile().lease {
        LeaseKind::Session => is_sound_but_for_losses(cx, &with_sessions_that_end(history)).await?,
        _ => is_sound(cx, &history).await?,
    }
    drop(link);
    Ok(())
}

/// A session may end with its connection, at any time from the grant on: what was found lost may have been
/// free since.
fn with_sessions_that_end(history: Vec<Record>) -> Vec<Record> {
    let granted = |lost: &Record| {
        let mut grants = history.iter().filter(|record| {
            let same = record.process == lost.process && record.fence == lost.fence;
            same && record.op == Op::Acquire
        });
        grants.next().map(|grant| grant.return_ns)
    };
    let ended = |record: &Record| {
        let lost = record.op == Op::Release && record.result == Done::Fail;
        let since = lost.then(|| granted(record)).flatten();
        let end = |since| Record { invoke_ns: since, result: Done::Info, ..record.clone() };
        since.map_or_else(|| record.clone(), end)
    };
    history.iter().map(ended).collect()
}

async fn of_a_bad_line_is_sound(cx: Cx) -> Outcome {
    in_bad_weather(&cx, writers(4), ms(3000)).await
}

async fn of_all_modes_on_a_bad_line_is_sound(cx: Cx) -> Outcome {
    let brief = || Habit::new().for_ttl(ms(1000)).holding(ms(2));
    let read = || brief().on("r").in_mode(Mode::Shared);
    let permit = || brief().on("p").in_mode(permits(2));
    let mut habits = vec![read(), read(), read(), brief().on("r"), brief().on("r")];
    habits.extend([permit(), permit(), permit(), permit()]);
    in_bad_weather(&cx, habits, ms(1500)).await
}

async fn of_tries_is_exact(cx: Cx) -> Outcome {
    let (until, recorder) = (now() + ms(700), Arc::new(Recorder::default()));
    let mut loops = Vec::new();
    for process in 0..4 {
        let (engine, recorder) = (cx.engine().await?, recorder.clone());
        loops.push(tokio::spawn(async move {
            while now() < until {
                if let Some(guard) = try_once(&engine, &Habit::new(), process, &recorder).await? {
                    sleep(ms(process)).await;
                    release(guard, process, &recorder).await;
                }
                sleep(ms(1)).await;
            }
            Outcome::Ok(())
        }));
    }
    for ended in join_all(loops).await {
        ended??;
    }
    let history = recorder.history();
    is_sound(&cx, &history).await?;
    let exact = if cx.fixture().refuses_only_held() { Refusals::Exact } else { Refusals::Free };
    Ok(check::is_linearizable(&history, exact)?)
}

async fn of_readers_and_writers_is_sound(cx: Cx) -> Outcome {
    let engines = [cx.engine().await?, cx.engine().await?, cx.engine().await?];
    let mut habits = vec![Habit::new().in_mode(Mode::Shared).holding(ms(2)); 6];
    habits.extend(writers(3));
    let history = run_loops(&engines, habits, now() + ms(1000), &Arc::default()).await?;
    is_sound(&cx, &history).await?;
    Ok(check::no_mode_starves(&history, 60)?)
}

/// Takes a permit for a short time now and then, and is heard of no more: twice at least.
async fn die_with_permits(cx: Cx, until: BootInstant, recorder: Arc<Recorder>) -> Outcome {
    let mut deaths = 0;
    while now() < until || deaths < 2 {
        // A client of its own each time: on a session store it takes the session with it.
        let client = cx.client().await?;
        let mut claim = cx.claim_for("a", cx.ttl(&*client));
        claim.mode = permits(3);
        let record = Record::begin(99, "a", Op::Acquire).in_mode(claim.mode);
        if let Attempt::Acquired { fence, lease } = client.attempt(&claim).await? {
            let granularity = client.profile().granularity;
            let record = record.end(Done::Ok).granted(fence, lease, granularity);
            recorder.add(record);
            if client.profile().lease == LeaseKind::Session {
                // It goes with its session, which ends from here on.
                let gone = Record::begin(99, "a", Op::Release).in_mode(claim.mode);
                recorder.add(gone.granted(fence, lease, granularity));
            }
            dies(&*client, lease).await?;
            deaths += 1;
        }
        sleep(ms(5)).await;
    }
    Ok(())
}

async fn of_permits_with_holders_that_die_is_sound(cx: Cx) -> Outcome {
    let engines = [cx.engine().await?, cx.engine().await?];
    let (until, recorder) = (now() + ms(1500), Arc::new(Recorder::default()));
    let dying = tokio::spawn(die_with_permits(cx.clone(), until, recorder.clone()));
    let habits = vec![Habit::new().in_mode(permits(3)).holding(ms(2)); 6];
    run_loops(&engines, habits, until, &recorder).await?;
    dying.await??;
    // Where a try waits behind those in line, the last deaths come after the rest.
    let history = recorder.history();
    check!(history.len() > 50, "only {} records: too few to say anything", history.len());
    let died = history.iter().filter(|record| record.process == 99).count();
    check!(died >= 2, "only {died} holders died");
    holds_are_sound(&history)?;
    nothing_is_left(&cx, SLACK).await
}
