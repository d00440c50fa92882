//! What others use: the lock of the client.

use zookeeper_client::Acls;
use zookeeper_client::Client;
use zookeeper_client::CreateMode;
use zookeeper_client::LockOptions;
use zookeeper_client::LockPrefix;
use zookeeper_client::OwnedLockClient;

use super::session;
use crate::failure::Outcome;
use crate::order::Post;
use crate::way::Way;

/// The recipe of the client.
pub(super) struct Recipe(Client);

impl Recipe {
    pub(super) async fn open(post: &Post) -> Outcome<Self> {
        session(post).await.map(Self)
    }
}

impl Way for Recipe {
    type Guard = OwnedLockClient;

    async fn lock(&self, key: &str) -> Outcome<OwnedLockClient> {
        let folder = format!("/{key}");
        let nodes = CreateMode::Container.with_acls(Acls::anyone_all());
        let options = LockOptions::new(Acls::anyone_all()).with_ancestor_options(nodes)?;
        let prefix = LockPrefix::new_curator(&folder, "lock-")?;
        Ok(self.0.lock(prefix, b"bench:1", options).await?.into_owned())
    }

    async fn unlock(&self, guard: OwnedLockClient) -> Outcome {
        self.0.delete(guard.lock_path(), None).await?;
        // Its guard would delete it once more.
        Ok(std::mem::forget(guard))
    }
}
