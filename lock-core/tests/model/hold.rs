//! One acquisition in the ledger, with what its holder was told and when.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;

use futures_util::FutureExt as _;
use lock_core::BootInstant;
use lock_core::Clock;
use lock_core::Hold as View;
use lock_core::Loss;
use tokio::task::JoinSet;

use super::program::Asked;
use super::program::SESSION;
use super::program::ms;

/// The longest minimum that programs ask for.
const LONGEST: u64 = 2_000;

pub(crate) struct Hold {
    pub(crate) site: usize,
    pub(crate) key: usize,
    pub(crate) fence: u64,
    pub(crate) asked: Asked,
    pub(crate) view: View,
    pub(crate) guards: usize,
    pub(crate) granted_at: BootInstant,
    /// Since when somebody may have taken it away behind the engine's back, or legally by force.
    pub(crate) robbed: Option<BootInstant>,
    /// A machine that slept too long, or a storm, is reason enough to lose it.
    pub(crate) excused: bool,
    /// It is not known which of several calls it is of, and so with which options.
    pub(crate) blended: bool,
    pub(crate) extended: bool,
    pub(crate) detached: bool,
    /// It has been seen as over.
    pub(crate) over: bool,
    /// When its last guard let go of it while it was valid.
    pub(crate) left: Option<BootInstant>,
    ears: Ears,
}

/// Listens to all that a holder is told.
pub(crate) struct Ears {
    told: Arc<Told>,
    _tasks: JoinSet<()>,
}

/// What a holder who listens was told, and when.
#[derive(Default)]
struct Told {
    /// When, and the instant for which it was announced.
    at_risk: OnceLock<(BootInstant, BootInstant)>,
    lost: OnceLock<(BootInstant, Loss)>,
    /// When `renewed` said that it is over, and the last deadline that it had told before.
    over: OnceLock<(BootInstant, BootInstant)>,
}

impl Hold {
    pub(crate) fn new(
        (site, key): (usize, usize),
        asked: Asked,
        (view, ears): (View, Ears),
        granted_at: BootInstant,
    ) -> Self {
        Self {
            site,
            key,
            fence: view.fence().get(),
            asked,
            view,
            guards: 1,
            granted_at,
            robbed: None,
            excused: false,
            blended: false,
            extended: false,
            detached: false,
            over: false,
            left: None,
            ears,
        }
    }

    /// Until when the store has to have it although nobody guards it any more.
    pub(crate) fn min_end(&self) -> BootInstant {
        self.granted_at + ms(if self.blended { LONGEST } else { self.asked.min_hold })
    }

    /// When it ends whatever the store says, if its options set an end.
    pub(crate) fn last_end(&self, session: bool) -> Option<BootInstant> {
        if self.blended {
            return None;
        }
        let lease = if session { self.asked.ttl.max(SESSION) } else { self.asked.ttl };
        let lease = (!self.asked.renews && !self.extended).then_some(lease);
        let limits = [lease, self.asked.max_hold].into_iter().flatten();
        limits.min().map(|limit| self.granted_at + ms(limit))
    }

    /// Whether somebody relies on it.
    pub(crate) fn is_guarded(&self) -> bool {
        self.guards > 0
    }

    pub(crate) fn loss(&self) -> Option<Loss> {
        self.view.lost().now_or_never()
    }

    /// Whether nobody has a reason to keep it in the store any more.
    pub(crate) fn is_done_with(&self, now: BootInstant) -> bool {
        !self.detached && now >= self.min_end() + ms(10)
    }

    /// Checks that its holder has been told in time what there was to tell (G4), where `ran` is the
    /// first instant from another on at which anything ran at all.
    pub(crate) fn check_told(
        &self,
        now: BootInstant,
        ran: impl Fn(BootInstant) -> BootInstant,
    ) -> Result<(), String> {
        let lost = !self.view.is_valid();
        if self.loss().is_some() != lost || self.ears.told.lost.get().is_some() != lost {
            return Err(format!(
                "G4: is lost: {lost}, but told so: {:?}",
                self.ears.told.lost.get()
            ));
        }
        let grace = self.asked.grace.map_or_else(|| self.view.ttl() / 5, ms);
        if !lost && !self.blended && self.view.at_risk_at() != self.view.valid_until() - grace {
            return Err(format!("G4: at risk {:?}", self.view.at_risk_at()));
        }
        let risky = lost || now >= self.view.at_risk_at();
        if self.view.at_risk().now_or_never().is_some() != risky {
            return Err(format!("G4: at_risk disagrees with its instant, which has come: {risky}"));
        }
        if risky && self.ears.told.at_risk.get().is_none() {
            return Err("G4: nobody was told of the risk".into());
        }
        if let Some((at, due)) = self.ears.told.at_risk.get().filter(|_| !self.extended)
            && *due > BootInstant::from_nanos(0)
            && *at != ran(*due).max(self.granted_at)
        {
            return Err(format!("G4: told of the risk {at:?} instead of {due:?}"));
        }
        if let (Some((_, Loss::Expired)), Some((at, until))) =
            (self.ears.told.lost.get(), self.ears.told.over.get())
            && *at != ran(*until)
        {
            return Err(format!("G4: expired {at:?}, but its deadline was {until:?}"));
        }
        Ok(())
    }

    pub(crate) fn lost_at(&self) -> Option<BootInstant> {
        self.ears.told.lost.get().map(|(at, _)| *at)
    }
}

impl Ears {
    pub(crate) fn of(view: &View, clock: &Clock) -> Self {
        let told = Arc::new(Told::default());
        let ears = || (view.clone(), clock.clone(), told.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(hear_of_risk(ears()));
        tasks.spawn(hear_of_loss(ears()));
        tasks.spawn(hear_of_renewals(ears()));
        Self { told, _tasks: tasks }
    }
}

impl fmt::Debug for Ears {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ears")
    }
}

type Parts = (View, Clock, Arc<Told>);

async fn hear_of_risk((view, clock, told): Parts) {
    view.at_risk().await;
    let due = if view.is_valid() { view.at_risk_at() } else { BootInstant::from_nanos(0) };
    let _ = told.at_risk.set((clock.now(), due));
}

async fn hear_of_loss((view, clock, told): Parts) {
    let loss = view.lost().await;
    let _ = told.lost.set((clock.now(), loss));
}

async fn hear_of_renewals((view, clock, told): Parts) {
    let mut until = view.valid_until();
    while let Some(next) = view.renewed(until).await {
        until = next;
    }
    let _ = told.over.set((clock.now(), until));
}
