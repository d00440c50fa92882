//! The workflow runner: replicas are handed the same execution, one runs it, the others skip it.
//!
//! Executions are delivered to every replica, and again until one of them has finished; replicas are killed, frozen and
//! cut off from the store of the locks meanwhile.

mod crew;
mod heard;
mod journal;
mod orchestrator;
mod replica;
mod storm;

use std::path::PathBuf;

use crate::servers::Servers;
use crate::story::Result;

/// What to do with the workflow runner.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Workflow {
    /// One replica, which runs the executions that its input names
    Run(Run),
    /// Several replicas and faults, and the count of their runs
    Storm(storm::Storm),
}

/// One replica.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Run {
    /// The configuration of the locks; a URL is enough
    #[arg(long, value_name = "FILE", required_unless_present = "locks")]
    config: Option<PathBuf>,
    /// Where the locks are
    #[arg(long, value_name = "URL")]
    locks: Option<String>,
    /// The folder in which finished executions are noted
    #[arg(long, value_name = "FOLDER")]
    journal: PathBuf,
}

impl Workflow {
    pub(crate) async fn run(&self, servers: &mut Servers) -> Result {
        match self {
            Self::Run(run) => replica::run(run).await,
            Self::Storm(storm) => storm::run(storm, servers).await,
        }
    }
}
