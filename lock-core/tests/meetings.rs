//! Where threads meet: each test runs under thousands of interleavings of its threads, the engine's tasks
//! and the clock's thread, which moves the time by hand here.
//!
//! Only with `--cfg shuttle`; `cargo xtask ci` does it. A lost wake-up shows as a deadlock, for time does
//! not pass by itself and nobody looks again.

#![cfg(shuttle)]

use std::future::Future;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt as _;
use lock_core::Backend as _;
use lock_core::Clock;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::ErrorKind;
use lock_core::Eviction;
use lock_core::KeyState;
use lock_core::LockGuard;
use lock_core::LockKey;
use lock_core::LockOptions;
use lock_core::LockProvider as _;
use lock_core::ManualClock;
use lock_core::Result;
use lock_core::Wait;
use lock_memory::Memory;
use lock_memory::Store;
use shuttle::Config;
use shuttle::Runner;
use shuttle::future::block_on;
use shuttle::scheduler::PctScheduler;
use shuttle::scheduler::RandomScheduler;
use shuttle::thread;
use shuttle::thread::JoinHandle;

const TTL: Duration = Duration::from_secs(10);

/// How many threads or tasks may be put off at a time, for the scheduler that looks for rare orders.
const DEPTH: usize = 3;

/// One store and providers over it, on a clock that nobody moves but the test.
#[derive(Clone)]
struct Place {
    hand: ManualClock,
    store: Store,
    session: bool,
}

impl Place {
    fn new(session: bool) -> Self {
        let hand = Clock::manual();
        Self { store: Store::new(hand.clock()), hand, session }
    }

    fn engine(&self) -> Engine {
        let memory = match self.session {
            true => Memory::with_session(&self.store, TTL),
            false => Memory::new(&self.store),
        };
        let options = EngineOptions::new().ttl(TTL).clock(self.hand.clock());
        Engine::new(Arc::new(memory), options).expect("good options")
    }

    /// Whether anybody holds the key or stands in line for it.
    fn is_used(&self) -> bool {
        let state = self.look();
        state.is_locked() || state.waiting > 0
    }

    fn look(&self) -> KeyState {
        let key = LockKey::new("k").expect("a good key");
        block_on(Memory::new(&self.store).inspect(&key)).expect("memory answers")
    }
}

/// Runs `test` under many interleavings, with a lease per lock and with sessions.
fn interleave(rounds: usize, test: impl Fn(Place) + Send + Sync + 'static) {
    let rounds = std::env::var("LOCK_TEST_FULL").map_or(rounds, |_| rounds * 10);
    let test = Arc::new(move || {
        test(Place::new(false));
        test(Place::new(true));
    });
    let mut config = Config::new();
    // The engine's futures are large where nothing is optimized.
    config.stack_size = 1 << 20;
    let again = test.clone();
    Runner::new(RandomScheduler::new(rounds), config.clone()).run(move || again());
    Runner::new(PctScheduler::new(DEPTH, rounds), config).run(move || test());
}

fn start<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    thread::spawn(move || block_on(future))
}

fn forever() -> LockOptions {
    LockOptions::new().wait(Wait::Forever)
}

async fn lock(engine: Engine, options: LockOptions) -> Result<LockGuard> {
    engine.lock("k", &options).await
}

#[test]
fn a_released_lock_goes_to_who_waits_for_it() {
    interleave(4000, |place| {
        let (here, there) = (place.engine(), place.engine());
        let guard = block_on(lock(here.clone(), forever())).unwrap();
        let others = [here.clone(), here, there]
            .map(|engine| start(async move { lock(engine, forever()).await?.unlock().await }));
        drop(guard);
        others.into_iter().for_each(|other| other.join().unwrap().unwrap());
        assert!(!place.is_used());
    });
}

#[test]
fn a_fair_line_moves_on() {
    interleave(4000, |place| {
        let (here, there) = (place.engine(), place.engine());
        let guard = block_on(lock(here.clone(), forever())).unwrap();
        let others = [here, there].map(|engine| {
            start(async move { lock(engine, forever().fair()).await?.unlock().await })
        });
        block_on(guard.unlock()).unwrap();
        others.into_iter().for_each(|other| other.join().unwrap().unwrap());
        assert!(!place.is_used());
    });
}

