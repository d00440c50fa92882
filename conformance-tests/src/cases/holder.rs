//! Each of several holders of a key is for itself: its token, its fence, its lease.

use lock_core::Backend;
use lock_core::Eviction;
use lock_core::Holder;
use lock_core::Kept;
use lock_core::Mode;
use lock_core::Owner;
use lock_core::Peek;
use lock_core::Release;

use crate::Cx;
use crate::Outcome;
use crate::case::cases;
use crate::cx::SLACK;
use crate::cx::acquire;
use crate::cx::acquired_within;
use crate::cx::dies;
use crate::cx::keep;
use crate::cx::ms;
use crate::cx::now;
use crate::cx::permits;
use crate::cx::refused;
use crate::cx::sleep;
use crate::cx::sleep_until;
use crate::failure::check;
use crate::failure::check_matches;

cases! { "holder":
    "S2 G2" "A6" that_repeats_keeps_its_own_fence [Shared, Permits];
    "S2" "A17" that_repeats_takes_no_second_permit [Permits];
    "S2 S4" "A18" that_leaves_leaves_the_others [Shared];
    "S4" "A5" with_a_stale_token_changes_nothing [Shared, Permits];
    "G2 S5" "A6" of_any_mode_has_a_higher_fence_than_all_before [Shared, Permits];
    "S3 S11" "A18" that_dies_leaves_the_others [Shared];
    "S3" "A17" that_dies_frees_one_permit [Permits];
    "S4 S11" "B4" that_is_kept_keeps_no_other [Shared, LeasePerLock];
    "S11" "B5" that_has_died_is_not_revived_beside_the_living [Shared, LeasePerLock];
    "S5 S11" "A7" that_comes_back_after_its_end_gets_a_higher_fence [Shared, LeasePerLock];
    "S4" "A15" falls_with_all_others_by_force [Shared];
    "S10" "A14" is_shown_with_its_mode [Shared, Permits];
    "S10" "A14" is_listed_under_one_key [Shared];
    "S10 G6" "A14" is_in_the_way_of_whom_it_excludes [Shared, Permits];
    "S10" "A8" that_lives_survives_the_cleanup_of_the_dead [Shared];
}

async fn that_repeats_keeps_its_own_fence(cx: Cx) -> Outcome {
    let clients = [cx.client().await?, cx.client().await?];
    for mode in [Mode::Shared, permits(3)] {
        let claims = [cx.claim_in(&mode.to_string(), mode), cx.claim_in(&mode.to_string(), mode)];
        let (one, _) = acquire(&*clients[0], &claims[0]).await?;
        let (two, _) = acquire(&*clients[1], &claims[1]).await?;
        for _ in 0..2 {
            let (again, _) = acquire(&*clients[0], &claims[0]).await?;
            check!(again == one, "{mode}: fence {one} became {again}");
            let (again, _) = acquire(&*clients[1], &claims[1]).await?;
            check!(again == two, "{mode}: fence {two} became {again}");
        }
    }
    Ok(())
}

async fn that_repeats_takes_no_second_permit(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let (mine, two) = (cx.claim_in("a", permits(2)), || cx.claim_in("a", permits(2)));
    for _ in 0..3 {
        acquire(&*first, &mine).await?;
    }
    acquire(&*second, &two()).await?;
    refused(&*second, &two()).await?;
    check_matches!(first.release(&mine).await?, Release::Released);
    acquire(&*second, &two()).await?;
    Ok(())
}

async fn that_leaves_leaves_the_others(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let (one, two, writer) = (cx.reader("a"), cx.reader("a"), cx.claim("a"));
    acquire(&*first, &one).await?;
    acquire(&*second, &two).await?;
    check_matches!(first.release(&one).await?, Release::Released);
    refused(&*first, &writer).await?;
    check_matches!(keep(&*second, &two).await?, Kept::Renewed { .. });
    check_matches!(second.release(&two).await?, Release::Released);
    acquire(&*first, &writer).await?;
    Ok(())
}

async fn with_a_stale_token_changes_nothing(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    for mode in [Mode::Shared, permits(2)] {
        let name = mode.to_string();
        let (old, one, two) =
            (cx.claim_in(&name, mode), cx.claim_in(&name, mode), cx.claim_in(&name, mode));
        acquire(&*first, &old).await?;
        first.release(&old).await?;
        acquire(&*first, &one).await?;
        acquire(&*second, &two).await?;
        check_matches!(keep(&*first, &old).await?, Kept::Gone);
        check_matches!(first.release(&old).await?, Release::NotHeld);
        check_matches!(keep(&*first, &one).await?, Kept::Renewed { .. });
        check_matches!(keep(&*second, &two).await?, Kept::Renewed { .. });
        refused(&*second, &cx.claim(&name)).await?;
    }
    Ok(())
}

