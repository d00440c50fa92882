//! The tables of the manual are the tests: what they say is what a user sees, word for word.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lock_core::COMMON_PARAMS;
use lock_core::ConnectUrl;
use lock_core::Error;
use lock_core::Handle;
use lock_core::Holder;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_core::Mode;
use lock_core::Param;
use lock_core::Result;

use crate::Config;
use crate::backends;
use crate::backends::BACKENDS;
use crate::backends::Backend;

/// The rows of the tables whose head begins with `head`: what is written, and what is said.
fn rows(head: &str) -> Vec<(&'static str, &'static str)> {
    let lines = include_str!("errors.md").lines();
    let table = lines.skip_while(|line| !line.starts_with(head)).skip(2);
    table.take_while(|line| line.starts_with('|')).map(cells).collect()
}

fn cells(line: &'static str) -> (&'static str, &'static str) {
    match line.split('`').collect::<Vec<_>>()[..] {
        ["| ", written, " | ", said, " |"] => (written, said),
        _ => panic!("a row has two cells of code: {line}"),
    }
}

fn all(_: &str) -> bool {
    true
}

/// Tells whether what is written names no backend but those that are compiled in.
fn can_be_tried(written: &str) -> bool {
    let missing = |backend: &&Backend| !backends::DRIVERS.iter().any(|it| it.name == backend.name);
    let mut words = BACKENDS.iter().filter(missing).flat_map(|backend| backend.schemes);
    !words.any(|scheme| written.contains(scheme))
}

/// Checks the rows of a table that can be tried against what `attempt` says.
fn check<T>(head: &str, can_be_tried: fn(&str) -> bool, attempt: impl Fn(&str) -> Result<T>) {
    let mut rows = rows(head);
    rows.retain(|(written, _)| can_be_tried(written));
    assert!(!rows.is_empty(), "no table {head}");
    let differing: Vec<String> = rows
        .iter()
        .filter_map(|(written, said)| {
            let error = attempt(written).err().map(|error| error.to_string());
            let shown = error.unwrap_or_else(|| "no error".to_owned());
            (shown != *said).then(|| format!("| `{written}` | `{shown}` |"))
        })
        .collect();
    assert!(differing.is_empty(), "the manual says otherwise:\n{}", differing.join("\n"));
}

fn connect(config: &Config) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(config.connect()).map(drop)
}

#[test]
fn a_url_is_refused_in_the_manual_s_words() {
    check("| URL |", can_be_tried, |url| connect(&Config::of_url(url)?));
}

#[test]
fn a_feature_that_is_off_is_named_in_the_manual_s_words() {
    check("| URL without", all, |url| backends::of_url(&ConnectUrl::parse(url)?, &[]));
}

#[test]
#[cfg(feature = "memory")]
fn a_configuration_is_refused_in_the_manual_s_words() {
    check("| configuration |", can_be_tried, |text| connect(&Config::parse(text, "yaml")?));
}

#[test]
fn a_file_is_refused_in_the_manual_s_words() {
    check("| file |", all, |path| Config::from_file(path));
}

#[test]
#[cfg(all(feature = "memory", feature = "sqlite"))]
fn the_environment_is_refused_in_the_manual_s_words() {
    check("| variable |", all, |variable| {
        let mut config = Config::from_vars(variable.split_once('='))?;
        config.provider = Some("memory".to_owned());
        connect(&config)
    });
}

/// Does what a row of the table of calls says.
async fn call(locks: &Arc<dyn LockProvider>, call: &str) -> Result<()> {
    let plain = || LockOptions::new().ttl(Duration::from_secs(10)).owner("ann");
    let refused = |key: String, options: LockOptions| async move {
        locks.lock(&key, &options.wait(Duration::ZERO)).await.map(drop)
    };
    let key = || "k".to_owned();
    match call {
        r#"lock("")"# => refused(String::new(), plain()).await,
        "lock(508 bytes)" => refused("a".repeat(508), plain()).await,
        r#"lock("a\0b")"# => refused("a\0b".to_owned(), plain()).await,
        r#"lock("k") with ttl 0"# => refused(key(), plain().ttl(Duration::ZERO)).await,
        r#"lock("k") with a ttl of 400 days"# => {
            refused(key(), plain().ttl(Duration::from_secs(400 * 86_400))).await
        }
        r#"lock("k") with a grace as long as its ttl"# => {
            refused(key(), plain().grace(Duration::from_secs(10))).await
        }
        r#"lock("k") with owner """# => refused(key(), plain().owner("")).await,
        r#"lock("k") with an owner of 256 bytes"# => {
            refused(key(), plain().owner("a".repeat(256))).await
        }
        r#"lock("k") with mode permits:3 while another has permits:2"# => {
            let _two = locks.lock("held", &plain().mode("permits:2".parse()?)).await?;
            let three = plain().owner("bob").mode("permits:3".parse()?);
            locks.lock("held", &three).await.map(drop)
        }
        _ => call_on_a_hold(locks, call, plain()).await,
    }
}

