//! Leader election: who leads, for how long, and what outlives what.

mod common;

use std::future::pending;
use std::sync::Arc;
use std::sync::Mutex;

use common::Op;
use common::Order;
use common::SECOND;
use common::ms;
use common::plain;
use common::refused;
use common::rest;
use common::setup;
use lock_core::Engine;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Eviction;
use lock_core::Hold;
use lock_core::LockOptions;
use lock_core::LockProvider as _;
use lock_core::LockProviderExt as _;
use lock_core::Result;
use lock_core::Wait;
use tokio::task::JoinHandle;

/// What a candidate does, as it did it.
type Log = Arc<Mutex<Vec<String>>>;

/// Notes that a body has begun, and that it was dropped.
struct Term(Log);

impl Term {
    fn new(log: &Log, hold: &Hold) -> Self {
        let term = Self(log.clone());
        term.note(format!("leads from {}", hold.fence()));
        term
    }

    fn note(&self, what: String) {
        self.0.lock().expect("nobody panics").push(what);
    }
}

impl Drop for Term {
    fn drop(&mut self) {
        self.note("ends".to_owned());
    }
}

fn said(log: &Log) -> Vec<String> {
    log.lock().expect("nobody panics").clone()
}

/// The default wait: the options of an election name none.
fn options() -> LockOptions {
    LockOptions::new().ttl(SECOND * 10)
}

/// A candidate that leads until it is stopped.
fn candidate(engine: &Engine, log: &Log, options: LockOptions) -> JoinHandle<Result<()>> {
    let (engine, log) = (engine.clone(), log.clone());
    tokio::spawn(async move {
        let lead = |hold: Hold| {
            let term = Term::new(&log, &hold);
            async move {
                let _term = term;
                pending().await
            }
        };
        engine.elect("k", &options, lead).await
    })
}

#[tokio::test]
async fn the_body_is_stopped_by_a_loss_and_begins_anew_with_the_next_term() {
    let (hand, store, engine) = setup();
    let log = Log::default();
    let task = candidate(&engine, &log, options());
    rest(&hand).await;
    assert_eq!(said(&log), ["leads from 2"]);
    engine.force_unlock("k", Eviction::LockOnly).await.unwrap();
    store.occupy("k", SECOND * 60);
    hand.advance(SECOND * 5).await;
    assert_eq!(said(&log), ["leads from 2", "ends"]);
    hand.advance(SECOND * 60).await;
    assert_eq!(said(&log), ["leads from 2", "ends", "leads from 4"]);
    task.abort();
}

#[tokio::test]
async fn leadership_lasts_while_nothing_happens() {
    let (hand, _store, engine) = setup();
    let log = Log::default();
    let first = candidate(&engine, &log, options());
    rest(&hand).await;
    let second = candidate(&engine, &log, options());
    hand.advance(SECOND * 100).await;
    assert_eq!(said(&log), ["leads from 2"]);
    first.abort();
    second.abort();
}

#[tokio::test]
async fn a_dropped_leader_steps_down_at_once() {
    let (hand, store, engine) = setup();
    let log = Log::default();
    let first = candidate(&engine, &log, options());
    rest(&hand).await;
    let second = candidate(&engine, &log, options());
    rest(&hand).await;
    first.abort();
    rest(&hand).await;
    assert_eq!(said(&log), ["leads from 2", "ends", "leads from 4"]);
    second.abort();
    rest(&hand).await;
    assert!(!store.is_held("k"));
}

#[tokio::test]
async fn the_election_ends_with_what_the_body_returns() {
    let (_hand, store, engine) = setup();
    let won = engine.elect("k", &options(), async |hold| Ok::<_, Error>(hold.fence())).await;
    assert_eq!(won.unwrap().get(), 2);
    assert!(!store.is_held("k"));
    let failed = engine.elect("k", &options(), async |_| Err::<(), _>(refused())).await;
    assert_eq!(failed.unwrap_err().message(), "connection refused");
    assert!(!store.is_held("k"));
}