async fn of_any_mode_has_a_higher_fence_than_all_before(cx: Cx) -> Outcome {
    let clients = [cx.client().await?, cx.client().await?];
    let mut last = None;
    for round in 0..4 {
        for mode in [Mode::Exclusive, Mode::Shared, permits(3)] {
            let beside = if mode == Mode::Exclusive { 1 } else { 3 };
            let claims: Vec<_> = (0..beside).map(|_| cx.claim_in("a", mode)).collect();
            for (n, claim) in claims.iter().enumerate() {
                let (fence, _) = acquire(&*clients[(n + round) % 2], claim).await?;
                check!(last.is_none_or(|last| fence > last), "{mode}: {fence} after {last:?}");
                last = Some(fence);
            }
            for (n, claim) in claims.iter().enumerate() {
                clients[(n + round) % 2].release(claim).await?;
            }
        }
    }
    Ok(())
}

async fn that_dies_leaves_the_others(cx: Cx) -> Outcome {
    let (dead, alive, other) = (cx.client().await?, cx.client().await?, cx.client().await?);
    let (mut brief, long) = (cx.reader("a"), cx.reader("a"));
    brief.ttl = cx.ttl(&*dead);
    let (_, lease) = acquire(&*dead, &brief).await?;
    acquire(&*alive, &long).await?;
    dies(&*dead, lease).await?;
    cx.rid_of(&*other, &long.key, 1).await?;
    refused(&*other, &cx.claim("a")).await?;
    check_matches!(keep(&*alive, &long).await?, Kept::Renewed { .. });
    alive.release(&long).await?;
    acquire(&*other, &cx.claim("a")).await?;
    Ok(())
}

async fn that_dies_frees_one_permit(cx: Cx) -> Outcome {
    let (dead, alive) = (cx.client().await?, cx.client().await?);
    let two = || cx.claim_in("a", permits(2));
    let mut brief = two();
    brief.ttl = cx.ttl(&*dead);
    let (_, lease) = acquire(&*dead, &brief).await?;
    acquire(&*alive, &two()).await?;
    refused(&*alive, &two()).await?;
    dies(&*dead, lease).await?;
    acquired_within(&*alive, &two(), SLACK).await?;
    refused(&*alive, &two()).await
}

async fn that_is_kept_keeps_no_other(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let (mut one, mut two) = (cx.reader("a"), cx.reader("a"));
    (one.ttl, two.ttl) = (cx.ttl(&*client), cx.ttl(&*client));
    acquire(&*client, &one).await?;
    let (_, lease) = acquire(&*client, &two).await?;
    let end = lease.since + lease.ttl + ms(50);
    while now() < end {
        check_matches!(keep(&*client, &one).await?, Kept::Renewed { .. });
        sleep(one.ttl / 5).await;
    }
    let kept = client.keep(&[two, one]).await?;
    check_matches!(kept[..], [Kept::Gone, Kept::Renewed { .. }]);
    Ok(())
}

async fn that_has_died_is_not_revived_beside_the_living(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let (mut brief, long) = (cx.reader("a"), cx.reader("a"));
    brief.ttl = cx.ttl(&*client);
    let (_, lease) = acquire(&*client, &brief).await?;
    acquire(&*client, &long).await?;
    dies(&*client, lease).await?;
    cx.rid_of(&*client, &long.key, 1).await?;
    check_matches!(keep(&*client, &brief).await?, Kept::Gone);
    check_matches!(client.release(&brief).await?, Release::NotHeld);
    cx.rid_of(&*client, &long.key, 1).await
}

async fn that_comes_back_after_its_end_gets_a_higher_fence(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let (mut brief, long) = (cx.reader("a"), cx.reader("a"));
    brief.ttl = cx.ttl(&*client);
    let (_, lease) = acquire(&*client, &brief).await?;
    let (second, _) = acquire(&*client, &long).await?;
    sleep_until(lease.since + lease.ttl + SLACK).await;
    let (again, _) = acquire(&*client, &brief).await?;
    check!(again > second, "after {second} an ended hold came back with fence {again}");
    Ok(())
}

