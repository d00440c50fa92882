//! One session, and what is known about its end.
//!
//! The servers end a session when they have not heard of it for its timeout, and only they know when
//! that was. This side therefore believes in it for less: from when the last request was sent that a
//! quorum has answered, less a margin. A read would not do, for a server that was cut off from the others
//! goes on answering reads, pings and `sync` for a while. Nothing of a session outlives it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lock_core::BootInstant;
use lock_core::Clock;
use lock_core::Lease;
use lock_core::Result;
use tokio::sync::watch;
use zookeeper_client::Client as Zk;
use zookeeper_client::Error as ZkError;
use zookeeper_client::MultiWriteError;
use zookeeper_client::SessionInfo;
use zookeeper_client::SessionState;
use zookeeper_client::StateWatcher;

use crate::config::Config;
use crate::error::Verdict;
use crate::error::classify;
use crate::error::verdict;
use crate::line::Line;

/// A session that is used.
#[derive(Debug)]
pub(crate) struct Session {
    zk: Zk,
    fate: Arc<Fate>,
    clock: Clock,
    /// When the last request that a quorum has answered was sent, in nanoseconds of the clock.
    since: AtomicU64,
    /// How many bytes the paths have that are watched.
    watched: Arc<AtomicUsize>,
    /// Nodes that the server shows and the quorum does not have.
    ghosts: Mutex<HashSet<String>>,
}

/// The most bytes that watched paths may have together. After a reconnect the driver tells a server of all of
/// them; it splits that at 128 KiB, and takes the second answer for an error, again with each new connection.
const WATCHED: usize = 120_000;

/// Room for the watch of some paths, until it is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    watched: Arc<AtomicUsize>,
    bytes: usize,
}

/// Whether the servers have ended a session; outlives its use.
#[derive(Debug)]
pub(crate) struct Fate {
    id: i64,
    over: watch::Sender<bool>,
}

impl Session {
    /// Takes over a session that was asked for at `since`.
    pub(crate) fn new(config: Arc<Config>, zk: Zk, since: BootInstant) -> Self {
        let fate = Arc::new(Fate { id: zk.session_id().0, over: watch::Sender::new(false) });
        let following = follow(config, zk.session().clone(), zk.state_watcher());
        let told = fate.clone();
        tokio::spawn(async move {
            following.await;
            told.over.send_replace(true);
        });
        let since = AtomicU64::new(since.as_nanos());
        let (clock, watched, ghosts) = (Clock::system(), Arc::default(), Mutex::default());
        Self { zk, fate, clock, since, watched, ghosts }
    }

    /// Makes room for one more watch of each of `paths`; `None` if too many are watched.
    pub(crate) fn room(&self, paths: &[String]) -> Option<Room> {
        let below = self.zk.path().len();
        let bytes = paths.iter().map(|path| below + path.len()).sum();
        let room = Room { watched: self.watched.clone(), bytes };
        // What does not fit leaves when the room is dropped.
        let before = self.watched.fetch_add(bytes, Ordering::AcqRel);
        (before + bytes <= WATCHED).then_some(room)
    }

    pub(crate) fn zk(&self) -> &Zk {
        &self.zk
    }

    pub(crate) fn fate(&self) -> &Arc<Fate> {
        &self.fate
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.zk.session_timeout()
    }

    pub(crate) fn now(&self) -> BootInstant {
        self.clock.now()
    }

    /// Whether nothing more can be asked in it.
    pub(crate) fn is_terminated(&self) -> bool {
        self.zk.state().is_terminated()
    }

    /// Returns the lease that all locks of the session have.
    pub(crate) fn lease(&self) -> Lease {
        let since = BootInstant::from_nanos(self.since.load(Ordering::Acquire));
        Lease { since, ttl: self.timeout() }
    }

    /// Notes that a quorum has carried out what was sent at `sent`.
    pub(crate) fn touched(&self, sent: BootInstant) {
        self.since.fetch_max(sent.as_nanos(), Ordering::AcqRel);
    }

