//! Only the token that holds has power.

use lock_core::Kept;
use lock_core::Release;

use crate::Cx;
use crate::Outcome;
use crate::case::cases;
use crate::cx::acquire;
use crate::cx::keep;
use crate::cx::refused;
use crate::failure::check;
use crate::failure::check_matches;

cases! { "token":
    "S4" "A4" a_foreign_release_changes_nothing;
    "S4" "A4" a_foreign_keep_changes_nothing;
    "S4" "A5" a_stale_release_leaves_the_next_holder;
    "S4 S11" "A4" a_stale_keep_is_gone;
    "S4" "A4" an_owner_has_no_power_over_another_token;
    "S4" "A14" the_store_shows_the_token_that_holds;
}

async fn a_foreign_release_changes_nothing(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let mine = cx.claim("a");
    acquire(&*first, &mine).await?;
    check_matches!(second.release(&cx.claim("a")).await?, Release::NotHeld);
    refused(&*second, &cx.claim("a")).await?;
    check_matches!(keep(&*first, &mine).await?, Kept::Renewed { .. });
    Ok(())
}

async fn a_foreign_keep_changes_nothing(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let mine = cx.claim("a");
    let (fence, _) = acquire(&*first, &mine).await?;
    check_matches!(second.keep(&[cx.claim("a")]).await?[..], [Kept::Gone]);
    let (again, _) = acquire(&*first, &mine).await?;
    check!(cx.repeats(fence, again), "a foreign keep changed fence {fence} to {again}");
    Ok(())
}

async fn a_stale_release_leaves_the_next_holder(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let (old, new) = (cx.claim("a"), cx.claim("a"));
    acquire(&*first, &old).await?;
    first.release(&old).await?;
    acquire(&*second, &new).await?;
    check_matches!(first.release(&old).await?, Release::NotHeld);
    check_matches!(keep(&*second, &new).await?, Kept::Renewed { .. });
    Ok(())
}

async fn a_stale_keep_is_gone(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let (old, new) = (cx.claim_for("a", cx.ttl(&*first)), cx.claim("a"));
    let (_, lease) = acquire(&*first, &old).await?;
    cx.lapse(&*first, &old.key, lease).await?;
    let (fence, _) = acquire(&*second, &new).await?;
    // A session that has ended may also answer with an error.
    if let Ok(kept) = first.keep(&[old]).await {
        check_matches!(kept[..], [Kept::Gone]);
    }
    let (again, _) = acquire(&*second, &new).await?;
    check!(cx.repeats(fence, again), "a stale keep changed fence {fence} to {again}");
    Ok(())
}

async fn an_owner_has_no_power_over_another_token(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let (mine, twin) = (cx.claim("a"), cx.claim("a"));
    acquire(&*client, &mine).await?;
    refused(&*client, &twin).await?;
    check_matches!(client.release(&twin).await?, Release::NotHeld);
    check_matches!(client.keep(&[twin, mine]).await?[..], [Kept::Gone, Kept::Renewed { .. }]);
    Ok(())
}

async fn the_store_shows_the_token_that_holds(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let claim = cx.claim("a");
    acquire(&*client, &claim).await?;
    let Some(probe) = cx.fixture().probe(cx.namespace(), &claim.key).await else {
        return Err(crate::Failure::skipped("the fixture cannot look at the store"));
    };
    check!(probe.locked, "the store itself shows the held key as free");
    check!(probe.token.is_none_or(|token| token == claim.token), "{probe:?} is not {claim:?}");
    client.release(&claim).await?;
    let after = cx.fixture().probe(cx.namespace(), &claim.key).await;
    check!(
        after.as_ref().is_some_and(|after| !after.locked),
        "after the release the store shows {after:?}"
    );
    Ok(())
}
