//! A store in this process, and what else keeps tasks of one process apart.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::sync::PoisonError;

use lockable::LockPool;
use tokio::sync::OwnedMutexGuard;

use crate::failure::Outcome;
use crate::store::made;
use crate::subject::Rival;
use crate::subject::Subject;
use crate::subject::open;
use crate::way::Way;

pub(crate) const SUBJECT: Subject = Subject {
    name: "memory",
    store: |_| made("memory:bench".to_owned()),
    probe: None,
    version: || Box::pin(async { Ok("in process".to_owned()) }),
    has_processes: false,
    is_connection: |_| false,
    bare: None,
    peers: &[
        Rival { name: "lockable", open: |_| open(async { Ok(Pool) }) },
        Rival { name: "map of tokio mutexes", open: |_| open(async { Ok(Mutexes) }) },
    ],
    notes: &[
        "one process: what is said of several processes is said of several engines here",
        "the store itself is in the process and counted with its clients",
    ],
};

/// The pool of the process: all clients share it, as they would a store.
static POOL: LazyLock<LockPool<String>> = LazyLock::new(LockPool::new);

struct Pool;

impl Way for Pool {
    type Guard = <LockPool<String> as lockable::Lockable<String, ()>>::Guard<'static>;

    async fn lock(&self, key: &str) -> Outcome<Self::Guard> {
        Ok(POOL.async_lock(key.to_owned()).await)
    }

    async fn unlock(&self, guard: Self::Guard) -> Outcome {
        drop(guard);
        Ok(())
    }
}

/// A mutex for each key that was ever used, as people write it by hand. Nothing is ever taken out.
static MUTEXES: LazyLock<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>> =
    LazyLock::new(Mutex::default);

struct Mutexes;

impl Way for Mutexes {
    type Guard = OwnedMutexGuard<()>;

    async fn lock(&self, key: &str) -> Outcome<Self::Guard> {
        Ok(mutex(key).lock_owned().await)
    }

    async fn unlock(&self, guard: Self::Guard) -> Outcome {
        drop(guard);
        Ok(())
    }
}

fn mutex(key: &str) -> Arc<tokio::sync::Mutex<()>> {
    let mut mutexes = MUTEXES.lock().unwrap_or_else(PoisonError::into_inner);
    match mutexes.get(key) {
        Some(mutex) => mutex.clone(),
        None => mutexes.entry(key.to_owned()).or_default().clone(),
    }
}
