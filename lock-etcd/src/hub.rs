//! One stream of watches for all who wait and all who hold.
//!
//! Each watch begins at the revision after the one at which its reason was seen, and the server replays
//! what has happened since: nothing is missed, whenever it is armed. So a hold is watched only once it
//! has lasted a moment; most are over before, and cost nothing.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use etcd_client::Client;
use etcd_client::EventType;
use etcd_client::WatchFilterType;
use etcd_client::WatchOptions;
use etcd_client::WatchRequestSender;
use etcd_client::WatchResponse;
use lock_core::Hint;
use lock_core::Watch;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::client::Route;
use crate::error::Failure;

/// How long a hold lasts before it is watched.
const YOUNG: Duration = Duration::from_millis(50);

/// The watches of one client.
pub(crate) struct Hub(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    closed: bool,
    last_id: i64,
    armed: HashMap<i64, Armed>,
    /// What the stream has still to be told.
    outbox: VecDeque<Step>,
    /// Watches of young holds, and when to send them.
    young: VecDeque<(Instant, i64)>,
}

struct Armed {
    target: Target,
    hint: Hint,
    sent: bool,
}

/// What is watched for deletions.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Key { key: Vec<u8>, after: i64 },
    Range { from: Vec<u8>, to: Vec<u8>, after: i64 },
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Watch(i64),
    Cancel(i64),
}

impl Hub {
    pub(crate) fn start(route: &Arc<Route>) -> Self {
        let shared = Arc::<Shared>::default();
        drop(route.runtime().spawn(serve(shared.clone(), route.clone())));
        Self(shared)
    }

    /// Watches for a waiter.
    pub(crate) fn wait_for(&self, targets: impl IntoIterator<Item = Target>, hint: &Hint) -> Watch {
        let mut state = self.0.lock();
        let ids: Vec<i64> = targets.into_iter().map(|target| state.arm(target, hint)).collect();
        state.outbox.extend(ids.iter().map(|id| Step::Watch(*id)));
        drop(state);
        self.0.wake.notify_one();
        Watch::new(Watching { shared: self.0.clone(), ids })
    }

    /// Watches for a holder.
    pub(crate) fn hold(&self, target: Target, hint: &Hint) -> Watch {
        let mut state = self.0.lock();
        let id = state.arm(target, hint);
        let first = state.young.is_empty();
        state.young.push_back((Instant::now() + YOUNG, id));
        drop(state);
        if first {
            self.0.wake.notify_one();
        }
        Watch::new(Watching { shared: self.0.clone(), ids: vec![id] })
    }

    /// Ends the stream.
    pub(crate) fn close(&self) {
        self.0.lock().closed = true;
        self.0.wake.notify_one();
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.close();
    }
}

/// Keeps its watches while it lives.
struct Watching {
    shared: Arc<Shared>,
    ids: Vec<i64>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let gone: Vec<_> = self.ids.iter().filter_map(|id| state.disarm(*id)).collect();
        let idle = state.outbox.is_empty();
        drop(state);
        if !idle {
            self.shared.wake.notify_one();
        }
        // Outside the mutex: a hint may run code when it goes.
        drop(gone);
    }
}

impl State {
    fn arm(&mut self, target: Target, hint: &Hint) -> i64 {
        self.last_id += 1;
        self.armed.insert(self.last_id, Armed { target, hint: hint.clone(), sent: false });
        self.last_id
    }

    fn disarm(&mut self, id: i64) -> Option<Armed> {
        let armed = self.armed.remove(&id)?;
        if armed.sent {
            self.outbox.push_back(Step::Cancel(id));
        }
        Some(armed)
    }

    /// Takes the next step that still makes sense.
    fn next(&mut self) -> Option<(i64, Option<Target>)> {
        self.let_grow_up(Instant::now());
        while let Some(step) = self.outbox.pop_front() {
            match step {
                Step::Cancel(id) => return Some((id, None)),
                Step::Watch(id) => {
                    if let Some(armed) = self.armed.get_mut(&id) {
                        armed.sent = true;
                        return Some((id, Some(armed.target.clone())));
                    }
                }
            }
        }
        None
    }

    /// Has those watched that hold for long enough by now. Those that do not hold any more are passed over, so
    /// that a row of short holds does not wake anybody for each of them.
    fn let_grow_up(&mut self, now: Instant) {
        while let Some((at, id)) = self.young.front().copied() {
            if self.armed.contains_key(&id) {
                if at > now {
                    return;
                }
                self.outbox.push_back(Step::Watch(id));
            }
            self.young.pop_front();
        }
    }
}

