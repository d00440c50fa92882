//! Keeping what is held or in line, and giving it back.

use std::collections::BTreeMap;
use std::time::Duration;

use lock_core::BootInstant;
use lock_core::Claim;
use lock_core::Clock;
use lock_core::Kept;
use lock_core::Lease;
use lock_core::Mode;
use lock_core::Release;
use lock_core::Result;

use crate::attempt::enter;
use crate::attempt::leave;
use crate::attempt::of;
use crate::client::Lane;
use crate::client::Step;
use crate::error::Failure;
use crate::look::scenes;
use crate::row::micros;
use crate::session::Session;
use crate::session::Values;
use crate::statements::BATCH;

/// Renews and refreshes. Exclusive holds take one statement for each TTL; what is not found by that, and all
/// claims in other modes, are looked at once. Places in line then take two statements more, and holders of
/// the second table a transaction in which their keys' rows are locked.
pub(crate) struct Keep {
    pub(crate) claims: Vec<Claim>,
    pub(crate) clock: Clock,
}

impl Step for Keep {
    type Output = Vec<Kept>;

    const LANE: Lane = Lane::Any;

    async fn run(&self, session: &mut Session) -> Result<Vec<Kept>, Failure> {
        let mut kept = Vec::with_capacity(self.claims.len());
        for claims in self.claims.chunks(BATCH) {
            let clock = &self.clock;
            let mut batch = Batch { claims, kept: vec![None; claims.len()], clock };
            batch.keep(session).await?;
            kept.extend(batch.kept.into_iter().map(|kept| kept.unwrap_or(Kept::Gone)));
        }
        Ok(kept)
    }
}

/// Some claims that are being kept; `None` is not known yet.
struct Batch<'a> {
    claims: &'a [Claim],
    kept: Vec<Option<Kept>>,
    clock: &'a Clock,
}

impl<'a> Batch<'a> {
    async fn keep(&mut self, session: &mut Session) -> Result<(), Failure> {
        let exclusive = |at: &usize| self.claims[*at].mode == Mode::Exclusive;
        for (ttl, group) in self.by_ttl((0..self.claims.len()).filter(exclusive)) {
            let since = self.clock.now();
            let (keys, tokens) = self.lists(&group);
            let values =
                Values { keys: &keys, tokens: &tokens, ttl: micros(ttl), ..Values::default() };
            if session.execute(|sql| &sql.keep, &values).await?.rows == group.len() as u64 {
                self.set(&group, renewed(since, ttl));
            }
        }
        let open: Vec<usize> =
            (0..self.claims.len()).filter(|at| self.kept[*at].is_none()).collect();
        if open.is_empty() {
            return Ok(());
        }
        let (places, holders) = self.sort_out(session, &open).await?;
        self.keep_places(session, &places).await?;
        if holders.is_empty() {
            return Ok(());
        }
        session.begin().await?;
        let outcome = self.keep_holders(session, &holders).await;
        session.end(outcome).await
    }

    /// Looks at claims; returns those that stand in line, and those that hold beside others.
    async fn sort_out(
        &mut self,
        session: &mut Session,
        open: &[usize],
    ) -> Result<(Vec<usize>, Vec<usize>), Failure> {
        let since = self.clock.now();
        let scenes = scenes(session, &self.some(open)).await?;
        let (mut places, mut holders) = (Vec::new(), Vec::new());
        for &at in open {
            let claim = &self.claims[at];
            let scene = scenes.get(claim.key.as_str()).and_then(|scene| scene.as_ref().ok());
            let standing = scene.and_then(|scene| scene.standing(claim.token).zip(Some(scene)));
            self.kept[at] = Some(match standing {
                None => Kept::Gone,
                // What the look showed is promised, and no more.
                Some(((left, true), _)) if claim.mode == Mode::Exclusive => {
                    renewed(since, left.min(claim.ttl))
                }
                Some(((_, true), _)) => {
                    holders.push(at);
                    Kept::Gone
                }
                Some(((_, false), scene)) => {
                    places.push(at);
                    Kept::Queued { ahead: scene.ahead(claim) }
                }
            });
        }
        Ok((places, holders))
    }

