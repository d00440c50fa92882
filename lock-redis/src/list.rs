//! Listing and purging: by scanning for cards, as locks themselves look like anybody's strings.

use std::collections::BTreeSet;

use lock_core::Cursor;
use lock_core::ErrorKind;
use lock_core::KeyState;
use lock_core::LockKey;
use lock_core::Page;
use lock_core::Result;
use redis::Value;

use crate::error::During;
use crate::keys::COMPANION;
use crate::keys::Names;
use crate::keys::lock_of_card;
use crate::node::Node;
use crate::reply;
use crate::route::Route;
use crate::route::Step;
use crate::scripts::SCRIPTS;
use crate::scripts::Script;

/// How many keys the server looks at in one step of a scan.
const SCANNED: usize = 1000;

/// How many keys are asked for in one pipeline.
const BATCH: usize = 500;

/// Returns a page of the keys in use, in byte order.
pub(crate) async fn page(
    route: &Route,
    prefix: &str,
    cursor: Option<&Cursor>,
    limit: usize,
) -> Result<Page> {
    let after = cursor.map_or("", |cursor| cursor.0.as_str());
    let mut names = names(route, prefix).await?.into_iter().filter(|name| name.as_str() > after);
    let limit = limit.max(1);
    let mut items: Vec<KeyState> = Vec::new();
    while items.len() <= limit {
        let batch: Vec<String> = names.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            return Ok(Page { items, next: None });
        }
        items.extend(in_use(route, batch).await?);
    }
    items.truncate(limit);
    let next = items.last().map(|last| Cursor(last.key.clone()));
    Ok(Page { items, next })
}

/// Removes what the dead left behind, key by key.
pub(crate) async fn purge(route: &Route) -> Result<u64> {
    let names: Vec<String> = names(route, "").await?.into_iter().collect();
    let mut gone = 0;
    for batch in names.chunks(BATCH) {
        let step = |name: &String| step(&SCRIPTS.purge, name);
        for answer in route.run_all(batch.iter().filter_map(step).collect()).await? {
            match answer.and_then(reply::count) {
                Ok(count) => gone += count,
                // It is not ours, or makes no sense: a purge touches only the expired (S10).
                Err(error) if error.kind() == ErrorKind::Corrupt => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(gone)
}

async fn in_use(route: &Route, names: Vec<String>) -> Result<Vec<KeyState>> {
    let steps = names.iter().filter_map(|name| step(&SCRIPTS.inspect, name)).collect();
    let answers = route.run_all(steps).await?;
    let mut states = Vec::new();
    for (name, answer) in names.into_iter().zip(answers) {
        let state = answer.and_then(reply::state);
        let (holders, waiting) = state.map_err(|error| error.about(&name))?;
        if !holders.is_empty() || waiting > 0 {
            states.push(KeyState::new(name, holders, waiting));
        }
    }
    Ok(states)
}

fn step(script: &'static Script, name: &str) -> Option<Step<'static>> {
    let key = LockKey::new(name).ok()?;
    Some(Step::new(script, Names::of(&key), Vec::new()))
}

/// The names of all locks with a card, in byte order.
async fn names(route: &Route, prefix: &str) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for node in route.nodes().await? {
        scan(&node, prefix, &mut names).await?;
    }
    Ok(names)
}

async fn scan(node: &Node, prefix: &str, names: &mut BTreeSet<String>) -> Result<()> {
    let pattern = format!("{COMPANION}*}}:{}*", escaped(prefix));
    let mut at = "0".to_owned();
    loop {
        let mut command = redis::cmd("SCAN");
        command.arg(&at).arg("MATCH").arg(&pattern).arg("COUNT").arg(SCANNED);
        let answer =
            node.call(command).await.map_err(|failure| failure.into_error(During::Request))?;
        let mut parts = reply::list(answer)?.into_iter();
        at = reply::text(parts.next())?;
        for card in reply::list(parts.next().unwrap_or(Value::Nil))? {
            let card = reply::text(Some(card)).unwrap_or_default();
            let lock = lock_of_card(&card).filter(|lock| lock.starts_with(prefix));
            names.extend(lock.filter(|lock| LockKey::new(lock).is_ok()).map(str::to_owned));
        }
        if at == "0" {
            return Ok(());
        }
    }
}

/// What a pattern would take for more than itself.
fn escaped(prefix: &str) -> String {
    let escape =
        |c| if matches!(c, '*' | '?' | '[' | ']' | '\\') { vec!['\\', c] } else { vec![c] };
    prefix.chars().flat_map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_matches_only_itself() {
        assert_eq!(escaped(r"a*b?[c]\d"), r"a\*b\?\[c\]\\d");
    }
}
