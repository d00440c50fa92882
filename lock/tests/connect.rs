//! What a URL and a configuration do to the provider that comes of them.

#![cfg(all(feature = "memory", feature = "sqlite"))]

use std::time::Duration;

use lock::Config;
use lock::ErrorKind;
use lock::LockOptions;

fn yaml(text: &str) -> Config {
    Config::parse(text, "yaml").expect("the configuration of a test is valid")
}

#[tokio::test]
async fn a_prefix_stands_before_each_key() {
    let shop = lock::connect("memory:prefixed?prefix=shop:").await.unwrap();
    let all = lock::connect("memory:prefixed").await.unwrap();
    let guard = shop.lock("sku:123", &LockOptions::new()).await.unwrap();
    assert!(all.is_locked("shop:sku:123").await.unwrap());
    assert!(!all.is_locked("sku:123").await.unwrap());
    guard.unlock().await.unwrap();
}

#[tokio::test]
async fn the_default_ttl_is_what_the_store_runs() {
    for config in
        [Config::of_url("memory:ttl?ttl=9s").unwrap(), yaml("{url: 'memory:ttl', default_ttl: 9s}")]
    {
        let locks = config.connect().await.unwrap();
        let guard = locks.lock("a", &LockOptions::new()).await.unwrap();
        let left = locks.status("a").await.unwrap().holders[0].expires_in.unwrap();
        assert!(left <= Duration::from_secs(9) && left > Duration::from_secs(5), "{left:?}");
        guard.unlock().await.unwrap();
    }
}

#[tokio::test]
async fn retries_are_counted_after_the_first_attempt() {
    let patient = lock::connect("memory:retries").await.unwrap();
    let guard = patient.lock("a", &LockOptions::new()).await.unwrap();
    let none = yaml("{url: 'memory:retries', default_retry_count: 0}").connect().await.unwrap();
    let held = none.lock("a", &LockOptions::new()).await.unwrap_err();
    assert_eq!(held.kind(), ErrorKind::Held);
    let twice = "{url: 'memory:retries', default_retry_count: 2, default_retry_delay: 50ms}";
    let twice = yaml(twice).connect().await.unwrap();
    let begun = std::time::Instant::now();
    let late = twice.lock("a", &LockOptions::new()).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout);
    assert!(begun.elapsed() >= Duration::from_millis(100), "{:?}", begun.elapsed());
    guard.unlock().await.unwrap();
}

#[tokio::test]
async fn a_section_says_where_and_which_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("l @.db");
    let section =
        format!("{{provider: sqlite, sqlite: {{path: '{}', table_name: mine}}}}", path.display());
    let by_section = yaml(&section).connect().await.unwrap();
    let mut url = lock::ConnectUrl::of_path("sqlite", path.to_str().unwrap()).unwrap();
    let elsewhere = lock::connect(&url.to_string()).await.unwrap();
    url.add("table", "mine").unwrap();
    let by_url = lock::connect(&url.to_string()).await.unwrap();
    let guard = by_section.lock("a", &LockOptions::new()).await.unwrap();
    assert!(by_url.is_locked("a").await.unwrap());
    assert!(!elsewhere.is_locked("a").await.unwrap());
    guard.unlock().await.unwrap();
}
