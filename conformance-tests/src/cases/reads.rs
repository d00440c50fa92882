//! Looking changes nothing and shows the truth.

use std::slice;

use lock_core::Backend;
use lock_core::Kept;
use lock_core::MAX_OWNER_BYTES;
use lock_core::Owner;
use lock_core::Peek;

use crate::Cx;
use crate::Outcome;
use crate::case::cases;
use crate::cx::SLACK;
use crate::cx::acquire;
use crate::cx::acquired_within;
use crate::cx::keep;
use crate::cx::ms;
use crate::cx::now;
use crate::cx::refused;
use crate::cx::sleep;
use crate::failure::check;
use crate::failure::check_matches;

cases! { "reads":
    "S10" "A14" inspect_shows_the_holder;
    "S10" "" inspect_shows_the_whole_name_of_an_owner;
    "S3 S10" "" inspect_shows_how_long_is_left [LeasePerLock];
    "S10" "A14" inspect_shows_a_free_key_as_free;
    "S10" "A14" inspect_shows_an_expired_lock_as_free;
    "S10 S3" "" looking_does_not_prolong_a_lease [LeasePerLock];
    "S10" "" looking_does_not_take_a_key;
    "S10" "" peek_answers_each_key_in_its_place;
    "S10" "" peek_shows_an_expired_lock_as_free;
    "S10" "" list_shows_what_is_held_in_byte_order;
    "S10" "" list_pages_without_gap_or_repeat;
    "S10" "" list_leaves_out_what_is_free;
    "S10 G9" "A2" list_takes_its_prefix_literally;
    "S10" "A8" cleanup_leaves_the_living;
    "S10" "A8" cleanup_leaves_the_expired_free;
}

async fn names(client: &dyn Backend, prefix: &str, limit: usize) -> Outcome<Vec<String>> {
    let (mut names, mut cursor) = (Vec::new(), None);
    loop {
        let page = client.list(prefix, cursor, limit).await?;
        check!(page.items.len() <= limit, "{} items on a page of {limit}", page.items.len());
        names.extend(page.items.into_iter().map(|state| state.key));
        cursor = page.next;
        if cursor.is_none() {
            return Ok(names);
        }
        check!(names.len() < 1000, "the listing does not end");
    }
}

fn full(cx: &Cx, name: &str) -> String {
    cx.key(name).as_str().to_owned()
}

async fn inspect_shows_the_holder(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let claim = cx.claim("a");
    acquire(&*first, &claim).await?;
    let state = second.inspect(&claim.key).await?;
    let [holder] = &state.holders[..] else {
        return Err(crate::Failure::new(format!("one holds, the store shows {state:?}")));
    };
    check!(holder.owner.as_deref() == Some("suite"), "wrong owner: {holder:?}");
    check!(holder.expires_in.is_none_or(|left| left <= claim.ttl), "too long: {holder:?}");
    check!(holder.other_key.is_none() && state.waiting == 0, "made up: {state:?}");
    check!(state.key == claim.key.as_str(), "{:?} is called {:?}", claim.key, state.key);
    Ok(())
}

async fn inspect_shows_the_whole_name_of_an_owner(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let odd = r#"Ann O'Neil@host:4711, "x" \ 50% {é🔒} | null "#;
    let name = odd.to_owned() + &"n".repeat(MAX_OWNER_BYTES - odd.len());
    let mut claim = cx.claim("a");
    claim.owner = Owner::new(&name)?;
    acquire(&*first, &claim).await?;
    let state = second.inspect(&claim.key).await?;
    let shown = state.holders.first().and_then(|holder| holder.owner.as_deref());
    check!(shown == Some(&*name), "owner {name:?} is shown as {shown:?}");
    Ok(())
}

async fn inspect_shows_how_long_is_left(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let claim = cx.claim("a");
    let (_, lease) = acquire(&*first, &claim).await?;
    let granted = now();
    sleep(ms(300)).await;
    let asked = now();
    let state = second.inspect(&claim.key).await?;
    let Some(left) = state.holders.first().and_then(|holder| holder.expires_in) else {
        return Err(crate::Failure::skipped("the store does not tell how long is left"));
    };
    // The store's clock may run a little slower, and round up.
    let most = lease.ttl - asked.saturating_since(granted) + ms(50);
    let least = lease.ttl.saturating_sub(now().saturating_since(lease.since) + SLACK);
    check!((least..=most).contains(&left), "{left:?} left, not {least:?} to {most:?}");
    Ok(())
}

async fn inspect_shows_a_free_key_as_free(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let claim = cx.claim("a");
    check!(!client.inspect(&claim.key).await?.is_locked(), "an unused key shows as locked");
    acquire(&*client, &claim).await?;
    client.release(&claim).await?;
    check!(!client.inspect(&claim.key).await?.is_locked(), "a released key shows as locked");
    Ok(())
}

