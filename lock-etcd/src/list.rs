//! Listing what is held or waited for.

use std::collections::BTreeMap;

use etcd_client::KeyValue;
use lock_core::Cursor;
use lock_core::LockKey;
use lock_core::Page;
use lock_core::Result;

use crate::backend::Inner;
use crate::error::Failure;
use crate::keys;
use crate::line::Line;

impl Inner {
    /// Reads all contenders under `prefix`, at one revision. They sort by their own keys, where "a-b/…"
    /// stands before "a/…", so each page of names needs all of them.
    pub(crate) async fn list(
        &self,
        prefix: &str,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, Failure> {
        let after = cursor.map(|cursor| cursor.0).unwrap_or_default();
        let mut names: BTreeMap<String, Vec<KeyValue>> = BTreeMap::new();
        let (mut from, to) = (start(prefix), end(prefix));
        let mut revision = 0;
        loop {
            let mut page = self.page(from, to.clone(), revision).await?;
            if revision == 0 {
                revision = page.header().map_or(0, |header| header.revision());
            }
            let next =
                page.kvs().last().filter(|_| page.more()).map(|kv| [kv.key(), b"\0"].concat());
            for kv in page.take_kvs() {
                if let Some(name) =
                    lock_of(&kv).filter(|it| it.starts_with(prefix) && **it > *after)
                {
                    names.entry(name.to_owned()).or_default().push(kv);
                }
            }
            // No more than can be shown, and one to tell that there is more.
            while names.len() > limit.saturating_add(1) {
                names.pop_last();
            }
            let Some(next) = next else { break };
            from = next;
        }
        Ok(self.shown(names, limit, revision))
    }

    fn shown(&self, names: BTreeMap<String, Vec<KeyValue>>, limit: usize, revision: i64) -> Page {
        let more = names.len() > limit;
        let state = |(name, kvs): (String, Vec<KeyValue>)| {
            let lock = LockKey::new(&name).ok()?;
            Some(self.state(&name, &Line::new(&lock, &kvs, revision)))
        };
        let items: Vec<_> = names.into_iter().take(limit).filter_map(state).collect();
        let next = items.last().filter(|_| more).map(|last| Cursor(last.key.clone()));
        Page { items, next }
    }
}

/// The lock that a key contends for. What hangs on no lease is somebody's data, not a contender.
fn lock_of(kv: &KeyValue) -> Option<&str> {
    let (name, _) = keys::split(kv.key())?;
    (kv.lease() != 0 && LockKey::new(name).is_ok()).then_some(name)
}

/// Where the keys under `prefix` begin; an empty key would mean none.
fn start(prefix: &str) -> Vec<u8> {
    if prefix.is_empty() { vec![0] } else { prefix.into() }
}

/// Where the keys under `prefix` end; a zero byte means nowhere.
fn end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        assert_eq!((start("a"), end("a")), (b"a".to_vec(), b"b".to_vec()));
        assert_eq!((start(""), end("")), (vec![0], vec![0]));
    }
}
