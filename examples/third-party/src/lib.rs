//! Locks in a JSON file, for the processes of one Linux host: a whole backend in one sitting.
//!
//! A step puts a changed file in place of the old one under an advisory lock on a second file, so it is
//! atomic between processes (S1). Leases are instants of the boot clock (S3), and each boot has a file
//! of its own; fences go on from the wall clock, and break only if a restart set that back.

use lock_core::ErrorKind::{self, Corrupt, Unavailable};
use lock_core::{
    Attempt, Backend, BootInstant, Claim, Clock, Cursor, Error, Evicted, Eviction, Fence, Hint,
    Holder, Kept, KeyState, Lease, LockKey, Page, Peek, Profile, Release, Result, Watch, WatchFor,
    async_trait,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Mutex, task::spawn_blocking};

/// The locks of one directory.
#[derive(Debug)]
pub struct JsonFile {
    profile: Profile,
    file: PathBuf,
    /// Steps run in the order of their calls, also those whose caller has left meanwhile (S7).
    turn: Arc<Mutex<()>>,
}

type Locks = BTreeMap<String, Record>;

/// One key. It stays when it is free, for its fence.
#[derive(Default, Serialize, Deserialize)]
struct Record {
    fence: u64,
    token: Option<String>,
    owner: String,
    until_nanos: u64,
}

impl JsonFile {
    /// Opens the locks of `directory`, which must exist.
    pub fn open(directory: &Path) -> Result<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let name = format!("locks-{}.json", boot.map_err(failed(Unavailable))?.trim());
        let (profile, file) = (Profile::new("jsonfile"), directory.join(name));
        Ok(Self { profile, file, turn: Arc::default() })
    }

    async fn step<T: Send + 'static>(
        &self,
        step: impl FnOnce(&mut Locks, BootInstant) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (turn, file) = (self.turn.clone().lock_owned().await, self.file.clone());
        let job = move || {
            let _turn = turn;
            let guard = File::create(file.with_extension("guard")).map_err(failed(Unavailable))?;
            guard.lock().map_err(failed(Unavailable))?;
            let there = file.exists().then(|| fs::read(&file).map_err(failed(Unavailable)));
            let before = there.unwrap_or_else(|| Ok(b"{}".to_vec()))?;
            let mut locks: Locks = serde_json::from_slice(&before).map_err(failed(Corrupt))?;
            let now = Clock::system().now();
            for record in locks.values_mut() {
                record.token.take_if(|_| record.until_nanos <= now.as_nanos());
            }
            let output = step(&mut locks, now)?;
            let after = serde_json::to_vec(&locks).map_err(failed(Corrupt))?;
            if after != before {
                fs::write(file.with_extension("draft"), after).map_err(failed(Unavailable))?;
                fs::rename(file.with_extension("draft"), file).map_err(failed(Unavailable))?;
            }
            Ok(output)
        };
        spawn_blocking(job).await.map_err(failed(Unavailable)).map_err(Error::ambiguous)?
    }
}

fn failed<E: std::error::Error + Send + Sync + 'static>(kind: ErrorKind) -> impl Fn(E) -> Error {
    move |cause| Error::new(kind, "the lock file cannot be used").with_source(cause)
}

impl Record {
    fn attempt(&mut self, claim: &Claim, now: BootInstant) -> Result<Attempt> {
        let token = Some(claim.token.to_string());
        if self.token.is_some() && self.token != token {
            let (holders, retry_in) = (self.holders(now), Some(self.left(now)));
            return Ok(Attempt::Held { holders, retry_in, ahead: None });
        }
        let clock = Clock::system().unix_micros();
        let drawn = if self.token.is_some() { self.fence } else { clock.max(self.fence + 1) };
        self.fence = drawn.max(claim.fence_floor.map_or(0, Fence::get));
        (self.token, self.owner) = (token, claim.owner.to_string());
        Ok(Attempt::Acquired { fence: Fence::new(self.fence)?, lease: self.run(claim, now) })
    }

    fn run(&mut self, claim: &Claim, since: BootInstant) -> Lease {
        let lease = Lease { since, ttl: claim.ttl.max(Duration::from_millis(10)) };
        self.until_nanos = (since + lease.ttl).as_nanos();
        lease
    }

