//! Random steps, compared with what must be true.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// One random step of one of a few clients on one of two keys.
#[derive(Clone, Debug)]
enum Step {
    Attempt { who: usize, queue: bool },
    Keep(usize),
    Release(usize),
    Evict(usize),
    Steal(usize),
    Purge,
    Wait(u64),
}

const KEYS: [&str; 2] = ["a", "b"];
const MODES: [&str; 5] = ["exclusive", "exclusive", "shared", "permits:2", "permits:2"];

fn step() -> impl Strategy<Value = Step> {
    let who = 0..KEYS.len() * MODES.len();
    prop_oneof![
        8 => (who.clone(), any::<bool>()).prop_map(|(who, queue)| Step::Attempt { who, queue }),
        3 => who.clone().prop_map(Step::Keep),
        6 => who.prop_map(Step::Release),
        1 => (0..KEYS.len()).prop_map(Step::Evict),
        1 => (0..KEYS.len()).prop_map(Step::Steal),
        1 => Just(Step::Purge),
        4 => prop_oneof![Just(0), Just(1), 1..3_000_u64, Just(9_999), Just(10_000)].prop_map(Step::Wait),
    ]
}

/// What must be true of the store, kept beside it in the simplest way.
struct Model {
    rig: Rig,
    claims: Vec<Claim>,
    /// Fence and end of lease of those who hold.
    held: HashMap<usize, (u64, BootInstant)>,
    highest: HashMap<String, u64>,
}

impl Model {
    fn new() -> Self {
        let claims = KEYS.iter().flat_map(|key| MODES.iter().map(|mode| claim(key, mode)));
        let (held, highest) = (HashMap::new(), HashMap::new());
        Self { rig: Rig::new(), claims: claims.collect(), held, highest }
    }

    fn now(&self) -> BootInstant {
        self.rig.store.clock().now()
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Attempt { who, queue } => self.attempt(who, queue),
            Step::Keep(who) => self.keep(who),
            Step::Release(who) => {
                let released = self.rig.release(&self.claims[who]);
                assert!(self.held.remove(&who).is_none() || released == Release::Released);
            }
            Step::Evict(key) => {
                self.rig.evict(KEYS[key]);
                self.held.retain(|who, _| who / MODES.len() != key);
            }
            Step::Steal(key) => {
                let thief = claim(KEYS[key], "exclusive");
                let fence = self.rig.store.step(|state, now| state.steal(now, &thief)).unwrap();
                self.drawn(KEYS[key], fence.get());
                self.held.retain(|who, _| who / MODES.len() != key);
            }
            Step::Purge => {
                self.rig.purge();
            }
            Step::Wait(millis) => self.rig.hand.jump(ms(millis)),
        }
        let now = self.now();
        self.held.retain(|_, (_, until)| now < *until);
        KEYS.iter().enumerate().for_each(|(index, key)| self.check(index, key));
    }

    fn attempt(&mut self, who: usize, queue: bool) {
        self.claims[who].queue = queue;
        let Some(fence) = self.rig.granted(&self.claims[who]) else {
            assert!(!self.held.contains_key(&who), "a holder was refused");
            return;
        };
        match self.held.get(&who) {
            Some((before, _)) => assert_eq!(fence, *before),
            None => self.drawn(KEYS[who / MODES.len()], fence),
        }
        self.held.insert(who, (fence, self.now() + TTL));
    }

    fn drawn(&mut self, key: &str, fence: u64) {
        let highest = self.highest.insert(key.to_owned(), fence);
        assert!(highest < Some(fence), "{fence} after {highest:?}");
    }

    fn keep(&mut self, who: usize) {
        let fate = self.rig.keep(&self.claims[who]);
        assert_eq!(fate == Fate::Holds, self.held.contains_key(&who));
        if let Some((_, until)) = self.held.get_mut(&who) {
            *until = self.rig.store.clock().now() + TTL;
        }
    }

    /// Holders never conflict, and the store knows each hold that was promised and no other.
    fn check(&self, index: usize, key: &str) {
        let holders = self.rig.inspect(key).holders;
        let modes: Vec<_> = holders.iter().filter_map(|holder| holder.mode).collect();
        let exclusive = modes.iter().filter(|mode| **mode == Mode::Exclusive).count();
        let shared = modes.iter().filter(|mode| **mode == Mode::Shared).count();
        let permits = modes.len() - exclusive - shared;
        assert!(exclusive == 0 || modes.len() == 1, "{holders:?}");
        assert!(shared == 0 || permits == 0, "{holders:?}");
        assert!(permits <= 2, "{holders:?}");
        let fences: Vec<_> = holders.iter().filter_map(|holder| holder.fence).collect();
        let mine = self.held.iter().filter(|(who, _)| *who / MODES.len() == index);
        for (who, (fence, _)) in mine {
            assert!(fences.iter().any(|it| it.get() == *fence), "{who} was promised {key}");
        }
    }
}

proptest! {
    #[test]
    fn holds_exclude_fences_rise_and_promises_are_kept(
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut model = Model::new();
        for step in &steps {
            model.run(step);
        }
    }

    #[test]
    fn a_line_is_served_in_the_order_it_was_joined(
        leave in prop::collection::vec(any::<bool>(), 2..20),
        order in any::<prop::sample::Index>(),
    ) {
        let rig = Rig::new();
        let holder = exclusive();
        rig.granted(&holder).unwrap();
        let waiters: Vec<_> = leave.iter().map(|_| queued("exclusive")).collect();
        prop_assert!(waiters.iter().all(|waiter| rig.ahead(waiter).is_some()));
        let stay = |at: &usize| !leave[*at];
        for (leaver, _) in waiters.iter().zip(&leave).filter(|it| *it.1) {
            prop_assert_eq!(rig.release(leaver), Release::Released);
        }
        rig.release(&holder);
        for next in (0..waiters.len()).filter(stay) {
            // Whoever else asks first, from wherever, is told to wait.
            let other = order.index(waiters.len());
            if other != next && stay(&other) && other > next {
                prop_assert_eq!(rig.granted(&waiters[other]), None);
            }
            prop_assert!(rig.granted(&waiters[next]).is_some());
            rig.release(&waiters[next]);
        }
    }
}
