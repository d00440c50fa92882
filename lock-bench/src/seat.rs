//! One client of a store at work: the loops that are measured.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::TryStreamExt as _;
use futures_util::stream;
use tokio::task::JoinHandle;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio::time::sleep_until;
use tokio::time::timeout_at;

use crate::failure::Failure;
use crate::failure::Outcome;
use crate::order::Order;
use crate::order::Reply;
use crate::order::Requests;
use crate::tally::Tally;
use crate::tally::Tape;
use crate::usage::since_boot;
use crate::way::Way;

/// After this time a task lets others run, whichever way it locks: some never would by themselves.
const SLICE: Duration = Duration::from_micros(100);

/// How many locks are acquired at a time where many are.
const AT_ONCE: usize = 16;

/// A client of a store, whatever its kind.
#[async_trait]
pub(crate) trait Seat: Send {
    /// Carries an order out.
    async fn obey(&mut self, order: Order) -> Outcome<Reply>;

    /// Tells what has been asked of the store so far, where that is counted.
    fn requests(&self) -> Option<Requests>;
}

/// A client that locks this way.
pub(crate) struct Desk<W: Way> {
    way: Arc<W>,
    held: HashMap<String, W::Guard>,
    many: Vec<W::Guard>,
    waits: JoinSet<Outcome>,
}

impl<W: Way> Desk<W> {
    pub(crate) fn new(way: W) -> Self {
        let (held, many) = (HashMap::new(), Vec::new());
        Self { way: Arc::new(way), held, many, waits: JoinSet::new() }
    }

    async fn lock(&mut self, key: String) -> Outcome<Reply> {
        let guard = self.way.lock(&key).await?;
        let granted = since_boot();
        self.held.insert(key, guard);
        Ok(Reply::At(granted))
    }

    async fn unlock(&mut self, key: &str) -> Outcome<Reply> {
        let guard = self.held.remove(key).ok_or_else(|| Failure::new("nothing to unlock"))?;
        let released = since_boot();
        self.way.unlock(guard).await?;
        Ok(Reply::At(released))
    }

    async fn hold(&mut self, locks: usize) -> Outcome<Reply> {
        let way = &self.way;
        let guards = stream::iter(0..locks).map(|n| async move { way.lock(&key(n)).await });
        self.many = guards.buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(Reply::Done)
    }

    fn wait(&mut self, locks: usize) -> Reply {
        for n in 0..locks {
            let way = self.way.clone();
            self.waits.spawn(async move {
                let guard = way.lock(&key(n)).await?;
                way.unlock(guard).await
            });
        }
        Reply::Done
    }

    async fn stay(&self, time: Duration, cycle: Duration) -> Outcome<Reply> {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            sleep(cycle.min(left)).await;
            self.way.keep(&self.many).await?;
        }
        Ok(Reply::Done)
    }

    async fn contend(&self, keys: Vec<String>, from: Instant, end: Instant) -> Outcome<Reply> {
        let start = |key| tokio::spawn(contend(self.way.clone(), key, from, end));
        let tasks = keys.into_iter().map(start).collect();
        sleep_until(from.into()).await;
        let before = self.way.requests();
        sleep_until(end.into()).await;
        let requests = self.way.requests().zip(before).map(|(after, before)| after - before);
        Ok(Reply::Contended { tallies: tallies(tasks).await?, requests })
    }

    async fn leave(&mut self) -> Outcome<Reply> {
        if let Some(wait) = self.waits.try_join_next() {
            wait??;
            return Err(Failure::new("a wait for a held lock ended"));
        }
        self.waits.shutdown().await;
        let held = self.held.drain().map(|(_, guard)| guard);
        let guards: Vec<_> = held.chain(self.many.drain(..)).collect();
        let way = &self.way;
        let unlocks = stream::iter(guards).map(|guard| way.unlock(guard));
        unlocks.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        Ok(Reply::Done)
    }
}

/// The name of one of many keys.
fn key(n: usize) -> String {
    format!("held-{n}")
}

#[async_trait]
impl<W: Way> Seat for Desk<W> {
    async fn obey(&mut self, order: Order) -> Outcome<Reply> {
        match order {
            Order::Pairs { tasks, time } => {
                let keys = (0..tasks).map(|n| format!("own-{n}"));
                let start = |key| tokio::spawn(pairs(self.way.clone(), key, Instant::now() + time));
                tallies(keys.map(start).collect()).await.map(Reply::Tallies)
            }
            Order::Contend { keys, warm, time } => {
                let from = Instant::now() + warm;
                self.contend(keys, from, from + time).await
            }
            Order::Lock { key } => self.lock(key).await,
            Order::Unlock { key } => self.unlock(&key).await,
            Order::Hold { locks } => self.hold(locks).await,
            Order::Wait { locks } => Ok(self.wait(locks)),
            Order::Stay { time, cycle } => self.stay(time, cycle).await,
            Order::Leave => self.leave().await,
            Order::Usage => Err(Failure::new("the worker answers that")),
        }
    }

