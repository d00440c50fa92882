//! Which server a key lives on, and how a step gets there.

use std::sync::Arc;

use lock_core::BootInstant;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockKey;
use lock_core::Mode;
use lock_core::Owner;
use lock_core::Result;
use lock_core::Token;
use redis::Cmd;
use redis::Pipeline;
use redis::Value;

use crate::channels::Channels;
use crate::check::Facts;
use crate::cluster::Cluster;
use crate::cluster::Once;
use crate::error::During;
use crate::error::Failure;
use crate::keys;
use crate::keys::Names;
use crate::node::Line;
use crate::node::Node;
use crate::node::Pool;
use crate::scripts::Script;
use crate::sentinel::Sentinel;
use crate::server::Address;

/// How often a step follows the redirections of a cluster.
const REDIRECTIONS: usize = 4;

/// The way to the servers behind one URL.
pub(crate) struct Route {
    servers: Servers,
    channels: Channels,
}

/// The servers behind one URL.
pub(crate) enum Servers {
    /// One server.
    One(Pool, Node),
    /// The primary that sentinels name.
    Sentinel(Sentinel),
    /// The primaries of a cluster.
    Cluster(Cluster),
}

impl Servers {
    /// The server at `address`.
    pub(crate) fn one(pool: Pool, address: &Address) -> Self {
        let node = pool.node(address);
        Self::One(pool, node)
    }
}

/// A word that a script is given, not written out before it is sent.
#[derive(Clone, Debug)]
pub(crate) enum Argument<'a> {
    Text(&'static str),
    Number(u64),
    Token(Token),
    Owner(&'a Owner),
    Mode(Mode),
}

impl Argument<'_> {
    fn write(&self, command: &mut Cmd) {
        match self {
            Self::Text(text) => command.arg(text),
            Self::Number(number) => command.arg(number),
            Self::Token(token) => command.arg(token.to_string()),
            Self::Owner(owner) => command.arg(owner.as_str()),
            Self::Mode(Mode::Exclusive) => command.arg("exclusive"),
            Self::Mode(mode) => command.arg(mode.to_string()),
        };
    }
}

/// A script with the names and arguments of one call.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    pub(crate) script: &'static Script,
    pub(crate) names: Names,
    pub(crate) arguments: Vec<Argument<'a>>,
    pub(crate) line: Line,
    /// What to send right behind the script.
    pub(crate) behind: Option<Cmd>,
}

/// What a script answered, and what the command right behind it did.
pub(crate) struct Answer {
    pub(crate) script: Value,
    pub(crate) behind: Option<Result<Value, Failure>>,
}

impl Route {
    /// Connects to what there is at first, and learns what it can do.
    pub(crate) async fn new(servers: Servers) -> Result<Self> {
        let mut route = Self::unconnected(servers);
        let facts = route.ready().await?;
        let is_cluster = matches!(route.servers, Servers::Cluster(_));
        if is_cluster && facts.iter().all(|facts| facts.has_sharded_channels()) {
            route.channels = Channels::Sharded;
        }
        Ok(route)
    }

    /// Connects when there is something to ask.
    pub(crate) fn unconnected(servers: Servers) -> Self {
        Self { servers, channels: Channels::Plain }
    }

    /// Connects, unless that has been done, and returns what the servers say of themselves.
    pub(crate) async fn ready(&self) -> Result<Vec<Arc<Facts>>> {
        let nodes = self.nodes().await?;
        let facts = futures_util::future::try_join_all(nodes.iter().map(Node::ready)).await;
        facts.map_err(|failure| failure.into_error(During::Connect))
    }

    /// Since when the servers remember all that they granted.
    pub(crate) fn remembers_since(&self) -> Option<BootInstant> {
        self.pool().remembers_since()
    }

    /// Returns the server that `names` live on.
    pub(crate) async fn node(&self, names: &Names) -> Result<Node> {
        match &self.servers {
            Servers::One(_, node) => Ok(node.clone()),
            Servers::Sentinel(sentinel) => Box::pin(sentinel.primary()).await,
            Servers::Cluster(cluster) => Box::pin(cluster.node(keys::slot_of(names.lock()))).await,
        }
    }

    /// Tells the keys of one shard of a cluster from those of others, as far as is known.
    pub(crate) fn part(&self, key: &LockKey) -> u64 {
        match &self.servers {
            Servers::Cluster(cluster) => cluster.part(keys::slot_of(key.as_str())),
            Servers::One(..) | Servers::Sentinel(_) => 0,
        }
    }

    /// Returns every server that locks can live on.
    pub(crate) async fn nodes(&self) -> Result<Vec<Node>> {
        match &self.servers {
            Servers::One(_, node) => Ok(vec![node.clone()]),
            Servers::Sentinel(sentinel) => Ok(vec![sentinel.primary().await?]),
            Servers::Cluster(cluster) => cluster.nodes().await,
        }
    }

    /// Returns on which kind of channels releases are told.
    pub(crate) fn channels(&self) -> Channels {
        self.channels
    }

    /// Ends all connections.
    pub(crate) fn disconnect(&self) {
        match &self.servers {
            Servers::Sentinel(sentinel) => sentinel.disconnect(),
            _ => self.pool().disconnect(),
        }
    }

    fn pool(&self) -> &Pool {
        match &self.servers {
            Servers::One(pool, _) => pool,
            Servers::Sentinel(sentinel) => &sentinel.pool,
            Servers::Cluster(cluster) => &cluster.pool,
        }
    }

