//! Hearing from sentinels that another server is the primary now.
//!
//! A primary that is well, or is again, grants on until sentinels make it a replica, which they do after 8 s at
//! the earliest. Who is connected would stay with it for so long, while others lock at the new one.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lock_core::BootInstant;
use lock_core::Clock;
use redis::AsyncConnectionConfig;
use redis::PushInfo;
use redis::PushKind;
use redis::Value;
use redis::aio::MultiplexedConnection;
use redis::aio::SendError;
use tokio::runtime::Handle;

use crate::error::Failure;
use crate::node::Node;
use crate::reply;
use crate::server::Address;
use crate::server::Connected;
use crate::server::Limits;
use crate::server::Way;

/// What sentinels tell of it on.
const CHANNEL: &str = "+switch-master";

/// How long a sentinel that could not be reached is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// The primary at hand, and how often sentinels have told of another.
#[derive(Default)]
pub(crate) struct Current {
    node: Mutex<Option<Node>>,
    told: AtomicU64,
}

impl Current {
    /// Returns the primary while its connection lives.
    pub(crate) fn connected(&self) -> Option<Node> {
        lock(&self.node).clone().filter(Node::is_connected)
    }

    pub(crate) fn told(&self) -> u64 {
        self.told.load(Ordering::SeqCst)
    }

    /// Takes a primary that was found when [`told`](Self::told) was so; fails if it may be another by now.
    pub(crate) fn set(&self, node: &Node, told: u64) -> bool {
        let mut current = lock(&self.node);
        let fresh = self.told() == told;
        if fresh {
            *current = Some(node.clone());
        }
        fresh
    }

    /// Gives the primary up, unless it is at `address`.
    fn is_at(&self, address: &Address) {
        let mut current = lock(&self.node);
        self.told.fetch_add(1, Ordering::SeqCst);
        let gone = current.take_if(|node| node.address() != address);
        drop(current);
        gone.iter().for_each(Node::disconnect);
    }
}

/// An open ear for one sentinel.
pub(crate) struct Ear {
    sentinel: Way,
    state: Arc<Mutex<State>>,
}

enum State {
    Deaf { since: Option<BootInstant> },
    Connecting,
    Hearing { _connected: Connected, broken: Arc<AtomicBool> },
}

impl Ear {
    pub(crate) fn new(sentinel: Way) -> Self {
        Self { sentinel, state: Arc::new(Mutex::new(State::Deaf { since: None })) }
    }

    /// Listens from now on, in the background, unless it does already: gives `current` up when the service
    /// is said to be elsewhere.
    pub(crate) fn open(
        &self,
        service: &str,
        current: &Arc<Current>,
        limits: Limits,
        runtime: &Handle,
    ) {
        let now = Clock::system().now();
        let mut state = lock(&self.state);
        if !state.is_due(now) {
            return;
        }
        *state = State::Connecting;
        drop(state);
        let (sentinel, state) = (self.sentinel.clone(), self.state.clone());
        let (service, current) = (service.to_owned(), Arc::downgrade(current));
        drop(runtime.spawn(async move {
            let broken = Arc::new(AtomicBool::new(false));
            let hear = hear(service.clone(), current.clone(), broken.clone());
            *lock(&state) = match subscribe(&sentinel, limits, hear).await {
                Ok(mut _connected) => {
                    // What happened before it listened was not told.
                    let said = master(&mut _connected.connection, &service).await.ok().flatten();
                    if let (Some(current), Some(address)) = (current.upgrade(), said) {
                        current.is_at(&address);
                    }
                    State::Hearing { _connected, broken }
                }
                Err(_) => State::Deaf { since: Some(now) },
            };
        }));
    }

    /// Ends the connection.
    pub(crate) fn close(&self) {
        *lock(&self.state) = State::Deaf { since: None };
    }
}

impl State {
    fn is_due(&self, now: BootInstant) -> bool {
        match self {
            Self::Deaf { since } => since.is_none_or(|since| now.saturating_since(since) >= PAUSE),
            Self::Connecting => false,
            Self::Hearing { broken, .. } => broken.load(Ordering::Relaxed),
        }
    }
}

async fn subscribe(
    sentinel: &Way,
    limits: Limits,
    hear: impl Fn(PushInfo) -> Result<(), SendError> + Send + Sync + 'static,
) -> Result<Connected, Failure> {
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(Some(limits.connect))
        .set_push_sender(hear);
    let mut connected = sentinel.connect(limits.connect, config).await?;
    connected.connection.subscribe(CHANNEL).await?;
    Ok(connected)
}

/// Takes in what a sentinel pushes.
fn hear(
    service: String,
    current: Weak<Current>,
    broken: Arc<AtomicBool>,
) -> impl Fn(PushInfo) -> Result<(), SendError> + Send + Sync + 'static {
    move |push| {
        match push.kind {
            PushKind::Disconnection => broken.store(true, Ordering::Relaxed),
            PushKind::Message => {
                if let (Some(current), Some(address)) =
                    (current.upgrade(), new_address(&push.data, &service))
                {
                    current.is_at(&address);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Reads channel and message: the service, its old host and port, the new ones.
fn new_address(data: &[Value], service: &str) -> Option<Address> {
    let Some(Value::BulkString(message)) = data.get(1) else { return None };
    match str::from_utf8(message).ok()?.split(' ').collect::<Vec<_>>()[..] {
        [of, _, _, host, port] if of == service => {
            Some(Address { host: host.to_owned(), port: port.parse().ok()? })
        }
        _ => None,
    }
}

/// Asks a sentinel for the primary; `None` if it knows no such service.
pub(crate) async fn master(
    connection: &mut MultiplexedConnection,
    service: &str,
) -> Result<Option<Address>, Failure> {
    let mut command = redis::cmd("SENTINEL");
    command.arg("get-master-addr-by-name").arg(service);
    let answer = command.query_async(connection).await?;
    if answer == Value::Nil {
        return Ok(None);
    }
    let mut parts = reply::list(answer)?.into_iter();
    let host = reply::text(parts.next())?;
    let port = reply::text(parts.next())?.parse().unwrap_or(0);
    Ok(Some(Address { host, port }))
}

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
