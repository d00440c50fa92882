//! The engine on a thread of its own, by the system's clock: blocked, missing and ended runtimes.

mod common;

use std::sync::Arc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use common::SECOND;
use common::Scripted;
use common::ms;
use common::plain;
use lock_core::Clock;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::LockProvider as _;
use lock_core::Wait;
use tokio::runtime::Builder;
use tokio::runtime::Runtime;

fn setup() -> (Arc<Scripted>, Engine) {
    let store = Arc::new(Scripted::by(Clock::system()));
    let engine = Engine::new(store.clone(), EngineOptions::new()).expect("good options");
    (store, engine)
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Waits for what has to come, for as long as a loaded machine may need.
fn wait_until(test: impl Fn() -> bool) {
    let began = Instant::now();
    while !test() {
        assert!(began.elapsed() < Duration::from_secs(30), "it never came");
        thread::sleep(ms(1));
    }
}

#[test]
fn a_guard_dropped_after_its_runtime_has_ended_is_released() {
    let (store, engine) = setup();
    let runtime = runtime();
    let guard = runtime.block_on(engine.lock("k", &plain())).unwrap();
    drop(runtime);
    drop(engine);
    assert!(store.is_held("k"));
    drop(guard);
    wait_until(|| !store.is_held("k"));
    wait_until(|| Arc::strong_count(&store) == 1);
}

#[test]
fn a_blocked_runtime_keeps_its_lock() {
    let (store, engine) = setup();
    runtime().block_on(async {
        let guard = engine.lock("k", &plain().ttl(SECOND)).await.unwrap();
        thread::sleep(SECOND * 3);
        assert!(guard.is_valid());
        assert!(store.is_held("k"));
        guard.unlock().await.unwrap();
    });
}

#[test]
fn an_ended_runtime_takes_its_waiters_and_attempts_with_it() {
    let (store, engine) = setup();
    store.occupy("k", ms(300));
    let runtime = runtime();
    for _ in 0..3 {
        let engine = engine.clone();
        runtime.spawn(async move { engine.lock("k", &plain().wait(Wait::Forever)).await });
    }
    runtime.block_on(async {
        while store.calls(common::Op::Peek) == 0 {
            tokio::task::yield_now().await
        }
    });
    drop(runtime);
    drop(engine);
    wait_until(|| Arc::strong_count(&store) == 1);
    wait_until(|| !store.is_held("k"));
}

#[test]
fn an_engine_dropped_from_its_own_thread_ends() {
    let (store, engine) = setup();
    let guard = runtime().block_on(engine.lock("k", &plain())).unwrap();
    drop(engine);
    // The release runs on the engine's thread and is the last to let go of the engine.
    drop(guard);
    wait_until(|| Arc::strong_count(&store) == 1);
    assert!(!store.is_held("k"));
}

/// How often the threads of that name have gone to sleep, in all.
#[cfg(target_os = "linux")]
fn naps(name: &str) -> u64 {
    let mut naps = 0;
    for task in std::fs::read_dir("/proc/self/task").expect("Linux") {
        let path = task.expect("a thread").path();
        // A thread of another test may have ended meanwhile.
        let read = |file| std::fs::read_to_string(path.join(file)).unwrap_or_default();
        let status = read("status");
        let own = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        if read("comm").trim() == name {
            naps += own.map_or(0, |count| count.trim().parse::<u64>().expect("a number"));
        }
    }
    naps
}

#[test]
#[cfg(target_os = "linux")]
fn many_holds_cost_a_few_requests_and_wake_ups_not_some_for_each() {
    let (store, engine) = setup();
    runtime().block_on(async {
        let (clock, keeper) = (naps("lock-clock"), naps("lock-engine"));
        let mut guards = Vec::new();
        for number in 0..1000 {
            let options = plain().ttl(SECOND * 3);
            guards.push(engine.lock(&format!("k{number}"), &options).await.unwrap());
            // So that their deadlines are apart.
            thread::sleep(Duration::from_micros(100));
        }
        // Well beyond where they would be at risk, had they not been renewed.
        thread::sleep(SECOND * 4);
        assert!(guards.iter().all(|guard| guard.is_valid()));
        assert!(store.calls(common::Op::Keep) < 50, "{} requests", store.calls(common::Op::Keep));
        let clock = naps("lock-clock").saturating_sub(clock);
        let keeper = naps("lock-engine").saturating_sub(keeper);
        assert!(clock < 100 && keeper < 100, "woken {clock} and {keeper} times");
    });
}
