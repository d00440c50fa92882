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

/// Renews and refreshes. Exclusive holds take one statement for each TTL; if some of them are not found, a
/// look sorts them out. All other claims are kept in a transaction that holds their keys' rows.
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
            kept.extend(self.keep(session, claims).await?);
        }
        Ok(kept)
    }
}

impl Keep {
    async fn keep(&self, session: &mut Session, claims: &[Claim]) -> Result<Vec<Kept>, Failure> {
        let mut kept = vec![None; claims.len()];
        for (ttl, group) in by_ttl(claims, |_, claim| claim.mode == Mode::Exclusive) {
            self.renew(session, claims, &group, ttl, &mut kept).await?;
        }
        let others: Vec<usize> = (0..claims.len()).filter(|at| kept[*at].is_none()).collect();
        if !others.is_empty() {
            let wanted: Vec<Claim> = others.iter().map(|at| claims[*at].clone()).collect();
            session.begin().await?;
            let outcome = self.refresh(session, &wanted).await;
            let outcome = session.end(outcome).await?;
            for (at, outcome) in others.into_iter().zip(outcome) {
                kept[at] = Some(outcome);
            }
        }
        Ok(kept.into_iter().map(|kept| kept.unwrap_or(Kept::Gone)).collect())
    }

    /// Renews exclusive holds of one TTL, and leaves open what may stand in line instead.
    async fn renew(
        &self,
        session: &mut Session,
        claims: &[Claim],
        group: &[usize],
        ttl: Duration,
        kept: &mut [Option<Kept>],
    ) -> Result<(), Failure> {
        let since = self.clock.now();
        let wanted: Vec<Claim> = group.iter().map(|at| claims[*at].clone()).collect();
        let (keys, tokens) = lists(wanted.iter());
        let values = Values { keys: &keys, tokens: &tokens, ttl: micros(ttl), ..Values::default() };
        let renewed = session.execute(|sql| &sql.keep, &values).await?.rows;
        if renewed == group.len() as u64 {
            group.iter().for_each(|at| kept[*at] = Some(renew(since, ttl)));
            return Ok(());
        }
        let since = self.clock.now();
        let scenes = scenes(session, &wanted).await?;
        for (claim, at) in wanted.iter().zip(group) {
            let scene = scenes.get(claim.key.as_str()).and_then(|scene| scene.as_ref().ok());
            kept[*at] = match scene.and_then(|scene| scene.standing(claim.token)) {
                // What the look showed is promised, and no more.
                Some((left, true)) => Some(renew(since, left.min(ttl))),
                Some((_, false)) => None,
                None => Some(Kept::Gone),
            };
        }
        Ok(())
    }

    /// Keeps claims of the second table, while their keys' rows are locked.
    async fn refresh(&self, session: &mut Session, claims: &[Claim]) -> Result<Vec<Kept>, Failure> {
        let (keys, _) = lists(claims.iter());
        session.rows(|sql| &sql.lock_many, &Values { keys: &keys, ..Values::default() }).await?;
        let scenes = scenes(session, claims).await?;
        let standing = |claim: &Claim| {
            let scene = scenes.get(claim.key.as_str()).and_then(|scene| scene.as_ref().ok())?;
            scene.standing(claim.token).map(|(_, holds)| (scene, holds))
        };
        let since = self.clock.now();
        for (ttl, group) in by_ttl(claims, |_, claim| standing(claim).is_some()) {
            let (keys, tokens) = lists(group.iter().map(|at| &claims[*at]));
            let place = claims[group[0]].place_ttl();
            let (ttl, place) = (micros(ttl), micros(place));
            let values = Values { keys: &keys, tokens: &tokens, ttl, place, ..Values::default() };
            session.execute(|sql| &sql.keep_claims, &values).await?;
        }
        leave(session, &keys).await?;
        let kept = |claim: &Claim| match standing(claim) {
            Some((_, true)) => renew(since, claim.ttl),
            Some((scene, false)) => Kept::Queued { ahead: scene.ahead(claim) },
            None => Kept::Gone,
        };
        Ok(claims.iter().map(kept).collect())
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

fn renew(since: BootInstant, ttl: Duration) -> Kept {
    Kept::Renewed { lease: Lease { since, ttl } }
}

/// Groups the claims that `belongs` picks by what is to be written.
fn by_ttl(
    claims: &[Claim],
    belongs: impl Fn(usize, &Claim) -> bool,
) -> BTreeMap<Duration, Vec<usize>> {
    let mut groups = BTreeMap::<_, Vec<_>>::new();
    for (at, claim) in claims.iter().enumerate().filter(|(at, claim)| belongs(*at, claim)) {
        groups.entry(claim.ttl).or_default().push(at);
    }
    groups
}

fn lists<'a>(claims: impl Iterator<Item = &'a Claim>) -> (Vec<&'a str>, Vec<String>) {
    claims.map(|claim| (claim.key.as_str(), claim.token.to_string())).unzip()
}