    async fn keep_places(
        &mut self,
        session: &mut Session,
        places: &[usize],
    ) -> Result<(), Failure> {
        for (_, group) in self.by_ttl(places.iter().copied()) {
            let ttl = micros(self.claims[group[0]].place_ttl());
            let (keys, tokens) = self.lists(&group);
            let values = Values { keys: &keys, tokens: &tokens, ttl, ..Values::default() };
            let kept = session.execute(|sql| &sql.keep_places, &values).await?.rows;
            session.execute(|sql| &sql.keep_lines, &values).await?;
            if kept < group.len() as u64 {
                // Some ended since the look; those that did not are refreshed.
                let scenes = scenes(session, &self.some(&group)).await?;
                let ended = |at: &usize| {
                    let claim = &self.claims[*at];
                    let scene = scenes.get(claim.key.as_str());
                    !matches!(scene, Some(Ok(scene)) if scene.standing(claim.token).is_some())
                };
                let ended: Vec<usize> = group.iter().copied().filter(ended).collect();
                self.set(&ended, Kept::Gone);
            }
        }
        Ok(())
    }

    /// Keeps holders of the second table, while their keys' rows are locked.
    async fn keep_holders(
        &mut self,
        session: &mut Session,
        holders: &[usize],
    ) -> Result<(), Failure> {
        let (keys, _) = self.lists(holders);
        session.rows(|sql| &sql.lock_many, &Values { keys: &keys, ..Values::default() }).await?;
        let scenes = scenes(session, &self.some(holders)).await?;
        let holds = |at: &usize| {
            let claim = &self.claims[*at];
            let scene = scenes.get(claim.key.as_str()).and_then(|scene| scene.as_ref().ok());
            scene.and_then(|scene| scene.standing(claim.token)).is_some_and(|(_, holds)| holds)
        };
        let living: Vec<usize> = holders.iter().copied().filter(holds).collect();
        for (ttl, group) in self.by_ttl(living.into_iter()) {
            let since = self.clock.now();
            let (keys, tokens) = self.lists(&group);
            let values =
                Values { keys: &keys, tokens: &tokens, ttl: micros(ttl), ..Values::default() };
            session.execute(|sql| &sql.keep_claims, &values).await?;
            self.set(&group, renewed(since, ttl));
        }
        leave(session, &keys).await
    }

    fn set(&mut self, group: &[usize], kept: Kept) {
        group.iter().for_each(|at| self.kept[*at] = Some(kept));
    }

    fn some(&self, group: &[usize]) -> Vec<Claim> {
        group.iter().map(|at| self.claims[*at].clone()).collect()
    }

    /// Groups claims by what is to be written.
    fn by_ttl(&self, some: impl Iterator<Item = usize>) -> BTreeMap<Duration, Vec<usize>> {
        let mut groups = BTreeMap::<_, Vec<_>>::new();
        some.for_each(|at| groups.entry(self.claims[at].ttl).or_default().push(at));
        groups
    }

    fn lists(&self, group: &[usize]) -> (Vec<&'a str>, Vec<String>) {
        let pair = |at: &usize| {
            let claim = &self.claims[*at];
            (claim.key.as_str(), claim.token.to_string())
        };
        group.iter().map(pair).unzip()
    }
}

/// Gives a claim back. An exclusive hold takes one statement.
pub(crate) struct GiveBack(pub(crate) Claim);

impl Step for GiveBack {
    type Output = Release;

    const LANE: Lane = Lane::Any;

    async fn run(&self, session: &mut Session) -> Result<Release, Failure> {
        let Self(claim) = self;
        if claim.mode == Mode::Exclusive
            && session.execute(|sql| &sql.release, &of(claim)).await?.rows > 0
        {
            return Ok(Release::Released);
        }
        let scenes = scenes(session, std::slice::from_ref(claim)).await?;
        let scene = scenes.get(claim.key.as_str()).and_then(|scene| scene.as_ref().ok());
        if scene.is_none_or(|scene| scene.standing(claim.token).is_none()) {
            return Ok(Release::NotHeld);
        }
        session.begin().await?;
        let outcome = give_back(session, claim).await;
        session.end(outcome).await
    }
}

/// Takes a claim out of the second table, while its key's row is locked.
async fn give_back(session: &mut Session, claim: &Claim) -> Result<Release, Failure> {
    let seen = enter(session, claim.key.as_str()).await?;
    session.execute(|sql| &sql.drop_claim, &of(claim)).await?;
    leave(session, &[claim.key.as_str()]).await?;
    let counted = seen.scene.standing(claim.token).is_some();
    Ok(if counted { Release::Released } else { Release::NotHeld })
}

fn renewed(since: BootInstant, ttl: Duration) -> Kept {
    Kept::Renewed { lease: Lease { since, ttl } }
}
