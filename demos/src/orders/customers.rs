//! Customers: they order a few articles at any instance that answers, and note what they were told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use serde_json::json;
use tokio::task::JoinSet;

use crate::http::send;
use crate::story::Result;
use crate::story::ms;
use crate::story::pause;

/// What all customers were told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// How often each status was answered; 0 for no answer at all.
    pub(super) statuses: BTreeMap<u16, u64>,
    /// The orders that were confirmed.
    pub(super) confirmed: Vec<String>,
    /// How often an order was refused because its instance had been overtaken.
    pub(super) stale: u64,
}

impl Told {
    pub(super) fn requests(&self) -> u64 {
        self.statuses.values().sum()
    }

    pub(super) fn times(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or_default()
    }

    /// How often a status came that is none of these.
    pub(super) fn times_other(&self, known: &[u16]) -> u64 {
        let other = self.statuses.iter().filter(|(status, _)| !known.contains(status));
        other.map(|(_, times)| times).sum()
    }
}

/// What customers share: where the instances are, and what they were told.
#[derive(Debug)]
pub(super) struct Market {
    skus: usize,
    instances: Mutex<Vec<SocketAddr>>,
    told: Mutex<Told>,
    closed: AtomicBool,
}

impl Market {
    pub(super) fn new(skus: usize, instances: Vec<SocketAddr>) -> Arc<Self> {
        let (instances, told) = (Mutex::new(instances), Mutex::default());
        Arc::new(Self { skus, instances, told, closed: AtomicBool::new(false) })
    }

    /// Lets so many customers in, each of whom orders one thing after the other.
    pub(super) fn open(self: &Arc<Self>, customers: u64) -> JoinSet<()> {
        let mut all = JoinSet::new();
        for customer in 0..customers {
            all.spawn(self.clone().shop(customer));
        }
        all
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Says that an instance is to be found elsewhere now.
    pub(super) fn moved(&self, place: usize, address: SocketAddr) {
        held(&self.instances)[place] = address;
    }

    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        held(&self.told)
    }

    async fn shop(self: Arc<Self>, customer: u64) {
        let mut number = 0;
        while !self.closed.load(Ordering::SeqCst) {
            number += 1;
            let id = format!("{customer}-{number}");
            if self.order(&id, customer).await.is_err() {
                // Nobody is there: look elsewhere, after a while.
                *self.told().statuses.entry(0).or_default() += 1;
                pause(ms(20)).await;
            }
        }
    }

    async fn order(&self, id: &str, customer: u64) -> Result {
        let lines: Vec<_> = (0..fastrand::usize(1..=3))
            .map(|_| json!({ "sku": sku(fastrand::usize(..self.skus)), "quantity": 1 }))
            .collect();
        let body = json!({ "id": id, "customer": customer, "lines": lines }).to_string();
        let instance = {
            let instances = held(&self.instances);
            instances[fastrand::usize(..instances.len())]
        };
        let answer = send(instance, "POST /orders", &[], &body).await?;
        let mut told = self.told();
        *told.statuses.entry(answer.status).or_default() += 1;
        match answer.status {
            201 => told.confirmed.push(id.to_owned()),
            409 if !answer.body.contains("sold out") => told.stale += 1,
            _ => {}
        }
        Ok(())
    }
}

/// The name of an article.
pub(super) fn sku(number: usize) -> String {
    format!("sku-{number}")
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
