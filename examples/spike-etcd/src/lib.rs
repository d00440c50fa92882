//! A throw-away spike that proves the waist on etcd: the issue that builds `lock-etcd` removes it.
//! Exclusive mode only, no TLS, no authentication; one channel and one shared lease per client.
//!
//! A contender for the key K is the etcd key K/token, attached to the shared lease; the lowest create
//! revision holds, and is the fence. A place in line is the contender's own key, so an attempt that
//! stays is asked again by looking whether it has become the lowest.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::Client;
use etcd_client::Compare;
use etcd_client::CompareOp;
use etcd_client::ConnectOptions;
use etcd_client::EventType;
use etcd_client::GetOptions;
use etcd_client::GetResponse;
use etcd_client::KeyValue;
use etcd_client::LeaseTimeToLiveOptions;
use etcd_client::PutOptions;
use etcd_client::SortOrder;
use etcd_client::SortTarget;
use etcd_client::Txn;
use etcd_client::TxnOp;
use etcd_client::TxnOpResponse;
use etcd_client::WatchOptions;
use lock_core::Attempt;
use lock_core::Backend;
use lock_core::Claim;
use lock_core::Clock;
use lock_core::Cursor;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Evicted;
use lock_core::Eviction;
use lock_core::Fence;
use lock_core::FenceKind;
use lock_core::Hint;
use lock_core::Holder;
use lock_core::Kept;
use lock_core::KeyState;
use lock_core::Lease;
use lock_core::LeaseKind;
use lock_core::LockKey;
use lock_core::Page;
use lock_core::Peek;
use lock_core::PollPlan;
use lock_core::Profile;
use lock_core::Release;
use lock_core::Result;
use lock_core::Token;
use lock_core::Wakeup;
use lock_core::Watch;
use lock_core::WatchFor;
use tokio::task::AbortHandle;

/// A client of one etcd cluster. Cloning shares it.
#[derive(Clone)]
pub struct Etcd(Arc<Inner>);

struct Inner {
    profile: Profile,
    client: Client,
    ttl: Duration,
    lease: tokio::sync::Mutex<Option<Granted>>,
    /// What this client has in the store, by token. Calls about one token go one after another, so
    /// that a release never overtakes the attempt it undoes.
    mine: Mutex<HashMap<Token, Arc<tokio::sync::Mutex<Mine>>>>,
}

/// The shared lease.
#[derive(Clone, Copy)]
struct Granted {
    id: i64,
    lease: Lease,
}

/// What is known of one claim of ours.
#[derive(Clone, Copy, Default)]
struct Mine {
    /// Its create revision; none until an attempt has put its key.
    revision: Option<i64>,
    /// Whether an attempt was told that it holds.
    holds: bool,
    /// Whether an attempt got no answer: it may still reach the server, by a connection of its own.
    unsure: bool,
}

/// One look at the contenders of a key, in order of arrival.
struct Line {
    contenders: Vec<KeyValue>,
    revision: i64,
}

impl Etcd {
    /// Connects to `etcd://host:port,…`; `ttl` is asked for the shared lease, in whole seconds.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the cluster does not answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves at most a lease that nobody uses.
    pub async fn connect(url: &str, ttl: Duration) -> Result<Self> {
        let hosts = url.trim_start_matches("etcd://").split(',');
        let endpoints: Vec<String> = hosts.map(|host| format!("http://{host}")).collect();
        // The server refuses pings that come more often than every 5 s.
        let options = ConnectOptions::new()
            .with_connect_timeout(ttl)
            .with_keep_alive(Duration::from_secs(6), Duration::from_secs(3))
            .with_require_leader(true);
        let client = Client::connect(endpoints, Some(options)).await.map_err(classify)?;
        let granted = grant(client.clone(), ttl).await?;
        let mut profile = Profile::new("etcd");
        profile.lease = LeaseKind::Session;
        profile.fence = FenceKind::Native;
        profile.ttl_min = granted.lease.ttl;
        profile.native_queue = true;
        profile.wakeup = Wakeup::Push;
        profile.watches_holders = true;
        profile.batch = 100;
        let second = Duration::from_secs(1);
        profile.poll = PollPlan { first: second, eager: second, max: second * 5 };
        Ok(Self(Arc::new(Inner {
            profile,
            client,
            ttl,
            lease: tokio::sync::Mutex::new(Some(granted)),
            mine: Mutex::default(),
        })))
    }
}

