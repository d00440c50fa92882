//! The metrics that the manual tells of are those that there are.
#![cfg(feature = "memory")]

use std::collections::BTreeSet;
use std::time::Duration;

use lock::Eviction;
use lock::LockOptions;
use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_exporter_prometheus::PrometheusHandle;

const MANUAL: &str = include_str!("../src/manual/operating.md");
const WATCHING: [&str; 2] = [
    include_str!("../examples/observability/alerts.yml"),
    include_str!("../examples/observability/dashboard.json"),
];

/// One holder, one who waits in vain, one whose lock is taken away.
async fn live() -> lock::Result<()> {
    let locks = lock::connect("memory:metrics").await?;
    let patient = LockOptions::new().wait(Duration::from_millis(10));
    let holder = locks.lock("kept", &LockOptions::new()).await?;
    locks.lock("kept", &patient).await.expect_err("somebody else holds it");
    locks.lock("freed", &patient).await?.unlock().await?;
    let loser = locks.lock("taken", &LockOptions::new()).await?;
    locks.force_unlock("taken", Eviction::LockOnly).await?;
    loser.lost().await;
    // The holder's lock outlives this function's figures.
    std::mem::forget(holder);
    Ok(())
}

fn value(rendered: &str, metric: &str) -> f64 {
    let line = format!("{metric}{{backend=\"memory\"}} ");
    let found = rendered.lines().find_map(|text| text.strip_prefix(&line));
    found.unwrap_or_else(|| panic!("no {line} in:\n{rendered}")).parse().expect("a number")
}

#[tokio::test]
async fn each_is_counted_and_in_the_manual() {
    let metrics: PrometheusHandle = PrometheusBuilder::new().install_recorder().unwrap();
    live().await.unwrap();
    let rendered = metrics.render();

    for (metric, expected) in [
        ("lock_acquired_total", 3.0),
        ("lock_timeouts_total", 1.0),
        ("lock_lost_total", 1.0),
        ("lock_keep_failures_total", 0.0),
        ("lock_held", 1.0),
        ("lock_wait_seconds_count", 3.0),
        ("lock_hold_seconds_count", 2.0),
    ] {
        assert_eq!(value(&rendered, metric), expected, "{metric} in:\n{rendered}");
    }
    assert!(value(&rendered, "lock_attempts_total") >= 4.0, "{rendered}");

    let there: BTreeSet<&str> = rendered
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    // The table of metrics names the kind of each; that of alerts does not.
    let kinds = ["counter", "gauge", "histogram"];
    let told: BTreeSet<&str> = MANUAL
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .filter(|(_, rest)| kinds.iter().any(|kind| rest.starts_with(kind)))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(there, told);

    let words =
        WATCHING.iter().flat_map(|text| text.split(|c: char| !(c.is_alphanumeric() || c == '_')));
    for word in words.filter(|word| word.starts_with("lock_")) {
        assert!(there.contains(word.trim_end_matches("_bucket")), "there is no metric {word}");
    }
}
