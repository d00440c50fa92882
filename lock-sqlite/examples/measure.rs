//! Measures the backend against the bare statements, between real processes.
//!
//! `cargo run --release -p lock-sqlite --example measure -- fair|bare|single|handover|idle [seconds]`

#![expect(clippy::disallowed_methods, reason = "an example may wait")]

#[expect(dead_code, reason = "the floor needs two statements of all")]
#[path = "../src/statements.rs"]
mod statements;

use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use lock_core::Attempt;
use lock_core::Backend;
use lock_core::Claim;
use lock_core::Hint;
use lock_core::LockKey;
use lock_core::Owner;
use lock_core::Peek;
use lock_core::Release;
use lock_core::WatchFor;
use lock_sqlite::Sqlite;
use lock_sqlite::SqliteConfig;
use lock_sqlite::connect;
use tokio::sync::Notify;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const PROCESSES: usize = 8;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let seconds = |text: &str| text.parse().map(Duration::from_secs);
    runtime.block_on(async {
        match texts.as_slice() {
            ["child", kind, file, key, time] => child(kind, file, key, seconds(time)?).await,
            ["fair", time] => spread("backend", time),
            ["fair-one-key", time] => spread("backend-one-key", time),
            ["bare", time] => spread("bare", time),
            ["single", time] => single(time),
            ["handover"] => handover().await,
            ["idle"] => idle().await,
            _ => Err("usage: fair|fair-one-key|bare|single SECONDS, or handover|idle".into()),
        }
    })
}

/// Lets 8 processes loop and prints what each got.
fn spread(kind: &str, time: &str) -> Outcome<()> {
    let file = fresh_file(kind)?;
    let start = |i: usize| spawn(kind, &file, &format!("key-{i}"), time);
    let children = (0..PROCESSES).map(start).collect::<Outcome<Vec<_>>>()?;
    let mut counts = children.into_iter().map(count).collect::<Outcome<Vec<_>>>()?;
    counts.sort_unstable();
    let total: u64 = counts.iter().sum();
    let least = counts[0] as f64 * PROCESSES as f64 / total as f64;
    println!(
        "{kind}: {} pairs/s, {counts:?}, least / fair share {least:.2}",
        total / time.parse::<u64>()?
    );
    Ok(())
}

fn single(time: &str) -> Outcome<()> {
    for kind in ["bare", "backend", "backend-16", "bare", "backend", "backend-16"] {
        let pairs = count(spawn(kind, &fresh_file(kind)?, "key", time)?)?;
        println!("1 process, {kind}: {} pairs/s", pairs / time.parse::<u64>()?);
    }
    Ok(())
}

fn spawn(kind: &str, file: &Path, key: &str, time: &str) -> Outcome<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("child").arg(kind).arg(file).args([key, time]).stdout(Stdio::piped());
    Ok(command.spawn()?)
}