async fn grant(mut client: Client, ttl: Duration) -> Result<Granted> {
    let seconds = i64::try_from(ttl.as_secs().max(1)).unwrap_or(i64::MAX);
    let since = Clock::system().now();
    let granted = client.lease_grant(seconds, None).await.map_err(classify)?;
    let ttl = Duration::from_secs(granted.ttl().unsigned_abs());
    Ok(Granted { id: granted.id(), lease: Lease { since, ttl } })
}

impl Inner {
    fn client(&self) -> Client {
        self.client.clone()
    }

    fn entry(&self, token: Token) -> Option<Arc<tokio::sync::Mutex<Mine>>> {
        self.mine.lock().unwrap_or_else(PoisonError::into_inner).get(&token).cloned()
    }

    fn entry_or_new(&self, token: Token) -> Arc<tokio::sync::Mutex<Mine>> {
        let mut mine = self.mine.lock().unwrap_or_else(PoisonError::into_inner);
        mine.entry(token).or_default().clone()
    }

    fn forget(&self, token: Token) {
        self.mine.lock().unwrap_or_else(PoisonError::into_inner).remove(&token);
    }

    /// Returns the shared lease with at least two thirds of its time left; renews or replaces it if
    /// nobody kept it while nothing was held.
    async fn lease(&self) -> Result<Granted> {
        let mut shared = self.lease.lock().await;
        let age = |granted: &Granted| Clock::system().now().saturating_since(granted.lease.since);
        match *shared {
            Some(granted) if age(&granted) < granted.lease.ttl / 3 => return Ok(granted),
            Some(granted) if age(&granted) < granted.lease.ttl => {
                if let Some(kept) = self.keep_alive(granted).await? {
                    *shared = Some(kept);
                    return Ok(kept);
                }
            }
            _ => {}
        }
        let granted = grant(self.client(), self.ttl).await?;
        *shared = Some(granted);
        Ok(granted)
    }

    /// Renews the lease, unless the server has ended it. It answers to the request's own send time.
    async fn keep_alive(&self, granted: Granted) -> Result<Option<Granted>> {
        let since = Clock::system().now();
        match self.client().lease_keep_alive(granted.id).await {
            Ok(_) => Ok(Some(Granted { lease: Lease { since, ..granted.lease }, ..granted })),
            Err(etcd_client::Error::LeaseKeepAliveError(_)) => Ok(None),
            Err(error) => Err(classify(error)),
        }
    }

    async fn attempt(&self, claim: &Claim, mine: &mut Mine) -> Result<Attempt> {
        let mut outcome = self.attempt_with(claim, mine).await;
        if outcome.as_ref().is_err_and(|error| !error.is_ambiguous()) {
            // Nothing happened, most likely because the lease had ended: once more, with a new one.
            *self.lease.lock().await = None;
            outcome = self.attempt_with(claim, mine).await;
        }
        mine.unsure |= outcome.is_err();
        if mine.revision.is_none() && !mine.unsure {
            self.forget(claim.token);
        }
        outcome
    }

    async fn attempt_with(&self, claim: &Claim, mine: &mut Mine) -> Result<Attempt> {
        let granted = self.lease().await?;
        if !claim.queue
            && mine.revision.is_none()
            && let Some(attempt) = self.take_free(claim, granted, mine).await?
        {
            return Ok(attempt);
        }
        let line = self.join(claim, granted).await?;
        let own = own_key(claim);
        let Some(ahead) = line.contenders.iter().position(|kv| kv.key() == own) else {
            // Taken away between the two steps: the next attempt queues afresh.
            (mine.revision, mine.holds) = (None, false);
            return Ok(held(&line, None));
        };
        mine.revision = Some(line.contenders[ahead].create_revision());
        if ahead == 0 {
            return self.acquired(line.contenders[0].create_revision(), granted, mine);
        }
        if !claim.queue {
            self.delete(claim, mine).await?;
            mine.revision = None;
        }
        Ok(held(&line, claim.queue.then_some(ahead as u64)))
    }

