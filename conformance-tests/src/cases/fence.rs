//! Each acquisition's fence is higher than all before it.

use std::sync::Arc;

use lock_core::Attempt;
use lock_core::Claim;
use lock_core::Eviction;
use lock_core::Fence;
use lock_core::FenceKind;
use lock_core::SharedBackend;
use tokio::sync::Mutex;

use crate::Cx;
use crate::Fault;
use crate::Outcome;
use crate::case::cases;
use crate::cx::acquire;
use crate::cx::acquired_within;
use crate::cx::ms;
use crate::cx::now;
use crate::failure::check;

cases! { "fence":
    "G2 S5" "A6" rises_over_releases;
    "G2 S5" "A7" rises_over_expiry;
    "G2 S5 S10" "A8" rises_over_cleanup;
    "G2 S5" "A15" rises_over_force_unlock;
    "G2 S5" "A6" rises_in_real_time_order Heavy;
    "G2" "A8" rises_over_a_delete_by_hand;
    "G2" "E2" rises_over_a_restart;
    "G2" "" of_a_clock_is_near_the_clock [ClockedFence];
    "S2 S5" "" of_a_first_attempt_honours_the_floor [ClockedFence];
    "S2 S5" "" of_a_repeat_honours_the_floor [ClockedFence];
    "G2" "A14" is_what_the_store_shows;
}

/// Acquires `name` anew, checks that the fence is above `last`, and leaves it held.
async fn above(client: &SharedBackend, cx: &Cx, last: Fence) -> Outcome<Fence> {
    let (fence, _) = acquired_within(&**client, &cx.claim("a"), ms(5000)).await?;
    check!(fence > last, "fence {fence} after {last}");
    Ok(fence)
}

/// Returns a claim whose fence is ahead of the store's clock, so that the clock alone cannot lift the next one
/// above it.
fn ahead(client: &SharedBackend, cx: &Cx) -> Outcome<Claim> {
    let mut claim = cx.claim("a");
    if client.profile().fence == FenceKind::Clocked {
        let hour = 3_600_000_000;
        claim.fence_floor = Some(Fence::new(lock_core::Clock::system().unix_micros() + hour)?);
    }
    Ok(claim)
}

async fn rises_over_releases(cx: Cx) -> Outcome {
    let clients = [cx.client().await?, cx.client().await?];
    let mut last = None;
    for round in 0..50 {
        let (client, claim) = (&clients[round % 2], cx.claim("a"));
        let (fence, _) = acquire(&**client, &claim).await?;
        check!(last.is_none_or(|last| fence > last), "fence {fence} after {last:?}");
        last = Some(fence);
        client.release(&claim).await?;
    }
    Ok(())
}

async fn rises_over_expiry(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let mut claim = ahead(&first, &cx)?;
    claim.ttl = cx.ttl(&*first);
    let (fence, lease) = acquire(&*first, &claim).await?;
    cx.lapse(&*second, &claim.key, lease).await?;
    above(&second, &cx, fence).await.map(drop)
}

async fn rises_over_cleanup(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let claim = ahead(&client, &cx)?;
    let (fence, _) = acquire(&*client, &claim).await?;
    client.release(&claim).await?;
    client.purge().await?;
    above(&client, &cx, fence).await.map(drop)
}

async fn rises_over_force_unlock(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let claim = ahead(&first, &cx)?;
    let (mut fence, _) = acquire(&*first, &claim).await?;
    for _ in 0..3 {
        second.evict(&claim.key, Eviction::LockOnly).await?;
        // A new client each time: a session may only learn of its own eviction by keeping.
        fence = above(&cx.client().await?, &cx, fence).await?;
    }
    Ok(())
}

/// Runs eight loops; who holds leaves its fence behind for the next before it releases.
async fn rises_in_real_time_order(cx: Cx) -> Outcome {
    let last = Arc::new(Mutex::new(0));
    let until = now() + ms(1500);
    let mut loops = Vec::new();
    for _ in 0..8 {
        let (client, cx, last) = (cx.client().await?, cx.clone(), last.clone());
        loops.push(tokio::spawn(async move {
            let mut grants = 0_u32;
            while now() < until {
                let claim = cx.claim("a");
                if let Attempt::Acquired { fence, .. } = client.attempt(&claim).await? {
                    let before = std::mem::replace(&mut *last.lock().await, fence.get());
                    check!(fence.get() > before, "fence {fence}, the holder before had {before}");
                    client.release(&claim).await?;
                    grants += 1;
                }
                tokio::task::yield_now().await;
            }
            Outcome::Ok(grants)
        }));
    }
    let mut grants = 0;
    for task in loops {
        grants += task.await??;
    }
    check!(grants >= 20, "only {grants} grants in all: too few to say anything");
    Ok(())
}

async fn rises_over_a_delete_by_hand(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let (fence, _) = acquire(&*client, &cx.claim("a")).await?;
    cx.fault(Fault::Forget).await?;
    above(&cx.client().await?, &cx, fence).await.map(drop)
}

async fn rises_over_a_restart(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let claim = cx.claim("a");
    let (fence, _) = acquire(&*client, &claim).await?;
    client.release(&claim).await?;
    cx.fault(Fault::Restart).await?;
    above(&cx.client().await?, &cx, fence).await.map(drop)
}

async fn of_a_clock_is_near_the_clock(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let (fence, _) = acquire(&*client, &cx.claim("a")).await?;
    let here = lock_core::Clock::system().unix_micros();
    let day = 86_400_000_000;
    check!(here.abs_diff(fence.get()) < day, "fence {fence} is far from the clock, {here}");
    Ok(())
}

async fn of_a_first_attempt_honours_the_floor(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let mut claim = cx.claim("a");
    let floor = Fence::new(lock_core::Clock::system().unix_micros() + 3_600_000_000)?;
    claim.fence_floor = Some(floor);
    let (fence, _) = acquire(&*client, &claim).await?;
    check!(fence >= floor, "fence {fence} is below its floor {floor}");
    client.release(&claim).await?;
    above(&client, &cx, fence).await.map(drop)
}

async fn of_a_repeat_honours_the_floor(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let mut claim = cx.claim("a");
    let (own, _) = acquire(&*client, &claim).await?;
    claim.fence_floor = Some(Fence::new(own.get() + 1_000_000_000)?);
    let (lifted, _) = acquire(&*client, &claim).await?;
    check!(Some(lifted) == claim.fence_floor, "{lifted} is not the floor written back");
    claim.fence_floor = Some(own);
    let (stays, _) = acquire(&*client, &claim).await?;
    check!(stays == lifted, "a lower floor changed fence {lifted} to {stays}");
    client.release(&claim).await?;
    above(&client, &cx, lifted).await.map(drop)
}

async fn is_what_the_store_shows(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let claim = cx.claim("a");
    let (fence, _) = acquire(&*client, &claim).await?;
    let state = client.inspect(&claim.key).await?;
    let shown = state.holders.first().and_then(|holder| holder.fence);
    check!(shown == Some(fence), "granted {fence}, the store shows {state:?}");
    Ok(())
}
