//! Who may hold beside whom.

use futures_util::future::join_all;
use lock_core::Attempt;
use lock_core::ErrorKind;
use lock_core::Mode;

use crate::Cx;
use crate::Outcome;
use crate::case::cases;
use crate::cx::acquire;
use crate::cx::acquired_within;
use crate::cx::dies;
use crate::cx::failed;
use crate::cx::ms;
use crate::cx::permits;
use crate::cx::refused;
use crate::failure::check;

cases! { "mode":
    "G1 S1" "A18" shared_is_held_by_several [Shared];
    "G1 S1" "A17 A18" of_each_pair_excludes_as_the_table_says [Shared, Permits];
    "G1 S1" "A17" permits_are_given_as_often_as_there_are [Permits];
    "G1 S1" "A17" permits_in_a_race_are_given_as_often_as_there_are [Permits];
    "G1 S1" "A18" of_racing_readers_and_writers_is_one [Shared];
    "G1" "A17" permits_of_another_number_are_refused_by_name [Permits];
    "G1 S3" "A17" permits_of_another_number_are_given_when_only_the_dead_had_some [Permits];
    "G8 S2" "A9" of_a_token_does_not_change [Shared];
}

async fn shared_is_held_by_several(cx: Cx) -> Outcome {
    let clients = [cx.client().await?, cx.client().await?];
    for n in 0..6 {
        acquire(&*clients[n % 2], &cx.reader("a")).await?;
    }
    refused(&*clients[0], &cx.claim("a")).await?;
    refused(&*clients[1], &cx.claim("a")).await
}

async fn of_each_pair_excludes_as_the_table_says(cx: Cx) -> Outcome {
    let clients = [cx.client().await?, cx.client().await?];
    let modes = [Mode::Exclusive, Mode::Shared, permits(2)];
    for (held, wanted) in modes.into_iter().flat_map(|held| modes.map(|wanted| (held, wanted))) {
        let name = format!("{held} and {wanted}");
        acquire(&*clients[0], &cx.claim_in(&name, held)).await?;
        let beside = held == wanted && held != Mode::Exclusive;
        for client in &clients {
            let claim = cx.claim_in(&name, wanted);
            let granted = matches!(client.attempt(&claim).await?, Attempt::Acquired { .. });
            check!(granted == beside, "{wanted} beside {held}: granted is {granted}");
            client.release(&claim).await?;
        }
    }
    Ok(())
}

async fn permits_are_given_as_often_as_there_are(cx: Cx) -> Outcome {
    let clients = [cx.client().await?, cx.client().await?];
    let three = || cx.claim_in("a", permits(3));
    let first = three();
    acquire(&*clients[0], &first).await?;
    acquire(&*clients[1], &three()).await?;
    acquire(&*clients[0], &three()).await?;
    refused(&*clients[0], &three()).await?;
    refused(&*clients[1], &three()).await?;
    clients[0].release(&first).await?;
    acquire(&*clients[1], &three()).await?;
    refused(&*clients[0], &three()).await
}

async fn permits_in_a_race_are_given_as_often_as_there_are(cx: Cx) -> Outcome {
    let clients = [cx.client().await?, cx.client().await?, cx.client().await?, cx.client().await?];
    for round in 0..10 {
        let name = format!("round {round}");
        let racing = (0..16).map(|n| {
            let (client, claim) = (clients[n % 4].clone(), cx.claim_in(&name, permits(5)));
            tokio::spawn(async move { client.attempt(&claim).await })
        });
        let mut granted = 0;
        for attempt in join_all(racing).await {
            granted += u32::from(matches!(attempt??, Attempt::Acquired { .. }));
        }
        check!(granted == 5, "of 16 racing claims {granted} were granted 5 permits");
    }
    Ok(())
}

async fn of_racing_readers_and_writers_is_one(cx: Cx) -> Outcome {
    let clients = [cx.client().await?, cx.client().await?, cx.client().await?, cx.client().await?];
    for round in 0..10 {
        let name = format!("round {round}");
        let racing = (0..16).map(|n| {
            let read = n / 4 % 2 == round % 2;
            let mode = if read { Mode::Shared } else { Mode::Exclusive };
            let (client, claim) = (clients[n % 4].clone(), cx.claim_in(&name, mode));
            tokio::spawn(async move { (mode, client.attempt(&claim).await) })
        });
        let mut granted = Vec::new();
        for ended in join_all(racing).await {
            let (mode, attempt) = ended?;
            granted.extend(matches!(attempt?, Attempt::Acquired { .. }).then_some(mode));
        }
        let readers = granted.iter().all(|mode| *mode == Mode::Shared);
        check!(granted.len() == 1 || readers, "held together: {granted:?}");
        check!(!granted.is_empty(), "a free key was refused to all of 16");
    }
    Ok(())
}

async fn permits_of_another_number_are_refused_by_name(cx: Cx) -> Outcome {
    let clients = [cx.client().await?, cx.client().await?];
    let two = cx.claim_in("a", permits(2));
    acquire(&*clients[0], &two).await?;
    for (client, of) in clients.iter().zip([3, 1]) {
        let tried = client.attempt(&cx.claim_in("a", permits(of))).await;
        let text = failed(tried, ErrorKind::InvalidInput)?.to_string();
        check!(text.contains("permits:2"), "names not what is stored: {text}");
    }
    // The mistake has taken nothing and left nothing.
    acquire(&*clients[1], &cx.claim_in("a", permits(2))).await?;
    clients[0].release(&two).await?;
    Ok(())
}

async fn permits_of_another_number_are_given_when_only_the_dead_had_some(cx: Cx) -> Outcome {
    let (dead, client) = (cx.client().await?, cx.client().await?);
    let mut two = cx.claim_in("a", permits(2));
    two.ttl = cx.ttl(&*dead);
    let (_, lease) = acquire(&*dead, &two).await?;
    dies(&*dead, lease).await?;
    cx.rid_of(&*client, &two.key, 0).await?;
    acquired_within(&*client, &cx.claim_in("a", permits(3)), ms(100)).await?;
    Ok(())
}

async fn of_a_token_does_not_change(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    let reader = cx.reader("a");
    let (fence, _) = acquire(&*first, &reader).await?;
    let mut writer = reader.clone();
    writer.mode = Mode::Exclusive;
    let text = failed(first.attempt(&writer).await, ErrorKind::InvalidInput)?.to_string();
    check!(text.contains("shared"), "names not what is stored: {text}");
    // It still holds as it did.
    acquire(&*second, &cx.reader("a")).await?;
    let (again, _) = acquire(&*first, &reader).await?;
    check!(again == fence, "fence {fence} became {again}");
    Ok(())
}
