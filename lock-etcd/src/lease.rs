//! The leases that locks hang on: one for each TTL in whole seconds, shared by all locks with it.
//!
//! Whoever gets a lock late gets what is left of the lease: it counts from when the keep-alive was sent
//! that the server last acknowledged.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use etcd_client::Client;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Lease;

use crate::client::Route;
use crate::error::Failure;
use crate::error::What;

/// All leases of one client. Cloning shares them.
#[derive(Clone)]
pub(crate) struct Leases {
    route: Arc<Route>,
    /// The shortest that the server grants.
    pub(crate) least: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    closed: bool,
    classes: HashMap<i64, Arc<Class>>,
}

/// The lease of all locks with one TTL.
pub(crate) struct Class {
    seconds: i64,
    current: Mutex<Option<Granted>>,
    /// Held by the one who asks for a new lease, or renews one that nobody keeps.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Held by the batch that renews for all.
    keeping: tokio::sync::Mutex<()>,
}

/// A lease that the server runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Granted {
    pub(crate) id: i64,
    pub(crate) lease: Lease,
}

impl Leases {
    /// Asks the server how short a lease it grants.
    pub(crate) async fn new(route: Arc<Route>) -> Result<Self, Failure> {
        let shortest = grant(&route, 1).await?;
        let leases = Self { route, least: shortest.lease.ttl, state: Arc::default() };
        // The first locks with so short a TTL can hang on it.
        *leases.class(leases.least).lock() = Some(shortest);
        Ok(leases)
    }

    /// The class of locks with `ttl`, which is rounded up to whole seconds.
    pub(crate) fn class(&self, ttl: Duration) -> Arc<Class> {
        let ttl = ttl.max(self.least);
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        let new = || {
            let (current, turn) = Default::default();
            Arc::new(Class { seconds, current, turn, keeping: Default::default() })
        };
        self.lock().classes.entry(seconds).or_insert_with(new).clone()
    }

    /// Returns the class's lease with at least a third of its time left. If less than two thirds are, it
    /// is renewed in the background.
    pub(crate) async fn fresh(&self, class: &Arc<Class>) -> Result<Granted, Failure> {
        if let Some(granted) = self.at_hand(class) {
            if self.age(&granted) >= granted.lease.ttl / 3 {
                self.renew_beside(class, granted);
            }
            return Ok(granted);
        }
        // In a task of its own: all of the class wait for it, also while its caller is not polled.
        let (leases, class) = (self.clone(), class.clone());
        let renewing = self.route.runtime().spawn(async move { leases.renewed(&class).await });
        let ended = |_| Error::new(ErrorKind::Closed, "the runtime has ended");
        renewing.await.map_err(ended)?
    }

    /// Returns the class's lease, renewed or new.
    async fn renewed(&self, class: &Class) -> Result<Granted, Failure> {
        let _turn = class.turn.lock().await;
        if let Some(granted) = self.at_hand(class) {
            return Ok(granted);
        }
        let living = class.latest().filter(|granted| self.age(granted) < granted.lease.ttl);
        if let Some(granted) = living
            && let Some(renewed) = renew(&self.route, class, granted).await?
        {
            return Ok(renewed);
        }
        self.grant(class).await
    }

    /// Returns the class's lease if it needs no request now.
    pub(crate) fn at_hand(&self, class: &Class) -> Option<Granted> {
        class.latest().filter(|granted| self.age(granted) < granted.lease.ttl * 2 / 3)
    }

    /// Asks the server whether it still has a lease, and forgets it if not.
    pub(crate) async fn verify(&self, class: &Class, id: i64) -> Result<(), Failure> {
        match class.latest().filter(|granted| granted.id == id) {
            Some(granted) => renew(&self.route, class, granted).await.map(drop),
            None => Ok(()),
        }
    }

    /// Renews a lease that nobody keeps, unless somebody does so already.
    fn renew_beside(&self, class: &Arc<Class>, granted: Granted) {
        let Ok(turn) = class.turn.clone().try_lock_owned() else { return };
        let (route, class) = (self.route.clone(), class.clone());
        drop(self.route.runtime().spawn(async move {
            // If it fails, whoever needs the lease next hears of it.
            drop(renew(&route, &class, granted).await);
            drop(turn);
        }));
    }

