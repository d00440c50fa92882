//! What a lock takes at the least: create, list and delete.

use lock::Token;
use zookeeper_client::Acls;
use zookeeper_client::Client;
use zookeeper_client::CreateMode;
use zookeeper_client::CreateOptions;
use zookeeper_client::Error;

use super::pause;
use super::session;
use crate::counting::Counts;
use crate::failure::Outcome;
use crate::order::Post;
use crate::order::Requests;
use crate::way::Way;

/// The calls on one session, as the backend has one; nothing around them.
pub(super) struct Bare {
    client: Client,
    counts: Counts,
}

impl Bare {
    pub(super) async fn open(post: &Post) -> Outcome<Self> {
        Ok(Self { client: session(post).await?, counts: Counts::default() })
    }

    /// Creates a contender, and the node of its key if that is missing, and lists the contenders.
    async fn enter(&self, key: &str) -> Outcome<(String, Vec<String>)> {
        let acls = Acls::anyone_all();
        let options = CreateMode::EphemeralSequential.with_acls(acls.clone());
        let (parent, name) = (format!("/{key}"), format!("_c_{}-lock-", Token::random()));
        loop {
            self.counts.request();
            let path = format!("{parent}/{name}");
            let create = self.client.create(&path, b"bench:1", &options);
            let list = self.client.list_children(&parent);
            match tokio::join!(create, list) {
                (Ok((_, sequence)), list) => return Ok((format!("{name}{sequence}"), list?)),
                (Err(Error::NoNode), _) => self.make(&parent, &acls).await?,
                (Err(failure), _) => return Err(failure.into()),
            }
        }
    }

    async fn make(&self, parent: &str, acls: &Acls<'static>) -> Outcome {
        let options: CreateOptions<'_> = CreateMode::Container.with_acls(acls.clone());
        match self.client.create(parent, &[], &options).await {
            Ok(_) | Err(Error::NodeExists) => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }
}

impl Way for Bare {
    /// The contender's path.
    type Guard = String;

    async fn lock(&self, key: &str) -> Outcome<String> {
        let (own, mut line) = self.enter(key).await?;
        while line.iter().min_by_key(|name| number(name)) != Some(&own) {
            pause().await;
            self.counts.request();
            line = self.client.list_children(&format!("/{key}")).await?;
        }
        Ok(format!("/{key}/{own}"))
    }

    async fn unlock(&self, path: String) -> Outcome {
        self.counts.request();
        Ok(self.client.delete(&path, None).await?)
    }

    /// The session keeps them all.
    async fn keep(&self, guards: &[String]) -> Outcome {
        self.counts.keep(guards.len());
        Ok(())
    }

    fn requests(&self) -> Option<Requests> {
        Some(self.counts.requests())
    }
}

/// The sequence at the end of a contender's name.
fn number(name: &str) -> &str {
    name.get(name.len().saturating_sub(10)..).unwrap_or(name)
}
