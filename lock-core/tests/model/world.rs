//! A store, providers over it, and users who do what a program says, in virtual time.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::Weak;

use lock_core::Background;
use lock_core::BootInstant;
use lock_core::Clock;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::Handle;
use lock_core::LockGuard;
use lock_core::ManualClock;
use lock_memory::Controls;
use lock_memory::Hung;
use lock_memory::Memory;
use lock_memory::Store;

use super::call::Call;
use super::call::Ended;
use super::call::Outcome;
use super::call::What;
use super::ledger::Ledger;
use super::program::KEYS;
use super::program::Program;
use super::program::SESSION;
use super::program::SITES;
use super::program::ms;
use super::truth::Truth;

/// After how much time at the most all is checked again.
const STRIDE: u64 = 250;

pub(crate) struct World {
    pub(crate) hand: ManualClock,
    pub(crate) clock: Clock,
    probe: Memory,
    pub(crate) sites: Vec<Site>,
    pub(crate) ledger: Ledger,
    pub(crate) calls: Vec<Call>,
    pub(crate) guards: Vec<Guard>,
    pub(crate) handles: Vec<Handle>,
    began: BootInstant,
    numbers: usize,
    log: Vec<String>,
}

/// A provider and the switches of its client.
pub(crate) struct Site {
    pub(crate) engine: Engine,
    pub(crate) controls: Controls,
    pub(crate) hung: Vec<Hung>,
    client: Weak<Memory>,
}

/// A guard, shared with the extension that uses it.
pub(crate) struct Guard {
    pub(crate) guard: Arc<LockGuard>,
    pub(crate) hold: usize,
}

/// Runs a program and checks it against the reference.
///
/// # Errors
///
/// What was promised and not kept, with all that happened up to there.
pub(crate) fn run(program: &Program) -> Result<(), String> {
    // Spread pauses are drawn from this thread's generator.
    fastrand::seed(7);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut world = World::new(program.session);
        let outcome = world.play(program).await;
        outcome.map_err(|wrong| format!("{wrong}\n{program:?}\n{}", world.log.join("\n")))
    })
}

impl World {
    fn new(session: bool) -> Self {
        let hand = Clock::manual();
        let store = Store::new(hand.clock());
        let sites = (0..SITES).map(|at| Site::new(at, &store, session, &hand)).collect();
        let (clock, probe) = (hand.clock(), Memory::new(&store));
        Self {
            began: clock.now(),
            hand,
            clock,
            probe,
            sites,
            ledger: Ledger::new(session),
            calls: Vec::new(),
            guards: Vec::new(),
            handles: Vec::new(),
            numbers: 0,
            log: Vec::new(),
        }
    }

    async fn play(&mut self, program: &Program) -> Result<(), String> {
        for step in &program.steps {
            self.note("step", step);
            self.step(step).await?;
        }
        self.note("end", &"");
        self.finish().await
    }

    fn note(&mut self, what: &str, detail: &dyn Debug) {
        let at = self.clock.now().saturating_since(self.began);
        self.log.push(format!("{at:?} {what} {detail:?}"));
    }

    pub(crate) fn now(&self) -> BootInstant {
        self.clock.now()
    }

    pub(crate) fn truth(&self) -> Truth {
        Truth::of(&self.probe)
    }

    pub(crate) fn next_number(&mut self) -> usize {
        self.numbers += 1;
        self.numbers
    }

    /// Lets everything come to rest and checks it.
    pub(crate) async fn rest(&mut self, loud: bool) -> Result<(), String> {
        self.hand.advance(ms(0)).await;
        self.take_answers().await?;
        let (now, truth) = (self.now(), self.truth());
        self.ledger.check(now, &truth, &self.calls, loud)
    }

    /// Lets time pass in strides, and checks after each.
    pub(crate) async fn advance(&mut self, millis: u64) -> Result<(), String> {
        let mut left = millis;
        while left > 0 {
            let stride = left.min(STRIDE);
            self.hand.advance(ms(stride)).await;
            self.rest(false).await?;
            left -= stride;
        }
        Ok(())
    }

    /// Takes in what calls have answered since.
    async fn take_answers(&mut self) -> Result<(), String> {
        self.fear_evictions();
        let over: Vec<_> = self.calls.extract_if(.., |call| call.is_over()).collect();
        let mut answers = Vec::new();
        for mut call in over {
            let ended = call.ended().await?;
            self.note(&format!("call {} answers", call.number), &ended.outcome);
            answers.push((call, ended));
        }
        blend(&mut answers);
        // Who got in comes first: others may have been refused because of it.
        answers.sort_by_key(|(_, ended)| !matches!(ended.outcome, Outcome::Locked(Ok(_))));
        let truth = self.truth();
        for (call, ended) in answers {
            self.take_answer(&call, ended.at, ended.outcome, &truth)?;
        }
        Ok(())
    }

    /// A forced unlock that hangs may strike at any time.
    fn fear_evictions(&mut self) {
        let now = self.now();
        for call in &self.calls {
            if let What::Force { key, session } = call.what {
                self.ledger.rob(now, |hold| session || hold.key == key);
            }
        }
    }