    fn acquired(&self, revision: i64, granted: Granted, mine: &mut Mine) -> Result<Attempt> {
        (mine.revision, mine.holds) = (Some(revision), true);
        Ok(Attempt::Acquired { fence: fence(revision)?, lease: granted.lease })
    }

    /// Puts the claim's key if nothing at all is in its range; `None` if only other locks are.
    async fn take_free(
        &self,
        claim: &Claim,
        granted: Granted,
        mine: &mut Mine,
    ) -> Result<Option<Attempt>> {
        let (from, to) = range(&claim.key);
        let txn = Txn::new()
            .when([
                Compare::create_revision(from, CompareOp::Equal, 0).with_range(to),
                not_given_up(claim),
            ])
            .and_then([put(claim, granted)])
            .or_else([look(&claim.key)]);
        let answer = self.client().txn(txn).await.map_err(classify)?;
        let revision = answer.header().map_or(0, |header| header.revision());
        if answer.succeeded() {
            return self.acquired(revision, granted, mine).map(Some);
        }
        let line = line(&claim.key, &answer.op_responses(), revision)?;
        // An earlier attempt whose answer was lost may have put the key.
        let known = line.contenders.iter().any(|kv| kv.key() == own_key(claim));
        Ok((!line.contenders.is_empty() && !known).then(|| held(&line, None)))
    }

    /// Puts the claim's key if it is not there, and looks at the line. A key of an older lease, which
    /// the server has not ended yet, moves to the present one.
    async fn join(&self, claim: &Claim, granted: Granted) -> Result<Line> {
        let own = own_key(claim);
        let txn = Txn::new()
            .when([Compare::lease(own, CompareOp::Equal, granted.id)])
            .and_then([look(&claim.key)])
            .or_else([
                TxnOp::txn(Txn::new().when([not_given_up(claim)]).and_then([put(claim, granted)])),
                look(&claim.key),
            ]);
        let answer = self.client().txn(txn).await.map_err(classify)?;
        let revision = answer.header().map_or(0, |header| header.revision());
        line(&claim.key, &answer.op_responses(), revision)
    }

    /// Deletes the claim's key, and only that incarnation of it which this claim put. If an attempt may
    /// still be under way, it is given up for ever: a mark on the lease makes it do nothing.
    async fn delete(&self, claim: &Claim, mine: &Mine) -> Result<bool> {
        let own = own_key(claim);
        let guard = match mine.revision {
            Some(revision) => Compare::create_revision(own.clone(), CompareOp::Equal, revision),
            None => Compare::create_revision(own.clone(), CompareOp::Greater, 0),
        };
        let mut txn = Txn::new().when([guard]).and_then([TxnOp::delete(own, None)]);
        if mine.unsure {
            let lease = PutOptions::new().with_lease(self.lease().await?.id);
            txn = txn.or_else([TxnOp::put(given_up(claim), "", Some(lease))]);
        }
        Ok(self.client().txn(txn).await.map_err(classify)?.succeeded())
    }

    async fn release(&self, claim: &Claim, mine: &Mine) -> Result<Release> {
        let deleted = self.delete(claim, mine).await?;
        self.forget(claim.token);
        Ok(if deleted { Release::Released } else { Release::NotHeld })
    }

    async fn line(&self, key: &LockKey) -> Result<Line> {
        let (from, to) = range(key);
        let answer = self.client().get(from, Some(by_arrival(to))).await.map_err(classify)?;
        let revision = answer.header().map_or(0, |header| header.revision());
        Ok(Line { contenders: contenders(key, answer), revision })
    }

