//! Locks in one JSON file, for the processes of one Linux host: a whole backend in one sitting.
//!
//! A step reads the file, changes what it holds and puts the new file in its place, all under an
//! advisory lock on a second file, so steps are atomic between processes (S1). A crash in the middle
//! leaves the old file. Leases are instants of the boot clock, valid for the boot that wrote them (S3).

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lock_core::{
    Attempt, Backend, BootInstant, Claim, Clock, Cursor, Error, ErrorKind, Evicted, Eviction, Fence,
    Hint, Holder, Kept, KeyState, Lease, LockKey, Page, Peek, Profile, Release, Result, Watch,
    async_trait,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

/// Locks in one file of a directory.
#[derive(Debug)]
pub struct JsonFile {
    profile: Profile,
    directory: PathBuf,
    /// Steps run one after another, in the order of their calls, also those whose caller has left:
    /// a release never overtakes the attempt it undoes.
    turn: Arc<Mutex<()>>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Store {
    boot: String,
    locks: BTreeMap<String, Record>,
}

/// One key; kept while it is free, for its fence.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    fence: u64,
    token: Option<String>,
    owner: String,
    /// Nanoseconds since boot.
    until: u64,
}

impl JsonFile {
    /// Opens the store in `directory`, which must exist.
    pub fn open(directory: impl AsRef<Path>) -> Self {
        let directory = directory.as_ref().to_owned();
        Self { profile: Profile::new("jsonfile"), directory, turn: Arc::default() }
    }

    async fn step<T: Send + 'static>(
        &self,
        step: impl FnOnce(&mut Store, BootInstant) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = self.turn.clone().lock_owned().await;
        let directory = self.directory.clone();
        let job = spawn_blocking(move || {
            let _turn = turn;
            Store::change(&directory, step)
        });
        job.await.map_err(|gone| unavailable(gone).ambiguous())?
    }
}

impl Store {
    fn change<T>(
        directory: &Path,
        step: impl FnOnce(&mut Self, BootInstant) -> Result<T>,
    ) -> Result<T> {
        let guard = File::create(directory.join("guard")).map_err(unavailable)?;
        guard.lock().map_err(unavailable)?;
        let (path, draft) = (directory.join("locks.json"), directory.join("draft"));
        let before = match fs::read_to_string(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unavailable(error)),
            text => text.unwrap_or_default(),
        };
        let mut store = Self::default();
        if !before.is_empty() {
            store = serde_json::from_str(&before).map_err(corrupt)?;
        }
        store.expire(Clock::system().now())?;
        let output = step(&mut store, Clock::system().now())?;
        let after = serde_json::to_string(&store).map_err(corrupt)?;
        if after != before {
            fs::write(&draft, after).map_err(unavailable)?;
            fs::rename(&draft, &path).map_err(unavailable)?;
        }
        Ok(output)
    }

    /// Frees what has run out, and after a restart of the machine everything.
    fn expire(&mut self, now: BootInstant) -> Result<()> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(unavailable)?;
        let restarted = self.boot != boot.trim();
        for record in self.locks.values_mut() {
            record.token.take_if(|_| restarted || record.until <= now.as_nanos());
        }
        self.boot = boot.trim().to_owned();
        Ok(())
    }

    fn held_by(&mut self, claim: &Claim) -> Option<&mut Record> {
        let record = self.locks.get_mut(claim.key.as_str())?;
        (record.token.as_ref() == Some(&claim.token.to_string())).then_some(record)
    }

    fn attempt(&mut self, claim: &Claim, now: BootInstant) -> Result<Attempt> {
        let record = self.locks.entry(claim.key.to_string()).or_default();
        let floor = claim.fence_floor.map_or(0, Fence::get);
        let token = claim.token.to_string();
        match &record.token {
            Some(holder) if *holder != token => {
                let retry_in = Some(left(record, now));
                return Ok(Attempt::Held { holders: holders(record, now), retry_in, ahead: None });
            }
            Some(_) => record.fence = record.fence.max(floor),
            None => record.fence = Clock::system().unix_micros().max(record.fence + 1).max(floor),
        }
        record.token = Some(token);
        record.owner = claim.owner.to_string();
        Ok(Attempt::Acquired { fence: Fence::new(record.fence)?, lease: record.run(claim, now) })
    }
}

