//! The store's line when those in it ask for different modes.

use lock_core::Attempt;
use lock_core::Backend;
use lock_core::Claim;
use lock_core::Fence;
use lock_core::Kept;
use lock_core::LeaseKind;
use lock_core::Mode;
use lock_core::Peek;
use lock_core::Release;
use lock_core::WatchFor;

use super::watch::bell;
use crate::Cx;
use crate::Failure;
use crate::Outcome;
use crate::case::cases;
use crate::cx::acquire;
use crate::cx::acquired_within;
use crate::cx::keep;
use crate::cx::ms;
use crate::cx::permits;
use crate::cx::refused;
use crate::cx::settled;
use crate::failure::check;
use crate::failure::check_matches;

cases! { "queue":
    "G6 S1" "D5 A18" keeps_readers_behind_a_waiting_writer [Line, Shared];
    "G6 S1" "D5 A18" lets_neighbouring_readers_in_together [Line, Shared];
    "G6 S2" "D5 A18" keeps_the_place_of_who_asks_again [Line, Shared];
    "G6" "D6 A18" of_readers_does_not_end_at_a_dead_writer [Line, Shared];
    "G6" "D6 A18" closes_up_over_a_dead_one_in_the_middle [Line, Shared];
    "G1 G6" "D6 A18" with_a_dead_one_in_the_middle_lets_nobody_in_too_early [Line, Shared];
    "G6 S4" "C4 A18" moves_up_when_one_in_the_middle_leaves [Line, Shared];
    "G6" "D1 C4" tells_readers_that_the_writer_before_them_has_left [Line, Shared, Push];
    "G6 S10" "D5" tells_each_reader_in_front_that_it_is_its_turn [Line, Shared];
    "G6" "D5" tells_readers_in_front_while_keeping_them [Line, Shared];
    "G6" "D5 A17" gives_as_many_permits_as_are_free [Line, Permits];
}

fn waiting(cx: &Cx, mode: Mode) -> Claim {
    let mut claim = cx.claim_in("a", mode);
    claim.queue = true;
    claim
}

/// Takes a place in the line.
async fn line_up(client: &dyn Backend, claim: &Claim) -> Outcome {
    match client.attempt(claim).await? {
        Attempt::Held { ahead: Some(_), .. } => Ok(()),
        other => Err(Failure::new(format!("in line for a held key, got {other:?}"))),
    }
}

/// Gets the lock at its turn.
async fn served(client: &dyn Backend, claim: &Claim) -> Outcome<Fence> {
    Ok(acquired_within(client, claim, ms(2000)).await?.0)
}

/// Lets a client that waits be heard of no more.
async fn falls_silent(client: &dyn Backend) -> Outcome {
    match client.profile().lease {
        LeaseKind::Session => Ok(client.close().await?),
        _ => Ok(()),
    }
}

/// Waits until so many are left in line: seconds are allowed, not minutes.
async fn waits(client: &dyn Backend, of: &Claim, left: u64) -> Outcome {
    settled(client, &of.key, ms(10_000), |state| state.waiting == left).await
}

async fn keeps_readers_behind_a_waiting_writer(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let (held, writer, reader) =
        (cx.reader("a"), waiting(&cx, Mode::Exclusive), waiting(&cx, Mode::Shared));
    acquire(&*first, &held).await?;
    line_up(&*second, &writer).await?;
    line_up(&*first, &reader).await?;
    refused(&*second, &cx.reader("a")).await?;
    refused(&*first, &reader).await?;
    first.release(&held).await?;
    refused(&*first, &reader).await?;
    let wrote = served(&*second, &writer).await?;
    second.release(&writer).await?;
    let read = served(&*first, &reader).await?;
    check!(read > wrote, "{read} after {wrote}");
    Ok(())
}

async fn lets_neighbouring_readers_in_together(cx: Cx) -> Outcome {
    let clients = [cx.client().await?, cx.client().await?];
    let modes = [Mode::Exclusive, Mode::Shared, Mode::Shared, Mode::Exclusive, Mode::Shared];
    let claims = modes.map(|mode| waiting(&cx, mode));
    acquire(&*clients[0], &claims[0]).await?;
    for (n, claim) in claims.iter().enumerate().skip(1) {
        line_up(&*clients[n % 2], claim).await?;
    }
    clients[0].release(&claims[0]).await?;
    // Whoever of them asks first.
    for n in [2, 1] {
        served(&*clients[n % 2], &claims[n]).await?;
        refused(&*clients[1], &claims[3]).await?;
        refused(&*clients[0], &claims[4]).await?;
    }
    for n in [1, 2] {
        refused(&*clients[1], &claims[3]).await?;
        clients[n % 2].release(&claims[n]).await?;
    }
    served(&*clients[1], &claims[3]).await?;
    refused(&*clients[0], &claims[4]).await?;
    clients[1].release(&claims[3]).await?;
    served(&*clients[0], &claims[4]).await.map(drop)
}

async fn keeps_the_place_of_who_asks_again(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let (held, writer, reader) =
        (cx.reader("a"), waiting(&cx, Mode::Exclusive), waiting(&cx, Mode::Shared));
    acquire(&*first, &held).await?;
    line_up(&*first, &writer).await?;
    line_up(&*second, &reader).await?;
    for _ in 0..3 {
        line_up(&*first, &writer).await?;
    }
    let state = second.inspect(&held.key).await?;
    check!(state.waiting == 2, "two wait: {state:?}");
    first.release(&held).await?;
    refused(&*second, &reader).await?;
    served(&*first, &writer).await.map(drop)
}

