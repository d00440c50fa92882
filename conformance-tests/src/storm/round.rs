//! The rounds of a storm.

use std::sync::Arc;
use std::time::Duration;

use lock_core::LockKey;
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::Cx;
use crate::Failure;
use crate::Outcome;
use crate::check;
use crate::cx::ms;
use crate::cx::now;
use crate::cx::sleep;
use crate::pulse::Pulse;

use super::Target;
use super::crew::Crew;
use super::judge::Round;
use super::judge::judge;
use super::mischief::strike;
use super::mischief::upset;
use super::mischief::weather;
use super::plan::Plan;
use super::stage::Stage;
use super::tally::Tally;
use super::work::Mood;
use super::work::Part;

/// The shortest and the longest time that faults come for in one round.
const STORM: [Duration; 2] = [ms(5000), ms(10_000)];

/// How late anything may be, on a machine that may do other things beside.
pub(super) const SLACK: Duration = ms(1500);

/// What stays the same in all rounds.
struct Storm<T> {
    cx: Cx,
    stage: Arc<Stage<T>>,
    keys: Vec<String>,
    full_keys: Vec<LockKey>,
    ttl: Duration,
    /// How long a waiter may wait in a calm.
    bound: Duration,
    pulse: Pulse,
}

/// Lets rounds follow each other for as long as the plan says, and shows figures.
pub(super) async fn rounds<T: Target>(stage: &Arc<Stage<T>>, plan: &Plan) -> Outcome {
    println!("storm over {} for {:?}, seed {}", T::NAME, plan.length, plan.seed);
    let storm = Storm::new(stage).await?;
    let mut random = StdRng::seed_from_u64(plan.seed);
    let mut crew = Crew::start(&storm.cx, stage, storm.part(plan.seed))?;
    let (until, mut tally) = (now() + plan.length, Tally::default());
    while tally.rounds == 0 || now() + STORM[0] + storm.bound < until {
        let round = storm.round(&mut crew, &mut random, until.saturating_since(now())).await;
        let judged = round.and_then(|round| judge(&round, &mut tally));
        if let Err(failure) = judged {
            println!("{tally}");
            let number = tally.rounds + 1;
            return Err(failure.within(format!("seed {}, round {number}", plan.seed)));
        }
        storm.nothing_is_left(&mut tally).await?;
    }
    println!("{tally}");
    Ok(())
}

impl<T: Target> Storm<T> {
    async fn new(stage: &Arc<Stage<T>>) -> Outcome<Self> {
        let cx = Cx::new(stage.clone(), &crate::run::fresh_namespace());
        let profile = cx.client().await?.profile().clone();
        let ttl = profile.ttl_min.max(ms(1000));
        let keys: Vec<_> = ["a", "b", "c", "d"].map(str::to_owned).into();
        let full_keys = keys.iter().map(|key| cx.key(key)).collect();
        // Who was killed holds for a TTL; then others still stand before whoever waits.
        let bound = T::RECOVERY + ttl + profile.poll.max + SLACK;
        Ok(Self { cx, stage: stage.clone(), keys, full_keys, ttl, bound, pulse: Pulse::start() })
    }

    fn part(&self, seed: u64) -> Part {
        let (keys, ttl, patience) = (self.keys.clone(), self.ttl, self.bound * 3);
        Part { seed, first: 1, tasks: 0, keys, ttl, patience }
    }

    /// C9: within the bound nobody holds or waits for anything any more.
    async fn nothing_is_left(&self, tally: &mut Tally) -> Outcome {
        let mut until = now() + self.bound;
        loop {
            let Err(failure) = self.look_for_left().await else { return Ok(()) };
            // Also a store that does not answer is asked again.
            if now() > until {
                let Some(fault) = self.stage.mend()? else { return Err(failure) };
                tally.mended(fault);
                until = now() + self.bound;
            }
            sleep(ms(100)).await;
        }
    }

    async fn look_for_left(&self) -> Outcome {
        let client = self.cx.client().await?;
        let left = client.list(self.cx.namespace(), None, 10).await?.items;
        Ok(check::nothing_is_left(&left)?)
    }

    async fn round(&self, crew: &mut Crew, random: &mut StdRng, left: Duration) -> Outcome<Round> {
        let most = left.saturating_sub(self.bound).clamp(STORM[0], STORM[1]);
        self.pulse.clear();
        let (began, mut events) = (now(), Vec::new());
        let until = began + random.random_range(STORM[0]..=most);
        crew.tell(Mood::Wild)?;
        let [one, two, mut three] = [(); 3].map(|()| StdRng::from_rng(random));
        // Each in a task of its own: a target may block while it strikes.
        let struck = tokio::spawn(strike(self.stage.clone(), self.full_keys.clone(), one, until));
        let turned = tokio::spawn(weather(self.stage.lines().to_vec(), self.ttl, two, until));
        let hurt = upset(crew, self.ttl, &mut three, until).await;
        events.extend(struck.await??.into_iter().chain(turned.await?).chain(hurt?));
        let healed = now();
        crew.tell(Mood::Mild)?;
        sleep(self.bound + SLACK).await;
        let (records, hurt) = crew.rest(self.bound * 4).await.map_err(|failure| {
            let events: Vec<_> = events.iter().map(ToString::to_string).collect();
            failure.within(format!("after {}", events.join("\n  ")))
        })?;
        let outages = crew.outages();
        let keys = self.full_keys.iter().cloned().zip(self.keys.iter().cloned()).collect();
        let (ttl, bound, pulse) = (self.ttl, self.bound, self.pulse.clone());
        Ok(Round { began, healed, records, hurt, events, outages, keys, ttl, bound, pulse })
    }
}

impl Failure {
    /// Says where it happened.
    pub(super) fn within(self, place: impl std::fmt::Display) -> Self {
        match self.into_verdict() {
            crate::Verdict::Passed => Self::new(place),
            crate::Verdict::Skipped(message) | crate::Verdict::Failed(message) => {
                Self::new(format!("{message}\n  in {place}"))
            }
        }
    }
}