    fn requests(&self) -> Option<Requests> {
        self.way.requests()
    }
}

async fn tallies(tasks: Vec<JoinHandle<Tally>>) -> Outcome<Vec<Tally>> {
    let mut tallies = Vec::new();
    for task in tasks {
        tallies.push(task.await?);
    }
    Ok(tallies)
}

/// Locks and unlocks a key that nobody else wants, and times each pair.
async fn pairs<W: Way>(way: Arc<W>, key: String, end: Instant) -> Tally {
    let mut tape = Tape::new();
    let mut at = Instant::now();
    let mut resumed = at;
    while at < end {
        let outcome = pair(&*way, &key).await;
        let now = Instant::now();
        match outcome {
            Ok(()) => tape.took(now - at),
            Err(failure) => tape.failed(failure),
        }
        at = now;
        if now - resumed >= SLICE {
            tokio::task::yield_now().await;
            at = Instant::now();
            resumed = at;
        }
    }
    tape.tally()
}

async fn pair<W: Way>(way: &W, key: &str) -> Outcome {
    let guard = way.lock(key).await?;
    way.unlock(guard).await
}

/// Locks and unlocks a key that many want, and times each wait that ends when it counts. The last wait is
/// cut short at the end.
async fn contend<W: Way>(way: Arc<W>, key: String, from: Instant, end: Instant) -> Tally {
    let mut tape = Tape::new();
    let mut waits_since = None;
    let work = async {
        let mut resumed = Instant::now();
        loop {
            let begun = Instant::now();
            waits_since = Some(begun);
            let granted = way.lock(&key).await;
            waits_since = None;
            match granted {
                Ok(guard) => {
                    if Instant::now() >= from {
                        tape.granted(begun.elapsed());
                    }
                    way.unlock(guard).await.unwrap_or_else(|failure| tape.failed(failure));
                }
                Err(failure) => tape.failed(failure),
            }
            let now = Instant::now();
            if now >= end {
                return;
            }
            if now - resumed >= SLICE {
                tokio::task::yield_now().await;
                resumed = Instant::now();
            }
        }
    };
    // Running out of time is the usual end; dropping the wait gives up its place.
    let _ = timeout_at(end.into(), work).await;
    if let Some(since) = waits_since {
        tape.saw(since.elapsed());
    }
    tape.tally()
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    struct NeverGranted;

    impl Way for NeverGranted {
        type Guard = ();

        async fn lock(&self, _key: &str) -> Outcome {
            pending().await
        }

        async fn unlock(&self, (): ()) -> Outcome {
            Ok(())
        }
    }

    struct Refused;

    impl Way for Refused {
        type Guard = ();

        async fn lock(&self, _key: &str) -> Outcome {
            Err(Failure::new("refused"))
        }

        async fn unlock(&self, (): ()) -> Outcome {
            Ok(())
        }
    }

    async fn tally(reply: Outcome<Reply>) -> Tally {
        match reply.unwrap() {
            Reply::Tallies(tallies) | Reply::Contended { tallies, .. } => Tally::sum(&tallies),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn who_never_gets_the_lock_has_waited_for_the_whole_round() {
        let time = SHORT * 10;
        let order = Order::Contend { keys: vec!["key".into()], warm: Duration::ZERO, time };
        let tally = tally(Desk::new(NeverGranted).obey(order).await).await;
        assert_eq!(tally.count, 0);
        // Its task may have begun late.
        assert!(tally.longest >= time / 2, "{:?}", tally.longest);
    }

    #[tokio::test]
    async fn errors_are_no_pairs() {
        let contend =
            Order::Contend { keys: vec!["key".into()], warm: Duration::ZERO, time: SHORT };
        for order in [Order::Pairs { tasks: 2, time: SHORT }, contend] {
            let tally = tally(Desk::new(Refused).obey(order).await).await;
            assert_eq!((tally.count, tally.error.as_deref()), (0, Some("refused")));
            assert!(tally.errors > 0);
        }
    }

    #[tokio::test]
    async fn a_wait_that_ends_early_is_no_idle_wait() {
        let mut desk = Desk::new(Refused);
        desk.obey(Order::Wait { locks: 1 }).await.unwrap();
        tokio::task::yield_now().await;
        assert_eq!(desk.obey(Order::Leave).await.unwrap_err().to_string(), "refused");
        let mut desk = Desk::new(NeverGranted);
        desk.obey(Order::Wait { locks: 1 }).await.unwrap();
        tokio::task::yield_now().await;
        desk.obey(Order::Leave).await.unwrap();
    }
}