async fn inspect_shows_an_expired_lock_as_free(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let claim = cx.claim_for("a", cx.ttl(&*first));
    let (_, lease) = acquire(&*first, &claim).await?;
    cx.lapse(&*second, &claim.key, lease).await?;
    let state = second.inspect(&claim.key).await?;
    check!(!state.is_locked(), "its lease is over: {state:?}");
    Ok(())
}

async fn looking_does_not_prolong_a_lease(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let claim = cx.claim_for("a", cx.ttl(&*first));
    let (_, lease) = acquire(&*first, &claim).await?;
    let end = lease.since + lease.ttl;
    while now() < end {
        first.inspect(&claim.key).await?;
        first.peek(slice::from_ref(&claim)).await?;
        first.list(cx.namespace(), None, 10).await?;
        sleep(ms(20)).await;
    }
    acquired_within(&*second, &cx.claim("a"), SLACK).await?;
    Ok(())
}

async fn looking_does_not_take_a_key(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    first.inspect(&cx.key("a")).await?;
    first.peek(&[cx.claim("a")]).await?;
    check!(names(&*first, cx.namespace(), 10).await?.is_empty(), "a look made a record");
    acquire(&*second, &cx.claim("a")).await?;
    Ok(())
}

async fn peek_answers_each_key_in_its_place(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    acquire(&*first, &cx.claim("b")).await?;
    acquire(&*first, &cx.claim("d")).await?;
    let peeks = second.peek(&["a", "b", "c", "d"].map(|name| cx.claim(name))).await?;
    check_matches!(peeks[..], [Peek::Free, Peek::Held { .. }, Peek::Free, Peek::Held { .. }]);
    check_matches!(second.peek(&[]).await?[..], []);
    Ok(())
}

async fn peek_shows_an_expired_lock_as_free(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let claim = cx.claim_for("a", cx.ttl(&*first));
    let (_, lease) = acquire(&*first, &claim).await?;
    cx.lapse(&*second, &claim.key, lease).await?;
    check_matches!(second.peek(&[cx.claim("a")]).await?[..], [Peek::Free]);
    Ok(())
}

async fn list_shows_what_is_held_in_byte_order(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    for name in ["b", "B", "é", "a", "ab"] {
        acquire(&*first, &cx.claim(name)).await?;
    }
    let expected = ["B", "a", "ab", "b", "é"].map(|name| full(&cx, name));
    let listed = names(&*second, cx.namespace(), 100).await?;
    check!(listed == expected, "listed {listed:?}");
    Ok(())
}

async fn list_pages_without_gap_or_repeat(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let expected: Vec<_> = (10..17).map(|n| full(&cx, &format!("k{n}"))).collect();
    for n in 10..17 {
        acquire(&*client, &cx.claim(&format!("k{n}"))).await?;
    }
    for limit in [1, 3, 7] {
        let listed = names(&*client, cx.namespace(), limit).await?;
        check!(listed == expected, "by pages of {limit}: {listed:?}");
    }
    Ok(())
}

async fn list_leaves_out_what_is_free(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let (gone, brief) = (cx.claim("released"), cx.claim_for("expired", cx.ttl(&*first)));
    acquire(&*first, &gone).await?;
    first.release(&gone).await?;
    let (_, lease) = acquire(&*first, &brief).await?;
    cx.lapse(&*second, &brief.key, lease).await?;
    acquire(&*second, &cx.claim("held")).await?;
    let listed = names(&*second, cx.namespace(), 100).await?;
    check!(listed == [full(&cx, "held")], "listed {listed:?}");
    Ok(())
}

async fn list_takes_its_prefix_literally(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    for name in ["a_1", "ab1", "a%1", "a*1", "a?1", "a[b]1", "a\\1", "A_1"] {
        acquire(&*client, &cx.claim(name)).await?;
    }
    // What is looked for further inside is no prefix.
    acquire(&*client, &cx.claim(&format!("x{}", full(&cx, "a_1")))).await?;
    for prefix in ["a_", "a%", "a*", "a?", "a[b]", "a\\"] {
        let listed = names(&*client, &full(&cx, prefix), 100).await?;
        check!(listed == [full(&cx, &format!("{prefix}1"))], "{prefix} found {listed:?}");
    }
    Ok(())
}

async fn cleanup_leaves_the_living(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let claim = cx.claim("a");
    acquire(&*first, &claim).await?;
    second.purge().await?;
    refused(&*second, &cx.claim("a")).await?;
    check_matches!(keep(&*first, &claim).await?, Kept::Renewed { .. });
    Ok(())
}

async fn cleanup_leaves_the_expired_free(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let claim = cx.claim_for("a", cx.ttl(&*first));
    let (_, lease) = acquire(&*first, &claim).await?;
    cx.lapse(&*second, &claim.key, lease).await?;
    second.purge().await?;
    let listed = names(&*second, cx.namespace(), 10).await?;
    check!(listed.is_empty(), "after the cleanup {listed:?}");
    acquire(&*second, &cx.claim("a")).await?;
    Ok(())
}
