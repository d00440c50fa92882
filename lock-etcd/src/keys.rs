//! Where things are in the store.
//!
//! A contender of the lock K is the key K/U with no further slash in U: so do `etcdctl lock` and Go's
//! `concurrency`. Ours have a name as U that is no claim's token.

use etcd_client::KeyValue;
use lock_core::Claim;
use lock_core::LockKey;
use lock_core::Token;

/// Where the store keeps what is added to every fence. Without a slash it is no contender of any lock.
pub(crate) const FENCE_BASE: &str = "lock-etcd.fence_base";

/// The key of a contender of ours.
pub(crate) fn own(lock: &LockKey, name: Token) -> Vec<u8> {
    format!("{lock}/{name}").into_bytes()
}

/// Where it is marked that a claim has been given up, as far as it would hang on `lease`. It lies outside the range of its lock, so that
/// the lock is free; within that of no other it is a contender, because of its slash; and no lock has
/// such a name, which is not UTF-8.
pub(crate) fn given_up(claim: &Claim, lease: i64) -> Vec<u8> {
    let mut key = claim.key.as_str().as_bytes().to_vec();
    key.extend(b"\xff/");
    key.extend(format!("{}.{lease:x}", claim.token).as_bytes());
    key
}

/// The range of all keys below a lock: from its slash to the byte after it.
pub(crate) fn range(key: &LockKey) -> (Vec<u8>, Vec<u8>) {
    (format!("{key}/").into_bytes(), format!("{key}0").into_bytes())
}

/// Splits a contender's key into its lock and what is its own.
pub(crate) fn split(key: &[u8]) -> Option<(&str, &str)> {
    str::from_utf8(key).ok()?.rsplit_once('/')
}

/// Tells whether a key below `lock` is a contender, and not one of another lock further down.
pub(crate) fn is_contender(lock: &LockKey, kv: &KeyValue) -> bool {
    below(lock, kv.key()).is_some_and(|rest| !rest.contains(&b'/'))
}

/// Where a look goes on that has read up to `last`: other locks further down are skipped as a whole.
pub(crate) fn after(lock: &LockKey, last: &[u8]) -> Vec<u8> {
    let rest = below(lock, last).unwrap_or_default();
    match rest.iter().position(|byte| *byte == b'/') {
        Some(slash) => {
            let mut next = last[..last.len() - rest.len() + slash].to_vec();
            next.push(b'/' + 1);
            next
        }
        None => [last, b"\0"].concat(),
    }
}

fn below<'a>(lock: &LockKey, key: &'a [u8]) -> Option<&'a [u8]> {
    key.strip_prefix(lock.as_str().as_bytes())?.strip_prefix(b"/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_skips_other_locks_further_down() {
        let lock = LockKey::new("a").unwrap();
        assert_eq!(after(&lock, b"a/b/1"), b"a/b0");
        assert_eq!(after(&lock, b"a/b/c/1"), b"a/b0");
        assert_eq!(after(&lock, b"a//1"), b"a/0");
        assert_eq!(after(&lock, b"a/1"), b"a/1\0");
    }

    #[test]
    fn a_mark_is_in_nobodys_way() {
        let claim = |name: &str| {
            let owner = lock_core::Owner::new("ann").unwrap();
            Claim::new(LockKey::new(name).unwrap(), owner, std::time::Duration::from_secs(1))
        };
        let mark = given_up(&claim("a/b"), 7);
        let (from, to) = range(&LockKey::new("a/b").unwrap());
        assert!(!(from..to).contains(&mark));
        // In the range of its parent it has a slash of its own.
        let parent = LockKey::new("a").unwrap();
        assert!(below(&parent, &mark).unwrap().contains(&b'/'));
        assert!(split(&mark).is_none());
    }
}
