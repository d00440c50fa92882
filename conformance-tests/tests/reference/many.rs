//! Calls for several keys that break what the engine promises of them.

use std::mem::ManuallyDrop;
use std::mem::forget;

use lock_core::Engine;
use lock_core::LockGuard;
use lock_core::LockGuards;
use lock_core::LockOptions;
use lock_core::LockProvider as _;
use lock_core::Result;
use lock_core::Token;

use super::Flaw;
use super::provider::leaking;

pub(super) async fn lock_many(
    engine: &Engine,
    flaw: Flaw,
    keys: &[&str],
    options: &LockOptions,
) -> Result<LockGuards> {
    match flaw {
        Flaw::ManyUnsorted => one_by_one(engine, keys, options).await,
        Flaw::ManyDeadlineEach => one_by_one(engine, &sorted(keys), options).await,
        Flaw::ManyKeepsPart => keeping_part(engine, &sorted(keys), options).await,
        Flaw::ManyLeavesOne => leaving_one(engine, keys, options).await,
        Flaw::ManySkipsLast => {
            let keys = sorted(keys);
            let all_but_one = &keys[..keys.len().max(2) - 1];
            engine.lock_many(all_but_one, options).await
        }
        Flaw::ManyCountsTwice => {
            let keys = sorted(keys);
            if let Some(twice) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
                let _held = engine.lock(twice[0], options).await?;
                drop(engine.lock(twice[1], options).await?);
            }
            engine.lock_many(&keys, options).await
        }
        Flaw::ManyTakesNothing if keys.is_empty() => engine.lock_many(&["nothing"], options).await,
        Flaw::CancelLeaks => {
            let (engine, options) = (engine.clone(), options.clone());
            let keys: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
            leaking(async move {
                let keys: Vec<_> = keys.iter().map(String::as_str).collect();
                engine.lock_many(&keys, &options).await
            })
            .await
        }
        _ => engine.lock_many(keys, options).await,
    }
}

fn sorted<'a>(keys: &[&'a str]) -> Vec<&'a str> {
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    keys
}

/// The options with an owner of this call's own, who may enter what the call has taken.
fn as_itself(options: &LockOptions) -> LockOptions {
    let mut options = options.clone();
    options.owner.get_or_insert_with(|| Token::random().to_string());
    options
}

async fn one_by_one(engine: &Engine, keys: &[&str], options: &LockOptions) -> Result<LockGuards> {
    let options = as_itself(options);
    let mut guards = Vec::new();
    for key in keys {
        guards.push(engine.lock(key, &options).await?);
    }
    engine.lock_many(keys, &options).await
}

async fn keeping_part(engine: &Engine, keys: &[&str], options: &LockOptions) -> Result<LockGuards> {
    let options = as_itself(options);
    let mut part: Vec<ManuallyDrop<LockGuard>> = Vec::new();
    for key in keys {
        part.push(ManuallyDrop::new(engine.lock(key, &options).await?));
    }
    let all = engine.lock_many(keys, &options).await?;
    part.into_iter().for_each(|guard| drop(ManuallyDrop::into_inner(guard)));
    Ok(all)
}

async fn leaving_one(engine: &Engine, keys: &[&str], options: &LockOptions) -> Result<LockGuards> {
    let options = as_itself(options);
    let all = engine.lock_many(keys, &options).await?;
    if let Some(first) = all.iter().next() {
        forget(engine.lock(first.key(), &options).await?);
    }
    Ok(all)
}