#[tokio::test]
async fn a_body_that_notices_the_loss_first_contends_again() {
    let (hand, _store, engine) = setup();
    let mut term = 0;
    let lead = |hold: Hold| {
        term += 1;
        let hand = (term == 1).then(|| hand.clone());
        async move {
            // It computes for longer than it leads, without an await.
            hand.inspect(|hand| hand.jump(SECOND * 11));
            hold.check().map(|()| hold.fence())
        }
    };
    let won = engine.elect("k", &options(), lead).await.unwrap();
    assert_eq!((term, won.get()), (2, 4));
}

#[tokio::test]
async fn a_candidate_outlives_an_outage() {
    let (hand, store, engine) = setup();
    let log = Log::default();
    store.always(Op::Attempt, Order::Fail(refused()));
    let task = candidate(&engine, &log, options());
    hand.advance(SECOND * 600).await;
    assert!(!task.is_finished() && said(&log).is_empty());
    let tries = store.calls(Op::Attempt);
    assert!((300..1300).contains(&tries), "{tries} requests in ten minutes");
    store.always(Op::Attempt, Order::Obey);
    hand.advance(SECOND * 3).await;
    assert_eq!(said(&log), ["leads from 2"]);
    task.abort();
}

#[tokio::test]
async fn a_leader_that_is_cut_off_stops_in_time_and_leads_again_later() {
    let (hand, store, engine) = setup();
    let log = Log::default();
    let task = candidate(&engine, &log, options());
    rest(&hand).await;
    store.always(Op::Keep, Order::Hang);
    store.always(Op::Attempt, Order::Fail(refused()));
    store.always(Op::Release, Order::Fail(refused()));
    hand.advance(ms(9800)).await;
    assert_eq!(said(&log), ["leads from 2"]);
    hand.advance(ms(200)).await;
    assert_eq!(said(&log), ["leads from 2", "ends"]);
    for op in [Op::Keep, Op::Attempt, Op::Release] {
        store.always(op, Order::Obey);
    }
    hand.advance(SECOND * 15).await;
    assert_eq!(said(&log), ["leads from 2", "ends", "leads from 4"]);
    task.abort();
}

#[tokio::test]
async fn an_error_that_stays_ends_the_election() {
    let (hand, store, engine) = setup();
    let log = Log::default();
    store.order(Op::Attempt, Order::Fail(Error::new(ErrorKind::Corrupt, "not ours")));
    let task = candidate(&engine, &log, options());
    rest(&hand).await;
    assert_eq!(task.await.unwrap().unwrap_err().kind(), ErrorKind::Corrupt);
    engine.shutdown(SECOND).await.unwrap();
    let closed = candidate(&engine, &log, options()).await.unwrap();
    assert_eq!(closed.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_shutdown_stops_the_leader_and_ends_the_election() {
    let (hand, store, engine) = setup();
    let log = Log::default();
    let task = candidate(&engine, &log, options());
    rest(&hand).await;
    engine.shutdown(SECOND).await.unwrap();
    assert_eq!(task.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(said(&log), ["leads from 2", "ends"]);
    assert!(!store.is_held("k"));
}

#[tokio::test]
async fn a_limited_wait_ends_the_election() {
    let (hand, store, engine) = setup();
    store.occupy("k", SECOND * 60);
    let log = Log::default();
    let never = candidate(&engine, &log, plain());
    let limited = candidate(&engine, &log, plain().wait(Wait::For(SECOND)));
    hand.advance(SECOND).await;
    assert!(never.is_finished() && limited.is_finished());
    assert_eq!(never.await.unwrap().unwrap_err().kind(), ErrorKind::Held);
    assert_eq!(limited.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn followers_see_whether_somebody_leads() {
    let (_hand, store, engine) = setup();
    assert!(engine.leader("k").await.unwrap().is_none());
    store.occupy("k", SECOND);
    assert!(engine.leader("k").await.unwrap().is_some());
}
