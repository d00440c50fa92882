//! Locks in a JSON file, for the processes of one Linux host: a whole backend in one sitting.
//!
//! A step reads the file, changes it and puts the new one in its place, all under an advisory lock on
//! a second file, so it is atomic between processes (S1) and a crash leaves the old file. Leases are
//! instants of the boot clock (S3), and each boot of the machine has a file of its own; fences go on
//! from the wall clock then, so they break only if that was set back over the restart.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lock_core::{
    Attempt, Backend, BootInstant, Claim, Clock, Cursor, Error, ErrorKind, Evicted, Eviction,
    Fence, Hint, Holder, Kept, KeyState, Lease, LockKey, Page, Peek, Profile, Release, Result,
    Watch, async_trait,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

/// The locks of one directory.
#[derive(Debug)]
pub struct JsonFile {
    profile: Profile,
    directory: PathBuf,
    /// Steps run in the order of their calls, also those whose caller has left meanwhile: a release
    /// never overtakes the attempt that it undoes (S7).
    turn: Arc<Mutex<()>>,
}

const TTL_MIN: Duration = Duration::from_millis(10);

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
    pub fn open(directory: impl AsRef<Path>) -> Self {
        let (mut profile, directory) = (Profile::new("jsonfile"), directory.as_ref().to_owned());
        profile.ttl_min = TTL_MIN;
        Self { profile, directory, turn: Arc::default() }
    }

    async fn step<T: Send + 'static>(
        &self,
        step: impl FnOnce(&mut Locks, BootInstant) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (turn, directory) = (self.turn.clone().lock_owned().await, self.directory.clone());
        let job = spawn_blocking(move || {
            let _turn = turn;
            change(&directory, step)
        });
        job.await.map_err(|gone| failed(ErrorKind::Unavailable, gone).ambiguous())?
    }
}

fn change<T>(
    directory: &Path,
    step: impl FnOnce(&mut Locks, BootInstant) -> Result<T>,
) -> Result<T> {
    let broken = |error: io::Error| failed(ErrorKind::Unavailable, error);
    let guard = File::create(directory.join("guard")).map_err(broken)?;
    guard.lock().map_err(broken)?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(broken)?;
    let path = directory.join(format!("locks-{}.json", boot.trim()));
    let before = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => b"{}".to_vec(),
        read => read.map_err(broken)?,
    };
    let corrupt = |error| failed(ErrorKind::Corrupt, error);
    let mut locks: Locks = serde_json::from_slice(&before).map_err(corrupt)?;
    let now = Clock::system().now();
    for record in locks.values_mut() {
        record.token.take_if(|_| record.until_nanos <= now.as_nanos());
    }
    let output = step(&mut locks, now)?;
    let after = serde_json::to_vec(&locks).map_err(corrupt)?;
    if after != before {
        fs::write(directory.join("draft"), after).map_err(broken)?;
        fs::rename(directory.join("draft"), path).map_err(broken)?;
    }
    Ok(output)
}

fn failed(kind: ErrorKind, cause: impl StdError + Send + Sync + 'static) -> Error {
    Error::new(kind, "the lock file cannot be used").with_source(cause)
}

impl Record {
    fn attempt(&mut self, claim: &Claim, now: BootInstant) -> Result<Attempt> {
        let floor = claim.fence_floor.map_or(0, Fence::get);
        let token = claim.token.to_string();
        match &self.token {
            Some(holder) if *holder != token => {
                let (holders, retry_in) = (self.holders(now), Some(self.left(now)));
                return Ok(Attempt::Held { holders, retry_in, ahead: None });
            }
            Some(_) => self.fence = self.fence.max(floor),
            None => self.fence = Clock::system().unix_micros().max(self.fence + 1).max(floor),
        }
        (self.token, self.owner) = (Some(token), claim.owner.to_string());
        Ok(Attempt::Acquired { fence: Fence::new(self.fence)?, lease: self.run(claim, now) })
    }

    fn run(&mut self, claim: &Claim, since: BootInstant) -> Lease {
        let lease = Lease { since, ttl: claim.ttl.max(TTL_MIN) };
        self.until_nanos = (lease.since + lease.ttl).as_nanos();
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
        let attempt = move |locks: &mut Locks, now| {
            locks.entry(claim.key.to_string()).or_default().attempt(&claim, now)
        };
        self.step(attempt).await
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
        let release = move |locks: &mut Locks, _| {
            let token = of(locks, &claim).and_then(|record| record.token.take());
            Ok(token.map_or(Release::NotHeld, |_| Release::Released))
        };
        self.step(release).await
    }

    async fn peek(&self, keys: &[LockKey]) -> Result<Vec<Peek>> {
        let keys = keys.to_vec();
        let peek = move |locks: &mut Locks, now| {
            let held = |key: &LockKey| locks.get(key.as_str()).filter(|r| r.token.is_some());
            let shown = |record: &Record| Peek::Held { retry_in: Some(record.left(now)) };
            Ok(keys.iter().map(|key| held(key).map_or(Peek::Free, shown)).collect())
        };
        self.step(peek).await
    }

    async fn inspect(&self, key: &LockKey) -> Result<KeyState> {
        let key = key.to_string();
        let inspect = move |locks: &mut Locks, now| {
            let holders = locks.get(&key).map(|record| record.holders(now));
            Ok(KeyState::new(key, holders.unwrap_or_default(), 0))
        };
        self.step(inspect).await
    }

    async fn list(&self, prefix: &str, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let (prefix, after) = (prefix.to_owned(), cursor.map_or(String::new(), |cursor| cursor.0));
        let list = move |locks: &mut Locks, now| {
            let wanted = |(key, record): &(&String, &Record)| {
                **key > after && key.starts_with(&prefix) && record.token.is_some()
            };
            let mut held = locks.iter().filter(wanted);
            let show =
                |(key, record): (&String, &Record)| KeyState::new(key, record.holders(now), 0);
            let items: Vec<_> = held.by_ref().take(limit).map(show).collect();
            let last = items.last().filter(|_| held.next().is_some());
            Ok(Page { next: last.map(|state| Cursor(state.key.clone())), items })
        };
        self.step(list).await
    }

    async fn evict(&self, key: &LockKey, _how: Eviction) -> Result<Evicted> {
        let key = key.to_string();
        let evict = move |locks: &mut Locks, _| {
            let token = locks.get_mut(&key).and_then(|record| record.token.take());
            Ok(Evicted::new(u64::from(token.is_some()), 0))
        };
        self.step(evict).await
    }

    async fn purge(&self) -> Result<u64> {
        let purge = |locks: &mut Locks, _| {
            let (before, clock) = (locks.len(), Clock::system().unix_micros());
            // Only where the clock alone will lift the next fence above the last one.
            locks.retain(|_, record| record.token.is_some() || record.fence >= clock);
            Ok((before - locks.len()) as u64)
        };
        self.step(purge).await
    }

    async fn watch(&self, _claim: &Claim, _hint: Hint) -> Result<Watch> {
        Ok(Watch::none())
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