    /// Renews the shared lease and asks once which keys still hang on it.
    async fn keep(&self, claims: &[Claim]) -> Result<Vec<Kept>> {
        let mut shared = self.lease.lock().await;
        let Some(old) = *shared else { return Ok(vec![Kept::Gone; claims.len()]) };
        let Some(granted) = self.keep_alive(old).await? else {
            *shared = None;
            return Ok(vec![Kept::Gone; claims.len()]);
        };
        *shared = Some(granted);
        drop(shared);
        let alive = self.attached(granted.id).await?;
        let mut kept = Vec::with_capacity(claims.len());
        for claim in claims {
            kept.push(self.kept(claim, granted.lease, &alive).await?);
        }
        Ok(kept)
    }

    async fn attached(&self, lease: i64) -> Result<HashSet<Vec<u8>>> {
        let keys = LeaseTimeToLiveOptions::new().with_keys();
        let answer = self.client().lease_time_to_live(lease, Some(keys)).await.map_err(classify)?;
        Ok(answer.keys().iter().cloned().collect())
    }

    async fn kept(&self, claim: &Claim, lease: Lease, alive: &HashSet<Vec<u8>>) -> Result<Kept> {
        let own = own_key(claim);
        let Some(entry) = self.entry(claim.token).filter(|_| alive.contains(&own)) else {
            return Ok(Kept::Gone);
        };
        let mine = *entry.lock().await;
        if mine.holds {
            return Ok(Kept::Renewed { lease });
        }
        let line = self.line(&claim.key).await?;
        let ahead = line.contenders.iter().position(|kv| kv.key() == own);
        Ok(ahead.map_or(Kept::Gone, |ahead| Kept::Queued { ahead: ahead as u64 }))
    }

    async fn evict(&self, key: &LockKey, how: Eviction) -> Result<Evicted> {
        let line = self.line(key).await?;
        let Some(first) = line.contenders.first() else { return Ok(Evicted::default()) };
        if how == Eviction::EndSession && first.lease() != 0 {
            let others = self.attached(first.lease()).await?.len().saturating_sub(1);
            self.client().lease_revoke(first.lease()).await.map_err(classify)?;
            return Ok(Evicted::new(1, others as u64));
        }
        let own = first.key().to_vec();
        let same = Compare::create_revision(own.clone(), CompareOp::Equal, first.create_revision());
        let txn = Txn::new().when([same]).and_then([TxnOp::delete(own, None)]);
        let deleted = self.client().txn(txn).await.map_err(classify)?.succeeded();
        Ok(Evicted::new(u64::from(deleted), 0))
    }

    /// Waits until something that `claim` waits for is deleted: its predecessor or its own key if it
    /// stands in line, any contender if it has no key.
    async fn deleted(&self, claim: &Claim, line: &Line) -> Result<(), etcd_client::Error> {
        let own = own_key(claim);
        let place = line.contenders.iter().position(|kv| kv.key() == own);
        let before = place.and_then(|place| line.contenders.get(place.checked_sub(1)?));
        let options = WatchOptions::new().with_start_revision(line.revision + 1);
        let mut client = self.client();
        let mut stream = if place.is_some() {
            client.watch(own, Some(options.clone())).await?
        } else {
            let (from, to) = range(&claim.key);
            client.watch(from, Some(options.clone().with_range(to))).await?
        };
        if let Some(before) = before {
            stream.watch(before.key(), Some(options)).await?;
        }
        told(stream).await
    }

    /// Waits until the key that holds is deleted.
    async fn evicted(&self, claim: &Claim, revision: i64) -> Result<(), etcd_client::Error> {
        let options = WatchOptions::new().with_start_revision(revision + 1);
        told(self.client().watch(own_key(claim), Some(options)).await?).await
    }
}

/// Waits for a deletion, or for the end of the watch.
async fn told(mut stream: etcd_client::WatchStream) -> Result<(), etcd_client::Error> {
    let deletion = |event: &etcd_client::Event| event.event_type() == EventType::Delete;
    while let Some(told) = stream.message().await? {
        if told.canceled() || told.events().iter().any(deletion) {
            break;
        }
    }
    Ok(())
}

#[async_trait]
impl Backend for Etcd {
    fn profile(&self) -> &Profile {
        &self.0.profile
    }