    /// Runs one script: one command, unless the server does not know the script yet or the slot has
    /// moved. What is rare is boxed, here and below: it would make the future of each call larger.
    pub(crate) async fn run(&self, step: Step<'_>) -> Result<Answer> {
        let node = self.node(&step.names).await?;
        match self.deliver(&node, &step).await {
            Ok(answer) => Ok(answer),
            failed => Box::pin(self.follow(&step, failed)).await,
        }
    }

    /// Runs many scripts, in one pipeline for each server; one answer each, in order.
    pub(crate) async fn run_all(&self, steps: Vec<Step<'_>>) -> Result<Vec<Result<Value>>> {
        let mut nodes: Vec<(Node, Vec<usize>)> = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            let node = self.node(&step.names).await?;
            match nodes.iter_mut().find(|(other, _)| other.is(&node)) {
                Some((_, indices)) => indices.push(index),
                None => nodes.push((node, vec![index])),
            }
        }
        let batches = nodes.iter().map(|(node, indices)| self.run_on(node, &steps, indices));
        let mut answers: Vec<_> = steps.iter().map(|_| None).collect();
        for batch in futures_util::future::join_all(batches).await {
            for (index, answer) in batch {
                answers[index] = Some(answer);
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    async fn run_on(
        &self,
        node: &Node,
        steps: &[Step<'_>],
        indices: &[usize],
    ) -> Vec<(usize, Result<Value>)> {
        let mut pipeline = Pipeline::with_capacity(indices.len());
        for index in indices {
            pipeline.add_command(steps[*index].by_hash());
        }
        let answers = match node.calls(Line::Common, pipeline).await {
            Ok(answers) => answers,
            Err(failure) => {
                if let Some(index) = indices.first() {
                    self.learn(&failure, &steps[*index].names);
                }
                let error = failure.into_error(During::Request);
                return indices.iter().map(|index| (*index, Err(error.clone()))).collect();
            }
        };
        let mut done = Vec::with_capacity(indices.len());
        for (index, answer) in indices.iter().zip(answers) {
            let step = &steps[*index];
            let answer = match answer {
                Err(failure) if failure.is_unknown_script() => step.send_in_full(node).await,
                answer => answer.map(|script| Answer { script, behind: None }),
            };
            done.push((*index, self.follow(step, answer).await.map(|answer| answer.script)));
        }
        done
    }

    async fn deliver(&self, node: &Node, step: &Step<'_>) -> Result<Answer, Failure> {
        match step.send(node, step.by_hash()).await {
            Err(failure) if failure.is_unknown_script() => Box::pin(step.send_in_full(node)).await,
            answer => answer,
        }
    }

    /// Follows the redirections of a cluster that is being reshaped.
    async fn follow(&self, step: &Step<'_>, mut answer: Result<Answer, Failure>) -> Result<Answer> {
        for _ in 0..REDIRECTIONS {
            let Err(failure) = &answer else { break };
            let Some((pool, address, once)) = self.learn(failure, &step.names) else { break };
            let node = pool.node(&address);
            answer = match once {
                Once::No => self.deliver(&node, step).await,
                // The full text: in a pipeline there is no second try.
                Once::Yes => step.send_all(&node, Some(redis::cmd("ASKING")), step.in_full()).await,
            };
        }
        answer.map_err(|failure| failure.into_error(During::Request))
    }

    /// Takes in a failure about `names`, and returns where else to ask.
    pub(crate) fn learn(&self, failure: &Failure, names: &Names) -> Option<(&Pool, Address, Once)> {
        let Servers::Cluster(cluster) = &self.servers else { return None };
        let (address, once) = cluster.learn(failure, keys::slot_of(names.lock()))?;
        Some((&cluster.pool, address, once))
    }
}

impl<'a> Step<'a> {
    pub(crate) fn new(script: &'static Script, names: Names, arguments: Vec<Argument<'a>>) -> Self {
        Self { script, names, arguments, line: Line::Common, behind: None }
    }

    async fn send_in_full(&self, node: &Node) -> Result<Answer, Failure> {
        self.send(node, self.in_full()).await
    }

    /// Sends the script, and what goes behind.
    async fn send(&self, node: &Node, script: Cmd) -> Result<Answer, Failure> {
        if self.behind.is_none() {
            let script = node.call_on(self.line, script).await?;
            return Ok(Answer { script, behind: None });
        }
        Box::pin(self.send_all(node, None, script)).await
    }

    /// Sends the script, what goes before it, and what goes behind, all at once.
    async fn send_all(
        &self,
        node: &Node,
        before: Option<Cmd>,
        script: Cmd,
    ) -> Result<Answer, Failure> {
        let (at, mut commands) = (usize::from(before.is_some()), Pipeline::new());
        for command in before.into_iter().chain([script]).chain(self.behind.clone()) {
            commands.add_command(command);
        }
        let mut answers = node.calls(self.line, commands).await?.into_iter().skip(at);
        let script = answers.next().unwrap_or_else(|| Err(cut_short()))?;
        Ok(Answer { script, behind: answers.next() })
    }

    fn by_hash(&self) -> Cmd {
        self.command("EVALSHA", &self.script.hash)
    }

    fn in_full(&self) -> Cmd {
        self.command("EVAL", &self.script.text)
    }

    fn command(&self, verb: &str, script: &str) -> Cmd {
        let mut command = Cmd::with_capacity(16, 512);
        command.arg(verb).arg(script).arg(4);
        for name in self.names.all() {
            command.arg(name);
        }
        self.arguments.iter().for_each(|argument| argument.write(&mut command));
        command
    }
}

fn cut_short() -> Failure {
    let message = "the server answered fewer commands than it was sent";
    Error::new(ErrorKind::Unavailable, message).ambiguous().into()
}
