//! Taking a lock or a place in line, and leaving it.
//!
//! A contender is created and the line listed in one go. Whoever has created one is in line; whoever is
//! not told so finds it by its token, and takes it for its own only if it is of the present session: one
//! of an earlier session dies with that.

use std::sync::Arc;

use futures_util::future::Either;
use futures_util::future::OptionFuture;
use lock_core::Attempt;
use lock_core::Claim;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Release;
use lock_core::Result;
use zookeeper_client::CreateMode;
use zookeeper_client::CreateOptions;
use zookeeper_client::Error as ZkError;

use crate::claims::Mine;
use crate::claims::Placed;
use crate::client::Client;
use crate::error::Verdict;
use crate::error::classify;
use crate::error::verdict;
use crate::line::Line;
use crate::look::lined_up;
use crate::names;
use crate::names::Contender;
use crate::names::Recipe;
use crate::session::Session;

/// How often a contender is created: the key's node may be missing, and vanish between its creation and its use.
const TRIES: usize = 4;

impl Client {
    pub(crate) async fn attempt(
        self: &Arc<Self>,
        claim: &Claim,
        mine: &mut Mine,
    ) -> Result<Attempt> {
        let session = self.session().await?;
        if let Mine::Placed(placed) = mine
            && placed.doomed
        {
            // A grant of it would not last.
            session.delete(&placed.path).await?;
            *mine = Mine::Nothing;
        }
        let line = match mine {
            Mine::Nothing => self.enter(&session, claim, mine).await?,
            Mine::Unsure(_) | Mine::Placed(_) => self.find(&session, claim, mine).await?,
        };
        self.conclude(&session, claim, mine, line).await
    }

    /// Creates a contender and lists the line.
    async fn enter(&self, session: &Session, claim: &Claim, mine: &mut Mine) -> Result<Line> {
        let parent = names::path_of(&claim.key);
        let prefix = names::prefix(claim.token, claim.mode, self.recipe());
        let path = format!("{parent}/{prefix}");
        let (owner, options) =
            (claim.owner.as_str().as_bytes(), self.options(CreateMode::EphemeralSequential));
        let mut missing = false;
        for _ in 0..TRIES {
            let sent = session.now();
            *mine = Mine::Unsure(session.fate().clone());
            // On the same connection each is carried out after the one before it.
            let made = missing.then(|| self.make(session, &parent));
            let create = session.zk().create(&path, owner, &options);
            let list = session.zk().list_children(&parent);
            let (made, created, listed) = tokio::join!(OptionFuture::from(made), create, list);
            match created {
                Ok((stat, sequence)) => {
                    session.touched(sent);
                    let name = format!("{prefix}{sequence}");
                    let placed = Placed::new(session.fate(), &parent, name, stat.czxid);
                    *mine = Mine::Placed(placed);
                    return lined_up(session, &parent, listed);
                }
                Err(ZkError::NoNode) => *mine = Mine::Nothing,
                Err(failure) => {
                    if verdict(&failure) == Verdict::Refused {
                        *mine = Mine::Nothing;
                    }
                    return Err(classify(failure));
                }
            }
            match made {
                // What is above it is missing, too.
                Some(Err(ZkError::NoNode)) => self.make_all(session, &parent).await?,
                Some(Err(failure)) if failure != ZkError::NodeExists => {
                    return Err(classify(failure));
                }
                _ => missing = true,
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "the key's node vanishes again and again"))
    }