    async fn attempt(&self, claim: &Claim) -> Result<Attempt> {
        let mut mine = self.0.entry_or_new(claim.token).lock_owned().await;
        let (inner, claim) = (self.0.clone(), claim.clone());
        finish(async move { inner.attempt(&claim, &mut mine).await }).await
    }

    async fn keep(&self, claims: &[Claim]) -> Result<Vec<Kept>> {
        self.0.keep(claims).await
    }

    async fn release(&self, claim: &Claim) -> Result<Release> {
        let mine = self.0.entry_or_new(claim.token).lock_owned().await;
        let (inner, claim) = (self.0.clone(), claim.clone());
        finish(async move { inner.release(&claim, &mine).await }).await
    }

    async fn peek(&self, claims: &[Claim]) -> Result<Vec<Peek>> {
        let mut peeks = Vec::with_capacity(claims.len());
        for batch in claims.chunks(self.0.profile.batch) {
            let looks: Vec<TxnOp> = batch.iter().map(|claim| look(&claim.key)).collect();
            let answer = self.0.client().txn(Txn::new().and_then(looks)).await.map_err(classify)?;
            for (claim, response) in batch.iter().zip(answer.op_responses()) {
                let line = line(&claim.key, std::slice::from_ref(&response), 0)?;
                let first = line.contenders.first();
                let free = first.is_none_or(|first| first.key() == own_key(claim));
                peeks.push(if free { Peek::Free } else { Peek::Held { retry_in: None } });
            }
        }
        Ok(peeks)
    }

    async fn inspect(&self, key: &LockKey) -> Result<KeyState> {
        Ok(state(key.as_str(), &self.0.line(key).await?.contenders))
    }

    async fn list(&self, prefix: &str, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        // Contenders sort by their own keys, where "a-b/…" stands before "a/…": all are read, and
        // sorted by name.
        let all = GetOptions::new().with_prefix().with_sort(SortTarget::Create, SortOrder::Ascend);
        let answer = self.0.client().get(prefix, Some(all)).await.map_err(classify)?;
        let mut names: BTreeMap<&str, Vec<KeyValue>> = BTreeMap::new();
        for kv in answer.kvs() {
            let name = kv.key_str().ok().and_then(|key| key.rsplit_once('/')).map(|(name, _)| name);
            if let Some(name) = name.filter(|name| name.starts_with(prefix)) {
                names.entry(name).or_default().push(kv.clone());
            }
        }
        let after = cursor.map_or(String::new(), |cursor| cursor.0);
        let mut rest = names.into_iter().filter(|(name, _)| *name > after.as_str());
        let items: Vec<_> =
            rest.by_ref().take(limit).map(|(name, line)| state(name, &line)).collect();
        let last = items.last().filter(|_| rest.next().is_some());
        Ok(Page { next: last.map(|state| Cursor(state.key.clone())), items })
    }

    async fn evict(&self, key: &LockKey, how: Eviction) -> Result<Evicted> {
        self.0.evict(key, how).await
    }

    async fn purge(&self) -> Result<u64> {
        Ok(0)
    }

    async fn watch(&self, claim: &Claim, reason: WatchFor, hint: Hint) -> Result<Watch> {
        let (inner, claim) = (self.0.clone(), claim.clone());
        let task = match reason {
            WatchFor::Eviction => {
                let mine = match self.0.entry(claim.token) {
                    Some(entry) => *entry.lock().await,
                    None => Mine::default(),
                };
                let Some(revision) = mine.revision else { return Ok(Watch::none()) };
                // Nothing has to be asked: what happened since the key was put is replayed.
                tokio::spawn(async move {
                    drop(inner.evicted(&claim, revision).await);
                    hint.broken();
                })
            }
            WatchFor::Release => {
                let line = inner.line(&claim.key).await?;
                // The line has changed when it tells: the engine looks and arms again.
                tokio::spawn(async move {
                    drop(inner.deleted(&claim, &line).await);
                    hint.broken();
                })
            }
        };
        Ok(Watch::new(Following(task.abort_handle())))
    }

    async fn close(&self) -> Result<()> {
        let Some(granted) = self.0.lease.lock().await.take() else { return Ok(()) };
        self.0.client().lease_revoke(granted.id).await.map(drop).map_err(classify)
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Etcd")
    }
}

