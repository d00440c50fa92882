//! Repeating a call repeats its outcome.

use lock_core::Kept;
use lock_core::Release;

use crate::Cx;
use crate::Outcome;
use crate::case::cases;
use crate::cx::acquire;
use crate::cx::keep;
use crate::cx::ms;
use crate::cx::refused;
use crate::cx::sleep;
use crate::cx::sleep_until;
use crate::failure::check;
use crate::failure::check_matches;

cases! { "repeat":
    "S2" "" an_attempt_keeps_its_fence;
    "S2 S11 G3" "B1" an_attempt_tells_the_lease_that_runs;
    "S2" "A5" a_second_release_finds_nothing;
    "S2" "" a_release_of_nothing_finds_nothing;
    "S2" "B6" keeping_goes_on;
    "S2" "" an_attempt_after_a_lost_release_starts_anew;
}

async fn an_attempt_keeps_its_fence(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let claim = cx.claim("a");
    let (first, _) = acquire(&*client, &claim).await?;
    for _ in 0..3 {
        let (again, _) = acquire(&*client, &claim).await?;
        check!(cx.repeats(first, again), "fence {first} became {again}");
    }
    Ok(())
}

async fn an_attempt_tells_the_lease_that_runs(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let claim = cx.claim_for("a", cx.ttl(&*first));
    acquire(&*first, &claim).await?;
    sleep(claim.ttl / 2).await;
    let (_, lease) = acquire(&*first, &claim).await?;
    let end = lease.valid_until(first.profile().granularity);
    sleep_until(end - ms(50)).await;
    // Asked in time and refused: the repeat did re-arm what it said, or told the older lease.
    let asked = crate::cx::now();
    let answer = refused(&*second, &cx.claim("a")).await;
    if asked < end { answer } else { Ok(()) }
}

async fn a_second_release_finds_nothing(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let claim = cx.claim("a");
    acquire(&*client, &claim).await?;
    check_matches!(client.release(&claim).await?, Release::Released);
    check_matches!(client.release(&claim).await?, Release::NotHeld);
    Ok(())
}

async fn a_release_of_nothing_finds_nothing(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    check_matches!(client.release(&cx.claim("never held")).await?, Release::NotHeld);
    acquire(&*client, &cx.claim("never held")).await?;
    Ok(())
}

async fn keeping_goes_on(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let claim = cx.claim("a");
    let (fence, _) = acquire(&*client, &claim).await?;
    for _ in 0..3 {
        check_matches!(keep(&*client, &claim).await?, Kept::Renewed { .. });
    }
    let (again, _) = acquire(&*client, &claim).await?;
    check!(cx.repeats(fence, again), "keeping changed fence {fence} to {again}");
    Ok(())
}

async fn an_attempt_after_a_lost_release_starts_anew(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let claim = cx.claim("a");
    let (first, _) = acquire(&*client, &claim).await?;
    client.release(&claim).await?;
    let (again, _) = acquire(&*client, &claim).await?;
    check!(again > first, "fence {first} was granted again as {again} after its release");
    Ok(())
}
