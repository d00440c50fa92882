//! Hints: a waiter is told when one of those it waits for has gone.

use std::sync::Arc;

use futures_util::future::select_all;
use lock_core::Claim;
use lock_core::Hint;
use lock_core::Result;
use lock_core::Watch;
use tokio::task::AbortHandle;
use zookeeper_client::Error as ZkError;
use zookeeper_client::OneshotWatcher;

use crate::client::Client;
use crate::error::classify;
use crate::look::lined_up;
use crate::names;
use crate::session::Room;
use crate::session::Session;

impl Client {
    /// Watches the nearest before the claim whose going may let it hold.
    pub(crate) async fn watch(self: &Arc<Self>, claim: &Claim, hint: Hint) -> Result<Watch> {
        let session = self.session().await?;
        let blockers = self.blockers(&session, claim).await?;
        let Some(room) = session.room(&blockers) else { return Ok(Watch::none()) };
        let mut watchers = Vec::with_capacity(blockers.len());
        // All are asked for before the first answer is awaited. It is the data that is watched: a watch
        // for the existence of a node that has gone would stay for ever.
        let asked: Vec<_> =
            blockers.iter().map(|path| session.zk().get_and_watch_data(path)).collect();
        for answer in asked {
            match answer.await {
                Ok((_, _, watcher)) => watchers.push(watcher),
                Err(ZkError::NoNode) => return Ok(gone_already(&hint)),
                Err(failure) => return Err(classify(failure)),
            }
        }
        if watchers.is_empty() {
            return Ok(gone_already(&hint));
        }
        let told = self.runtime().spawn(tell(watchers, hint));
        Ok(Watch::new(Following { told: told.abort_handle(), _room: room }))
    }

    /// Returns for whom a claim waits: as it saw when it last looked, or, if it is not in line, as the
    /// last of it.
    async fn blockers(&self, session: &Session, claim: &Claim) -> Result<Vec<String>> {
        if let Some(entry) = self.claims.get(claim.token)
            && let Some(placed) = entry.lock().await.placed()
        {
            return Ok(placed.blockers.clone());
        }
        let parent = names::path_of(&claim.key);
        let line = lined_up(session, &parent, session.zk().list_children(&parent).await)?;
        let blockers = line.blockers(line.len(), claim.mode).iter();
        Ok(blockers.map(|it| format!("{parent}/{}", it.name)).collect())
    }
}

/// The engine looks and arms again.
fn gone_already(hint: &Hint) -> Watch {
    hint.broken();
    Watch::none()
}

/// Waits until one has gone, or the session ends. The driver arms watches again after it has
/// reconnected, and the server then tells what was missed.
async fn tell(watchers: Vec<OneshotWatcher>, hint: Hint) {
    drop(select_all(watchers.into_iter().map(|it| Box::pin(it.changed()))).await);
    hint.broken();
}

/// Ends its watch when dropped.
struct Following {
    told: AbortHandle,
    _room: Room,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.told.abort();
    }
}
