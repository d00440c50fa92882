//! Other processes: killed, frozen, and in competition.

use lock_core::LeaseKind;

use super::contend::Habit;
use super::fleet::contention;
use super::history::holds_are_sound;
use super::history::nothing_is_left;
use crate::Cx;
use crate::Failure;
use crate::Outcome;
use crate::case::cases;
use crate::check;
use crate::child::Role;
use crate::child::Tick;
use crate::cx::SLACK;
use crate::cx::excluded;
use crate::cx::lock;
use crate::cx::ms;
use crate::cx::now;
use crate::cx::opts;
use crate::cx::sleep;
use crate::cx::wake_bound;
use crate::cx::within;
use crate::failure::check;
use crate::process::Process;

cases! { "process":
    "G1 S3" "B18" that_is_killed_frees_its_locks [Processes];
    "G1 G4" "B15" that_was_frozen_knows_that_it_lost [Processes];
    "G6 G5" "C6 D6" that_dies_waiting_blocks_nobody [Processes];
    "G1 G2 G6" "D7 A6" loops_share_a_lock [Processes] Heavy;
}

fn holder(cx: &Cx, ttl_ms: u64) -> Outcome<Process> {
    Process::start(cx, Role::Hold { key: "a".into(), ttl_ms })
}

async fn tick(process: &mut Process) -> Outcome<Tick> {
    match process.line(ms(10_000)).await? {
        Some(line) => Ok(serde_json::from_str(&line)?),
        None => Err(Failure::new("the other process ended")),
    }
}

async fn that_is_killed_frees_its_locks(cx: Cx) -> Outcome {
    let (engine, client) = (cx.engine().await?, cx.client().await?);
    let ttl = cx.ttl(&*client);
    let mut process = holder(&cx, u64::try_from(ttl.as_millis())?)?;
    let held = tick(&mut process).await?;
    excluded(&engine, "a").await?;
    process.kill()?;
    let own = engine.profile().lease == LeaseKind::PerLock;
    let bound = if own { ttl } else { ttl * 2 + ms(2000) };
    let next = within(bound + wake_bound(engine.profile()), lock(&engine, "a", opts())).await??;
    check!(next.fence().get() > held.fence, "{} after {held:?}", next.fence());
    Ok(())
}

async fn that_was_frozen_knows_that_it_lost(cx: Cx) -> Outcome {
    let (engine, client) = (cx.engine().await?, cx.client().await?);
    let ttl = cx.ttl(&*client);
    let mut process = holder(&cx, u64::try_from(ttl.as_millis())?)?;
    tick(&mut process).await?;
    process.stop()?;
    let next = within(ttl * 3 + ms(10_000), lock(&engine, "a", opts())).await??;
    let granted = now().as_nanos();
    process.go_on()?;
    loop {
        let tick = tick(&mut process).await?;
        check!(!(tick.valid && tick.at_ns > granted), "after another's grant it says {tick:?}");
        if !tick.valid {
            break;
        }
    }
    // It releases late, and must hit nobody.
    check!(process.line(ms(5000)).await?.is_some(), "it ended before its late release");
    check!(next.is_valid(), "the late release took {next:?}");
    excluded(&engine, "a").await
}

async fn that_dies_waiting_blocks_nobody(cx: Cx) -> Outcome {
    let (holder, waiter) = (cx.engine().await?, cx.engine().await?);
    let held = lock(&holder, "a", opts()).await?;
    let mut process = Process::start(&cx, Role::Wait { key: "a".into() })?;
    process.line(ms(10_000)).await?;
    sleep(ms(300)).await;
    let mut options = opts().wait(ms(20_000));
    options.fair = waiter.profile().fair;
    let waiting = tokio::spawn(async move { lock(&waiter, "a", options).await });
    sleep(ms(300)).await;
    process.kill()?;
    held.unlock().await?;
    // Within the time in which the dead are skipped: seconds, not minutes.
    let _next = within(ms(10_000), waiting).await???;
    Ok(())
}

async fn loops_share_a_lock(cx: Cx) -> Outcome {
    let history = contention(&cx, vec![Habit::new(); 3], ms(2500)).await?;
    check!(history.len() > 50, "only {} records: too few to say anything", history.len());
    holds_are_sound(&history)?;
    check::nobody_starves(&history, 10 * 3)?;
    check::losses_are_told(&history, SLACK)?;
    nothing_is_left(&cx, SLACK).await
}