    fn left(&self, now: BootInstant) -> Duration {
        BootInstant::from_nanos(self.until_nanos).saturating_since(now)
    }

    fn holders(&self, now: BootInstant) -> Vec<Holder> {
        let mut holder = Holder::new().owned_by(&*self.owner).expiring_in(self.left(now));
        holder.fence = Fence::new(self.fence).ok();
        self.token.iter().map(|_| holder.clone()).collect()
    }
}

fn of<'a>(locks: &'a mut Locks, claim: &Claim) -> Option<&'a mut Record> {
    let token = claim.token.to_string();
    locks.get_mut(claim.key.as_str()).filter(|record| record.token.as_ref() == Some(&token))
}

#[async_trait]
impl Backend for JsonFile {
    fn profile(&self) -> &Profile {
        &self.profile
    }

    async fn attempt(&self, claim: &Claim) -> Result<Attempt> {
        let claim = claim.clone();
        let name = claim.key.to_string();
        self.step(move |locks, now| locks.entry(name).or_default().attempt(&claim, now)).await
    }

    async fn keep(&self, claims: &[Claim]) -> Result<Vec<Kept>> {
        let claims = claims.to_vec();
        let keep = move |locks: &mut Locks, now| {
            let keep = |claim| match of(locks, claim) {
                Some(record) => Kept::Renewed { lease: record.run(claim, now) },
                None => Kept::Gone,
            };
            Ok(claims.iter().map(keep).collect())
        };
        self.step(keep).await
    }

    async fn release(&self, claim: &Claim) -> Result<Release> {
        let claim = claim.clone();
        let release = |record: &mut Record| record.token.take();
        let token = self.step(move |locks, _| Ok(of(locks, &claim).and_then(release))).await?;
        Ok(token.map_or(Release::NotHeld, |_| Release::Released))
    }

    async fn peek(&self, claims: &[Claim]) -> Result<Vec<Peek>> {
        let claims = claims.to_vec();
        let peek = move |locks: &mut Locks, now| {
            let held = |claim: &Claim| locks.get(claim.key.as_str()).filter(|r| r.token.is_some());
            let shown =
                |record: &Record| Peek::Held { retry_in: Some(record.left(now)), fence: None };
            Ok(claims.iter().map(|claim| held(claim).map_or(Peek::Free, shown)).collect())
        };
        self.step(peek).await
    }

    async fn inspect(&self, key: &LockKey) -> Result<KeyState> {
        let name = key.to_string();
        let find = move |locks: &mut Locks, now| Ok(locks.get(&name).map(|r| r.holders(now)));
        Ok(KeyState::new(key.as_str(), self.step(find).await?.unwrap_or_default(), 0))
    }

    async fn list(&self, prefix: &str, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let (prefix, after) = (prefix.to_owned(), cursor.map_or(String::new(), |cursor| cursor.0));
        let list = move |locks: &mut Locks, now| {
            let state =
                |(key, record): (&String, &Record)| KeyState::new(key, record.holders(now), 0);
            let later = locks.iter().filter(|(key, _)| **key > after && key.starts_with(&prefix));
            let mut items: Vec<_> = later.map(state).filter(KeyState::is_locked).collect();
            let more = items.len() > limit;
            items.truncate(limit);
            let next = items.last().filter(|_| more).map(|state| Cursor(state.key.clone()));
            Ok(Page { items, next })
        };
        self.step(list).await
    }

    async fn evict(&self, key: &LockKey, _how: Eviction) -> Result<Evicted> {
        let key = key.to_string();
        let evict = |record: &mut Record| record.token.take();
        let token = self.step(move |locks, _| Ok(locks.get_mut(&key).and_then(evict))).await?;
        Ok(Evicted::new(u64::from(token.is_some()), 0))
    }

    async fn purge(&self) -> Result<u64> {
        let clock = Clock::system().unix_micros();
        // Only where the clock alone will lift the next fence above the last one.
        let idle = move |_: &String, r: &mut Record| r.token.is_none() && r.fence < clock;
        self.step(move |locks, _| Ok(locks.extract_if(.., idle).count() as u64)).await
    }

    async fn watch(&self, _claim: &Claim, _for: WatchFor, _hint: Hint) -> Result<Watch> {
        Ok(Watch::none())
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
