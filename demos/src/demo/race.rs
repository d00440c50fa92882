//! Two instances read a balance, check it and write it back: without a lock payments are lost, with one none is.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use futures_util::future::try_join_all;
use lock::LockOptions;
use lock::LockProvider;
use lock::LockProviderExt as _;

use crate::servers::Servers;
use crate::servers::connect;
use crate::story::Failure;
use crate::story::Result;
use crate::story::Story;
use crate::story::ms;
use crate::story::pause;

const KEY: &str = "lock:payment:user123";
const AMOUNT: i64 = 100;
const INSTANCES: usize = 4;
const PAYMENTS: usize = 10;

/// A balance in some store that knows no transactions: to read it takes a moment, and so does to write it.
#[derive(Clone, Default)]
struct Account(Arc<AtomicI64>);

impl Account {
    fn with(balance: i64) -> Self {
        Self(Arc::new(AtomicI64::new(balance)))
    }

    fn balance(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Checks, then acts; returns what was read and what was written.
    async fn pay(&self) -> Result<(i64, i64)> {
        let read = self.balance();
        pause(ms(2)).await;
        if read < AMOUNT {
            return Err(format!("{read} is not enough to pay {AMOUNT}").into());
        }
        let left = read - AMOUNT;
        self.0.store(left, Ordering::SeqCst);
        Ok((read, left))
    }
}

pub(crate) async fn run(story: &Story, servers: &mut Servers) -> Result {
    lost_update(story).await?;
    let locks = connect("memory:race").await?;
    kept_update(story, &*locks).await?;
    each_backend(story, servers).await
}

async fn lost_update(story: &Story) -> Result {
    story.part("Two instances take 100 from 1000 at the same time, without a lock:");
    let account = Account::with(1000);
    let pay = async |who| {
        let (read, wrote) = account.pay().await?;
        story.tell(who, format!("read {read}, wrote {wrote}"));
        Ok::<_, Failure>(())
    };
    tokio::try_join!(pay("instance 1"), pay("instance 2"))?;
    let balance = account.balance();
    story.check(balance == 900, format!("the balance is {balance}, not 800: one payment is lost"))
}

async fn kept_update(story: &Story, locks: &dyn LockProvider) -> Result {
    story.part("The same two with a lock:");
    let account = Account::with(1000);
    let pay = async |who| {
        let guard = locks.lock(KEY, &LockOptions::new()).await?;
        let (read, wrote) = account.pay().await?;
        story.tell(who, format!("read {read}, wrote {wrote}"));
        guard.unlock().await?;
        Ok::<_, Failure>(())
    };
    tokio::try_join!(pay("instance 1"), pay("instance 2"))?;
    let balance = account.balance();
    story.check(balance == 800, format!("the balance is {balance}"))
}

async fn each_backend(story: &Story, servers: &mut Servers) -> Result {
    let payments = INSTANCES * PAYMENTS;
    story.part(format!("{payments} payments by {INSTANCES} instances, each a client of its own:"));
    story.line(format!(
        "{:<12}{:>10}{:>10}{:>8}{:>12}",
        "", "balance", "right", "lost", "a payment"
    ));
    let (lost, _) = rush(story, "no lock", None).await?;
    let mut kept = Vec::new();
    for (name, url) in servers.all(story).await? {
        kept.push(rush(story, &name, Some(&url)).await?);
    }
    story.check(lost > 0, format!("without a lock {lost} of {payments} payments are lost"))?;
    let none = kept.iter().all(|(lost, _)| *lost == 0);
    story.check(none, format!("with a lock on any of {} backends none is", kept.len()))
}

/// Lets all instances pay at once; returns how many payments were lost, and how long each took.
async fn rush(story: &Story, name: &str, url: Option<&str>) -> Result<(i64, Duration)> {
    let payments = (INSTANCES * PAYMENTS) as i64;
    let account = Account::with(payments * AMOUNT * 2);
    let mut instances = Vec::new();
    for _ in 0..INSTANCES {
        let locks = match url {
            Some(url) => Some(connect(url).await?),
            None => None,
        };
        instances.push((account.clone(), locks));
    }
    let begun = Instant::now();
    try_join_all(instances.into_iter().map(|(account, locks)| instance(account, locks))).await?;
    let each = begun.elapsed() / payments as u32;
    let (balance, right) = (account.balance(), payments * AMOUNT);
    let lost = (balance - right) / AMOUNT;
    story.line(format!("{name:<12}{balance:>10}{right:>10}{lost:>8}{:>9.1} ms", millis(each)));
    Ok((lost, each))
}

async fn instance(account: Account, locks: Option<Arc<dyn LockProvider>>) -> Result {
    for _ in 0..PAYMENTS {
        match &locks {
            None => account.pay().await.map(drop)?,
            Some(locks) => {
                let pay = async |_| account.pay().await.map(drop);
                locks.with_lock(KEY, &LockOptions::new(), pay).await?;
            }
        }
    }
    Ok(())
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