    /// How nodes of keys are created. The servers remove containers some time after their last child has gone; a
    /// lock of kazoo looks once whether its node is there, and fails when it has gone.
    fn nodes(&self) -> CreateOptions<'static> {
        self.options(match self.recipe() {
            Recipe::Curator | Recipe::CuratorRw => CreateMode::Container,
            Recipe::Kazoo => CreateMode::Persistent,
        })
    }

    /// Creates the key's node.
    fn make<'a>(
        &self,
        session: &'a Session,
        path: &'a str,
    ) -> impl Future<Output = Result<(), ZkError>> + Send + 'a {
        let made = session.zk().create(path, b"", &self.nodes());
        async move { made.await.map(drop) }
    }

    /// Creates the key's node and all above it.
    async fn make_all(&self, session: &Session, path: &str) -> Result<()> {
        let made = session.zk().mkdir(path, &self.nodes()).await;
        made.map_err(|failure| match failure {
            ZkError::NoNode => {
                Error::new(ErrorKind::Unavailable, "the chroot of the URL has been deleted")
            }
            failure => classify(failure),
        })
    }

    /// Looks for a contender that is stored, or may be; creates one if there is none.
    async fn find(&self, session: &Session, claim: &Claim, mine: &mut Mine) -> Result<Line> {
        let parent = names::path_of(&claim.key);
        let known = mine.placed().filter(|placed| Arc::ptr_eq(&placed.fate, session.fate()));
        let fresh = match known {
            Some(_) => Either::Left(session.refresh()),
            // What is not known to be stored may still be on its way to a quorum.
            None => Either::Right(session.confirm()),
        };
        // Asked for after the other, answered in that order.
        let listed = session.zk().list_children(&parent);
        fresh.await?;
        let line = lined_up(session, &parent, listed.await)?;
        let mut stored = match known {
            Some(placed) => line.place_of(&placed.name).is_some(),
            None => false,
        };
        for found in line.bearing(claim.token) {
            claim.check_beside(claim.token, found.mode)?;
            stored = stored || self.adopt(session, &parent, found, mine).await?;
        }
        if stored { Ok(line) } else { self.enter(session, claim, mine).await }
    }

    /// Takes a contender that bears the claim's token for its own; deletes it if it is of an earlier
    /// session, which ends at any time.
    async fn adopt(
        &self,
        session: &Session,
        parent: &str,
        found: &Contender,
        mine: &mut Mine,
    ) -> Result<bool> {
        let path = format!("{parent}/{}", found.name);
        let (_, stat) = match session.zk().get_data(&path).await {
            Ok(found) => found,
            Err(ZkError::NoNode) => return Ok(false),
            Err(failure) => return Err(classify(failure)),
        };
        if stat.ephemeral_owner != session.fate().id() {
            return session.delete(&path).await.map(|_| false);
        }
        let name = found.name.clone();
        *mine = Mine::Placed(Placed::new(session.fate(), parent, name, stat.czxid));
        Ok(true)
    }

    /// Says what the line means for a claim that stands in it.
    async fn conclude(
        &self,
        session: &Session,
        claim: &Claim,
        mine: &mut Mine,
        line: Line,
    ) -> Result<Attempt> {
        let Mine::Placed(placed) = mine else { return Ok(held(Vec::new(), None)) };
        let Some(ahead) = line.place_of(&placed.name) else {
            // Taken away between the two steps: the next attempt queues afresh.
            *mine = Mine::Nothing;
            return Ok(held(self.holders(session, claim.key.as_str(), &line).await?, None));
        };
        if let Err(clash) = line.check(ahead, claim) {
            session.delete(&placed.path).await?;
            *mine = Mine::Nothing;
            return Err(clash);
        }
        let blockers = line.blockers(ahead, claim.mode);
        if blockers.is_empty() {
            placed.holds = true;
            return Ok(Attempt::Acquired {
                fence: self.fence(placed.czxid)?,
                lease: session.lease(),
            });
        }
        placed.holds = false;
        let parent = names::path_of(&claim.key);
        placed.blockers = blockers.iter().map(|it| format!("{parent}/{}", it.name)).collect();
        if claim.queue {
            let holders = self.holders(session, claim.key.as_str(), &line).await?;
            return Ok(held(holders, Some(ahead as u64)));
        }
        placed.doomed = true;
        let (deleted, holders) = tokio::join!(
            session.delete(&placed.path),
            self.holders(session, claim.key.as_str(), &line)
        );
        deleted?;
        *mine = Mine::Nothing;
        Ok(held(holders?, None))
    }

    pub(crate) async fn release(
        self: &Arc<Self>,
        claim: &Claim,
        mine: &mut Mine,
    ) -> Result<Release> {
        let released = match mine {
            Mine::Nothing => false,
            Mine::Placed(placed) if placed.fate.has_ended() => false,
            Mine::Placed(placed) => {
                placed.doomed = true;
                self.session().await?.delete(&placed.path).await?
            }
            Mine::Unsure(_) => self.undo(claim, mine).await?,
        };
        *mine = Mine::Nothing;
        Ok(if released { Release::Released } else { Release::NotHeld })
    }

    /// Deletes a contender that may have been created, and rules out that it still will be.
    async fn undo(self: &Arc<Self>, claim: &Claim, mine: &Mine) -> Result<bool> {
        let Mine::Unsure(fate) = mine else { return Ok(false) };
        let session = self.session().await?;
        let parent = names::path_of(&claim.key);
        // Asked for one after the other, answered in that order.
        let (confirmed, listed) = (session.confirm(), session.zk().list_children(&parent));
        confirmed.await?;
        let line = lined_up(&session, &parent, listed.await)?;
        let mut deleted = false;
        for found in line.bearing(claim.token) {
            deleted |= session.delete(&format!("{parent}/{}", found.name)).await?;
        }
        if !deleted && !Arc::ptr_eq(fate, session.fate()) {
            // Another session asked for it: that has to be over first.
            fate.is_over().await;
        }
        Ok(deleted)
    }
}

fn held(holders: Vec<lock_core::Holder>, ahead: Option<u64>) -> Attempt {
    Attempt::Held { holders, retry_in: None, ahead }
}
