//! Force unlock.

use lock_core::Eviction;
use lock_core::Kept;
use lock_core::Release;

use crate::Cx;
use crate::Outcome;
use crate::case::cases;
use crate::cx::acquire;
use crate::cx::acquired_within;
use crate::cx::keep;
use crate::cx::ms;
use crate::failure::check;
use crate::failure::check_matches;

cases! { "evict":
    "S4" "A15" frees_the_key_and_says_whom_it_hit;
    "S4 S11" "A15" leaves_the_old_token_without_power;
    "S12" "A15" of_a_free_key_does_nothing;
    "S4" "A15" leaves_other_keys_alone;
}

async fn frees_the_key_and_says_whom_it_hit(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let claim = cx.claim("a");
    acquire(&*first, &claim).await?;
    let evicted = second.evict(&claim.key, Eviction::LockOnly).await?;
    check!(evicted.holders == 1, "one held it: {evicted:?}");
    acquired_within(&*second, &cx.claim("a"), ms(5000)).await?;
    Ok(())
}

async fn leaves_the_old_token_without_power(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let (old, new) = (cx.claim("a"), cx.claim("a"));
    acquire(&*first, &old).await?;
    second.evict(&old.key, Eviction::LockOnly).await?;
    acquired_within(&*second, &new, ms(5000)).await?;
    check_matches!(keep(&*first, &old).await?, Kept::Gone);
    check_matches!(first.release(&old).await?, Release::NotHeld);
    check_matches!(keep(&*second, &new).await?, Kept::Renewed { .. });
    Ok(())
}

async fn of_a_free_key_does_nothing(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let evicted = client.evict(&cx.key("a"), Eviction::LockOnly).await?;
    check!(evicted.holders == 0, "nobody held it: {evicted:?}");
    let state = client.inspect(&cx.key("a")).await?;
    check!(!state.is_locked(), "evicting nobody left {state:?}");
    Ok(())
}

async fn leaves_other_keys_alone(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let (a, b) = (cx.claim("a"), cx.claim("ab"));
    acquire(&*first, &a).await?;
    acquire(&*first, &b).await?;
    let evicted = second.evict(&a.key, Eviction::LockOnly).await?;
    check!(evicted.others == 0, "other locks went too: {evicted:?}");
    check_matches!(keep(&*first, &b).await?, Kept::Renewed { .. });
    Ok(())
}
