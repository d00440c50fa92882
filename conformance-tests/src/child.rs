//! The part of a case that runs as another process: this test program, started once more.

use std::env;
use std::io::Read as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::Cx;
use crate::Failure;
use crate::Fixture;
use crate::Outcome;
use crate::Verdict;
use crate::cases::crossing::Part;
use crate::cases::crossing::count;
use crate::cases::history::contend;
use crate::cx::lock;
use crate::cx::ms;
use crate::cx::now;
use crate::cx::opts;
use crate::cx::sleep;
use crate::history::Recorder;
use crate::run::block_on;

/// Carries the order to the child.
pub(crate) const ORDER: &str = "LOCK_CONFORMANCE_CHILD";

/// What a child is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) fixture: String,
    pub(crate) namespace: String,
    pub(crate) role: Role,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Role {
    /// Hold a key, and print each few milliseconds whether the guard says it is valid.
    Hold { key: String, ttl_ms: u64 },
    /// Wait for a key, in the store's line if there is one.
    Wait { key: String },
    /// Lock and unlock in a hot loop, and print the history.
    Contend { key: String, process: u64, millis: u64 },
    /// Lock several keys and count under them in a hot loop, and print each count.
    Count { part: Part },
}

/// One look of a holding child at its guard.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Tick {
    pub(crate) at_ns: u64,
    pub(crate) valid: bool,
    pub(crate) fence: u64,
}

/// Does what the parent ordered, if this is a child.
pub(crate) fn run(fixtures: &[Arc<dyn Fixture>]) -> Option<ExitCode> {
    let order = env::var(ORDER).ok()?;
    end_with_parent();
    let verdict = obey(fixtures, &order);
    if let Verdict::Passed = verdict {
        return Some(ExitCode::SUCCESS);
    }
    eprintln!("child: {verdict:?}");
    Some(ExitCode::FAILURE)
}

/// The parent keeps our standard input open as long as it lives.
fn end_with_parent() {
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
}

fn obey(fixtures: &[Arc<dyn Fixture>], order: &str) -> Verdict {
    let order: Order = match serde_json::from_str(order) {
        Ok(order) => order,
        Err(error) => return Failure::new(error).into_verdict(),
    };
    let Some(fixture) = fixtures.iter().find(|fixture| fixture.name() == order.fixture) else {
        return Failure::new("no such fixture").into_verdict();
    };
    let cx = Cx::new(fixture.clone(), &order.namespace);
    block_on(play(cx, order.role)).into()
}

async fn play(cx: Cx, role: Role) -> Outcome {
    match role {
        Role::Hold { key, ttl_ms } => hold(&cx, &key, ms(ttl_ms)).await,
        Role::Wait { key } => wait(&cx, &key).await,
        Role::Contend { key, process, millis } => {
            let (recorder, engine) = (Recorder::default(), cx.connected().await?);
            say(&"ready")?;
            contend(&engine, &key, process, now() + ms(millis), &recorder).await?;
            recorder.history().iter().try_for_each(say)
        }
        Role::Count { part } => count(&cx, &part).await,
    }
}

async fn hold(cx: &Cx, key: &str, ttl: Duration) -> Outcome {
    let engine = cx.connected().await?;
    let guard = lock(&engine, key, opts().ttl(ttl)).await?;
    loop {
        let tick = || {
            // The time is taken first: it is valid at least then, if it says so.
            let at_ns = now().as_nanos();
            Tick { at_ns, valid: guard.is_valid(), fence: guard.fence().get() }
        };
        let tick = tick();
        say(&tick)?;
        if !tick.valid {
            let _ = guard.unlock().await;
            return say(&"released");
        }
        sleep(ms(10)).await;
    }
}

async fn wait(cx: &Cx, key: &str) -> Outcome {
    let engine = cx.connected().await?;
    let mut options = opts().wait(ms(60_000));
    options.fair = cx.client().await?.profile().fair;
    say(&"waiting")?;
    let _guard = lock(&engine, key, options).await?;
    say(&"held")?;
    std::future::pending().await
}

pub(crate) fn say(value: &impl Serialize) -> Outcome {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(value)?)?;
    Ok(out.flush()?)
}