async fn falls_with_all_others_by_force(cx: Cx) -> Outcome {
    let clients = [cx.client().await?, cx.client().await?];
    let readers = [cx.reader("a"), cx.reader("a"), cx.reader("a")];
    for (n, reader) in readers.iter().enumerate() {
        acquire(&*clients[n % 2], reader).await?;
    }
    let other = cx.client().await?;
    let evicted = other.evict(&readers[0].key, Eviction::LockOnly).await?;
    check!(evicted.holders == 3, "three held it: {evicted:?}");
    acquired_within(&*other, &cx.claim("a"), ms(5000)).await?;
    for (n, reader) in readers.iter().enumerate() {
        check_matches!(keep(&*clients[n % 2], reader).await?, Kept::Gone);
        check_matches!(clients[n % 2].release(reader).await?, Release::NotHeld);
    }
    refused(&*clients[0], &cx.reader("a")).await
}

async fn is_shown_with_its_mode(cx: Cx) -> Outcome {
    let clients = [cx.client().await?, cx.client().await?];
    for mode in [Mode::Shared, permits(3)] {
        let mut expected = Vec::new();
        for (client, owner) in clients.iter().zip(["ann", "bob"]) {
            let mut claim = cx.claim_in(&mode.to_string(), mode);
            claim.owner = Owner::new(owner)?;
            let (fence, _) = acquire(&**client, &claim).await?;
            expected.push((Some(owner.to_owned()), Some(mode), Some(fence)));
        }
        let state = clients[0].inspect(&cx.key(&mode.to_string())).await?;
        let facts = |holder: &Holder| (holder.owner.clone(), holder.mode, holder.fence);
        let mut shown: Vec<_> = state.holders.iter().map(facts).collect();
        shown.sort_by_key(|(_, _, fence)| *fence);
        check!(shown == expected, "{mode}: shown as {shown:?}, expected {expected:?}");
    }
    Ok(())
}

async fn is_listed_under_one_key(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    for name in ["a", "a", "a", "b", "b", "c"] {
        acquire(&*client, &cx.reader(name)).await?;
    }
    let first = client.list(cx.namespace(), None, 2).await?;
    let rest = client.list(cx.namespace(), first.next, 2).await?;
    let holders: Vec<_> =
        first.items.iter().chain(&rest.items).map(|it| it.holders.len()).collect();
    check!(holders == [3, 2, 1] && rest.next.is_none(), "holders of each listed key: {holders:?}");
    Ok(())
}

/// Peeks for claims of these modes.
async fn peeks<const N: usize>(
    client: &dyn Backend,
    cx: &Cx,
    name: &str,
    modes: [Mode; N],
) -> Outcome<Vec<bool>> {
    let peeks = client.peek(&modes.map(|mode| cx.claim_in(name, mode))).await?;
    Ok(peeks.into_iter().map(|peek| peek == Peek::Free).collect())
}

async fn is_in_the_way_of_whom_it_excludes(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let all = [Mode::Exclusive, Mode::Shared, permits(2)];
    let expected = [[false, false, false], [false, true, false], [false, false, true]];
    for (held, expected) in all.into_iter().zip(expected) {
        let name = held.to_string();
        acquire(&*first, &cx.claim_in(&name, held)).await?;
        let free = peeks(&*second, &cx, &name, all).await?;
        check!(free == expected, "beside {held}, of {all:?} these are told to be free: {free:?}");
    }
    acquire(&*first, &cx.claim_in("permits:2", permits(2))).await?;
    let free = peeks(&*second, &cx, "permits:2", all).await?;
    check!(free == [false; 3], "all permits are out, and told is {free:?}");
    Ok(())
}

async fn that_lives_survives_the_cleanup_of_the_dead(cx: Cx) -> Outcome {
    let (dead, alive, other) = (cx.client().await?, cx.client().await?, cx.client().await?);
    let (mut brief, long) = (cx.reader("a"), cx.reader("a"));
    brief.ttl = cx.ttl(&*dead);
    let (_, lease) = acquire(&*dead, &brief).await?;
    let (fence, _) = acquire(&*alive, &long).await?;
    dies(&*dead, lease).await?;
    cx.rid_of(&*other, &long.key, 1).await?;
    other.purge().await?;
    refused(&*other, &cx.claim("a")).await?;
    let (again, _) = acquire(&*alive, &long).await?;
    check!(again == fence, "the cleanup changed fence {fence} to {again}");
    Ok(())
}