async fn of_readers_does_not_end_at_a_dead_writer(cx: Cx) -> Outcome {
    let (dead, alive) = (cx.client().await?, cx.client().await?);
    let (held, mut writer, reader) =
        (cx.reader("a"), waiting(&cx, Mode::Exclusive), waiting(&cx, Mode::Shared));
    writer.ttl = cx.ttl(&*dead);
    acquire(&*alive, &held).await?;
    line_up(&*dead, &writer).await?;
    line_up(&*alive, &reader).await?;
    falls_silent(&*dead).await?;
    // Nobody releases anything: the dead one alone was in the way. Seconds are allowed, not minutes.
    acquired_within(&*alive, &reader, ms(10_000)).await?;
    check_matches!(keep(&*alive, &held).await?, Kept::Renewed { .. });
    Ok(())
}

async fn closes_up_over_a_dead_one_in_the_middle(cx: Cx) -> Outcome {
    let (dead, alive) = (cx.client().await?, cx.client().await?);
    let held = cx.claim("a");
    let [one, mut writer, two] =
        [Mode::Shared, Mode::Exclusive, Mode::Shared].map(|mode| waiting(&cx, mode));
    writer.ttl = cx.ttl(&*dead);
    acquire(&*alive, &held).await?;
    line_up(&*alive, &one).await?;
    line_up(&*dead, &writer).await?;
    line_up(&*alive, &two).await?;
    falls_silent(&*dead).await?;
    waits(&*alive, &held, 2).await?;
    alive.release(&held).await?;
    served(&*alive, &two).await?;
    served(&*alive, &one).await.map(drop)
}

async fn with_a_dead_one_in_the_middle_lets_nobody_in_too_early(cx: Cx) -> Outcome {
    let (dead, alive) = (cx.client().await?, cx.client().await?);
    let (held, mut reader, writer) =
        (cx.claim("a"), waiting(&cx, Mode::Shared), waiting(&cx, Mode::Exclusive));
    reader.ttl = cx.ttl(&*dead);
    acquire(&*alive, &held).await?;
    line_up(&*dead, &reader).await?;
    line_up(&*alive, &writer).await?;
    falls_silent(&*dead).await?;
    waits(&*alive, &held, 1).await?;
    refused(&*alive, &writer).await?;
    refused(&*alive, &cx.reader("a")).await?;
    alive.release(&held).await?;
    served(&*alive, &writer).await.map(drop)
}

async fn moves_up_when_one_in_the_middle_leaves(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let (held, writer, reader) =
        (cx.reader("a"), waiting(&cx, Mode::Exclusive), waiting(&cx, Mode::Shared));
    acquire(&*first, &held).await?;
    line_up(&*second, &writer).await?;
    line_up(&*first, &reader).await?;
    check_matches!(second.release(&writer).await?, Release::Released);
    acquire(&*first, &reader).await?;
    check_matches!(keep(&*second, &writer).await?, Kept::Gone);
    check_matches!(keep(&*first, &held).await?, Kept::Renewed { .. });
    Ok(())
}

async fn tells_readers_that_the_writer_before_them_has_left(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let (held, writer, reader) =
        (cx.reader("a"), waiting(&cx, Mode::Exclusive), waiting(&cx, Mode::Shared));
    acquire(&*first, &held).await?;
    line_up(&*first, &writer).await?;
    let (bell, hint) = bell();
    let _watch = second.watch(&reader, WatchFor::Release, hint).await?;
    line_up(&*second, &reader).await?;
    first.release(&writer).await?;
    bell.rings().await?;
    acquire(&*second, &reader).await?;
    Ok(())
}

async fn tells_each_reader_in_front_that_it_is_its_turn(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let held = cx.claim("a");
    let modes = [Mode::Shared, Mode::Shared, Mode::Exclusive, Mode::Shared];
    let claims = modes.map(|mode| waiting(&cx, mode));
    acquire(&*first, &held).await?;
    for claim in &claims {
        line_up(&*second, claim).await?;
    }
    let peeks = second.peek(&claims).await?;
    check!(!peeks.contains(&Peek::Free), "told to be free while it is held: {peeks:?}");
    first.release(&held).await?;
    let peeks = second.peek(&claims).await?;
    check_matches!(peeks[..], [Peek::Free, Peek::Free, Peek::Held { .. }, Peek::Held { .. }]);
    Ok(())
}

async fn tells_readers_in_front_while_keeping_them(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let (held, one, two, writer) = (
        cx.claim("a"),
        waiting(&cx, Mode::Shared),
        waiting(&cx, Mode::Shared),
        waiting(&cx, Mode::Exclusive),
    );
    acquire(&*client, &held).await?;
    for claim in [&one, &two, &writer] {
        line_up(&*client, claim).await?;
        check_matches!(keep(&*client, claim).await?, Kept::Queued { ahead: 1.. });
    }
    client.release(&held).await?;
    let kept = client.keep(&[one, two, writer]).await?;
    let [Kept::Queued { ahead: 0 }, Kept::Queued { ahead: 0 }, Kept::Queued { ahead: 1.. }] =
        kept[..]
    else {
        return Err(Failure::new(format!("two readers in front of a writer, kept as {kept:?}")));
    };
    Ok(())
}

async fn gives_as_many_permits_as_are_free(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let three = || waiting(&cx, permits(3));
    let held = [three(), three(), three()];
    for claim in &held {
        acquire(&*first, claim).await?;
    }
    let line = [three(), three(), three()];
    for claim in &line {
        line_up(&*second, claim).await?;
    }
    first.release(&held[0]).await?;
    first.release(&held[1]).await?;
    refused(&*second, &line[2]).await?;
    served(&*second, &line[1]).await?;
    served(&*second, &line[0]).await?;
    refused(&*second, &line[2]).await?;
    first.release(&held[2]).await?;
    served(&*second, &line[2]).await.map(drop)
}