/// Runs a request to its end even if its caller is dropped: the server may have it already (S7).
async fn finish<T: Send + 'static>(
    request: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let gone = |_| Err(Error::new(ErrorKind::Closed, "the runtime has ended").ambiguous());
    tokio::spawn(request).await.unwrap_or_else(gone)
}

/// Ends its watch when dropped.
struct Following(AbortHandle);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn own_key(claim: &Claim) -> Vec<u8> {
    format!("{}/{}", claim.key, claim.token).into_bytes()
}

/// Where it is marked that a claim has been given up; no lock's name begins so.
fn given_up(claim: &Claim) -> Vec<u8> {
    format!("\0given-up/{}", claim.token).into_bytes()
}

fn not_given_up(claim: &Claim) -> Compare {
    Compare::create_revision(given_up(claim), CompareOp::Equal, 0)
}

/// The range of all keys below `key`.
fn range(key: &LockKey) -> (String, String) {
    (format!("{key}/"), format!("{key}0"))
}

/// What comes after the key's own slash, if it is a contender and not another lock further down.
fn suffix<'a>(key: &LockKey, kv: &'a KeyValue) -> Option<&'a str> {
    let rest = kv.key_str().ok()?.strip_prefix(key.as_str())?.strip_prefix('/')?;
    (!rest.contains('/')).then_some(rest)
}

fn contenders(key: &LockKey, mut answer: GetResponse) -> Vec<KeyValue> {
    let mut all = answer.take_kvs();
    all.retain(|kv| suffix(key, kv).is_some());
    all
}

fn by_arrival(to: String) -> GetOptions {
    GetOptions::new().with_range(to).with_sort(SortTarget::Create, SortOrder::Ascend)
}

fn look(key: &LockKey) -> TxnOp {
    let (from, to) = range(key);
    TxnOp::get(from, Some(by_arrival(to)))
}

fn put(claim: &Claim, granted: Granted) -> TxnOp {
    let lease = PutOptions::new().with_lease(granted.id);
    TxnOp::put(own_key(claim), claim.owner.as_str(), Some(lease))
}

/// Reads the line from the look that ends a transaction.
fn line(key: &LockKey, responses: &[TxnOpResponse], revision: i64) -> Result<Line> {
    match responses.last() {
        Some(TxnOpResponse::Get(answer)) => {
            Ok(Line { contenders: contenders(key, answer.clone()), revision })
        }
        _ => Err(Error::new(ErrorKind::Corrupt, "the transaction was answered by something else")),
    }
}

fn fence(revision: i64) -> Result<Fence> {
    Fence::new(u64::try_from(revision).unwrap_or(0))
}

fn holder(kv: &KeyValue) -> Holder {
    let mut holder = Holder::new();
    holder.owner = kv.value_str().ok().filter(|name| !name.is_empty()).map(str::to_owned);
    holder.fence = fence(kv.create_revision()).ok();
    holder
}

fn held(line: &Line, ahead: Option<u64>) -> Attempt {
    let holders = line.contenders.first().map(holder).into_iter().collect();
    Attempt::Held { holders, retry_in: None, ahead }
}

fn state(name: &str, line: &[KeyValue]) -> KeyState {
    let holders = line.first().map(holder).into_iter().collect();
    KeyState::new(name, holders, line.len().saturating_sub(1) as u64)
}

/// Sorts the errors of gRPC by their numbers: 3 invalid, 7 forbidden, 16 unauthenticated.
fn classify(error: etcd_client::Error) -> Error {
    let code = match &error {
        etcd_client::Error::GRpcStatus(status) => i32::from(status.code()),
        _ => 14,
    };
    let refused = |kind| Error::new(kind, "etcd refused the request");
    let classified = match code {
        3 | 7 | 16 => refused(ErrorKind::Config),
        5 | 8 | 9 => refused(ErrorKind::Unavailable),
        _ => Error::new(ErrorKind::Unavailable, "etcd did not answer").ambiguous(),
    };
    classified.with_source(error)
}
