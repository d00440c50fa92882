//! What others use: the Lock RPC of the server.

use etcd_client::LockClient;
use etcd_client::LockOptions;

use super::connect;
use super::lease;
use crate::failure::Outcome;
use crate::order::Post;
use crate::way::Way;

/// Locks under one lease; two tasks of one client would hold the same key together.
pub(super) struct Rpc {
    locks: LockClient,
    lease: i64,
}

impl Rpc {
    pub(super) async fn open(post: &Post) -> Outcome<Self> {
        let client = connect(&post.url).await?;
        let lease = lease(&client, post).await?;
        Ok(Self { locks: client.lock_client(), lease })
    }
}

impl Way for Rpc {
    /// The contender's key.
    type Guard = Vec<u8>;

    async fn lock(&self, key: &str) -> Outcome<Vec<u8>> {
        let options = LockOptions::new().with_lease(self.lease);
        Ok(self.locks.clone().lock(key, Some(options)).await?.key().to_vec())
    }

    async fn unlock(&self, key: Vec<u8>) -> Outcome {
        self.locks.clone().unlock(key).await?;
        Ok(())
    }
}
