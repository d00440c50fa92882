//! Deadlines on a bad line.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use lock_core::ErrorKind;

use crate::Cx;
use crate::Link;
use crate::Outcome;
use crate::Weather;
use crate::case::cases;
use crate::cx::Provider;
use crate::cx::SLACK;
use crate::cx::excluded;
use crate::cx::free;
use crate::cx::lock;
use crate::cx::ms;
use crate::cx::now;
use crate::cx::opts;
use crate::cx::sleep;
use crate::cx::within;
use crate::failure::check;

cases! { "time":
    "G3" "B1" of_validity_counts_from_the_send;
    "G3 G5" "B2" of_a_late_success_is_over [LeasePerLock];
    "G1 G4" "B3" of_a_loss_is_before_the_next_grant;
    "G4" "B3" of_a_loss_is_kept_though_the_store_hangs;
    "G4 S2" "B6" of_a_lost_reply_is_made_good [LeasePerLock];
    "G4" "B7 B8" of_a_short_cut_is_made_good [LeasePerLock];
    "G4 G12" "C12" of_a_lock_is_not_lost_in_a_crowd_of_calls Heavy;
    "G7 G5" "C3" of_an_unlock_on_a_dead_line;
    "G1 G7" "B3" of_a_late_unlock_hits_nobody;
}

struct Bad {
    engine: Provider,
    link: Arc<dyn Link>,
    other: Provider,
    ttl: Duration,
}

impl Bad {
    async fn new(cx: &Cx) -> Outcome<Self> {
        let (engine, link) = cx.proxied().await?;
        // Connected and warm, so that only what the case does is on the line.
        lock(&engine, "warm", opts()).await?.unlock().await?;
        let ttl = cx.ttl(&*cx.client().await?).max(ms(800));
        Ok(Self { engine, link, other: cx.engine().await?, ttl })
    }
}

async fn of_validity_counts_from_the_send(cx: Cx) -> Outcome {
    let Bad { engine, link, ttl, .. } = Bad::new(&cx).await?;
    // A store of several parts may need two replies.
    let back = ttl / 4;
    link.set(Weather::Slow { there: ms(0), back });
    let before = now();
    let guard = lock(&engine, "a", opts().ttl(ttl).without_renewal()).await?;
    link.set(Weather::Fair);
    // The request left at once, whatever time its reply took.
    let most = before + guard.ttl() + ms(100);
    check!(
        guard.valid_until() <= most,
        "sent at {before:?}, valid until {:?}",
        guard.valid_until()
    );
    Ok(())
}

async fn of_a_late_success_is_over(cx: Cx) -> Outcome {
    let Bad { engine, link, ttl, .. } = Bad::new(&cx).await?;
    link.set(Weather::Slow { there: ms(0), back: ttl + ms(200) });
    let late = within(ttl * 10, engine.try_lock("a", &opts().ttl(ttl))).await?;
    check!(late.is_err(), "the lease was over when the reply came: {late:?}");
    link.set(Weather::Fair);
    free(&*cx.client().await?, &cx.key("a"), ttl + ms(1000)).await
}

async fn of_a_loss_is_before_the_next_grant(cx: Cx) -> Outcome {
    let Bad { engine, link, other, ttl } = Bad::new(&cx).await?;
    let guard = lock(&engine, "a", opts().ttl(ttl)).await?;
    link.set(Weather::Hangs);
    let hold = guard.hold();
    let lost = tokio::spawn(async move {
        hold.lost().await;
        now()
    });
    let next = tokio::spawn(async move {
        let next = lock(&other, "a", opts()).await;
        (next, now())
    });
    let lost_at = within(ttl + SLACK, lost).await??;
    // A session may live on where only the link hangs; the lock's own client has to end it then.
    let (next, next_at) = within(ttl * 10 + ms(5000), next).await??;
    let next = next?;
    check!(lost_at <= next_at && !guard.is_valid(), "{next:?} came before {guard:?} was lost");
    link.set(Weather::Fair);
    Ok(())
}