#[test]
fn a_waiter_that_leaves_passes_on_what_it_was_told() {
    interleave(4000, |place| {
        let (here, there) = (place.engine(), place.engine());
        let guard = block_on(lock(here.clone(), forever())).unwrap();
        let leaver = [here.clone(), there.clone()].map(|engine| {
            thread::spawn(move || {
                let mut call = Box::pin(lock(engine, forever()));
                // Whatever it was granted by then is dropped with it.
                let once = |cx: &mut Context<'_>| Poll::Ready(call.as_mut().poll(cx).is_ready());
                block_on(std::future::poll_fn(once));
                thread::yield_now();
                drop(call);
            })
        });
        let others = [here, there]
            .map(|engine| start(async move { lock(engine, forever()).await?.unlock().await }));
        drop(guard);
        leaver.into_iter().for_each(|leaver| leaver.join().unwrap());
        others.into_iter().for_each(|other| other.join().unwrap().unwrap());
    });
}

#[test]
fn guards_of_one_owner_come_and_go_together() {
    interleave(4000, |place| {
        let engine = place.engine();
        let ann = || forever().owner("ann");
        let first = block_on(lock(engine.clone(), ann())).unwrap();
        let others = [(); 2].map(|()| {
            let (engine, place) = (engine.clone(), place.clone());
            start(async move {
                let guard = lock(engine, ann()).await.unwrap();
                assert!(guard.is_valid());
                let held = place.look().holders.iter().any(|it| it.fence == Some(guard.fence()));
                assert!(held, "somebody else's leaving has released it");
                guard.unlock().await.unwrap();
            })
        });
        block_on(first.unlock()).unwrap();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert!(!place.is_used());
    });
}

#[test]
fn who_waits_enters_what_its_owner_gets() {
    interleave(4000, |place| {
        let engine = place.engine();
        let guard = block_on(lock(engine.clone(), forever())).unwrap();
        let bob = engine.clone();
        let bob = start(async move { lock(bob, forever()).await?.unlock().await });
        let ann = || forever().owner("ann");
        let others = [ann(), ann().fair()];
        let others = others.map(|options| start(lock(engine.clone(), options)));
        drop(guard);
        // Each keeps what it has got until all have got in.
        let guards = others.map(|other| other.join().unwrap().unwrap());
        assert!(guards.iter().all(|guard| guard.fence() == guards[0].fence()));
        drop(guards);
        bob.join().unwrap().unwrap();
        block_on(engine.shutdown(TTL)).unwrap();
        assert!(!place.is_used());
    });
}

#[test]
fn a_deadline_meets_the_last_guard() {
    interleave(4000, |place| {
        let engine = place.engine();
        let options = forever().ttl(TTL).without_renewal();
        let guard = block_on(lock(engine.clone(), options)).unwrap();
        let (hold, hand) = (guard.hold(), place.hand.clone());
        let clock = thread::spawn(move || hand.jump(TTL));
        let told = guard.hold();
        let listener = start(async move { told.renewed(told.valid_until()).await });
        let unlocked = block_on(guard.unlock());
        clock.join().unwrap();
        assert_eq!(listener.join().unwrap(), None, "it is over, and everybody is told");
        assert!(!hold.is_valid());
        let lost = hold.lost().now_or_never().is_some();
        match unlocked {
            Ok(()) => assert!(!lost, "released, and lost as well"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Lost),
        }
        block_on(engine.shutdown(TTL)).unwrap();
        assert!(!place.is_used());
    });
}

#[test]
fn a_deadline_meets_a_renewal() {
    interleave(4000, |place| {
        let engine = place.engine();
        let guard = block_on(lock(engine.clone(), forever())).unwrap();
        let hold = guard.hold();
        let hand = place.hand.clone();
        let clock = thread::spawn(move || {
            hand.jump(TTL / 2);
            hand.jump(TTL / 2);
        });
        let looked = guard.hold();
        let looker = thread::spawn(move || {
            let first = looked.is_valid();
            thread::yield_now();
            assert!(first || !looked.is_valid(), "it was over, and is valid again");
        });
        let (told, extended) = (
            guard.hold(),
            start(async move {
                let outcome = guard.extend(TTL).await;
                (guard, outcome)
            }),
        );
        let (guard, outcome) = extended.join().unwrap();
        clock.join().unwrap();
        looker.join().unwrap();
        if hold.is_valid() {
            assert!(place.look().holders.iter().any(|it| it.fence == Some(hold.fence())));
        } else {
            // Whoever listens is told, although the store may have renewed it meanwhile.
            block_on(told.lost());
            block_on(told.at_risk());
            assert!(guard.check().is_err());
            let _ = outcome;
        }
        drop(guard);
        block_on(engine.shutdown(TTL)).unwrap();
        assert!(!place.is_used());
    });
}

