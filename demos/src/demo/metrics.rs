//! What is counted of locks: how long they were waited for and held, how many were had, and how many not.

use lock::LockOptions;
use metrics_exporter_prometheus::PrometheusBuilder;

use crate::servers::connect;
use crate::story::Result;
use crate::story::Story;
use crate::story::ms;
use crate::story::pause;

pub(crate) async fn run(story: &Story) -> Result {
    // What a service serves at /metrics; the engine counts into whatever recorder is installed.
    let metrics = PrometheusBuilder::new().install_recorder()?;
    let locks = connect("memory:metrics").await?;
    story.part("Three locks are had, each held for 50 ms, and one is not:");
    let options = LockOptions::new().wait(ms(10));
    for _ in 0..2 {
        let guard = locks.lock("report", &options).await?;
        pause(ms(50)).await;
        guard.unlock().await?;
    }
    let guard = locks.lock("report", &options).await?;
    let refused = locks.lock("report", &options).await.is_err();
    pause(ms(40)).await;
    guard.unlock().await?;

    let text = metrics.render();
    let value = |name: &str| -> Option<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('{'))?;
        line.rsplit(' ').next()?.parse().ok()
    };
    let shown = [
        ("successes", "lock_acquired_total"),
        ("failures", "lock_timeouts_total"),
        ("waited, seconds", "lock_wait_seconds_sum"),
        ("held, seconds", "lock_hold_seconds_sum"),
    ];
    for (what, name) in shown {
        let value = value(name).ok_or_else(|| format!("wrong: {name} is not there"))?;
        story.line(format!("{what:<18}{name:<24}{value:>8.3}"));
    }
    let counted = (value("lock_acquired_total"), value("lock_timeouts_total"));
    story.check(refused && counted == (Some(3.0), Some(1.0)), "each is counted")?;
    let held = value("lock_hold_seconds_sum").unwrap_or_default();
    story.check((0.14..1.0).contains(&held), "and timed")
}
