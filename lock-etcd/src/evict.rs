//! Taking a lock away.

use std::collections::HashSet;

use etcd_client::LeaseTimeToLiveOptions;
use lock_core::Evicted;
use lock_core::Eviction;
use lock_core::LockKey;
use lock_core::Result;

use crate::backend::Inner;
use crate::error::Failure;
use crate::keys;
use crate::lease;
use crate::line::Contender;
use crate::requests;

impl Inner {
    pub(crate) async fn evict(&self, key: &LockKey, how: Eviction) -> Result<Evicted, Failure> {
        let mut line = self.line(key).await?;
        line.contenders.truncate(line.holding());
        match how {
            Eviction::EndSession => self.end_sessions(&line.contenders).await,
            _ => self.delete_all(&line.contenders).await,
        }
    }

    /// Deletes the keys of those who hold, and only what was looked at.
    async fn delete_all(&self, holders: &[Contender]) -> Result<Evicted, Failure> {
        let mut gone = 0;
        // Each alone: servers before 3.4.42, 3.5.28 and 3.6.9 do not check rights within nested transactions.
        for holder in holders {
            let delete = requests::delete(&holder.key, holder.revision);
            gone += u64::from(self.txn(delete).await?.succeeded());
        }
        Ok(Evicted::new(gone, 0))
    }

    /// Revokes the leases of those who hold, with all that hangs on them. What hangs on none is deleted.
    async fn end_sessions(&self, holders: &[Contender]) -> Result<Evicted, Failure> {
        let (leased, bare): (Vec<_>, Vec<_>) =
            holders.iter().cloned().partition(|it| it.lease != 0);
        let mut evicted = self.delete_all(&bare).await?;
        let leases: HashSet<i64> = leased.iter().map(|holder| holder.lease).collect();
        for lease in leases {
            let of_it = leased.iter().filter(|holder| holder.lease == lease).count() as u64;
            let attached = self.locks_on(lease).await?;
            lease::revoke(&self.route, lease).await?;
            evicted.holders += of_it;
            evicted.others += attached.saturating_sub(of_it);
        }
        Ok(evicted)
    }

    /// How many contenders hang on a lease.
    async fn locks_on(&self, lease: i64) -> Result<u64, Failure> {
        let look = |client: &etcd_client::Client| {
            let (mut client, keys) =
                (client.lease_client(), LeaseTimeToLiveOptions::new().with_keys());
            async move { client.time_to_live(lease, Some(keys)).await }
        };
        let answer = self.route.ask(look).await?;
        Ok(answer.keys().iter().filter(|key| keys::split(key).is_some()).count() as u64)
    }
}
