//! The demos and systems that distributed locks are usually explained by, as programs over this framework.
//!
//! Each starts the servers it needs, prints what happens as it happens, checks what came of it, and fails if that
//! is not as it should be.

mod databases;
mod demo;
mod fleet;
mod http;
mod instance;
mod orders;
mod redis_cli;
mod scheduler;
mod servers;
mod signals;
mod story;
mod urls;
mod work;
mod workflow;

use std::process::ExitCode;

use clap::Parser;

use crate::demo::Demo;
use crate::servers::Servers;
use crate::signals::Signals;
use crate::story::Result;
use crate::urls::Urls;

/// Demos of distributed locks, each of which checks itself.
#[derive(Debug, Parser)]
#[command(version, subcommand_value_name = "DEMO", subcommand_help_heading = "Demos")]
struct Arguments {
    #[command(flatten)]
    urls: Urls,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    #[command(flatten)]
    One(Demo),
    /// All of the above, one after the other
    All,
    /// The order service: instances that sell from one stock
    #[command(subcommand)]
    Orders(orders::Orders),
    /// The scheduler: jobs of which each tick runs on one instance
    #[command(subcommand)]
    Scheduler(scheduler::Scheduler),
    /// The workflow runner: executions that one of several replicas runs
    #[command(subcommand)]
    Workflow(workflow::Workflow),
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            story::fail(error);
            ExitCode::FAILURE
        }
    }
}

/// Servers are started on this thread: they end with the thread that has started them.
fn run(arguments: Arguments) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut servers = Servers::new(arguments.urls);
    let ended = runtime.block_on(async {
        let mut signals = Signals::catch()?;
        let ended = tokio::select! {
            ran = perform(&arguments.what, &mut servers) => ran.map(|()| ExitCode::SUCCESS),
            code = signals.next() => Ok(code),
        };
        let left = servers.leave().await;
        ended.and_then(|code| left.map(|()| code))
    });
    // What is still under way has nobody to tell.
    runtime.shutdown_background();
    ended
}

async fn perform(what: &What, servers: &mut Servers) -> Result {
    match what {
        What::One(demo) => demo.run(servers).await,
        What::All => all(servers).await,
        What::Orders(orders) => orders.run(servers).await,
        What::Scheduler(scheduler) => scheduler.run(servers).await,
        What::Workflow(workflow) => workflow.run(servers).await,
    }
}

/// Runs all to their end, also after one has failed.
async fn all(servers: &mut Servers) -> Result {
    let mut failed = Vec::new();
    for demo in Demo::all() {
        if let Err(error) = demo.run(servers).await {
            story::fail(error);
            failed.push(format!("{demo:?}"));
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", ")).into()) }
}
