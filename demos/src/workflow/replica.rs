//! One replica: each line of its input is an execution, and what it does with it is printed.

use std::time::Duration;

use lock::Config;

use super::Run;
use super::journal::Journal;
use super::orchestrator::Execution;
use super::orchestrator::Orchestrator;
use super::orchestrator::WorkflowError;
use crate::instance::hear;
use crate::instance::say;
use crate::story::Result;
use crate::story::ms;
use crate::work::work;

/// How long an execution takes.
const TAKES: Duration = ms(300);

/// Runs until the standard input ends.
pub(super) async fn run(options: &Run) -> Result {
    let mut said = hear();
    let flag = options.locks.as_deref().map(Config::of_url).transpose()?.unwrap_or_default();
    let file = options.config.as_ref().map(Config::from_file).transpose()?.unwrap_or_default();
    let journal = Journal::open(options.journal.clone())?;
    let orchestrator = Orchestrator::open(&flag.over(file), journal).await?;
    say("ready");
    while let Some(id) = said.recv().await {
        let orchestrator = orchestrator.clone();
        tokio::spawn(async move {
            let done =
                orchestrator.execute(&id, async |hold| work(&id, TAKES, Some(hold)).await).await;
            say(format_args!("{id} {}", told(&done)));
        });
    }
    Ok(())
}

fn told(done: &Result<Execution, WorkflowError>) -> String {
    match done {
        Ok(Execution::Finished) => "finished".to_owned(),
        Ok(Execution::FinishedBefore) => "skipped: it has finished".to_owned(),
        Err(error @ WorkflowError::AlreadyRunning { .. }) => format!("skipped: {error}"),
        Err(error @ WorkflowError::Lost { .. }) => format!("lost: {error}"),
        Err(error) => format!("failed: {error}"),
    }
}
