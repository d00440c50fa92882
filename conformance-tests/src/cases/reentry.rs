//! Re-entry by explicit owner, and by nobody else.

use lock_core::ErrorKind;
use lock_core::Eviction;
use lock_core::Mode;

use crate::Cx;
use crate::Failure;
use crate::Outcome;
use crate::case::cases;
use crate::cx::excluded;
use crate::cx::failed;
use crate::cx::lock;
use crate::cx::ms;
use crate::cx::opts;
use crate::cx::within;
use crate::failure::check;

cases! { "reentry":
    "G8 G2" "A9" by_the_same_owner_keeps_the_fence;
    "G8" "A9" ends_with_the_last_guard;
    "G8" "A9" is_not_for_tasks_without_an_owner;
    "G8" "A9" is_not_for_another_owner;
    "G8 G1" "A4" is_not_across_providers;
    "G8 G1" "A9" is_not_into_a_lost_lock;
    "G8" "A9" is_not_in_another_mode [Shared];
}

async fn by_the_same_owner_keeps_the_fence(cx: Cx) -> Outcome {
    let engine = cx.engine().await?;
    let first = lock(&engine, "a", opts().owner("ann")).await?;
    let second = lock(&engine, "a", opts().owner("ann")).await?;
    let third = engine.try_lock("a", &opts().owner("ann")).await?;
    let Some(third) = third.acquired() else {
        return Err(Failure::new("the owner was refused by try_lock"));
    };
    let fences = [second.fence(), third.fence()];
    check!(fences == [first.fence(); 2], "{} re-entered as {fences:?}", first.fence());
    Ok(())
}

async fn ends_with_the_last_guard(cx: Cx) -> Outcome {
    let (engine, other) = (cx.engine().await?, cx.engine().await?);
    let first = lock(&engine, "a", opts().owner("ann")).await?;
    let second = lock(&engine, "a", opts().owner("ann")).await?;
    first.unlock().await?;
    excluded(&other, "a").await?;
    check!(second.is_valid(), "the first unlock ended {second:?}");
    second.unlock().await?;
    within(ms(2000), lock(&other, "a", opts())).await??.unlock().await?;
    Ok(())
}

async fn is_not_for_tasks_without_an_owner(cx: Cx) -> Outcome {
    let engine = cx.engine().await?;
    let _held = lock(&engine, "a", opts()).await?;
    excluded(&engine, "a").await
}

async fn is_not_for_another_owner(cx: Cx) -> Outcome {
    let engine = cx.engine().await?;
    let _held = lock(&engine, "a", opts().owner("ann")).await?;
    let other = engine.try_lock("a", &opts().owner("bob")).await?;
    check!(other.acquired().is_none(), "bob re-entered what ann holds");
    excluded(&engine, "a").await
}

async fn is_not_across_providers(cx: Cx) -> Outcome {
    let (engine, other) = (cx.engine().await?, cx.engine().await?);
    let _held = lock(&engine, "a", opts().owner("ann")).await?;
    let second = other.try_lock("a", &opts().owner("ann")).await?;
    check!(second.acquired().is_none(), "ann re-entered from another provider");
    Ok(())
}

async fn is_not_into_a_lost_lock(cx: Cx) -> Outcome {
    let (engine, other) = (cx.engine().await?, cx.engine().await?);
    let ttl = cx.ttl(&*cx.client().await?);
    let lost = lock(&engine, "a", opts().owner("ann").ttl(ttl)).await?;
    other.force_unlock("a", Eviction::LockOnly).await?;
    within(ttl * 2, lost.lost()).await?;
    let next = lock(&engine, "a", opts().owner("ann")).await?;
    check!(
        next.fence() > lost.fence(),
        "re-entered a lost lock: {} {}",
        next.fence(),
        lost.fence()
    );
    drop(lost);
    excluded(&other, "a").await?;
    check!(next.is_valid(), "the lost guard took {next:?}");
    Ok(())
}

async fn is_not_in_another_mode(cx: Cx) -> Outcome {
    let engine = cx.engine().await?;
    let held = lock(&engine, "a", opts().owner("ann").mode(Mode::Shared)).await?;
    let again = engine.try_lock("a", &opts().owner("ann").mode(Mode::Shared)).await?.acquired();
    let same = again.as_ref().is_some_and(|again| again.fence() == held.fence());
    check!(same, "in the same mode {held:?} was re-entered as {again:?}");
    let writer = engine.try_lock("a", &opts().owner("ann")).await;
    let text = failed(writer, ErrorKind::InvalidInput)?.to_string();
    check!(text.contains("shared"), "names not the mode that is held: {text}");
    check!(held.is_valid(), "the mistake ended {held:?}");
    Ok(())
}
