//! Measures every backend against the bare statements through the same client, and against peers.
//!
//! What is compared runs in the same minutes: each lane (ours, the bare statements, a peer) has processes
//! of its own that live through the whole table, and the lanes take turns in short rounds, there and back. A
//! ratio is made of two neighbouring rounds, so that a machine that gets busy slows both. Figures are medians of the
//! rounds; the first round of each lane is thrown away.
//!
//! `subjects` has one file per backend and is all that knows of them; `scenarios` has one file per
//! table. The processes are this program, started once more as a `worker`.

mod args;
mod budget;
mod counting;
mod crew;
mod failure;
mod figures;
mod lane;
mod machine;
mod order;
mod ours;
mod plan;
mod plot;
mod report;
mod rounds;
mod run;
mod scenario;
mod scenarios;
mod seat;
mod store;
mod subject;
mod subjects;
mod table;
mod tally;
mod usage;
mod way;
mod worker;

use std::process::ExitCode;

use clap::Parser as _;
use tokio::runtime::Runtime;

use crate::args::Arguments;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::order::Post;

/// Tells how many bytes are allocated, in a program that counts them.
pub type Allocated = fn() -> usize;

/// Runs the program: the benchmark, or one worker of it.
pub fn main(allocated: Option<Allocated>) -> ExitCode {
    let done = match Post::of_this_process() {
        Some(post) => work(post, allocated),
        None => bench(&Arguments::parse()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("lock-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn work(post: Outcome<Post>, allocated: Option<Allocated>) -> Outcome {
    let runtime = Runtime::new()?;
    let done = runtime.block_on(worker::work(post?, allocated));
    // Whoever still waits for a lock or reads standard input is not waited for.
    runtime.shutdown_background();
    done
}

fn bench(arguments: &Arguments) -> Outcome {
    Runtime::new()?.block_on(async {
        tokio::select! {
            done = run::run(arguments) => done,
            () = run::interrupted() => Err(Failure::new("stopped by a signal")),
        }
    })
}
