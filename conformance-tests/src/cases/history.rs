//! Contention for a while, recorded and checked as a whole.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use futures_util::future::join_all;
use lock_core::BootInstant;
use lock_core::ErrorKind;
use lock_core::Eviction;
use lock_core::LockGuard;

use crate::Cx;
use crate::Outcome;
use crate::case::cases;
use crate::check;
use crate::cx::Provider;
use crate::cx::SLACK;
use crate::cx::ms;
use crate::cx::now;
use crate::cx::opts;
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
}

/// Locks and unlocks in a loop, as `process`, until `until`.
pub(crate) async fn contend(
    engine: &Provider,
    key: &str,
    process: u64,
    until: BootInstant,
    recorder: &Recorder,
) -> Outcome {
    while now() < until {
        if let Some(guard) = acquire(engine, key, process, false, recorder).await? {
            release(guard, process, recorder).await;
        }
    }
    Ok(())
}

async fn acquire(
    engine: &Provider,
    key: &str,
    process: u64,
    fair: bool,
    recorder: &Recorder,
) -> Outcome<Option<LockGuard>> {
    let mut options = opts().ttl(ms(2000)).wait(ms(1000));
    options.fair = fair;
    let record = Record::begin(process, key, Op::Acquire);
    match engine.lock(key, &options).await {
        Ok(guard) => {
            recorder.add(record.end(Done::Ok).of(&guard));
            Ok(Some(guard))
        }
        Err(error) if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable) => {
            // The engine releases what may have been granted; the end of the case checks that.
            recorder.add(record.end(Done::Fail));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

async fn release(guard: LockGuard, process: u64, recorder: &Recorder) {
    let record = Record::begin(process, guard.key(), Op::Release).of(&guard);
    let done = match guard.unlock().await {
        Ok(()) => Done::Ok,
        Err(error) if error.kind() == ErrorKind::Lost => Done::Fail,
        Err(_) => Done::Info,
    };
    recorder.add(record.end(done));
}

/// The protected resource: it refuses a fence lower than it has seen.
#[derive(Default)]
struct Register(Mutex<u64>);

impl Register {
    fn write(&self, guard: &LockGuard, process: u64, recorder: &Recorder) {
        let mut highest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let record = Record::begin(process, guard.key(), Op::Write).of(guard);
        let taken = guard.fence().get() >= *highest;
        *highest = guard.fence().get().max(*highest);
        recorder.add(record.end(if taken { Done::Ok } else { Done::Fail }));
    }
}

/// Runs `tasks` loops over the engines that write under the lock; returns what they recorded.
async fn write_in_loops(
    engines: &[Provider],
    tasks: u64,
    until: BootInstant,
) -> Outcome<Vec<Record>> {
    let (recorder, register) = (Arc::new(Recorder::default()), Arc::new(Register::default()));
    let loops = (0..tasks).map(|process| {
        let engine = engines[process as usize % engines.len()].clone();
        let (recorder, register) = (recorder.clone(), register.clone());
        tokio::spawn(async move {
            while now() < until {
                if let Some(guard) = acquire(&engine, "a", process, false, &recorder).await? {
                    register.write(&guard, process, &recorder);
                    sleep(ms(1)).await;
                    release(guard, process, &recorder).await;
                }
            }
            Outcome::Ok(())
        })
    });
    for ended in join_all(loops).await {
        ended??;
    }
    Ok(recorder.history())
}

/// Checks what must be true of every history.
async fn is_sound(cx: &Cx, history: &[Record]) -> Outcome {
    check!(history.len() > 50, "only {} records: too few to say anything", history.len());
    let lost = history.iter().find(|r| r.op == Op::Release && r.result == Done::Fail);
    check!(lost.is_none(), "lost well before its TTL, and nobody forced it: {lost:?}");
    check::fences_are_unique(history)?;
    check::fences_rise_in_real_time(history)?;
    check::fences_follow_holds(history)?;
    check::holds_do_not_overlap(history)?;
    check::writes_follow_fences(history)?;
    check::unknowns_are_released(history)?;
    check::losses_are_told(history, SLACK)?;
    sleep(ms(300)).await;
    let left = cx.client().await?.list(cx.namespace(), None, 10).await?.items;
    Ok(check::nothing_is_left(&left)?)
}

async fn of_many_tasks_is_sound(cx: Cx) -> Outcome {
    let engines = [cx.engine().await?, cx.engine().await?];
    let history = write_in_loops(&engines, 6, now() + ms(2000)).await?;
    is_sound(&cx, &history).await?;
    check::free_keys_are_granted(&history, wake_bound(engines[0].profile()))?;
    check::nobody_starves(&history, 10 * 6)?;
    Ok(())
}

async fn of_force_unlocks_is_sound(cx: Cx) -> Outcome {
    let engines = [cx.engine().await?, cx.engine().await?];
    let (until, breaker) = (now() + ms(2000), cx.engine().await?);
    let breaking = tokio::spawn(async move {
        while now() < until {
            sleep(ms(50)).await;
            breaker.force_unlock("a", Eviction::LockOnly).await?;
        }
        Outcome::Ok(())
    });
    let history = write_in_loops(&engines, 4, until).await?;
    breaking.await??;
    // A guard learns of a force unlock after the fact, so only the fence protects then (C3 is out).
    check!(history.len() > 50, "only {} records: too few to say anything", history.len());
    check::fences_are_unique(&history)?;
    check::fences_rise_in_real_time(&history)?;
    Ok(check::writes_follow_fences(&history)?)
}

async fn of_fair_waiters_follows_arrival(cx: Cx) -> Outcome {
    let engines = [cx.engine().await?, cx.engine().await?];
    let recorder = Arc::new(Recorder::default());
    let waiter = |process: u64| {
        let engine = engines[process as usize % 2].clone();
        let recorder = recorder.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                if let Some(guard) = acquire(&engine, "a", process, true, &recorder).await? {
                    sleep(ms(10)).await;
                    release(guard, process, &recorder).await;
                }
            }
            Outcome::Ok(())
        })
    };
    for ended in join_all((0..5).map(waiter).collect::<Vec<_>>()).await {
        ended??;
    }
    let history = recorder.history();
    check!(history.len() >= 90, "only {} records", history.len());
    // Who came as good as together may be served in any order.
    check::grants_follow_arrival(&history, ms(25))?;
    Ok(check::holds_do_not_overlap(&history)?)
}

async fn of_a_bad_line_is_sound(cx: Cx) -> Outcome {
    let (bad, link) = cx.proxied().await?;
    let (engines, until) = ([bad, cx.engine().await?], now() + ms(3000));
    // The link must outlive the loops: what they owe the store is paid over it.
    let line = link.clone();
    let storm = tokio::spawn(async move {
        let weathers = [
            crate::Weather::LosesReplies,
            crate::Weather::Slow { there: ms(20), back: ms(20) },
            crate::Weather::Down,
            crate::Weather::Hangs,
        ];
        for weather in weathers.into_iter().cycle().take_while(|_| now() < until) {
            line.set(weather);
            sleep(ms(60)).await;
            line.set(crate::Weather::Fair);
            sleep(ms(60)).await;
        }
    });
    let history = write_in_loops(&engines, 4, until).await?;
    storm.await?;
    sleep(ms(2000)).await;
    is_sound(&cx, &history).await?;
    drop(link);
    Ok(())
}
