//! The part of a case that runs as another process: this test program, started once more.

use std::env;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::Cx;
use crate::Failure;
use crate::Fixture;
use crate::Outcome;
use crate::Verdict;
use crate::cases::contend::Habit;
use crate::cases::contend::acquire;
use crate::cases::contend::contend;
use crate::cases::contend::release;
use crate::cases::crossing::Part;
use crate::cases::crossing::count;
use crate::cx::lock;
use crate::cx::ms;
use crate::cx::now;
use crate::cx::opts;
use crate::cx::sleep;
use crate::history::Recorder;
use crate::run::block_on;
use crate::storm;

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
    /// Lock and unlock in a hot loop, and print the history: at the end, or as it comes.
    Contend { habit: Habit, process: u64, millis: u64, aloud: bool },
    /// Lock once, in a task of its own, for each number that the parent says, and print the history
    /// as it comes; a number may be followed by how many milliseconds to hold.
    Queue { habit: Habit },
    /// Lock in every way there is, and print the history as it comes.
    Work { part: storm::work::Part },
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
    let verdict = obey(fixtures, &order, hear());
    if let Verdict::Passed = verdict {
        return Some(ExitCode::SUCCESS);
    }
    eprintln!("child: {verdict:?}");
    Some(ExitCode::FAILURE)
}

/// Returns what the parent says. It keeps our standard input open as long as it lives, and we end
/// with it.
fn hear() -> mpsc::UnboundedReceiver<String> {
    let (send, said) = mpsc::unbounded_channel();
    thread::spawn(move || {
        std::io::stdin().lines().map_while(Result::ok).for_each(|line| {
            let _ = send.send(line);
        });
        std::process::exit(0);
    });
    said
}

fn obey(
    fixtures: &[Arc<dyn Fixture>],
    order: &str,
    said: mpsc::UnboundedReceiver<String>,
) -> Verdict {
    let order: Order = match serde_json::from_str(order) {
        Ok(order) => order,
        Err(error) => return Failure::new(error).into_verdict(),
    };
    let Some(fixture) = fixtures.iter().find(|fixture| fixture.name() == order.fixture) else {
        return Failure::new("no such fixture").into_verdict();
    };
    let cx = Cx::new(fixture.clone(), &order.namespace);
    block_on(play(cx, order.role, said)).into()
}

async fn play(cx: Cx, role: Role, said: mpsc::UnboundedReceiver<String>) -> Outcome {
    match role {
        Role::Hold { key, ttl_ms } => hold(&cx, &key, ms(ttl_ms)).await,
        Role::Wait { key } => wait(&cx, &key).await,
        Role::Contend { habit, process, millis, aloud } => {
            let recorder = if aloud { Recorder::aloud() } else { Recorder::default() };
            let engine = cx.connected().await?;
            say(&"ready")?;
            contend(&engine, &habit, process, now() + ms(millis), &recorder).await?;
            if aloud { Ok(()) } else { recorder.history().iter().try_for_each(say) }
        }
        Role::Queue { habit } => queue(&cx, &habit, said).await,
        Role::Work { part } => storm::work::work(&cx, part, said).await,
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

async fn queue(cx: &Cx, habit: &Habit, mut said: mpsc::UnboundedReceiver<String>) -> Outcome {
    let (recorder, engine) = (Arc::new(Recorder::aloud()), cx.connected().await?);
    say(&"ready")?;
    while let Some(line) = said.recv().await {
        let mut words = line.split_whitespace().map(str::parse::<u64>);
        let number = words.next().ok_or_else(|| Failure::new("no number"))??;
        let hold = ms(words.next().transpose()?.unwrap_or_default());
        let (engine, habit, recorder) = (engine.clone(), habit.clone(), recorder.clone());
        tokio::spawn(async move {
            if let Some(guard) = acquire(&engine, &habit, number, &recorder).await? {
                sleep(hold).await;
                release(guard, number, &recorder).await;
            }
            Outcome::Ok(())
        });
    }
    Ok(())
}

pub(crate) fn say(value: &impl Serialize) -> Outcome {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(value)?)?;
    Ok(out.flush()?)
}
