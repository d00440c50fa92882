//! Transactions that gather while another is under way, and go out as one.
//!
//! A lone transaction goes out at once and as it is. Those of one batch are of different locks: all that a batch
//! puts comes with one revision, and what each compares is what was there before the batch, so two of one lock
//! would both find it free.
//!
//! Whoever has logged in sends each alone: servers before 3.4.42, 3.5.28 and 3.6.9 do not look at the rights of
//! transactions within one, and what a user may do must not depend on who comes at the same time.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::time::Duration;

use etcd_client::Txn;
use etcd_client::TxnOp;
use etcd_client::TxnOpResponse;
use etcd_client::TxnResponse;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockKey;
use lock_core::Result;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::task::yield_now;
use tokio::time::Instant;
use tokio::time::sleep_until;

use crate::client::Route;
use crate::error::Failure;
use crate::error::What;
use crate::requests;

/// A transaction that has no answer after so long holds up nobody: the next goes out beside it.
const LONG: Duration = Duration::from_millis(50);

/// Sends the transactions of one client.
pub(crate) struct Batches(Arc<Shared>);

struct Shared {
    route: Arc<Route>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Completes when the transaction that went out alone has its answer.
    alone: Option<oneshot::Receiver<()>>,
    /// Lives as long as somebody sends what gathers.
    sender: Weak<()>,
    /// At most one for each lock.
    gathered: Vec<Waiting>,
}

struct Waiting {
    lock: LockKey,
    txn: Txn,
    reply: oneshot::Sender<Result<Settled, Failure>>,
}

/// What a transaction has done.
pub(crate) struct Settled {
    pub(crate) answer: TxnResponse,
    /// The store's revision after it: that of all it has put.
    pub(crate) revision: i64,
}

/// What becomes of a transaction that has come.
enum Next {
    /// Nothing is under way: it goes out, and whoever gathers waits until this is dropped.
    Alone(Txn, oneshot::Sender<()>),
    /// It is the first to gather.
    Gather(Gathering),
    /// As many have gathered as go into one.
    Full(Vec<Waiting>),
    Wait,
    /// One of the same lock waits already.
    Beside(Txn),
}

/// What the task begins with that sends what gathers.
struct Gathering {
    turn: Arc<()>,
    before: oneshot::Receiver<()>,
}

impl Batches {
    pub(crate) fn new(route: Arc<Route>) -> Self {
        Self(Arc::new(Shared { route, state: Mutex::default() }))
    }

    /// Carries out a transaction that is about `lock` alone.
    pub(crate) async fn settle(&self, lock: &LockKey, txn: Txn) -> Result<Settled, Failure> {
        if self.0.route.has_login() {
            return self.0.route.settle(txn).await;
        }
        let (reply, settled) = oneshot::channel();
        let next = self.0.lock().take_in(Waiting { lock: lock.clone(), txn, reply });
        let (shared, runtime) = (self.0.clone(), self.0.route.runtime());
        match next {
            Next::Alone(txn, _under_way) => return shared.route.settle(txn).await,
            Next::Beside(txn) => return shared.route.settle(txn).await,
            // In tasks of their own: a caller who is not polled for a while holds up nobody.
            Next::Gather(gathering) => drop(runtime.spawn(shared.serve(gathering))),
            Next::Full(batch) => drop(runtime.spawn(shared.send(batch))),
            Next::Wait => {}
        }
        let ended = |_| Error::new(ErrorKind::Closed, "the runtime has ended").ambiguous();
        settled.await.map_err(ended)?
    }
}

impl State {
    fn take_in(&mut self, waiting: Waiting) -> Next {
        if self.gathered.iter().any(|other| other.lock == waiting.lock) {
            return Next::Beside(waiting.txn);
        }
        if self.sender.strong_count() > 0 {
            self.gathered.push(waiting);
            return match self.gathered.len() < requests::STEPS {
                true => Next::Wait,
                false => Next::Full(std::mem::take(&mut self.gathered)),
            };
        }
        let is_open = |before: &mut oneshot::Receiver<()>| {
            matches!(before.try_recv(), Err(TryRecvError::Empty))
        };
        match self.alone.take_if(is_open) {
            Some(before) => {
                self.gathered.push(waiting);
                let turn = Arc::new(());
                self.sender = Arc::downgrade(&turn);
                Next::Gather(Gathering { turn, before })
            }
            None => {
                let (under_way, before) = oneshot::channel();
                self.alone = Some(before);
                Next::Alone(waiting.txn, under_way)
            }
        }
    }

    /// Takes what has gathered. If that is nothing, the task is done.
    fn next(&mut self) -> Option<Vec<Waiting>> {
        if self.gathered.is_empty() {
            self.sender = Weak::new();
            return None;
        }
        Some(std::mem::take(&mut self.gathered))
    }
}

