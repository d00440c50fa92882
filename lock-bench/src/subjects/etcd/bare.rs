//! What a lock takes at the least: two transactions.

use etcd_client::Compare;
use etcd_client::CompareOp;
use etcd_client::KvClient;
use etcd_client::PutOptions;
use etcd_client::Txn;
use etcd_client::TxnOp;
use lock::Token;

use super::connect;
use super::lease;
use super::pause;
use crate::counting::Counts;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::order::Post;
use crate::order::Requests;
use crate::way::Way;

/// The transactions on one channel under one lease, as the backend has them; nothing around them.
pub(super) struct Bare {
    kv: KvClient,
    lease: i64,
    counts: Counts,
}

impl Bare {
    pub(super) async fn open(post: &Post) -> Outcome<Self> {
        let client = connect(&post.url).await?;
        let lease = lease(&client, post).await?;
        Ok(Self { kv: client.kv_client(), lease, counts: Counts::default() })
    }
}

impl Way for Bare {
    /// The contender's key, and the revision that created it.
    type Guard = (String, i64);

    async fn lock(&self, key: &str) -> Outcome<Self::Guard> {
        let own = format!("{key}/{}", Token::random());
        let (from, to) = (format!("{key}/"), format!("{key}0"));
        let empty = Compare::create_revision(from, CompareOp::Equal, 0).with_range(to);
        let put = PutOptions::new().with_lease(self.lease);
        let take = TxnOp::put(own.as_str(), "exclusive bench:1", Some(put));
        let take = Txn::new().when([empty]).and_then([take]);
        loop {
            self.counts.request();
            let answer = self.kv.clone().txn(take.clone()).await?;
            if answer.succeeded() {
                let revision = answer.header().map(etcd_client::ResponseHeader::revision);
                let revision = revision.ok_or_else(|| Failure::new("an answer without header"))?;
                return Ok((own, revision));
            }
            pause().await;
        }
    }

    async fn unlock(&self, (own, revision): Self::Guard) -> Outcome {
        self.counts.request();
        let same = Compare::create_revision(own.as_str(), CompareOp::Equal, revision);
        let delete = Txn::new().when([same]).and_then([TxnOp::delete(own, None)]);
        let answer = self.kv.clone().txn(delete).await?;
        if answer.succeeded() { Ok(()) } else { Err(Failure::new("a bare lock was lost")) }
    }

    /// The lease keeps them all.
    async fn keep(&self, guards: &[Self::Guard]) -> Outcome {
        self.counts.keep(guards.len());
        Ok(())
    }

    fn requests(&self) -> Option<Requests> {
        Some(self.counts.requests())
    }
}
