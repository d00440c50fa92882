//! The store's line: first come, first served, and the dead are skipped.

use lock_core::Attempt;
use lock_core::Backend;
use lock_core::Claim;
use lock_core::Kept;
use lock_core::Release;

use crate::Cx;
use crate::Failure;
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
use crate::failure::check;
use crate::failure::check_matches;

cases! { "line":
    "G6 S2" "D5" serves_in_order_of_arrival [Line];
    "G6 S2" "D5" tells_how_many_are_ahead [Line];
    "S2" "D10" keeps_a_place_for_who_asks_again [Line];
    "G6" "D5" lets_nobody_overtake [Line];
    "S4 G5" "C4" is_left_by_release [Line];
    "G6" "D6" skips_the_dead [Line, LeasePerLock];
    "G6" "D6" keeps_a_place_that_is_kept [Line, LeasePerLock];
    "S10" "A14" shows_how_many_wait [Line];
    "S12" "C4" is_empty_when_all_have_left [Line];
}

/// Takes a place and says how many stand before it.
async fn queue(client: &dyn Backend, claim: &Claim) -> Outcome<u64> {
    match client.attempt(claim).await? {
        Attempt::Held { ahead: Some(ahead), .. } => Ok(ahead),
        other => Err(Failure::new(format!("in line for a held key, got {other:?}"))),
    }
}

async fn serves_in_order_of_arrival(cx: Cx) -> Outcome {
    let clients = [cx.client().await?, cx.client().await?];
    let claims = [cx.in_line("a"), cx.in_line("a"), cx.in_line("a"), cx.in_line("a")];
    let client = |n: usize| &*clients[n % 2];
    acquire(client(0), &claims[0]).await?;
    for (n, claim) in claims.iter().enumerate().skip(1) {
        queue(client(n), claim).await?;
    }
    for next in 1..claims.len() {
        client(next - 1).release(&claims[next - 1]).await?;
        for (later, claim) in claims.iter().enumerate().skip(next + 1) {
            refused(client(later), claim).await?;
        }
        acquired_within(client(next), &claims[next], ms(2000)).await?;
    }
    Ok(())
}

async fn tells_how_many_are_ahead(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    acquire(&*client, &cx.claim("a")).await?;
    let (one, two) = (cx.in_line("a"), cx.in_line("a"));
    let (before_one, before_two) = (queue(&*client, &one).await?, queue(&*client, &two).await?);
    check!(before_two == before_one + 1, "{before_one} ahead of one, {before_two} of the next");
    let kept = client.keep(&[two, one]).await?;
    let [Kept::Queued { ahead: two }, Kept::Queued { ahead: one }] = kept[..] else {
        return Err(Failure::new(format!("in line, kept as {kept:?}")));
    };
    check!(two == one + 1, "kept with {one} and {two} ahead");
    Ok(())
}

async fn keeps_a_place_for_who_asks_again(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let (holder, one, two) = (cx.claim("a"), cx.in_line("a"), cx.in_line("a"));
    acquire(&*client, &holder).await?;
    queue(&*client, &one).await?;
    queue(&*client, &two).await?;
    queue(&*client, &one).await?;
    let state = client.inspect(&holder.key).await?;
    check!(state.waiting == 2, "two wait: {state:?}");
    client.release(&holder).await?;
    refused(&*client, &two).await?;
    acquired_within(&*client, &one, ms(2000)).await?;
    Ok(())
}

async fn lets_nobody_overtake(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let (holder, waiter) = (cx.claim("a"), cx.in_line("a"));
    acquire(&*first, &holder).await?;
    queue(&*first, &waiter).await?;
    first.release(&holder).await?;
    refused(&*second, &cx.claim("a")).await?;
    refused(&*second, &cx.in_line("a")).await?;
    acquired_within(&*first, &waiter, ms(2000)).await?;
    Ok(())
}

async fn is_left_by_release(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let (holder, one, two) = (cx.claim("a"), cx.in_line("a"), cx.in_line("a"));
    acquire(&*client, &holder).await?;
    queue(&*client, &one).await?;
    queue(&*client, &two).await?;
    check_matches!(client.release(&one).await?, Release::Released);
    check_matches!(keep(&*client, &one).await?, Kept::Gone);
    client.release(&holder).await?;
    acquired_within(&*client, &two, ms(2000)).await?;
    Ok(())
}

async fn skips_the_dead(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let holder = cx.claim("a");
    let mut dead = cx.claim_for("a", cx.ttl(&*first));
    dead.queue = true;
    acquire(&*first, &holder).await?;
    queue(&*first, &dead).await?;
    let alive = cx.in_line("a");
    queue(&*second, &alive).await?;
    first.release(&holder).await?;
    // The dead one says nothing more; seconds are allowed, not minutes.
    acquired_within(&*second, &alive, ms(10_000)).await?;
    Ok(())
}

async fn keeps_a_place_that_is_kept(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let (holder, mut one, two) = (cx.claim("a"), cx.in_line("a"), cx.in_line("a"));
    one.ttl = cx.ttl(&*client);
    acquire(&*client, &holder).await?;
    queue(&*client, &one).await?;
    queue(&*client, &two).await?;
    let until = now() + one.ttl * 3;
    while now() < until {
        check_matches!(keep(&*client, &one).await?, Kept::Queued { .. });
        sleep(one.ttl / 5).await;
    }
    client.release(&holder).await?;
    refused(&*client, &two).await?;
    acquired_within(&*client, &one, ms(2000)).await?;
    Ok(())
}

async fn shows_how_many_wait(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    acquire(&*first, &cx.claim("a")).await?;
    for expected in 1..4 {
        queue(&*first, &cx.in_line("a")).await?;
        let waiting = second.inspect(&cx.key("a")).await?.waiting;
        check!(waiting == expected, "{expected} wait, the store shows {waiting}");
    }
    Ok(())
}

async fn is_empty_when_all_have_left(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let claims = [cx.in_line("a"), cx.in_line("a"), cx.in_line("a")];
    acquire(&*client, &claims[0]).await?;
    queue(&*client, &claims[1]).await?;
    queue(&*client, &claims[2]).await?;
    for claim in [&claims[1], &claims[0], &claims[2]] {
        client.release(claim).await?;
    }
    free(&*client, &cx.key("a"), SLACK).await?;
    let page = client.list(cx.namespace(), None, 10).await?;
    check!(page.items.is_empty(), "left behind: {page:?}");
    Ok(())
}