    /// Lets a quorum confirm the session, with a write that changes nothing. What is read after it in
    /// the same session is at least as new.
    pub(crate) fn confirm(&self) -> impl Future<Output = Result<()>> + Send + '_ {
        let confirmed = self.confirm_beside(&["/"]);
        async move { confirmed.await.map(drop) }
    }

    /// Lets a quorum confirm the session, and returns which of `paths` is the first that it does not have.
    pub(crate) fn confirm_beside(
        &self,
        paths: &[&str],
    ) -> impl Future<Output = Result<Option<usize>>> + Send + '_ {
        let sent = self.now();
        let mut writer = self.zk.new_multi_writer();
        let asked = paths.iter().try_for_each(|path| writer.add_check_version(path, -1));
        // Sent now, answered later: what is asked next comes after it.
        let answer = asked.map(|()| writer.commit());
        async move {
            let missing = match answer.map_err(classify)?.await {
                Ok(_) => None,
                Err(MultiWriteError::RequestFailed { source }) => return Err(classify(source)),
                // A refusal is carried out by a quorum like any other write.
                Err(MultiWriteError::OperationFailed { index, source }) => {
                    (source == ZkError::NoNode).then_some(index)
                }
            };
            self.touched(sent);
            Ok(missing)
        }
    }

    /// Leaves a node out of all lines from now on: the server shows it, and the quorum does not have it.
    ///
    /// Such a server has lost a transaction. Nobody would ever delete the node, and nobody get past it.
    pub(crate) fn ignore(&self, path: &str) {
        if self.ghosts().insert(path.to_owned()) {
            tracing::error!(
                path,
                "a ZooKeeper server shows a node that the quorum has not: it has lost a transaction, and \
                 should be stopped, and its data be deleted before it is started again"
            );
        }
    }

    /// Picks the contenders out of the children of a key's node.
    pub(crate) fn line(&self, parent: &str, children: Vec<String>) -> Line {
        let ghosts = self.ghosts();
        if ghosts.is_empty() {
            drop(ghosts);
            return Line::new(children);
        }
        let real = |name: &String| !ghosts.contains(&format!("{parent}/{name}"));
        Line::new(children.into_iter().filter(real))
    }

    fn ghosts(&self) -> MutexGuard<'_, HashSet<String>> {
        self.ghosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the reads that follow show at least what is committed now: by a quorum's word if the last
    /// is a while ago, else by the leader's, which is cheaper.
    pub(crate) fn refresh(&self) -> impl Future<Output = Result<()>> + Send + '_ {
        let age = self.now().saturating_since(self.lease().since);
        let confirmed =
            if age > self.timeout() / 3 { Ok(self.confirm()) } else { Err(self.zk.sync("/")) };
        async move {
            match confirmed {
                Ok(confirm) => confirm.await,
                Err(sync) => sync.await.map_err(classify),
            }
        }
    }

    /// Deletes a node, and does not give up before that is certain: while there is no connection the
    /// request waits for the next. Returns whether there was one, also if it may have been an
    /// earlier try that deleted it, whose answer was lost.
    pub(crate) async fn delete(&self, path: &str) -> Result<bool> {
        let mut unsure = false;
        loop {
            let sent = self.now();
            let failure = self.zk.delete(path, None).await.err();
            match failure {
                None | Some(ZkError::NoNode) => {
                    self.touched(sent);
                    return Ok(failure.is_none() || unsure);
                }
                Some(failure) => match verdict(&failure) {
                    Verdict::Unknown => unsure = true,
                    Verdict::SessionOver => {
                        self.fate.is_over().await;
                        return Ok(unsure);
                    }
                    Verdict::Refused => return Err(classify(failure)),
                },
            }
        }
    }

    /// Waits until the servers have carried out what was asked and the session with it.
    pub(crate) async fn close(self: Arc<Self>) {
        let (states, timeout) = (self.zk.state_watcher(), self.timeout());
        // The driver ends the session when nobody uses it any more.
        drop(self);
        ended(&states, timeout).await;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.watched.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl Fate {
    pub(crate) fn id(&self) -> i64 {
        self.id
    }

    pub(crate) fn has_ended(&self) -> bool {
        *self.over.borrow()
    }

    /// Waits until the servers have ended the session, and with it all that it has created or may still
    /// have created.
    pub(crate) async fn is_over(&self) {
        // The sender lives in self, so this cannot fail.
        drop(self.over.subscribe().wait_for(|over| *over).await);
    }
}

/// Follows a session to its end, and makes sure that the servers end it when this side has given it up:
/// until they have, what it asked for may still happen.
async fn follow(config: Arc<Config>, session: SessionInfo, mut states: StateWatcher) {
    let timeout = config.session_timeout;
    while ended(&states, timeout).await != SessionState::Closed {
        let zk = loop {
            let connector = config.connector().with_session(session.clone());
            match connector.connect(&config.hosts).await {
                Ok(zk) => break zk,
                Err(ZkError::SessionExpired) => return,
                Err(_) => Clock::system().sleep(timeout / 4).await,
            }
        };
        // Dropped at once, which closes the session.
        states = zk.state_watcher();
    }
}

/// Waits for the end of a session.
///
/// It looks again and again, less and less often, though the driver's watcher could be awaited: such a future
/// that is dropped while the state changes, as both are when a runtime ends, writes through a pointer to the
/// stack of the thread that told it, which has left that place (`Notify` of asyncs-sync 0.4.0).
async fn ended(states: &StateWatcher, timeout: Duration) -> SessionState {
    let mut pause = Duration::from_millis(1);
    loop {
        let state = states.peek_state();
        if state.is_terminated() {
            return state;
        }
        Clock::system().sleep(pause).await;
        pause = (pause * 2).min(timeout / 20);
    }
}
