//! A lock lives as long as its lease said, and no longer.

use std::slice;

use lock_core::Attempt;
use lock_core::Kept;
use lock_core::Release;

use crate::Cx;
use crate::Outcome;
use crate::case::cases;
use crate::cx::SLACK;
use crate::cx::acquire;
use crate::cx::acquired_within;
use crate::cx::free;
use crate::cx::keep;
use crate::cx::ms;
use crate::cx::now;
use crate::cx::refused;
use crate::cx::sleep;
use crate::cx::sleep_until;
use crate::failure::check;
use crate::failure::check_matches;

cases! { "lease":
    "S3" "B18 D3" an_unkept_lock_frees_itself [LeasePerLock];
    "S11 G1 G3" "B18" a_lock_stays_taken_while_its_lease_is_valid;
    "S11" "B4" keeping_moves_the_end;
    "S11 G1" "B4" a_kept_lock_stays_taken;
    "S11" "B5" keeping_does_not_revive_the_expired;
    "S11" "" keeping_can_bring_the_end_nearer [LeasePerLock];
    "S11" "A10" each_lock_runs_its_own_ttl [LeasePerLock];
    "S11" "A10" of_the_longest_ttl_is_run_in_full [LeasePerLock];
    "G3" "A11" a_ttl_too_small_is_raised_and_told;
    "S11 G3" "" a_lease_begins_no_later_than_the_call_ends;
    "S1" "" keeping_answers_each_claim_in_its_place;
    "S11" "A7" an_expired_attempt_is_not_a_repeat [LeasePerLock];
}

async fn an_unkept_lock_frees_itself(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let (_, lease) = acquire(&*first, &cx.claim_for("a", cx.ttl(&*first))).await?;
    acquired_within(&*second, &cx.claim("a"), lease.ttl + SLACK).await?;
    Ok(())
}

async fn a_lock_stays_taken_while_its_lease_is_valid(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let (_, lease) = acquire(&*first, &cx.claim_for("a", cx.ttl(&*first))).await?;
    let end = lease.valid_until(first.profile().granularity);
    while now() < end {
        let attempt = second.attempt(&cx.claim("a")).await?;
        // Granted only counts against the store if it came while the lease was still valid.
        let early = matches!(attempt, Attempt::Acquired { .. }) && now() < end;
        check!(
            !early,
            "granted to another {:?} before the lease ended",
            end.saturating_since(now())
        );
        sleep(ms(10)).await;
    }
    Ok(())
}

async fn keeping_moves_the_end(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let claim = cx.claim_for("a", cx.ttl(&*client));
    let (_, lease) = acquire(&*client, &claim).await?;
    sleep(claim.ttl / 4).await;
    let asked = now();
    let kept = keep(&*client, &claim).await?;
    let Kept::Renewed { lease: renewed } = kept else {
        return Err(crate::Failure::new(format!("a held lock was {kept:?}")));
    };
    check!(renewed.since >= lease.since, "the renewed lease {renewed:?} is older than {lease:?}");
    check!(renewed.since <= now(), "the renewed lease began in the future, asked at {asked:?}");
    Ok(())
}

async fn a_kept_lock_stays_taken(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let claim = cx.claim_for("a", cx.ttl(&*first));
    acquire(&*first, &claim).await?;
    let until = now() + claim.ttl * 3;
    while now() < until {
        check_matches!(keep(&*first, &claim).await?, Kept::Renewed { .. });
        refused(&*second, &cx.claim("a")).await?;
        sleep(claim.ttl / 5).await;
    }
    Ok(())
}

async fn keeping_does_not_revive_the_expired(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let claim = cx.claim_for("a", cx.ttl(&*first));
    let (_, lease) = acquire(&*first, &claim).await?;
    cx.lapse(&*second, &claim.key, lease).await?;
    if let Ok(kept) = first.keep(slice::from_ref(&claim)).await {
        check_matches!(kept[..], [Kept::Gone]);
    }
    free(&*second, &claim.key, SLACK).await
}

async fn keeping_can_bring_the_end_nearer(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let mut claim = cx.claim("a");
    acquire(&*first, &claim).await?;
    claim.ttl = cx.ttl(&*first);
    check_matches!(keep(&*first, &claim).await?, Kept::Renewed { .. });
    acquired_within(&*second, &cx.claim("a"), claim.ttl + SLACK).await?;
    Ok(())
}

async fn each_lock_runs_its_own_ttl(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let (_, lease) = acquire(&*first, &cx.claim_for("short", cx.ttl(&*first))).await?;
    let (_, long) = acquire(&*first, &cx.claim("long")).await?;
    check!(long.ttl >= ms(59_000), "asked for a minute, the lease is {long:?}");
    acquired_within(&*second, &cx.claim("short"), lease.ttl + SLACK).await?;
    refused(&*second, &cx.claim("long")).await
}

async fn of_the_longest_ttl_is_run_in_full(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let longest = first.profile().ttl_max;
    let claim = cx.claim_for("a", longest);
    let (_, lease) = acquire(&*first, &claim).await?;
    check!(lease.ttl >= longest * 9 / 10, "asked for {longest:?}, the lease is {lease:?}");
    refused(&*second, &cx.claim("a")).await?;
    let state = second.inspect(&claim.key).await?;
    let left = state.holders.first().and_then(|holder| holder.expires_in);
    check!(left.is_none_or(|left| left >= longest * 9 / 10), "of {longest:?} are left {left:?}");
    check_matches!(first.release(&claim).await?, Release::Released);
    Ok(())
}

async fn a_ttl_too_small_is_raised_and_told(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let smallest = client.profile().ttl_min;
    let (_, lease) = acquire(&*client, &cx.claim_for("a", smallest / 2)).await?;
    let least = smallest.min(client.profile().ttl_min);
    check!(lease.ttl >= least, "a lease of {:?}, the smallest is {least:?}", lease.ttl);
    Ok(())
}

async fn a_lease_begins_no_later_than_the_call_ends(cx: Cx) -> Outcome {
    let (client, link) = cx.fixture().proxied(cx.namespace()).await?;
    let back = ms(300);
    link.set(crate::Weather::Slow { there: ms(0), back });
    let (_, lease) = acquire(&*client, &cx.claim("a")).await?;
    // The reply alone took so long, so the request had left at least so long ago.
    let age = now().saturating_since(lease.since);
    check!(age >= back, "the lease counts from {age:?} ago, the request left {back:?} ago or more");
    Ok(())
}

async fn keeping_answers_each_claim_in_its_place(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let (a, b, foreign) = (cx.claim("a"), cx.claim("b"), cx.claim("a"));
    acquire(&*client, &a).await?;
    acquire(&*client, &b).await?;
    let kept = client.keep(&[foreign, b, cx.claim("free"), a]).await?;
    check_matches!(kept[..], [Kept::Gone, Kept::Renewed { .. }, Kept::Gone, Kept::Renewed { .. }]);
    check_matches!(client.keep(&[]).await?[..], []);
    Ok(())
}

async fn an_expired_attempt_is_not_a_repeat(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let claim = cx.claim_for("a", cx.ttl(&*client));
    let (first, lease) = acquire(&*client, &claim).await?;
    sleep_until(lease.since + lease.ttl + SLACK).await;
    let (again, _) = acquire(&*client, &claim).await?;
    check!(again > first, "fence {first} came back as {again} after its lease had ended");
    Ok(())
}
