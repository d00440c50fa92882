//! One server: a connection that is made when it is needed, shared by all calls, and replaced when it breaks.
//!
//! All calls of a provider share one connection and are pipelined on it; pushes of releases come on it too
//! (RESP3). A call that is dropped goes on in the background, so that its end, or its time-out, is still
//! noticed: a connection that says nothing for so long is given up.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lock_core::BootInstant;
use lock_core::Clock;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Result;
use lock_core::Unattended;
use redis::AsyncConnectionConfig;
use redis::Cmd;
use redis::Pipeline;
use redis::PushInfo;
use redis::PushKind;
use redis::RedisResult;
use redis::Value;
use redis::aio::ConnectionLike as _;
use redis::aio::MultiplexedConnection;
use redis::aio::SendError;
use tokio::runtime::Handle;
use tokio::task::JoinError;

use crate::channels::Channels;
use crate::check::Facts;
use crate::check::Terms;
use crate::connecting;
use crate::error::Failure;
use crate::error::is_fatal;
use crate::hints::Hints;
use crate::memory::Memory;
use crate::reply;
use crate::server::Address;
use crate::server::Connected;
use crate::server::Limits;
use crate::server::Login;
use crate::server::Way;

/// Makes one [`Node`] for each address.
pub(crate) struct Pool {
    pub(crate) limits: Limits,
    login: Login,
    terms: Terms,
    /// Whether those that acquire have a connection of their own.
    has_writer: bool,
    /// Where connections live: a caller's runtime may end before its provider does.
    runtime: Handle,
    nodes: Mutex<HashMap<Address, Node>>,
}

impl Pool {
    pub(crate) fn new(login: Login, limits: Limits, terms: Terms) -> Self {
        let (has_writer, runtime, nodes) = (false, Handle::current(), Mutex::default());
        Self { limits, login, terms, has_writer, runtime, nodes }
    }

    /// Gives those that acquire a connection of their own.
    pub(crate) fn with_writer(self) -> Self {
        Self { has_writer: true, ..self }
    }

    /// Returns the server at `address`. Nothing is sent before the first call.
    pub(crate) fn node(&self, address: &Address) -> Node {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = nodes.get(address) {
            return node.clone();
        }
        let listener = self.unknown(address, None);
        let node = self.unknown(address, Some(listener));
        nodes.insert(address.clone(), node.clone());
        node
    }

    fn unknown(&self, address: &Address, listener: Option<Node>) -> Node {
        Node(Arc::new(Inner {
            way: self.login.way(address),
            listener,
            limits: self.limits,
            terms: self.terms,
            has_writer: self.has_writer,
            runtime: self.runtime.clone(),
            hints: Hints::new(),
            live: Mutex::new(None),
            memory: Mutex::new(None),
            connecting: Arc::default(),
            tries: AtomicU64::new(0),
            subscribing: tokio::sync::Mutex::new(()),
            last_id: AtomicU64::new(0),
        }))
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Since when all servers that were connected to remember what they granted.
    pub(crate) fn remembers_since(&self) -> Option<BootInstant> {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.values().filter_map(Node::remembers_since).max()
    }

    /// Ends all connections.
    pub(crate) fn disconnect(&self) {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        nodes.values().for_each(Node::disconnect);
    }
}

/// One server and the connection to it. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Node(Arc<Inner>);

struct Inner {
    way: Way,
    /// The same server over a connection of its own; a listener has none.
    listener: Option<Node>,
    limits: Limits,
    terms: Terms,
    has_writer: bool,
    runtime: Handle,
    hints: Arc<Hints>,
    live: Mutex<Option<Arc<Live>>>,
    /// As of the latest connection.
    memory: Mutex<Option<Memory>>,
    /// Held while a connection is being made, so that many callers make one; with the latest failure.
    connecting: Arc<tokio::sync::Mutex<Option<Error>>>,
    /// How many tries to make a connection have ended.
    tries: AtomicU64,
    /// Held while channels are joined and left.
    subscribing: tokio::sync::Mutex<()>,
    last_id: AtomicU64,
}

/// The connections to a server: made together, given up together.
struct Live {
    id: u64,
    node: Weak<Inner>,
    /// How long the server may say nothing.
    limit: Duration,
    common: Connected,
    /// The same, unless those that acquire have their own.
    writer: Connected,
    facts: Arc<Facts>,
}

/// Which connection a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Common,
    /// That of attempts and of the releases that undo them, in order.
    Writer,
}

impl Live {
    fn on(&self, line: Line) -> &Connected {
        match line {
            Line::Common => &self.common,
            Line::Writer => &self.writer,
        }
    }

    /// Gives the connections up, unless others have taken their place.
    fn discard(&self) {
        self.node.upgrade().into_iter().for_each(|inner| Node(inner).discard(self.id));
    }
}

