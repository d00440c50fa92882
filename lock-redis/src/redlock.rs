//! Redlock: the core's quorum over an odd number of independent servers.
//!
//! What is special to Redis is here: servers are connected to when they are needed, so that a minority may be
//! down from the start, and one that has restarted counts only when it has run for longer than the longest
//! TTL ([`memory`](crate::memory)).

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use lock_core::Clock;
use lock_core::ConnectUrl;
use lock_core::Driver;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Member;
use lock_core::MemberErrors;
use lock_core::Param;
use lock_core::Quorum;
use lock_core::QuorumOptions;
use lock_core::Result;
use lock_core::SharedBackend;

use crate::backend::Redis;
use crate::check::Facts;
use crate::config;
use crate::config::positive;
use crate::route::Route;
use crate::route::Servers;

/// How long a connection waits for the others once it has a majority, unless `node_timeout` is set.
const GRACE: Duration = Duration::from_millis(100);

/// How `redlock:` URLs open a quorum over three servers or more.
pub const REDLOCK: Driver = Driver {
    name: "redlock",
    schemes: &["redlock"],
    params: &[
        Param {
            name: "node_timeout",
            help: "longest time a call waits for one server; 100ms, at most a fifth of the TTL",
        },
        Param {
            name: "min_validity",
            help: "what has to be left of a lease for a lock to count; a fifth of the TTL",
        },
        Param {
            name: "ttl_max",
            help: "longest TTL of a lock: a server does not count for so long after its start; 60s",
        },
        config::CONNECT_TIMEOUT,
        config::REPLY_TIMEOUT,
        config::TLS,
        config::TLS_CA,
        config::TLS_CERT,
        config::TLS_KEY,
        config::UNSAFE_EVICTION,
    ],
    connect: |url| Box::pin(open(url)),
    schema: |_| Ok(None),
};

async fn open(url: ConnectUrl) -> Result<SharedBackend> {
    let database = config::database(&url)?;
    let mut members = Vec::new();
    for address in config::addresses(&url, config::PORT)? {
        let (name, pool) = (address.to_string(), config::pool(&url, database)?);
        members.push((name, Redis::new(Route::unconnected(Servers::one(pool, &address)), None)));
    }
    let grace = positive(&url, "node_timeout")?.unwrap_or(GRACE);
    let of = |(name, redis): &(String, Redis)| Member::new(name, Arc::new(redis.clone()));
    let quorum = Quorum::new(members.iter().map(of), options(&url)?)?;
    connect(members, grace).await?;
    Ok(Arc::new(quorum))
}

fn options(url: &ConnectUrl) -> Result<QuorumOptions> {
    let mut options = QuorumOptions::new().name(REDLOCK.name);
    options.budget = positive(url, "node_timeout")?;
    options.min_validity = positive(url, "min_validity")?;
    if let Some(longest) = positive(url, "ttl_max")? {
        options = options.ttl_max(longest);
    }
    Ok(options)
}

/// Connects to a majority, and for `grace` to the others too: one that hangs must not keep everybody waiting.
///
/// Who answers and is not fit is an error, however many others are: it would be a member that never counts.
async fn connect(members: Vec<(String, Redis)>, grace: Duration) -> Result<()> {
    let (size, need) = (members.len(), members.len() / 2 + 1);
    let look = |(name, redis): (String, Redis)| async move { (name, redis.ready().await) };
    let mut looks: FuturesUnordered<_> = members.into_iter().map(look).collect();
    let mut grace = Clock::system().sleep(grace);
    let mut found = Found::default();
    while !looks.is_empty() {
        let has_majority = found.good.len() >= need;
        tokio::select! {
            biased;
            Some((name, look)) = looks.next() => found.add(name, look)?,
            () = &mut grace, if has_majority => break,
        }
    }
    if found.good.len() >= need { Ok(()) } else { Err(found.into_error(size)) }
}

/// What the members said when they were connected to.
#[derive(Default)]
struct Found {
    /// Name and process.
    good: Vec<(String, String)>,
    failures: Vec<(String, Error)>,
}

impl Found {
    fn add(&mut self, name: String, look: Result<Vec<Arc<Facts>>>) -> Result<()> {
        match look {
            Ok(facts) => facts.iter().try_for_each(|facts| self.add_good(&name, &facts.run_id)),
            Err(error) if error.kind() == ErrorKind::Config => Err(error),
            Err(error) => {
                self.failures.push((name, error));
                Ok(())
            }
        }
    }

    /// Two names of one server would let it make a majority of itself.
    fn add_good(&mut self, name: &str, run_id: &str) -> Result<()> {
        let same = |(_, other): &&(String, String)| other == run_id && !run_id.is_empty();
        if let Some((other, _)) = self.good.iter().find(same) {
            let (one, two) = (name.min(other), name.max(other));
            return Err(config::config(&format!(
                "{one} and {two} are one and the same server: a quorum needs independent ones"
            )));
        }
        self.good.push((name.to_owned(), run_id.to_owned()));
        Ok(())
    }

    fn into_error(self, size: usize) -> Error {
        let failures: MemberErrors = self.failures.into_iter().collect();
        let count = failures.iter().count();
        let message = format!("{count} of {size} members failed: {failures}");
        Error::new(ErrorKind::Unavailable, message).with_source(failures)
    }
}