impl Record {
    /// Starts the lease again. It counts from within the step, which is not before the call began; the
    /// file is on this machine, so both clocks are one.
    fn run(&mut self, claim: &Claim, now: BootInstant) -> Lease {
        let lease = Lease { since: now, ttl: claim.ttl.max(Duration::from_millis(10)) };
        self.until = (lease.since + lease.ttl).as_nanos();
        lease
    }
}

fn left(record: &Record, now: BootInstant) -> Duration {
    BootInstant::from_nanos(record.until).saturating_since(now)
}

fn holders(record: &Record, now: BootInstant) -> Vec<Holder> {
    let holder = Holder::new().owned_by(&*record.owner).expiring_in(left(record, now));
    let fence = Fence::new(record.fence).ok();
    let holder = fence.map_or(holder.clone(), |fence| holder.with_fence(fence));
    record.token.iter().map(|_| holder.clone()).collect()
}

fn unavailable(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Unavailable, "the lock file cannot be used").with_source(cause)
}

fn corrupt(cause: serde_json::Error) -> Error {
    Error::new(ErrorKind::Corrupt, "the lock file makes no sense").with_source(cause)
}

#[async_trait]
impl Backend for JsonFile {
    fn profile(&self) -> &Profile {
        &self.profile
    }

    async fn attempt(&self, claim: &Claim) -> Result<Attempt> {
        let claim = claim.clone();
        self.step(move |store, now| store.attempt(&claim, now)).await
    }

    async fn keep(&self, claims: &[Claim]) -> Result<Vec<Kept>> {
        let claims = claims.to_vec();
        self.step(move |store, now| {
            let keep = |claim: &Claim| match store.held_by(claim) {
                Some(record) => Kept::Renewed { lease: record.run(claim, now) },
                None => Kept::Gone,
            };
            Ok(claims.iter().map(keep).collect())
        })
        .await
    }

    async fn release(&self, claim: &Claim) -> Result<Release> {
        let claim = claim.clone();
        self.step(move |store, _| {
            let token = store.held_by(&claim).and_then(|record| record.token.take());
            Ok(token.map_or(Release::NotHeld, |_| Release::Released))
        })
        .await
    }

    async fn peek(&self, keys: &[LockKey]) -> Result<Vec<Peek>> {
        let keys = keys.to_vec();
        self.step(move |store, now| {
            let held = |key: &LockKey| store.locks.get(key.as_str()).filter(|r| r.token.is_some());
            let peek = |record| Peek::Held { retry_in: Some(left(record, now)) };
            Ok(keys.iter().map(|key| held(key).map_or(Peek::Free, peek)).collect())
        })
        .await
    }

    async fn inspect(&self, key: &LockKey) -> Result<KeyState> {
        let key = key.to_string();
        self.step(move |store, now| {
            let found = store.locks.get(&key).map(|record| holders(record, now));
            Ok(KeyState::new(key, found.unwrap_or_default(), 0))
        })
        .await
    }

    async fn list(&self, prefix: &str, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let (prefix, after) = (prefix.to_owned(), cursor.map_or(String::new(), |cursor| cursor.0));
        self.step(move |store, now| {
            let wanted = |(key, record): &(&String, &Record)| {
                record.token.is_some() && **key > after && key.starts_with(&prefix)
            };
            let show = |(key, record): (&String, &Record)| KeyState::new(key, holders(record, now), 0);
            let mut items: Vec<_> = store.locks.iter().filter(wanted).map(show).collect();
            let more = items.len() > limit;
            items.truncate(limit);
            let next = items.last().filter(|_| more).map(|state| Cursor(state.key.clone()));
            Ok(Page { items, next })
        })
        .await
    }

    async fn evict(&self, key: &LockKey, _how: Eviction) -> Result<Evicted> {
        let key = key.to_string();
        self.step(move |store, _| {
            let token = store.locks.get_mut(&key).and_then(|record| record.token.take());
            Ok(Evicted::new(u64::from(token.is_some()), 0))
        })
        .await
    }

    async fn purge(&self) -> Result<u64> {
        self.step(|store, _| {
            let before = store.locks.len();
            // The clock alone keeps the fences of these rising.
            let now = Clock::system().unix_micros();
            store.locks.retain(|_, record| record.token.is_some() || record.fence >= now);
            Ok((before - store.locks.len()) as u64)
        })
        .await
    }

    async fn watch(&self, _claim: &Claim, _hint: Hint) -> Result<Watch> {
        Ok(Watch::none())
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