impl Node {
    pub(crate) fn address(&self) -> &Address {
        self.0.way.address()
    }

    /// Returns the connection on which the server is to tell of releases.
    ///
    /// In a cluster it is one of its own: a server that gives a slot away says so by the very message that
    /// answers an unsubscription, unasked for. The driver then takes it for the answer to whatever comes
    /// next, and each later answer for that of the request before. Where nothing but subscriptions are
    /// asked for, that costs a hint at most.
    pub(crate) fn listener(&self, kind: Channels) -> &Self {
        match &self.0.listener {
            Some(listener) if kind == Channels::Sharded => listener,
            _ => self,
        }
    }

    /// The waiters that this server tells of releases.
    pub(crate) fn hints(&self) -> &Arc<Hints> {
        &self.0.hints
    }

    /// Connects, unless there is a connection, and returns what the server says of itself.
    pub(crate) async fn ready(&self) -> Result<Arc<Facts>, Failure> {
        Ok(self.live().await?.facts.clone())
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.lock().is_some()
    }

    fn remembers_since(&self) -> Option<BootInstant> {
        self.memory().as_ref().map(|memory| memory.since)
    }

    /// Sends one command.
    pub(crate) async fn call(&self, command: Cmd) -> Result<Value, Failure> {
        self.call_on(Line::Common, command).await
    }

    pub(crate) async fn call_on(&self, line: Line, command: Cmd) -> Result<Value, Failure> {
        let live = self.live().await?;
        let ask = |mut connection: MultiplexedConnection| async move {
            connection.send_packed_command(&command).await?.extract_error()
        };
        Ok(self.settle(live, line, ask).await?)
    }