impl Shared {
    /// Sends one batch after the other until nothing has gathered.
    async fn serve(self: Arc<Self>, Gathering { turn: _turn, before }: Gathering) {
        tokio::select! {
            biased;
            _ = before => {}
            () = sleep_until(Instant::now() + LONG) => {}
        }
        loop {
            // Those who have just been answered may have more to send.
            yield_now().await;
            let Some(batch) = self.next() else { return };
            let mut sending = Box::pin(self.clone().send(batch));
            tokio::select! {
                biased;
                () = &mut sending => {}
                () = sleep_until(Instant::now() + LONG) => drop(self.route.runtime().spawn(sending)),
            }
        }
    }

    fn next(&self) -> Option<Vec<Waiting>> {
        self.lock().next()
    }

    async fn send(self: Arc<Self>, mut batch: Vec<Waiting>) {
        if batch.len() == 1
            && let Some(alone) = batch.pop()
        {
            return self.send_alone(alone).await;
        }
        let steps: Vec<_> = batch.iter().map(|it| TxnOp::txn(it.txn.clone())).collect();
        match self.route.settle(Txn::new().and_then(steps)).await {
            Ok(Settled { answer, revision }) => {
                for (waiting, step) in batch.into_iter().zip(answer.op_responses()) {
                    let settled = match step {
                        TxnOpResponse::Txn(answer) => Ok(Settled { answer, revision }),
                        _ => Err(Failure::nonsense()),
                    };
                    waiting.told(settled);
                }
            }
            Err(failure) if failure.what == What::Silence => {
                batch.into_iter().for_each(|waiting| waiting.told(Err(failure.clone())));
            }
            // None was carried out, and one of them may be to blame.
            Err(_) => {
                for alone in batch {
                    let shared = self.clone();
                    let send = async move { shared.send_alone(alone).await };
                    drop(self.route.runtime().spawn(send));
                }
            }
        }
    }

    async fn send_alone(&self, Waiting { txn, reply, .. }: Waiting) {
        // Nobody waits for it any more only if the runtime ends.
        drop(reply.send(self.route.settle(txn).await));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn told(self, settled: Result<Settled, Failure>) {
        drop(self.reply.send(settled));
    }
}

impl Settled {
    pub(crate) fn succeeded(&self) -> bool {
        self.answer.succeeded()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(lock: &str) -> Waiting {
        let (lock, (reply, _)) = (LockKey::new(lock).unwrap(), oneshot::channel());
        Waiting { lock, txn: Txn::new(), reply }
    }

    #[test]
    fn what_comes_while_one_is_under_way_gathers() {
        let mut state = State::default();
        let Next::Alone(_, under_way) = state.take_in(waiting("a")) else { panic!() };
        // The lock of the one under way is no matter: that is another transaction.
        let Next::Gather(mut gathering) = state.take_in(waiting("a")) else { panic!() };
        assert!(matches!(state.take_in(waiting("b")), Next::Wait));
        assert!(matches!(state.take_in(waiting("b")), Next::Beside(_)), "two of one lock");
        assert_eq!(gathering.before.try_recv(), Err(TryRecvError::Empty));
        drop(under_way);
        assert_eq!(gathering.before.try_recv(), Err(TryRecvError::Closed));
        assert_eq!(state.next().unwrap().len(), 2);
        assert!(state.next().is_none());
        assert!(matches!(state.take_in(waiting("b")), Next::Alone(..)));
    }

    #[test]
    fn one_after_the_other_all_go_out_alone() {
        let mut state = State::default();
        for _ in 0..3 {
            let Next::Alone(_, under_way) = state.take_in(waiting("a")) else { panic!() };
            drop(under_way);
        }
    }

    #[test]
    fn as_many_as_go_into_one_wait_for_nobody() {
        let mut state = State::default();
        let Next::Alone(_, _under_way) = state.take_in(waiting("first")) else { panic!() };
        let Next::Gather(_gathering) = state.take_in(waiting("second")) else { panic!() };
        for number in 2..requests::STEPS {
            assert!(matches!(state.take_in(waiting(&number.to_string())), Next::Wait));
        }
        let Next::Full(batch) = state.take_in(waiting("last")) else { panic!() };
        assert_eq!(batch.len(), requests::STEPS);
        assert!(matches!(state.take_in(waiting("last")), Next::Wait));
    }

    #[test]
    fn what_has_gathered_goes_on_without_a_sender_that_has_ended() {
        let mut state = State::default();
        let Next::Alone(_, _under_way) = state.take_in(waiting("a")) else { panic!() };
        let Next::Gather(gathering) = state.take_in(waiting("b")) else { panic!() };
        drop(gathering);
        let Next::Alone(_, _under_way) = state.take_in(waiting("c")) else { panic!() };
        let Next::Gather(_gathering) = state.take_in(waiting("d")) else { panic!() };
        assert_eq!(state.next().unwrap().len(), 2);
    }
}
