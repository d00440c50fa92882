//! Which server a key lives on.

use lock_core::Result;
use redis::Cmd;
use redis::Pipeline;
use redis::Value;

use crate::error::During;
use crate::error::classify;
use crate::error::is_unknown_script;
use crate::keys::Names;
use crate::node::Channels;
use crate::node::Node;
use crate::scripts::Script;

/// The servers behind one URL.
#[derive(Clone)]
pub(crate) enum Route {
    /// One server.
    One(Node),
}

/// A script with the names and arguments of one call.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) script: &'static Script,
    pub(crate) names: Names,
    pub(crate) arguments: Vec<String>,
}

impl Route {
    /// Returns the server that `names` live on.
    pub(crate) async fn node(&self, _names: &Names) -> Result<Node> {
        match self {
            Self::One(node) => Ok(node.clone()),
        }
    }

    /// Returns every server that locks can live on.
    pub(crate) async fn nodes(&self) -> Result<Vec<Node>> {
        match self {
            Self::One(node) => Ok(vec![node.clone()]),
        }
    }

    pub(crate) fn channels(&self) -> Channels {
        Channels::Plain
    }

    /// Runs one script: one command, unless the server does not know the script yet.
    pub(crate) async fn run(&self, step: Step) -> Result<Value> {
        let node = self.node(&step.names).await?;
        let answer = match node.call(step.by_hash()).await {
            Err(failure) if is_unknown_script(&failure) => node.call(step.in_full()).await,
            answer => answer,
        };
        answer.map_err(|failure| classify(failure, During::Request))
    }

    /// Runs many scripts, in one pipeline for each server; one answer each, in order.
    pub(crate) async fn run_all(&self, steps: Vec<Step>) -> Result<Vec<Result<Value>>> {
        let Some(first) = steps.first() else { return Ok(Vec::new()) };
        let node = self.node(&first.names).await?;
        let mut pipeline = Pipeline::with_capacity(steps.len());
        for step in &steps {
            pipeline.add_command(step.by_hash());
        }
        let failed = |failure| classify(failure, During::Request);
        let mut answers = node.calls(pipeline).await.map_err(failed)?;
        for (step, answer) in steps.iter().zip(&mut answers) {
            if answer.as_ref().is_err_and(is_unknown_script) {
                *answer = node.call(step.in_full()).await;
            }
        }
        Ok(answers.into_iter().map(|answer| answer.map_err(failed)).collect())
    }
}

impl Step {
    fn by_hash(&self) -> Cmd {
        self.command("EVALSHA", &self.script.hash)
    }

    fn in_full(&self) -> Cmd {
        self.command("EVAL", &self.script.text)
    }

    fn command(&self, verb: &str, script: &str) -> Cmd {
        let Names { lock, card, holders, line } = &self.names;
        let mut command = redis::cmd(verb);
        command.arg(script).arg(4).arg(lock).arg(card).arg(holders).arg(line).arg(&self.arguments);
        command
    }
}
