//! One server: a connection that is made when it is needed, shared by all calls, and replaced when it breaks.
//!
//! All calls of a provider share one connection and are pipelined on it; pushes of releases come on it too
//! (RESP3). A call that is dropped goes on in the background, so that its end, or its time-out, is still
//! noticed: a connection that does not answer within the limit is given up.

use std::future::Future;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lock_core::Result;
use redis::AsyncConnectionConfig;
use redis::Client;
use redis::Cmd;
use redis::ConnectionInfo;
use redis::Pipeline;
use redis::RedisError;
use redis::RedisResult;
use redis::Value;
use redis::aio::MultiplexedConnection;
use redis::aio::ConnectionLike as _;
use tokio::runtime::Handle;

use crate::error::During;
use crate::error::classify;
use crate::hints::Hints;
use crate::unattended::Unattended;

/// How long to wait for a connection, and for each reply on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) connect: Duration,
    pub(crate) reply: Duration,
}

/// Which kind of channels a server tells releases on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channels {
    /// To all clients of the server, or of the cluster.
    Plain,
    /// Within the shard of a cluster (7.0 and later).
    Sharded,
}

impl Channels {
    /// The command that scripts publish with.
    pub(crate) fn publish(self) -> &'static str {
        match self {
            Self::Plain => "PUBLISH",
            Self::Sharded => "SPUBLISH",
        }
    }

    fn join(self) -> &'static str {
        match self {
            Self::Plain => "SUBSCRIBE",
            Self::Sharded => "SSUBSCRIBE",
        }
    }

    fn leave(self) -> &'static str {
        match self {
            Self::Plain => "UNSUBSCRIBE",
            Self::Sharded => "SUNSUBSCRIBE",
        }
    }
}

/// One server and the connection to it. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Node(Arc<Inner>);

struct Inner {
    client: Client,
    limits: Limits,
    /// Where connections live: a caller's runtime may end before its provider does.
    runtime: Handle,
    hints: Arc<Hints>,
    live: Mutex<Option<Live>>,
    /// Held while a connection is being made, so that many callers make one.
    connecting: tokio::sync::Mutex<()>,
    /// Held while channels are joined and left.
    subscribing: tokio::sync::Mutex<()>,
    last_id: AtomicU64,
}

#[derive(Clone)]
struct Live {
    id: u64,
    connection: MultiplexedConnection,
}

impl Node {
    /// Prepares to connect to a server; nothing is sent before the first call.
    pub(crate) fn new(server: ConnectionInfo, limits: Limits, runtime: Handle) -> Result<Self> {
        let client = Client::open(server).map_err(|failure| classify(failure, During::Connect))?;
        Ok(Self(Arc::new(Inner {
            client,
            limits,
            runtime,
            hints: Hints::new(),
            live: Mutex::new(None),
            connecting: tokio::sync::Mutex::new(()),
            subscribing: tokio::sync::Mutex::new(()),
            last_id: AtomicU64::new(0),
        })))
    }

    /// The waiters that this server tells of releases.
    pub(crate) fn hints(&self) -> &Arc<Hints> {
        &self.0.hints
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.0.runtime
    }

    /// Sends one command.
    pub(crate) async fn call(&self, command: Cmd) -> RedisResult<Value> {
        let live = self.live().await?;
        let mut connection = live.connection;
        let request = async move { connection.req_packed_command(&command).await };
        self.settle(live.id, request).await?.extract_error()
    }

    /// Sends several commands at once; each has an answer of its own, in order.
    pub(crate) async fn calls(&self, commands: Pipeline) -> RedisResult<Vec<RedisResult<Value>>> {
        let live = self.live().await?;
        let mut connection = live.connection;
        let count = commands.len();
        let request =
            async move { connection.req_packed_commands(&commands, 0, count).await };
        let answers = self.settle(live.id, request).await?;
        Ok(answers.into_iter().map(Value::extract_error).collect())
    }

    /// Subscribes to every channel that has waiters, and leaves those that nobody waits on. One at a
    /// time: a channel that is left must not be subscribed to before.
    ///
    /// Runs to its end also if the caller goes away.
    pub(crate) async fn subscribe(&self, kind: Channels) -> RedisResult<()> {
        let node = self.clone();
        let step = self.0.runtime.spawn(async move {
            let _one = node.0.subscribing.lock().await;
            let hints = &node.0.hints;
            let (idle, wanted) = (hints.take_idle(), hints.wanted());
            for (verb, names) in [(kind.leave(), idle), (kind.join(), wanted)] {
                node.for_each(verb, &names).await?;
                if verb == kind.join() {
                    hints.confirmed(&names);
                }
            }
            Ok(())
        });
        step.await.map_err(|failure| RedisError::from(std::io::Error::other(failure)))?
    }

    /// Sends `verb` once for each name, all at once.
    async fn for_each(&self, verb: &str, names: &[String]) -> RedisResult<()> {
        let calls = names.iter().map(|name| self.call(redis::cmd(verb).arg(name).to_owned()));
        futures_util::future::try_join_all(calls).await.map(drop)
    }

    /// Gives the connection up, so that the next call makes a new one.
    pub(crate) fn disconnect(&self) {
        drop(self.lock().take());
        self.0.hints.break_all();
    }

    /// Carries a request out, also if the caller drops it, and gives the connection up if it fails.
    async fn settle<T: Send + 'static>(
        &self,
        id: u64,
        request: impl Future<Output = RedisResult<T>> + Send + 'static,
    ) -> RedisResult<T> {
        let node = self.clone();
        let request = Box::pin(async move {
            let answer = request.await;
            if let Err(failure) = &answer
                && is_fatal(failure)
            {
                node.discard(id);
            }
            answer
        });
        Unattended { request: Some(request), runtime: &self.0.runtime }.await
    }

    async fn live(&self) -> RedisResult<Live> {
        if let Some(live) = self.lock().clone() {
            return Ok(live);
        }
        let _one = self.0.connecting.lock().await;
        if let Some(live) = self.lock().clone() {
            return Ok(live);
        }
        let node = self.clone();
        let made = self.0.runtime.spawn(async move { node.connect().await });
        made.await.map_err(|failure| RedisError::from(std::io::Error::other(failure)))?
    }

    async fn connect(&self) -> RedisResult<Live> {
        let id = self.0.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let (hints, node) = (self.0.hints.clone(), Arc::downgrade(&self.0));
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.0.limits.connect))
            .set_response_timeout(Some(self.0.limits.reply))
            .set_push_sender(move |push: redis::PushInfo| {
                if push.kind == redis::PushKind::Disconnection {
                    if let Some(inner) = node.upgrade() {
                        Self(inner).discard(id);
                    }
                } else {
                    hints.heard(&push);
                }
                Ok::<(), redis::aio::SendError>(())
            });
        let connection = self.0.client.get_multiplexed_async_connection_with_config(&config).await?;
        let live = Live { id, connection };
        *self.lock() = Some(live.clone());
        Ok(live)
    }

    /// Gives connection `id` up, unless another has taken its place.
    fn discard(&self, id: u64) {
        let gone = self.lock().take_if(|live| live.id == id);
        if gone.is_some() {
            self.0.hints.break_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Live>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether nothing more can be expected of a connection after `failure`.
fn is_fatal(failure: &RedisError) -> bool {
    failure.is_timeout()
        || failure.is_connection_dropped()
        || failure.is_io_error()
        || failure.is_unrecoverable_error()
        || failure.kind() == redis::ErrorKind::Server(redis::ServerErrorKind::ReadOnly)
}