fn count(child: Child) -> Outcome<u64> {
    let output = child.wait_with_output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

fn fresh_file(name: &str) -> Outcome<PathBuf> {
    let directory = std::env::temp_dir().join(format!("lock-sqlite-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let unique = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
    Ok(directory.join(format!("{name}-{unique}.db")))
}

async fn child(kind: &str, file: &str, key: &str, time: Duration) -> Outcome<()> {
    let pairs = match kind {
        "bare" => bare_loop(file, key, time)?,
        "backend" => pair_loop(&open(file).await?, key, time).await?,
        "backend-one-key" => pair_loop(&open(file).await?, "key", time).await?,
        "backend-16" => sixteen(open(file).await?, time).await?,
        "pong" => return pong(&open(file).await?, key, time).await,
        _ => return Err("no such child".into()),
    };
    println!("{pairs}");
    Ok(())
}

async fn open(file: &str) -> Outcome<Sqlite> {
    Ok(connect(SqliteConfig::new(file)).await?)
}

fn claim(key: &str) -> Outcome<Claim> {
    let owner = Owner::new(&format!("p{}", std::process::id()))?;
    Ok(Claim::new(LockKey::new(key)?, owner, Duration::from_secs(30)))
}

async fn pair_loop(backend: &Sqlite, key: &str, time: Duration) -> Outcome<u64> {
    let (start, mut pairs) = (Instant::now(), 0);
    while start.elapsed() < time {
        let claim = claim(key)?;
        match backend.attempt(&claim).await? {
            Attempt::Acquired { .. } => {
                assert_eq!(backend.release(&claim).await?, Release::Released);
                pairs += 1;
            }
            Attempt::Held { .. } => {}
        }
    }
    Ok(pairs)
}

async fn sixteen(backend: Sqlite, time: Duration) -> Outcome<u64> {
    let backend = std::sync::Arc::new(backend);
    let mut tasks = Vec::new();
    for i in 0..16 {
        let backend = backend.clone();
        tasks.push(async move { pair_loop(&backend, &format!("key-{i}"), time).await });
    }
    let local = tokio::task::LocalSet::new();
    let handles: Vec<_> = tasks
        .into_iter()
        .map(|task| local.spawn_local(async { task.await.unwrap_or(0) }))
        .collect();
    local.await;
    let mut total = 0;
    for handle in handles {
        total += handle.await?;
    }
    Ok(total)
}

/// The very statements of the backend without anything around them: no turns, no thread.
fn bare_loop(file: &str, key: &str, time: Duration) -> Outcome<u64> {
    let connection = rusqlite::Connection::open(file)?;
    connection.busy_timeout(Duration::from_secs(60))?;
    while connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).is_err() {}
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let create = statements::schema("locks").replace("TABLE", "TABLE IF NOT EXISTS");
    connection.execute_batch(&create)?;
    let sql = statements::Statements::new("locks");
    let (start, mut pairs) = (Instant::now(), 0);
    while start.elapsed() < time {
        let token = lock_core::Token::random().to_string();
        let now = i64::try_from(nanos())?;
        let end = now + 30_000_000_000;
        let take = rusqlite::params!["boot", now, 0, key, token, "owner", "exclusive", end, 0];
        let taken =
            connection.prepare_cached(&sql.attempt)?.query_row(take, |row| row.get::<_, i64>(0));
        taken?;
        let free = rusqlite::params!["boot", now, key, token];
        assert_eq!(connection.prepare_cached(&sql.release)?.execute(free)?, 1);
        pairs += 1;
    }
    Ok(pairs)
}

/// Waits for `key` as an engine does: arm, attempt, hint or a poll, again.
async fn wait_for(backend: &Sqlite, claim: &Claim) -> Outcome<()> {
    let notify = std::sync::Arc::new(Notify::new());
    let _watch = backend.watch(claim, WatchFor::Release, Hint::new(waker(notify.clone()))).await?;
    loop {
        if let Attempt::Acquired { .. } = backend.attempt(claim).await? {
            return Ok(());
        }
        let _ = tokio::time::timeout_at(
            tokio::time::Instant::now() + Duration::from_millis(250),
            notify.notified(),
        )
        .await;
    }
}

fn waker(notify: std::sync::Arc<Notify>) -> std::task::Waker {
    struct Wakes(std::sync::Arc<Notify>);
    impl std::task::Wake for Wakes {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.notify_one();
        }
    }
    std::sync::Arc::new(Wakes(notify)).into()
}

fn nanos() -> u64 {
    lock_core::Clock::system().now().as_nanos()
}

/// Waits for the key again and again and prints when it got it.
async fn pong(backend: &Sqlite, key: &str, time: Duration) -> Outcome<()> {
    let start = Instant::now();
    while start.elapsed() < time {
        let claim = claim(key)?;
        wait_for(backend, &claim).await?;
        println!("{}", nanos());
        backend.release(&claim).await?;
        tokio::time::sleep_until(tokio::time::Instant::now() + Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Holds the key while another process waits, releases it, and reads when the other got it.
async fn handover() -> Outcome<()> {
    use std::io::BufRead;
    let file = fresh_file("handover")?;
    let backend = open(file.to_str().ok_or("path")?).await?;
    let held = claim("key")?;
    assert!(matches!(backend.attempt(&held).await?, Attempt::Acquired { .. }));
    let mut other = spawn("pong", &file, "key", "10")?;
    let mut lines = std::io::BufReader::new(other.stdout.take().ok_or("stdout")?).lines();
    let mut micros = Vec::new();
    let mut held = held;
    for _ in 0..300 {
        tokio::time::sleep_until(tokio::time::Instant::now() + Duration::from_millis(20)).await;
        let released = nanos();
        backend.release(&held).await?;
        let got: u64 = lines.next().ok_or("the other ended")??.parse()?;
        assert!(
            got > released,
            "the other got it {} µs before the release",
            (released - got) / 1000
        );
        micros.push((got - released) / 1000);
        held = claim("key")?;
        wait_for(&backend, &held).await?;
    }
    other.kill()?;
    other.wait()?;
    micros.sort_unstable();
    println!("hand-over µs: p50 {}, p99 {}, max {}", micros[150], micros[297], micros[299]);
    Ok(())
}

/// Lets 50 waiters wait for 10 s, with the polls of the profile, and prints the processor time.
async fn idle() -> Outcome<()> {
    let file = fresh_file("idle")?;
    let file = file.to_str().ok_or("path")?;
    let (holder, waiter) = (open(file).await?, open(file).await?);
    let (mut watches, mut claims) = (Vec::new(), Vec::new());
    for i in 0..50 {
        let held = claim(&format!("key-{i}"))?;
        holder.attempt(&held).await?;
        let hint = Hint::new(std::task::Waker::noop().clone());
        watches.push(waiter.watch(&held, WatchFor::Release, hint).await?);
        claims.push(held);
    }
    let before = cpu();
    for _ in 0..40 {
        tokio::time::sleep_until(tokio::time::Instant::now() + Duration::from_millis(250)).await;
        assert!(waiter.peek(&claims).await?.iter().all(|peek| matches!(peek, Peek::Held { .. })));
    }
    println!("50 waiters, 10 s: {:?} of processor time", cpu() - before);
    Ok(())
}

fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
