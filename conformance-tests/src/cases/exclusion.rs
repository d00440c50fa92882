//! One key, one holder.

use futures_util::future::join_all;
use lock_core::Attempt;
use lock_core::Kept;

use crate::Cx;
use crate::Outcome;
use crate::case::cases;
use crate::cx::acquire;
use crate::cx::keep;
use crate::cx::ms;
use crate::cx::refused;
use crate::cx::within;
use crate::failure::check;
use crate::failure::check_matches;

cases! { "exclusion":
    "G1 S1" "A1" of_two_claims_one_holds;
    "G1 S1" "A1" of_many_racing_claims_one_holds;
    "G9" "A2" two_keys_are_two_locks;
    "S1" "" a_released_key_is_free;
    "G1" "" a_client_that_closes_frees_no_lock_of_others;
    "S6" "A13" a_refusal_does_not_wait;
    "S1" "A14" a_refusal_tells_what_it_knows;
}

async fn of_two_claims_one_holds(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    acquire(&*first, &cx.claim("a")).await?;
    refused(&*second, &cx.claim("a")).await?;
    refused(&*first, &cx.claim("a")).await
}

async fn of_many_racing_claims_one_holds(cx: Cx) -> Outcome {
    let clients = [cx.client().await?, cx.client().await?, cx.client().await?, cx.client().await?];
    for round in 0..10 {
        let name = format!("round {round}");
        let racing = (0..16).map(|n| {
            let (client, claim) = (clients[n % clients.len()].clone(), cx.claim(&name));
            tokio::spawn(async move { client.attempt(&claim).await })
        });
        let mut granted = 0;
        for attempt in join_all(racing).await {
            granted += u32::from(matches!(attempt??, Attempt::Acquired { .. }));
        }
        // Over several parts each may get some, and then nobody all of it.
        let least = u32::from(cx.fixture().refuses_only_held());
        check!((least..=1).contains(&granted), "{granted} of 16 racing claims were granted");
    }
    Ok(())
}

async fn two_keys_are_two_locks(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    acquire(&*client, &cx.claim("a")).await?;
    acquire(&*client, &cx.claim("b")).await?;
    Ok(())
}

async fn a_released_key_is_free(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let claim = cx.claim("a");
    acquire(&*first, &claim).await?;
    first.release(&claim).await?;
    acquire(&*second, &cx.claim("a")).await?;
    Ok(())
}

async fn a_client_that_closes_frees_no_lock_of_others(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let claim = cx.claim("a");
    acquire(&*first, &claim).await?;
    refused(&*second, &cx.claim("a")).await?;
    second.close().await?;
    refused(&*cx.client().await?, &cx.claim("a")).await?;
    check_matches!(keep(&*first, &claim).await?, Kept::Renewed { .. });
    Ok(())
}

async fn a_refusal_does_not_wait(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    acquire(&*first, &cx.claim("a")).await?;
    // Far above a round trip, far below the lease: only a wait inside the backend takes so long.
    within(ms(1500), refused(&*second, &cx.claim("a"))).await?
}

async fn a_refusal_tells_what_it_knows(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let claim = cx.claim("a");
    let (fence, _) = acquire(&*client, &claim).await?;
    let Attempt::Held { holders, retry_in, .. } = client.attempt(&cx.claim("a")).await? else {
        return refused(&*client, &cx.claim("a")).await;
    };
    for holder in &holders {
        check!(
            holder.owner.as_deref().is_none_or(|name| name == "suite"),
            "wrong owner {holder:?}"
        );
        check!(
            holder.fence.is_none_or(|told| told == fence),
            "wrong fence, not {fence}: {holder:?}"
        );
    }
    check!(
        retry_in.is_none_or(|left| left <= claim.ttl),
        "retry in {retry_in:?} of {:?}",
        claim.ttl
    );
    Ok(())
}