    /// Renews a lease unless that has just been done; `None` if the server has ended it.
    pub(crate) async fn keep(&self, class: &Class, id: i64) -> Result<Option<Granted>, Failure> {
        // Batches come beside each other; the first renews for all.
        let _keeping = class.keeping.lock().await;
        match class.latest().filter(|granted| granted.id == id) {
            Some(granted) if self.age(&granted) < granted.lease.ttl / 6 => Ok(Some(granted)),
            Some(granted) => renew(&self.route, class, granted).await,
            None => Ok(None),
        }
    }

    async fn grant(&self, class: &Class) -> Result<Granted, Failure> {
        self.check_open()?;
        let granted = grant(&self.route, class.seconds).await?;
        if let Err(closed) = self.check_open() {
            // The shutdown may have looked for leases just before this one came.
            revoke(&self.route, granted.id).await?;
            return Err(closed);
        }
        *class.lock() = Some(granted);
        Ok(granted)
    }

    /// Ends all leases, and with them all that hangs on them.
    pub(crate) async fn close(&self) -> Result<(), Failure> {
        let classes = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.classes)
        };
        let mut outcome = Ok(());
        for class in classes.values() {
            let last = class.lock().take();
            if let Some(granted) = last {
                outcome = outcome.and(revoke(&self.route, granted.id).await);
            }
        }
        outcome
    }

    pub(crate) fn check_open(&self) -> Result<(), Failure> {
        match self.lock().closed {
            true => Err(Error::new(ErrorKind::Closed, "the backend has been closed").into()),
            false => Ok(()),
        }
    }

    fn age(&self, granted: &Granted) -> Duration {
        self.route.now().saturating_since(granted.lease.since)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Class {
    pub(crate) fn latest(&self) -> Option<Granted> {
        *self.lock()
    }

    /// Notes that the server has ended lease `id`.
    pub(crate) fn ended(&self, id: i64) {
        let mut current = self.lock();
        if current.is_some_and(|granted| granted.id == id) {
            *current = None;
        }
    }

    /// Takes in a renewal, unless the lease has been replaced or a later one was acknowledged.
    fn renewed(&self, renewed: Granted) -> Option<Granted> {
        let mut current = self.lock();
        let latest = current.as_mut().filter(|granted| granted.id == renewed.id)?;
        if latest.lease.since < renewed.lease.since {
            latest.lease = renewed.lease;
        }
        Some(*latest)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Granted>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn renew(route: &Route, class: &Class, granted: Granted) -> Result<Option<Granted>, Failure> {
    let (since, id) = (route.now(), granted.id);
    let keep = move |client: &Client| {
        let mut client = client.lease_client();
        async move { client.keep_alive(id).await }
    };
    match route.ask(keep).await {
        Ok(_) => {
            let lease = Lease { since, ..granted.lease };
            Ok(class.renewed(Granted { lease, ..granted }))
        }
        Err(failure) if failure.what == What::NoLease => {
            class.ended(id);
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

async fn grant(route: &Route, seconds: i64) -> Result<Granted, Failure> {
    let since = route.now();
    let grant = |client: &Client| {
        let mut client = client.lease_client();
        async move { client.grant(seconds, None).await }
    };
    let granted = route.ask(grant).await?;
    let ttl = Duration::from_secs(granted.ttl().unsigned_abs());
    Ok(Granted { id: granted.id(), lease: Lease { since, ttl } })
}

pub(crate) async fn revoke(route: &Route, id: i64) -> Result<(), Failure> {
    let revoke = |client: &Client| {
        let mut client = client.lease_client();
        async move { client.revoke(id).await }
    };
    match route.ask(revoke).await {
        Ok(_) => Ok(()),
        Err(failure) if failure.what == What::NoLease => Ok(()),
        Err(failure) => Err(failure),
    }
}