impl Shared {
    /// Waits for the next step; `None` when there will be no more.
    async fn step(&self) -> Option<(i64, Option<Target>)> {
        loop {
            let woken = self.wake.notified();
            let due = {
                let mut state = self.lock();
                if state.closed {
                    return None;
                }
                if let Some(step) = state.next() {
                    return Some(step);
                }
                state.young.front().map(|(at, _)| *at)
            };
            match due {
                Some(at) => tokio::select! {
                    () = woken => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => woken.await,
            }
        }
    }

    /// Takes in what the server told.
    fn heard(&self, told: &WatchResponse) {
        let deleted = told.events().iter().any(|event| event.event_type() == EventType::Delete);
        if !deleted && !told.canceled() {
            return;
        }
        let mut state = self.lock();
        let Some(armed) = state.armed.get(&told.watch_id()) else { return };
        // A range goes on being watched; a key is deleted once.
        let goes_on = matches!(armed.target, Target::Range { .. }) && !told.canceled();
        let hint = armed.hint.clone();
        let gone = if goes_on { None } else { state.disarm(told.watch_id()) };
        drop(state);
        drop(gone);
        if goes_on { hint.give() } else { hint.broken() }
    }

    /// Tells all that they will hear nothing more until they arm again.
    fn break_all(&self) {
        let mut state = self.lock();
        let all = std::mem::take(&mut state.armed);
        state.outbox.clear();
        state.young.clear();
        drop(state);
        all.values().for_each(|armed| armed.hint.broken());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a stream when there is something to watch, and another when that has broken.
async fn serve(shared: Arc<Shared>, route: Arc<Route>) {
    let mut switches = route.switches();
    while let Some((id, target)) = shared.step().await {
        let Some(target) = target else { continue };
        switches.mark_unchanged();
        // Why it ended is no matter: whoever is told looks, and hears of it.
        drop(follow(&shared, &route, &mut switches, (id, target)).await);
        shared.break_all();
    }
    shared.break_all();
}

/// Follows one stream to its end.
async fn follow(
    shared: &Shared,
    route: &Route,
    switches: &mut watch::Receiver<usize>,
    (id, target): (i64, Target),
) -> Result<(), Failure> {
    let open = move |client: &Client| {
        let (mut client, (key, options)) = (client.watch_client(), target.clone().request(id));
        async move { client.watch(key, Some(options)).await }
    };
    let (mut sender, mut stream) = route.ask(open).await?.split();
    let mut pending = None;
    loop {
        tokio::select! {
            told = stream.message() => match told? {
                Some(told) => shared.heard(&told),
                None => return Ok(()),
            },
            _ = switches.changed() => return Ok(()),
            step = shared.step(), if pending.is_none() => match step {
                Some(step) => pending = Some(step),
                None => return Ok(()),
            },
            // Beside the reading: the server may wait for that before it takes more.
            sent = send(&mut sender, pending.clone()), if pending.is_some() => {
                sent?;
                pending = None;
            }
        }
    }
}

async fn send(
    sender: &mut WatchRequestSender,
    step: Option<(i64, Option<Target>)>,
) -> Result<(), etcd_client::Error> {
    match step {
        Some((id, Some(target))) => {
            let (key, options) = target.request(id);
            sender.watch(key, Some(options)).await
        }
        Some((id, None)) => sender.cancel(id).await,
        None => Ok(()),
    }
}

impl Target {
    fn request(self, id: i64) -> (Vec<u8>, WatchOptions) {
        let options = WatchOptions::new().with_watch_id(id).with_filters([WatchFilterType::NoPut]);
        match self {
            Self::Key { key, after } => (key, options.with_start_revision(after + 1)),
            Self::Range { from, to, after } => {
                (from, options.with_range(to).with_start_revision(after + 1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn target() -> Target {
        Target::Key { key: Vec::new(), after: 1 }
    }

    #[test]
    fn nobody_wakes_for_holds_that_are_over() {
        let (mut state, hint) = (State::default(), Hint::new(Waker::noop().clone()));
        let now = Instant::now();
        let ids: Vec<_> = (1..=4).map(|_| state.arm(target(), &hint)).collect();
        state.young.extend(ids.iter().map(|id| (now + YOUNG, *id)));
        for over in &ids[..2] {
            drop(state.disarm(*over));
        }
        state.let_grow_up(now);
        assert_eq!(state.young.front(), Some(&(now + YOUNG, ids[2])));
        assert!(state.outbox.is_empty());
        drop(state.disarm(ids[3]));
        state.let_grow_up(now + YOUNG);
        assert!(state.young.is_empty());
        assert!(matches!(state.outbox.pop_front(), Some(Step::Watch(id)) if id == ids[2]));
        assert!(state.outbox.is_empty());
    }
}