async fn of_a_loss_is_kept_though_the_store_hangs(cx: Cx) -> Outcome {
    let Bad { engine, link, ttl, .. } = Bad::new(&cx).await?;
    let guard = lock(&engine, "a", opts().ttl(ttl)).await?;
    link.set(Weather::Hangs);
    sleep(ms(50)).await;
    let due = guard.valid_until();
    within(guard.ttl() + SLACK, guard.lost()).await?;
    let late = now().saturating_since(due);
    check!(late <= SLACK && !guard.is_valid(), "told {late:?} after the deadline");
    link.set(Weather::Fair);
    Ok(())
}

async fn of_a_lost_reply_is_made_good(cx: Cx) -> Outcome {
    let Bad { engine, link, other, ttl } = Bad::new(&cx).await?;
    let guard = lock(&engine, "a", opts().ttl(ttl)).await?;
    for _ in 0..3 {
        link.set(Weather::LosesReplies);
        sleep(ttl / 2).await;
        link.set(Weather::Fair);
        sleep(ttl / 2).await;
        check!(guard.is_valid(), "renewed without a reply, and lost: {guard:?}");
    }
    excluded(&other, "a").await
}

async fn of_a_short_cut_is_made_good(cx: Cx) -> Outcome {
    let Bad { engine, link, other, ttl } = Bad::new(&cx).await?;
    let guard = lock(&engine, "a", opts().ttl(ttl)).await?;
    for _ in 0..3 {
        link.set(Weather::Down);
        sleep(ttl / 2).await;
        link.set(Weather::Fair);
        sleep(ttl / 2).await;
        check!(guard.is_valid(), "cut for half its TTL, and lost: {guard:?}");
    }
    excluded(&other, "a").await
}

async fn of_a_lock_is_not_lost_in_a_crowd_of_calls(cx: Cx) -> Outcome {
    let Bad { engine, link, ttl, .. } = Bad::new(&cx).await?;
    let guard = lock(&engine, "a", opts().ttl(ttl)).await?;
    link.set(Weather::Slow { there: ms(15), back: ms(15) });
    let until = now() + ttl * 2;
    // One after the other they would take longer than the lease: renewals must not stand behind them.
    let crowd = (0..40).map(|_| {
        let engine = engine.clone();
        tokio::spawn(async move {
            while now() < until {
                excluded(&engine, "a").await?;
            }
            Outcome::Ok(())
        })
    });
    for ended in join_all(crowd).await {
        ended??;
    }
    check!(guard.is_valid(), "lost among calls of others: {guard:?}");
    link.set(Weather::Fair);
    Ok(())
}

async fn of_an_unlock_on_a_dead_line(cx: Cx) -> Outcome {
    let Bad { engine, link, .. } = Bad::new(&cx).await?;
    let guard = lock(&engine, "a", opts().ttl(ms(20_000))).await?;
    link.set(Weather::Down);
    match within(ms(10_000), guard.unlock()).await? {
        Err(error) if error.kind() == ErrorKind::Lost || error.is_ambiguous() => {}
        other => {
            return Err(crate::Failure::new(format!("nobody can know, and it says {other:?}")));
        }
    }
    link.set(Weather::Fair);
    free(&*cx.client().await?, &cx.key("a"), ms(5000)).await
}

async fn of_a_late_unlock_hits_nobody(cx: Cx) -> Outcome {
    let Bad { engine, link, other, ttl } = Bad::new(&cx).await?;
    let guard = lock(&engine, "a", opts().ttl(ttl)).await?;
    link.set(Weather::Hangs);
    let next = within(ttl * 10 + ms(5000), lock(&other, "a", opts())).await??;
    link.set(Weather::Fair);
    let late = guard.unlock().await;
    check!(late.is_err(), "lost long ago, and unlocked well");
    sleep(ms(300)).await;
    check!(next.is_valid(), "the late unlock took {next:?}");
    excluded(&engine, "a").await
}