/// Does what a row of the table of calls says, where it is about a lock that is held.
async fn call_on_a_hold(
    locks: &Arc<dyn LockProvider>,
    call: &str,
    options: LockOptions,
) -> Result<()> {
    let guard = locks.lock("held", &options).await?;
    let bob = |wait: Duration| options.clone().owner("bob").wait(wait);
    match call {
        r#"lock("k") while another holds it, without wait"# => {
            locks.lock("held", &bob(Duration::ZERO)).await.map(drop)
        }
        r#"lock("k") while another holds it, with a wait of 10 ms"# => {
            locks.lock("held", &bob(Duration::from_millis(10))).await.map(drop)
        }
        "extend(0)" => guard.extend(Duration::ZERO).await,
        "into_handle() while another guard of the owner lives" => {
            let _second = locks.lock("held", &options).await?;
            guard.into_handle().map(drop)
        }
        "renew(handle) of what was released" => {
            let handle = guard.into_handle()?;
            locks.release(&handle).await?;
            locks.renew(&handle, Duration::from_secs(1)).await.map(drop)
        }
        "release(handle) of what was released" => {
            let handle = guard.into_handle()?;
            locks.release(&handle).await?;
            locks.release(&handle).await
        }
        r#"lock("k") after shutdown"# => {
            locks.shutdown(Duration::from_secs(1)).await?;
            locks.lock("k", &options).await.map(drop)
        }
        r#""7".parse::<Handle>()"# => "7".parse::<Handle>().map(drop),
        r#""permits:0".parse::<Mode>()"# => "permits:0".parse::<Mode>().map(drop),
        _ => panic!("the test does not know how to do {call}"),
    }
}

/// Leaves out of the holders what differs from run to run.
fn steady(error: Error) -> Error {
    let owner = error.holders().first().and_then(|holder| holder.owner.clone());
    let holders = owner.into_iter().map(|owner| Holder::new().owned_by(owner)).collect();
    error.with_holders(holders)
}

#[test]
#[cfg(feature = "sqlite")]
fn a_call_is_refused_in_the_manual_s_words() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    check("| call |", all, |row| {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}/locks.db?prefix=shop:", folder.path().display());
        runtime.block_on(async {
            let locks = crate::connect(&url).await?;
            call(&locks, row).await.map_err(steady)
        })
    });
}

#[test]
fn the_manual_lists_each_query_key_and_no_other() {
    let row =
        |backend: &str, param: &Param| format!("| {backend} | `{}` | {} |", param.name, param.help);
    let common = COMMON_PARAMS.iter().map(|param| row("any", param));
    let own = backends::DRIVERS
        .iter()
        .flat_map(|driver| driver.params.iter().map(move |param| row(driver.name, param)));
    let known = |name: &str| name == "any" || backends::DRIVERS.iter().any(|it| it.name == name);
    let lines = include_str!("configuration.md").lines();
    let listed = lines.skip_while(|line| !line.starts_with("| backend |")).skip(2);
    let listed = listed.take_while(|line| line.starts_with('|'));
    let listed: Vec<&str> =
        listed.filter(|line| line.split(' ').nth(1).is_some_and(known)).collect();
    assert_eq!(listed, common.chain(own).collect::<Vec<_>>());
}

#[test]
fn the_manual_lists_each_feature_and_what_is_on_by_default() {
    let manifest = include_str!("../../Cargo.toml");
    let manifest = config::File::from_str(manifest, config::FileFormat::Toml);
    let manifest = config::Config::builder().add_source(manifest).build().unwrap();
    let mut features: BTreeMap<String, Vec<String>> = manifest.get("features").unwrap();
    let default = features.remove("default").unwrap();
    let there = features.keys().map(|name| (name.as_str(), default.contains(name)));

    let lines = include_str!("start.md").lines();
    let listed = lines.skip_while(|line| !line.starts_with("| feature |")).skip(2);
    let listed = listed.take_while(|line| line.starts_with('|'));
    let listed = listed.map(|line| (line.split('`').nth(1).unwrap(), line.ends_with("| yes |")));
    assert_eq!(listed.collect::<BTreeMap<_, _>>(), there.collect());
}