    /// Asks a question that is not about locks: also a replica may answer it.
    pub(crate) async fn ask(&self, question: Cmd) -> Result<Value, Failure> {
        if self.is_connected() {
            return self.call(question).await;
        }
        let limits = self.0.limits;
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(limits.connect));
        // For this once: locks need a connection to a server that was found fit for them.
        let mut connected = self.0.way.connect(limits.connect, config).await?;
        Ok(connected.connection.req_packed_command(&question).await?.extract_error()?)
    }

    /// Sends several commands at once; each has an answer of its own, in order.
    pub(crate) async fn calls(
        &self,
        line: Line,
        commands: Pipeline,
    ) -> Result<Vec<Result<Value, Failure>>, Failure> {
        let live = self.live().await?;
        let ask = |mut connection: MultiplexedConnection| async move {
            connection.req_packed_commands(&commands, 0, commands.len()).await
        };
        let answers = self.settle(live, line, ask).await?;
        Ok(answers.into_iter().map(|answer| Ok(answer.extract_error()?)).collect())
    }

    /// Tells whether `other` is the same server.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Subscribes to every channel that has waiters, and leaves those that nobody waits on. One step at
    /// a time: a channel must not be left after it was joined anew. Runs to its end also if the caller
    /// goes away.
    pub(crate) async fn subscribe(&self, kind: Channels) -> Result<(), Failure> {
        let node = self.clone();
        let step = self.0.runtime.spawn(async move {
            // Before the turn: who waits for a server that hangs shares the wait with all the others.
            node.live().await?;
            let _one = node.0.subscribing.lock().await;
            let idle = node.0.hints.take_idle();
            node.for_each(kind.leave(), &idle).await?;
            let wanted = node.0.hints.wanted();
            node.for_each(kind.join(), &wanted).await?;
            node.0.hints.confirmed(&wanted);
            Ok(())
        });
        step.await.unwrap_or_else(|_| Err(aborted().into()))
    }

    /// Sends `verb` once for each name, all at once.
    async fn for_each(&self, verb: &str, names: &[String]) -> Result<(), Failure> {
        let calls = names.iter().map(|name| {
            let mut command = redis::cmd(verb);
            command.arg(name);
            self.call(command)
        });
        futures_util::future::try_join_all(calls).await.map(drop)
    }

    /// Gives the connection up; the next call makes a new one.
    pub(crate) fn disconnect(&self) {
        drop(self.lock().take());
        self.0.hints.break_all();
        self.0.listener.iter().for_each(Self::disconnect);
    }

    /// Carries a request out, also if the caller drops it, and gives the connection up if it fails.
    ///
    /// The request is made where it is carried out, and stays there: it is large, and each move a copy.
    fn settle<T: Send + 'static, F: Future<Output = RedisResult<T>> + Send>(
        &self,
        live: Arc<Live>,
        line: Line,
        ask: impl FnOnce(MultiplexedConnection) -> F + Send + 'static,
    ) -> impl Future<Output = RedisResult<T>> {
        let request = async move {
            let Connected { connection, motor } = live.on(line);
            let request = pin!(ask(connection.clone()));
            let answer = motor.answer(live.limit, request).await;
            if answer.as_ref().is_err_and(is_fatal) {
                live.discard();
            }
            answer
        };
        Unattended::new(request, |rest| drop(self.0.runtime.spawn(rest)))
    }

    async fn live(&self) -> Result<Arc<Live>, Failure> {
        let live = self.lock().clone();
        match live {
            Some(live) => Ok(live),
            // Boxed: it would make the future of each call larger.
            None => Box::pin(self.revive()).await,
        }
    }

    async fn revive(&self) -> Result<Arc<Live>, Failure> {
        let tries = self.0.tries.load(Ordering::Acquire);
        let mut last = self.0.connecting.clone().lock_owned().await;
        if let Some(live) = self.lock().clone() {
            return Ok(live);
        }
        // Who stood in line behind a try that failed shares the failure: were each to try, one after the
        // other, the line at a server that hangs would only grow.
        if self.0.tries.load(Ordering::Acquire) != tries
            && let Some(error) = &*last
        {
            return Err(error.clone().into());
        }
        let node = self.clone();
        let made = self.0.runtime.spawn(async move {
            let made = node.connect().await;
            *last = made.as_ref().err().cloned();
            node.0.tries.fetch_add(1, Ordering::AcqRel);
            made
        });
        Ok(made.await.unwrap_or_else(|failure| Err(unmade(&failure)))?)
    }

    async fn connect(&self) -> Result<Arc<Live>> {
        let id = self.0.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let mut common = self.dial(id).await?;
        let mut info = redis::cmd("INFO");
        info.arg("everything");
        let Connected { connection, motor } = &mut common;
        let info = connection.req_packed_command(&info);
        let info = motor.answer(self.0.limits.reply, info).await;
        let info = info.and_then(Value::extract_error);
        let info = info.map_err(|failure| connecting::failed(failure.into(), &self.0.way))?;
        let facts = Facts::read(&reply::info(info)?);
        let fit = facts.check(self.0.terms);
        fit.map_err(|error| connecting::unfit(&error, &self.0.way))?;
        let writer = if self.0.has_writer { self.dial(id).await? } else { common.clone() };
        // Before anything is asked on the new connection, whose answers are worth as much as this.
        let memory = Memory::of(&facts, Clock::system().now(), self.memory().as_ref());
        *self.memory() = Some(memory);
        let (node, limit, facts) = (Arc::downgrade(&self.0), self.0.limits.reply, Arc::new(facts));
        let live = Arc::new(Live { id, node, limit, common, writer, facts });
        *self.lock() = Some(live.clone());
        Ok(live)
    }

    async fn dial(&self, id: u64) -> Result<Connected> {
        let (hints, node) = (self.0.hints.clone(), Arc::downgrade(&self.0));
        let hear = move |push: PushInfo| {
            match push.kind {
                PushKind::Disconnection => {
                    node.upgrade().into_iter().for_each(|inner| Self(inner).discard(id));
                }
                _ => hints.heard(&push),
            }
            Ok::<_, SendError>(())
        };
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_push_sender(hear);
        let made = self.0.way.connect(self.0.limits.connect, config).await;
        made.map_err(|failure| connecting::failed(failure, &self.0.way))
    }

    /// Gives connection `id` up, unless another has taken its place.
    fn discard(&self, id: u64) {
        let gone = self.lock().take_if(|live| live.id == id);
        if gone.is_some() {
            self.0.hints.break_all();
        }
    }

    fn memory(&self) -> MutexGuard<'_, Option<Memory>> {
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Live>>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that makes a connection came to no end.
fn unmade(failure: &JoinError) -> Error {
    if !failure.is_panic() {
        return aborted();
    }
    let message = "the runtime cannot connect: build it with enable_all, or write io=thread";
    Error::new(ErrorKind::Config, message)
}

fn aborted() -> Error {
    Error::new(ErrorKind::Unavailable, "the runtime that the connection lives on has ended")
        .ambiguous()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::task::Waker;

    use futures_util::future::join_all;
    use lock_core::Hint;
    use lock_core::Token;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn those_who_want_to_hear_from_a_server_that_hangs_wait_together() {
        // The system accepts, and nobody ever answers.
        let mute = TcpListener::bind("127.0.0.1:0").unwrap();
        let (host, port) = ("127.0.0.1".to_owned(), mute.local_addr().unwrap().port());
        let connect = Duration::from_millis(200);
        let limits = Limits { connect, reply: connect };
        let pool = Pool::new(Login::default(), limits, Terms::default());
        let node = pool.node(&Address { host, port });
        let hint = Hint::new(Waker::noop().clone());
        let _watch = node.hints().add("channel", Token::random(), hint);
        let listeners = join_all((0..50).map(|_| node.subscribe(Channels::Plain)));
        let heard = timeout(connect * 10, listeners).await.expect("one after the other");
        assert!(heard.iter().all(Result::is_err));
    }
}
