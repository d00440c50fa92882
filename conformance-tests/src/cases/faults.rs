//! When the line or the data is bad.

use std::sync::Arc;

use lock_core::Claim;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::SharedBackend;

use crate::Cx;
use crate::Failure;
use crate::Fault;
use crate::Link;
use crate::Outcome;
use crate::Weather;
use crate::case::cases;
use crate::cx::acquire;
use crate::cx::drop_after;
use crate::cx::free;
use crate::cx::ms;
use crate::cx::now;
use crate::cx::sleep;
use crate::failure::check;

cases! { "faults":
    "S9" "" of_foreign_data_are_named;
    "S7 G5" "C1" of_dropped_calls_end_with_them;
    "S8" "" of_the_line_can_be_retried;
    "S8 S12" "B6" of_lost_replies_are_ambiguous;
    "S2 S8" "B6" of_lost_replies_are_mended_by_repeating;
    "S12" "C1" of_lost_replies_leave_nothing_after_a_release;
    "G11" "" show_no_password;
}

async fn of_foreign_data_are_named(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let claim = cx.claim("a");
    cx.fault(Fault::Corrupt(claim.key.clone())).await?;
    for error in [client.attempt(&claim).await.err(), client.inspect(&claim.key).await.err()] {
        let kind = error.as_ref().map(Error::kind);
        check!(kind == Some(ErrorKind::Corrupt), "foreign data under the key gave {error:?}");
    }
    acquire(&*client, &cx.claim("b")).await?;
    Ok(())
}

async fn of_dropped_calls_end_with_them(cx: Cx) -> Outcome {
    let (client, other) = (cx.client().await?, cx.client().await?);
    for polls in 0..8 {
        let claim = cx.claim("a");
        let dropped = drop_after(client.attempt(&claim), polls).await.is_none();
        client.release(&claim).await?;
        sleep(ms(100)).await;
        let state = other.inspect(&claim.key).await?;
        check!(!state.is_locked(), "dropped at poll {polls}, released, and still {state:?}");
        if !dropped {
            break;
        }
    }
    Ok(())
}

/// Connects over a link that is cut, attempts, and returns the error.
async fn attempt_in(
    cx: &Cx,
    weather: Weather,
    claim: &Claim,
) -> Outcome<(SharedBackend, Arc<dyn Link>, Error)> {
    let (client, link) = cx.fixture().proxied(cx.namespace()).await?;
    client.peek(std::slice::from_ref(claim)).await?;
    link.set(weather);
    match client.attempt(claim).await {
        Err(error) => Ok((client, link, error)),
        Ok(attempt) => Err(Failure::new(format!("{weather:?}, and yet {attempt:?}"))),
    }
}

async fn of_the_line_can_be_retried(cx: Cx) -> Outcome {
    let claim = cx.claim("a");
    let (client, link, error) = attempt_in(&cx, Weather::Down, &claim).await?;
    check!(error.kind() == ErrorKind::Unavailable && error.is_retryable(), "{error:?}");
    link.set(Weather::Fair);
    let until = now() + ms(5000);
    while let Err(error) = client.attempt(&claim).await {
        check!(now() < until, "the line is well again, and still {error:?}");
        sleep(ms(50)).await;
    }
    Ok(())
}

async fn of_lost_replies_are_ambiguous(cx: Cx) -> Outcome {
    let claim = cx.claim("a");
    let (_, _, error) = attempt_in(&cx, Weather::LosesReplies, &claim).await?;
    check!(error.is_ambiguous(), "a reply was lost: {error:?}");
    Ok(())
}

async fn of_lost_replies_are_mended_by_repeating(cx: Cx) -> Outcome {
    let claim = cx.claim("a");
    let (_, link, _) = attempt_in(&cx, Weather::LosesReplies, &claim).await?;
    link.set(Weather::Fair);
    // Another client asks: on a store with sessions the first one's may have ended.
    if cx.client().await?.profile().lease != lock_core::LeaseKind::PerLock {
        return Err(Failure::skipped("a session may end with its connection"));
    }
    acquire(&*cx.client().await?, &claim).await?;
    Ok(())
}

async fn of_lost_replies_leave_nothing_after_a_release(cx: Cx) -> Outcome {
    let claim = cx.claim("a");
    let (client, link, _) = attempt_in(&cx, Weather::LosesReplies, &claim).await?;
    link.set(Weather::Fair);
    let until = now() + ms(5000);
    while let Err(error) = client.release(&claim).await {
        check!(now() < until, "the line is well again, and still {error:?}");
        sleep(ms(50)).await;
    }
    free(&*cx.client().await?, &claim.key, ms(1000)).await
}

async fn show_no_password(cx: Cx) -> Outcome {
    let secrets = cx.fixture().secrets();
    if secrets.is_empty() {
        return Err(Failure::skipped("the fixture has no password"));
    }
    let (client, link) = cx.fixture().proxied(cx.namespace()).await?;
    let mut shown = format!("{client:?} {:?} {:?}", client.profile(), cx.client().await?);
    link.set(Weather::Down);
    if let Err(error) = client.attempt(&cx.claim("a")).await {
        shown += &format!("{error} {error:?}");
    }
    for secret in secrets {
        check!(!shown.contains(&secret), "a password is shown");
    }
    Ok(())
}
