//! Leader election: one leader, who stops when it is none, and a successor.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Eviction;
use lock_core::Hold;
use lock_core::LockProviderExt as _;

use super::cancel::Bench;
use crate::Cx;
use crate::Outcome;
use crate::Weather;
use crate::case::cases;
use crate::cx::drop_after;
use crate::cx::failed;
use crate::cx::free;
use crate::cx::lock;
use crate::cx::ms;
use crate::cx::now;
use crate::cx::opts;
use crate::cx::sleep;
use crate::cx::wake_bound;
use crate::cx::within;
use crate::failure::check;

cases! { "election":
    "G1 G2" "" has_one_leader_at_a_time;
    "G4 G1" "B3" stops_a_leader_that_lost_and_lets_it_contend_again;
    "G5 G6" "C1" is_left_at_once_by_a_dropped_leader;
    "G5 G7" "" ends_with_the_result_of_the_work;
    "G6" "D10" outlives_a_bad_line;
    "G6" "A14" shows_followers_who_leads;
    "G5" "C1" dropped_half_way_leaves_nothing;
}

async fn has_one_leader_at_a_time(cx: Cx) -> Outcome {
    let engines = [cx.engine().await?, cx.engine().await?];
    let leaders = AtomicU64::new(0);
    let lead = async |hold: Hold| {
        let others = leaders.fetch_add(1, Ordering::SeqCst);
        sleep(ms(20)).await;
        leaders.fetch_sub(1, Ordering::SeqCst);
        Ok::<_, Error>((others, hold.fence()))
    };
    let options = opts();
    let candidates = (0..6).map(|number| engines[number % 2].elect("a", &options, &lead));
    let mut fences = Vec::new();
    for led in within(ms(10_000), join_all(candidates)).await? {
        let (others, fence) = led?;
        check!(others == 0, "{others} others led at the same time");
        fences.push(fence);
    }
    fences.sort();
    fences.dedup();
    check!(fences.len() == 6, "six led under {fences:?}");
    Ok(())
}

/// Notes that the work was stopped.
struct Stopped(Arc<AtomicBool>);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

async fn stops_a_leader_that_lost_and_lets_it_contend_again(cx: Cx) -> Outcome {
    let (engine, other) = (cx.engine().await?, cx.engine().await?);
    let ttl = cx.ttl(&*cx.client().await?);
    let (stopped, mut first) = (Arc::new(AtomicBool::new(false)), None);
    let lead = |hold: Hold| {
        let again = first.is_some();
        let before = *first.get_or_insert_with(|| hold.fence());
        let stopped = Stopped(stopped.clone());
        async move {
            let seen = stopped.0.load(Ordering::SeqCst);
            if again { Ok::<_, Error>((seen, before, hold.fence())) } else { pending().await }
        }
    };
    let options = opts().ttl(ttl);
    let election = engine.elect("a", &options, lead);
    let evict = async {
        sleep(ms(100)).await;
        other.force_unlock("a", Eviction::LockOnly).await
    };
    let (led, evicted) = within(ttl * 3, async { tokio::join!(election, evict) }).await?;
    evicted?;
    let (seen, before, after) = led?;
    check!(seen, "led again while the first term went on");
    check!(after > before, "led again under {after} after {before}");
    Ok(())
}

async fn is_left_at_once_by_a_dropped_leader(cx: Cx) -> Outcome {
    let (engine, other) = (cx.engine().await?, cx.engine().await?);
    let options = opts();
    let leading = engine.elect("a", &options, async |_| pending::<Result<(), Error>>().await);
    let dropped = tokio::time::timeout(ms(300), leading).await;
    check!(dropped.is_err(), "nobody stepped down, and it ended: {dropped:?}");
    let next = other.elect("a", &options, async |hold| Ok::<_, Error>(hold.is_valid()));
    let valid = within(wake_bound(other.profile()), next).await??;
    check!(valid, "the successor does not lead");
    Ok(())
}

async fn ends_with_the_result_of_the_work(cx: Cx) -> Outcome {
    let (engine, client) = (cx.engine().await?, cx.client().await?);
    let options = opts();
    let won = engine.elect("a", &options, async |_| Ok::<_, Error>(7)).await?;
    check!(won == 7, "the work gave 7, the election {won}");
    free(&*client, &cx.key("a"), ms(1000)).await?;
    let work = async |_| Err::<(), _>(Error::new(ErrorKind::Config, "as ordered"));
    failed(engine.elect("a", &options, work).await, ErrorKind::Config)?;
    free(&*client, &cx.key("a"), ms(1000)).await
}

async fn outlives_a_bad_line(cx: Cx) -> Outcome {
    let (engine, link) = cx.proxied().await?;
    link.set(Weather::Down);
    let mend = async {
        sleep(ms(1500)).await;
        link.set(Weather::Fair);
        now()
    };
    let options = opts();
    let election = engine.elect("a", &options, async |_| Ok::<_, Error>(now()));
    let (led, mended) = within(ms(15_000), async { tokio::join!(election, mend) }).await?;
    let led = led?;
    check!(led >= mended, "led at {led:?} on a line that was down until {mended:?}");
    Ok(())
}

async fn shows_followers_who_leads(cx: Cx) -> Outcome {
    let (engine, other) = (cx.engine().await?, cx.engine().await?);
    let options = opts().owner("ann");
    let ask = async |hold: Hold| Ok::<_, Error>((other.leader("a").await?, hold.fence()));
    let (leader, fence) = engine.elect("a", &options, ask).await?;
    let told = leader.as_ref().map(|leader| (leader.owner.as_deref(), leader.fence));
    check!(told == Some((Some("ann"), Some(fence))), "ann leads under {fence}, told is {told:?}");
    let nobody = other.leader("a").await?;
    check!(nobody.is_none(), "nobody leads, told is {nobody:?}");
    Ok(())
}

async fn dropped_half_way_leaves_nothing(cx: Cx) -> Outcome {
    let bench = Bench::new(&cx).await?;
    let options = opts();
    for polls in 0..12 {
        let lead = async |_| {
            sleep(ms(2)).await;
            Ok::<_, Error>(())
        };
        drop(drop_after(bench.engine.elect("a", &options, lead), polls).await);
        bench.are_clean(&["a"]).await?;
    }
    lock(&bench.engine, "a", opts()).await?.unlock().await?;
    bench.are_clean(&["a"]).await
}