#[test]
fn who_listens_is_told_of_the_risk_and_of_the_loss() {
    interleave(4000, |place| {
        let engine = place.engine();
        let guard = block_on(lock(engine, forever().without_renewal())).unwrap();
        let (risk, loss) = (guard.hold(), guard.hold());
        let risk = start(async move { risk.at_risk().await });
        let loss = start(async move { loss.lost().await });
        place.hand.jump(TTL * 9 / 10);
        risk.join().unwrap();
        place.hand.jump(TTL / 10);
        loss.join().unwrap();
    });
}

#[test]
fn a_shutdown_meets_a_lock_that_is_being_opened() {
    interleave(4000, |place| {
        let engine = place.engine();
        let opener = start(lock(engine.clone(), forever()));
        let other = start(lock(engine.clone(), forever()));
        block_on(engine.shutdown(TTL)).unwrap();
        for opener in [opener, other] {
            match opener.join().unwrap() {
                Ok(guard) => assert!(!guard.is_valid(), "valid after the shutdown"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Closed),
            }
        }
        let shown = format!("{engine:?}");
        assert!(shown.contains("(0 kept)"), "{shown}");
        // What came after the provider had closed is released by whoever came, if it can be: else by TTL.
    });
}

#[test]
fn a_shutdown_meets_those_who_wait() {
    interleave(4000, |place| {
        let (engine, other) = (place.engine(), place.engine());
        let guard = block_on(lock(other, forever())).unwrap();
        let waiters = [forever(), forever(), forever().fair()];
        let waiters = waiters.map(|options| start(lock(engine.clone(), options)));
        block_on(engine.shutdown(TTL)).unwrap();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
        }
        drop(guard);
    });
}

#[test]
fn a_shutdown_waits_for_what_was_dropped_before_it() {
    interleave(4000, |place| {
        let engine = place.engine();
        let guards = ["k", "l"].map(|key| {
            let engine = engine.clone();
            block_on(async move { engine.lock(key, &forever()).await }).unwrap()
        });
        let [one, two] = guards.map(|guard| thread::spawn(move || drop(guard)));
        one.join().unwrap();
        block_on(engine.shutdown(TTL)).unwrap();
        assert!(!place.is_used(), "its release had not ended");
        two.join().unwrap();
    });
}

#[test]
fn an_eviction_meets_a_lock_that_is_being_opened() {
    interleave(4000, |place| {
        let (engine, operator) = (place.engine(), place.engine());
        let opener = start(lock(engine.clone(), forever()));
        let evicted = block_on(operator.force_unlock("k", Eviction::LockOnly)).unwrap();
        let guard = opener.join().unwrap().unwrap();
        if evicted.holders == 0 {
            assert!(guard.is_valid());
        }
        drop(guard);
        block_on(engine.shutdown(TTL)).unwrap();
        assert!(!place.is_used());
    });
}

#[test]
fn an_eviction_is_told_to_who_holds() {
    interleave(4000, |place| {
        let (engine, operator) = (place.engine(), place.engine());
        let guard = block_on(lock(engine, forever())).unwrap();
        let evictor =
            start(async move { operator.force_unlock("k", Eviction::LockOnly).await.unwrap() });
        // Without a hint nobody would tell: time stands still.
        block_on(guard.lost());
        assert_eq!(evictor.join().unwrap().holders, 1);
        assert!(!guard.is_valid());
    });
}

#[test]
fn a_sleep_meets_the_clock() {
    interleave(4000, |place| {
        let clock = place.hand.clock();
        let until = clock.now() + TTL;
        let sleepers = [(); 2].map(|()| start(clock.sleep_until(until)));
        place.hand.jump(TTL);
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
    });
}