    fn take_answer(
        &mut self,
        call: &Call,
        at: BootInstant,
        outcome: Outcome,
        truth: &Truth,
    ) -> Result<(), String> {
        let now = self.now();
        match outcome {
            Outcome::GivenUp => Ok(()),
            Outcome::Locked(Ok((guard, ears))) => {
                let present = (now, &self.calls[..], truth);
                let hold = self.ledger.locked(call, at, (&guard, ears), present)?;
                self.guards.push(Guard { guard: Arc::new(guard), hold });
                Ok(())
            }
            Outcome::Locked(Err(error)) => self.ledger.not_locked(call, at, &error),
            Outcome::Done(done) => match call.what {
                What::Unlock { .. } => self.ledger.unlocked(call, at, &done, truth),
                What::Extend { .. } => self.ledger.extended(call, (at, now), &done),
                What::Shutdown { .. } => self.ledger.shut_down(call, at, &done, truth),
                _ => self.ledger.released(call, at, &done, truth),
            },
            Outcome::Renewed(renewed) => self.ledger.renewed(call, (at, now), &renewed, truth),
            Outcome::Looked(looked) => self.ledger.looked(call, at, &looked),
            Outcome::Forced(forced) => self.ledger.forced(call, at, &forced, truth),
            Outcome::Cleaned(cleaned) => self.ledger.cleaned(call, at, &cleaned, truth),
        }
    }

    /// Drops all that is left, and checks that nothing stays anywhere (G5).
    async fn finish(&mut self) -> Result<(), String> {
        for site in 0..SITES {
            self.heal(site);
        }
        self.calls.drain(..).for_each(Call::cancel);
        self.rest(false).await?;
        while let Some(guard) = self.guards.pop() {
            self.ledger.let_go(guard.hold, self.clock.now());
            drop(guard);
        }
        self.rest(true).await?;
        self.advance(16_000).await?;
        if !self.ledger.all_calm(self.now()) {
            self.hand.advance(ms(60_000)).await;
            self.rest(false).await?;
        }
        self.check_engines().await
    }

    async fn check_engines(&mut self) -> Result<(), String> {
        for site in &self.sites {
            let shown = format!("{:?}", site.engine);
            if !shown.contains("(0 kept)") {
                return Err(format!("G5: something is still kept: {shown}"));
            }
        }
        let truth = self.truth();
        for (key, truth) in truth.0.iter().enumerate() {
            let mut fences = truth.fences().into_iter();
            let known = fences.all(|fence| self.ledger.strangers.contains(&(key, fence)));
            if !known || truth.waiting > 0 {
                return Err(format!("G5: the store still has {truth:?}"));
            }
        }
        self.ledger.holds.clear();
        let clients: Vec<_> = self.sites.drain(..).map(|site| site.client).collect();
        self.hand.advance(ms(0)).await;
        if clients.iter().any(|client| client.strong_count() > 0) {
            return Err("G5: an engine outlives its last user".into());
        }
        match tokio::runtime::Handle::current().metrics().num_alive_tasks() {
            0 => Ok(()),
            tasks => Err(format!("G5: {tasks} tasks outlive the engines")),
        }
    }

    pub(crate) fn heal(&mut self, site: usize) {
        self.resume(site);
        self.sites[site].controls.heal();
        self.ledger.heal(site, self.clock.now());
    }

    pub(crate) fn resume(&mut self, site: usize) {
        self.sites[site].hung.drain(..).for_each(Hung::resume);
    }
}

impl Site {
    fn new(at: usize, store: &Store, session: bool, hand: &ManualClock) -> Self {
        let client = Arc::new(match session {
            true => Memory::with_session(store, ms(SESSION)),
            false => Memory::new(store),
        });
        let background = Background::Runtime(tokio::runtime::Handle::current());
        let options = EngineOptions::new().clock(hand.clock()).background(background);
        let options = options.owner(format!("site {at}"));
        let (controls, weak) = (client.controls(), Arc::downgrade(&client));
        let engine = Engine::new(client, options).expect("good options");
        Self { engine, controls, hung: Vec::new(), client: weak }
    }
}

/// Notes where several calls of an owner have come into one hold at once: it is not told whose it is.
fn blend(answers: &mut [(Call, Ended)]) {
    let fence = |(call, ended): &(Call, Ended)| match (&ended.outcome, &call.what) {
        (Outcome::Locked(Ok((guard, _))), What::Lock { key, .. }) => Some((*key, guard.fence())),
        _ => None,
    };
    let fences: Vec<_> = answers.iter().map(fence).collect();
    for (at, (call, _)) in answers.iter_mut().enumerate() {
        let same = fences.iter().filter(|other| fences[at].is_some() && **other == fences[at]);
        call.blended = same.count() > 1;
    }
}

/// Which of so many a number names.
pub(crate) fn pick(number: u8, of: usize) -> Option<usize> {
    usize::from(number).checked_rem(of)
}

pub(crate) fn key_of(number: u8) -> usize {
    pick(number, KEYS.len()).expect("there are keys")
}

pub(crate) fn site_of(number: u8) -> usize {
    pick(number, SITES).expect("there are providers")
}
