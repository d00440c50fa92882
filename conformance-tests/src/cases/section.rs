//! Work under a lock: stopped on loss, skipped when held, and its own error first.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Eviction;
use lock_core::LockProviderExt as _;
use lock_core::Run;

use crate::Cx;
use crate::Failure;
use crate::Outcome;
use crate::case::cases;
use crate::cx::excluded;
use crate::cx::failed;
use crate::cx::free;
use crate::cx::lock;
use crate::cx::ms;
use crate::cx::opts;
use crate::cx::within;
use crate::failure::check;

cases! { "section":
    "G5 G7" "" runs_under_the_lock_and_frees_it;
    "G4 G1" "B3" is_stopped_when_the_lock_is_lost;
    "G7" "" keeps_the_error_of_the_work;
    "G6" "A13" is_skipped_when_held;
}

async fn runs_under_the_lock_and_frees_it(cx: Cx) -> Outcome {
    let (engine, other) = (cx.engine().await?, cx.engine().await?);
    let body = async |hold: lock_core::Hold| {
        excluded(&other, "a").await.map_err(|_| Problem::Work)?;
        Ok::<_, Problem>(hold.fence())
    };
    let fence = engine.with_lock("a", &opts(), body).await?;
    free(&*cx.client().await?, &cx.key("a"), ms(1000)).await?;
    let next = lock(&other, "a", opts()).await?;
    check!(next.fence() > fence, "{} after {fence}", next.fence());
    Ok(())
}

/// An error of the user's own.
#[derive(Debug)]
enum Problem {
    Work,
    Lock(Error),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Work => f.write_str("the work failed"),
            Self::Lock(error) => error.fmt(f),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Lock(error)
    }
}

/// Notes that it was dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

async fn is_stopped_when_the_lock_is_lost(cx: Cx) -> Outcome {
    let (engine, other) = (cx.engine().await?, cx.engine().await?);
    let ttl = cx.ttl(&*cx.client().await?);
    let stopped = Arc::new(AtomicBool::new(false));
    let work = Dropped(stopped.clone());
    let options = opts().ttl(ttl);
    let section = engine.with_lock("a", &options, async |_| {
        let _work = work;
        std::future::pending::<Result<(), Error>>().await
    });
    let evict = async {
        crate::cx::sleep(ms(100)).await;
        other.force_unlock("a", Eviction::LockOnly).await
    };
    let (ended, evicted) = within(ttl * 3, async { tokio::join!(section, evict) }).await?;
    evicted?;
    failed(ended, ErrorKind::Lost)?;
    check!(stopped.load(Ordering::SeqCst), "the work goes on without the lock");
    Ok(())
}

async fn keeps_the_error_of_the_work(cx: Cx) -> Outcome {
    let engine = cx.engine().await?;
    let fail = async |_| Err::<(), _>(Problem::Work);
    match engine.with_lock("a", &opts(), fail).await {
        Err(Problem::Work) => {}
        other => return Err(Failure::new(format!("the work failed, the section says {other:?}"))),
    }
    free(&*cx.client().await?, &cx.key("a"), ms(1000)).await
}

async fn is_skipped_when_held(cx: Cx) -> Outcome {
    let (engine, other) = (cx.engine().await?, cx.engine().await?);
    let held = lock(&engine, "a", opts().owner("ann")).await?;
    let skipped = other.run_or_skip("a", &opts(), async |_| Ok::<_, Error>(())).await?;
    let Run::Skipped(holder) = skipped else { return Err(Failure::new("ran while held")) };
    check!(holder.owner.as_deref() == Some("ann"), "skipped for {holder:?}");
    held.unlock().await?;
    let done = other.run_or_skip("a", &opts(), async |_| Ok::<_, Error>(7)).await?;
    check!(done == Run::Done(7), "free, and {done:?}");
    Ok(())
}
